//! Which lanes of a queue ask, and which are held back by a limit.

use super::budget::is_budget;
use super::{Limit, Queue, QueueIndex, Queues, is_of_money};
use crate::groups::GroupId;
use crate::lanes::{LaneId, LaneOrder};

impl Queues {
    /// Lists a lane with its queue.
    pub(crate) fn enlist(&mut self, queue: QueueIndex, group: GroupId, order: LaneOrder, lane: LaneId) {
        let entry = self.get_mut(queue);
        let section = entry.sections.entry(group).or_default();
        let old = section.lanes.first().copied();
        section.lanes.insert((order, lane));
        let new = section.lanes.first().copied();
        if section.held_by.is_none() {
            entry.order.insert((order, lane));
            entry.head(group, old, new);
            if old.is_none() {
                self.show(queue, group, true);
            }
        } else if old != new {
            self.let_go_of_budget(queue, group);
        }
        self.mark(queue);
    }

    /// Lets a section ask again that a budget holds back: another lane is its first, which may ask for less.
    fn let_go_of_budget(&mut self, queue: QueueIndex, group: GroupId) {
        let held_by = self.get(queue).sections.get(&group).and_then(|section| section.held_by);
        if held_by.is_some_and(is_budget) {
            self.let_go(queue, group);
        }
    }

    /// Lists a lane under another head, in the same group.
    pub(crate) fn relist(&mut self, queue: QueueIndex, group: GroupId, old: (LaneOrder, LaneId), new: (LaneOrder, LaneId)) {
        let entry = self.get_mut(queue);
        let Some(section) = entry.sections.get_mut(&group) else { return };
        let head = section.lanes.first().copied();
        section.lanes.remove(&old);
        section.lanes.insert(new);
        let new_head = section.lanes.first().copied();
        if section.held_by.is_none() {
            entry.order.remove(&old);
            entry.order.insert(new);
            entry.head(group, head, new_head);
        } else if head != new_head {
            self.let_go_of_budget(queue, group);
        }
        self.mark(queue);
    }

    /// Takes a lane from its queue's list.
    pub(crate) fn delist(&mut self, queue: QueueIndex, group: GroupId, order: LaneOrder, lane: LaneId) {
        let entry = self.get_mut(queue);
        let Some(section) = entry.sections.get_mut(&group) else { return };
        let old = section.lanes.first().copied();
        section.lanes.remove(&(order, lane));
        let new = section.lanes.first().copied();
        let held_by = section.held_by;
        if section.lanes.is_empty() {
            entry.sections.remove(&group);
            if let Some((limiter, resource, needed)) = held_by {
                self.unpaid.remove(&(group, queue));
                self.get_mut(queue).sections_held -= 1;
                self.get_mut(limiter).holds.remove(&(resource, needed, queue, group));
            }
        }
        if held_by.is_none() {
            let entry = self.get_mut(queue);
            entry.order.remove(&(order, lane));
            entry.head(group, old, new);
            if new.is_none() {
                self.show(queue, group, false);
            }
        } else if old != new {
            self.let_go_of_budget(queue, group);
        }
        self.mark(queue);
    }

    /// Holds a section back until the limit has room for it.
    pub(crate) fn hold(&mut self, queue: QueueIndex, group: GroupId, limit: Limit) {
        let entry = self.get_mut(queue);
        let Some(section) = entry.sections.get_mut(&group).filter(|section| section.held_by.is_none()) else { return };
        section.held_by = Some(limit);
        entry.sections_held += 1;
        for lane in &section.lanes {
            entry.order.remove(lane);
        }
        let head = section.lanes.first().copied();
        entry.head(group, head, None);
        self.show(queue, group, false);
        self.mark(queue);
        let (limiter, resource, needed) = limit;
        if is_of_money(self, limit) {
            self.unpaid.insert((group, queue));
        }
        self.get_mut(limiter).holds.insert((resource, needed, queue, group));
    }

    /// Lets a section ask again.
    pub(crate) fn let_go(&mut self, queue: QueueIndex, group: GroupId) {
        let entry = self.get_mut(queue);
        let Some(section) = entry.sections.get_mut(&group) else { return };
        let Some((limiter, resource, needed)) = section.held_by.take() else { return };
        entry.sections_held -= 1;
        entry.order.extend(section.lanes.iter().copied());
        let head = section.lanes.first().copied();
        entry.head(group, None, head);
        self.show(queue, group, true);
        self.mark(queue);
        self.unpaid.remove(&(group, queue));
        self.get_mut(limiter).holds.remove(&(resource, needed, queue, group));
    }
}

impl Queue {
    /// Its first lanes, and of what is held back the first of each section, in order.
    pub(crate) fn first_lanes(&self, most: usize) -> Vec<LaneId> {
        let first = self.order.iter().take(most).copied();
        if self.sections_held == 0 {
            return first.map(|(_, lane)| lane).collect();
        }
        let held = self.sections.values().filter(|section| section.held_by.is_some());
        let mut lanes: Vec<_> = first.chain(held.filter_map(|section| section.lanes.first().copied())).collect();
        lanes.sort_unstable();
        lanes.into_iter().take(most).map(|(_, lane)| lane).collect()
    }

    /// Another lane is the first of a group; `None`: none that asks.
    fn head(&mut self, group: GroupId, old: Option<(LaneOrder, LaneId)>, new: Option<(LaneOrder, LaneId)>) {
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.heads.remove(old);
        }
        if let Some(new) = new {
            self.heads.insert(new, group);
        }
    }
}
