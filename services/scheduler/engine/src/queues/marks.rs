//! What changed since it was last looked at: queues whose shares are to be computed anew, and queues in which runs may have to
//! make room.

use super::{QueueIndex, Queues, ROOT};
use crate::vector::Vector;

impl Queues {
    /// Notes that a queue's share or whether it asks is to be computed anew.
    pub(crate) fn mark(&mut self, queue: QueueIndex) {
        let entry = self.get_mut(queue);
        if !entry.dirty {
            entry.dirty = true;
            self.dirty.push(queue);
        }
    }

    /// Notes that a queue is to be looked at for runs that have to make room, and those above it.
    pub(crate) fn touch(&mut self, queue: QueueIndex) {
        if self.all[queue].is_none() {
            return;
        }
        let mut at = queue;
        loop {
            let entry = self.get_mut(at);
            if !entry.touched {
                entry.touched = true;
                let parent = entry.parent;
                self.touched.push(at);
                at = parent;
            } else {
                at = entry.parent;
            }
            if at == ROOT {
                break;
            }
        }
        let root = self.get_mut(ROOT);
        if !root.touched {
            root.touched = true;
            self.touched.push(ROOT);
        }
    }

    /// The queues that were touched since this was last asked, by name.
    pub(crate) fn take_touched(&mut self) -> Vec<QueueIndex> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.retain(|index| self.all[*index].is_some());
        for index in &touched {
            self.get_mut(*index).touched = false;
        }
        touched.sort_by(|left, right| self.get(*left).spec.name.cmp(&self.get(*right).spec.name));
        touched
    }

    /// What shares are parts of is another.
    pub(crate) fn mark_all(&mut self, everything: &Vector) {
        let all: Vec<QueueIndex> = self.by_name.values().copied().collect();
        for index in all {
            self.get_mut(index).set_guaranteed(everything);
            self.mark(index);
        }
    }

    /// Puts the queues that were marked, and those above them, at their right place among their siblings.
    pub(crate) fn settle(&mut self, everything: &Vector) {
        while let Some(marked) = self.dirty.pop() {
            self.get_mut(marked).dirty = false;
            self.touch(marked);
            let mut at = marked;
            while at != ROOT {
                let queue = self.get_mut(at);
                queue.offer.forget();
                let asks = !queue.sections.is_empty() || queue.ranking.asks();
                let share = queue.share_with(&Vector::default(), everything);
                let (parent, place) = (queue.parent, queue.place);
                let parent_entry = self.get_mut(parent);
                parent_entry.ranking.set(place, share, asks);
                parent_entry.changes.note(place);
                at = parent;
            }
            self.get_mut(ROOT).offer.forget();
        }
    }
}
