//! Which lanes of a queue ask, and which are held back by a capability.

use super::budget::is_budget;
use super::{Limit, Queue, QueueIndex, Queues, Work, is_of_money};
use crate::groups::GroupId;
use crate::lanes::{LaneId, LaneOrder};
use crate::queues::ROOT;
use crate::vector::Vector;

impl Queues {
    /// The nearest queue whose capability the amount would exceed, among the resources that are asked for, or whose hard budget
    /// the work would, which is asked for only where there is one.
    pub(crate) fn limit(&self, queue: QueueIndex, amount: &Vector, work: impl Fn() -> Work) -> Option<Limit> {
        let mut at = queue;
        while at != ROOT {
            let queue = self.get(at);
            if !queue.spec.budgets.is_empty()
                && let Some(limit) = queue.budget_limit(at, work())
            {
                return Some(limit);
            }
            for (resource, limit) in &queue.capability {
                let asked = amount.get(*resource);
                if asked > 0 && queue.usage.get(*resource).saturating_add(asked) > *limit {
                    return Some((at, *resource, asked));
                }
            }
            at = queue.parent;
        }
        None
    }

    /// What is left of a capability.
    pub(crate) fn left(&self, queue: QueueIndex, resource: usize) -> i64 {
        let queue = self.get(queue);
        let limit = queue.capability.iter().find(|(limited, _)| *limited == resource).map_or(i64::MAX, |(_, limit)| *limit);
        limit.saturating_sub(queue.usage.get(resource))
    }

    /// What is left of each of a queue's capabilities and budgets.
    pub(crate) fn all_left(&self, queue: QueueIndex) -> Vec<(usize, i64)> {
        let entry = self.get(queue);
        let capability = entry.capability.iter().map(|(resource, _)| (*resource, self.left(queue, *resource)));
        capability.chain(entry.budgets_left()).collect()
    }

    /// Per resource that the amount asks for: (resource, limit, usage, what is beyond the limit).
    pub(crate) fn excess<'a>(
        &'a self,
        queue: QueueIndex,
        amount: &'a Vector,
    ) -> impl Iterator<Item = (usize, i64, i64, i64)> + 'a {
        let queue = self.get(queue);
        queue.capability.iter().filter_map(move |(resource, limit)| {
            let asked = amount.get(*resource);
            let used = queue.usage.get(*resource);
            let beyond = used.saturating_add(asked).saturating_sub(*limit);
            (asked > 0 && beyond > 0).then_some((*resource, *limit, used, beyond))
        })
    }

    /// The capabilities that count for a queue, with what is left of them.
    pub(crate) fn clone_limits(&self, queue: QueueIndex) -> Limits {
        let limits = |index: QueueIndex| {
            self.get(index).capability.iter().map(move |(resource, _)| (index, *resource, self.left(index, *resource)))
        };
        Limits(self.chain(queue).flat_map(limits).collect())
    }

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
            self.mark(queue);
        } else if old != new {
            self.let_go_of_budget(queue, group);
        }
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
            self.mark(queue);
        } else if old != new {
            self.let_go_of_budget(queue, group);
        }
    }

    /// Holds a section back until the capability has room for it.
    pub(crate) fn hold(&mut self, queue: QueueIndex, group: GroupId, limit: Limit) {
        let entry = self.get_mut(queue);
        let Some(section) = entry.sections.get_mut(&group).filter(|section| section.held_by.is_none()) else { return };
        section.held_by = Some(limit);
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

/// (queue, resource, what is left of its capability) from a queue up.
pub(crate) struct Limits(Vec<(QueueIndex, usize, i64)>);

impl Limits {
    /// Whether a gang may have this much once `freed` is given up in or below the queue `among`.
    pub(crate) fn allows(&self, total: &Vector, among: QueueIndex, freed: &Vector) -> bool {
        // From `among` upwards what is freed counts; for the root that is nowhere, and nothing is limited there.
        let from = self.0.iter().position(|(queue, ..)| *queue == among).unwrap_or(self.0.len());
        self.0.iter().enumerate().all(|(at, (_, resource, left))| {
            let asked = total.get(*resource);
            let freed = if at >= from { freed.get(*resource) } else { 0 };
            asked == 0 || asked <= left.saturating_add(freed)
        })
    }
}
