//! Lanes and the jobs in them: lining up, leaving, and what lets a lane ask again that was held back.

use crate::class::ClassId;
use crate::engine::{Engine, State, Timer};
use crate::event::{JobId, Time};
use crate::groups::GroupId;
use crate::lanes::{LaneId, LaneKey, Waits};
use crate::overdue::PATIENCE_MS;
use crate::queues::{Demand, QueueIndex, ROOT, Waiting};

impl Engine {
    /// Puts a waiting job into its lane.
    pub(crate) fn enqueue(&mut self, id: JobId) {
        let job = self.jobs.held_mut(id);
        job.expected_ms = self.estimates.remaining_ms(job.likeness, job.attained_ms);
        self.line_up(id);
    }

    /// Puts a waiting job, whose expectation is set, into its lane.
    pub(crate) fn line_up(&mut self, id: JobId) {
        let job = self.jobs.held(id);
        let (queue, class, asks, at) = (job.queue, job.class, job.asks, job.submitted_at);
        let key: LaneKey = (queue, class, job.priority, job.expected_ms, job.ran_ms(), job.deadline);
        let overdue_at = Time(job.waits_since().0.saturating_add(PATIENCE_MS));
        self.overdue_at = self.overdue_at.min(overdue_at);
        let lane = match self.lanes.find(&key) {
            Some(lane) => lane,
            None => self.lanes.create(key, asks, self.classes.get(class).gpus),
        };
        self.stats.entries_visited += 1;
        self.jobs.held_mut(id).state = State::Waiting(lane);
        self.count_waiting(queue, asks, Waiting::Comes);
        let old_head = self.lanes.get(lane).head();
        self.lanes.get_mut(lane).jobs.insert((at, id));
        if self.lanes.get(lane).head() != old_head {
            self.list_lane(lane);
        }
    }

    /// Takes a waiting job out of its lane. Room that was kept for it is free.
    pub(crate) fn dequeue(&mut self, id: JobId) {
        self.break_promise(id);
        let job = self.jobs.held(id);
        let State::Waiting(lane) = job.state else { return };
        let (queue, asks, at) = (job.queue, job.asks, job.submitted_at);
        self.stats.entries_visited += 1;
        self.count_waiting(queue, asks, Waiting::Goes);
        let old_head = self.lanes.get(lane).head();
        self.lanes.get_mut(lane).jobs.remove(&(at, id));
        let head = self.lanes.get(lane).head();
        if head.is_none() {
            self.unlist_lane(lane);
            self.lanes.remove(lane);
        } else if head != old_head {
            self.list_lane(lane);
        }
    }

    /// A job begins to wait, or waits no more, and tiers may open or close by that.
    fn count_waiting(&mut self, queue: QueueIndex, class: ClassId, way: Waiting) {
        let demand = Demand { gpus: self.classes.get(class).gpus, jobs: 1 };
        let mut changed = Vec::new();
        self.queues.waits(queue, demand, way, &mut changed);
        for says in changed {
            self.gate_moved(says);
        }
    }

    /// Lists a lane with its queue under its head, in the group of what is open to that.
    fn list_lane(&mut self, id: LaneId) {
        let lane = self.lanes.get(id);
        let (queue, class, whole) = (lane.queue, lane.class, lane.whole);
        let (Some((submitted_at, _)), Some(order)) = (lane.head(), lane.order()) else { return };
        let owner = self.queues.tier_owner(queue);
        let expected_ms = lane.expected_ms;
        let waits = Waits::of(submitted_at, lane.ran_ms, expected_ms, self.classes.get(whole).gpus, lane.deadline);
        let (open, tier_opens) = self.tiers_open(owner, waits);
        let group = self.group(queue, class, open, expected_ms);
        let lane = self.lanes.get(id);
        if lane.listed.is_some_and(|(known, _)| known == group) && lane.tier_opens == tier_opens {
            // The usual case: the next job of the same lane, in the same group.
            let (_, old) = self.lanes.get_mut(id).listed.replace((group, order)).expect("it was just there");
            self.queues.relist(queue, group, (old, id), (order, id));
        } else {
            self.unlist_lane(id);
            let lane = self.lanes.get_mut(id);
            lane.listed = Some((group, order));
            lane.tier_opens = tier_opens;
            if let Some(at) = tier_opens {
                self.timers.insert((at, Timer::Tier(id)));
            }
            self.groups.enter(group);
            self.queues.enlist(queue, group, order, id);
        }
        self.lanes.head_changed(id);
    }

    /// Takes a lane from its queue's list.
    fn unlist_lane(&mut self, id: LaneId) {
        let lane = self.lanes.get_mut(id);
        let queue = lane.queue;
        if let Some(at) = lane.tier_opens.take() {
            self.timers.remove(&(at, Timer::Tier(id)));
        }
        if let Some((group, order)) = lane.listed.take() {
            self.groups.leave(group);
            self.queues.delist(queue, group, order, id);
        }
    }

    /// Lists the lanes of the queues anew, after a change of tiers or of what is above them.
    pub(crate) fn list_anew(&mut self, queues: &[QueueIndex]) {
        for queue in queues {
            let held: Vec<_> = self.queues.get(*queue).sections.keys().copied().collect();
            for group in held {
                self.queues.let_go(*queue, group);
            }
        }
        for lane in self.lanes.ids() {
            if queues.contains(&self.lanes.get(lane).queue) {
                self.stats.entries_visited += 1;
                self.unlist_lane(lane);
                self.list_lane(lane);
            }
        }
    }

    /// Lets those ask again that the limits of a queue, or of one above it, have room for now.
    pub(crate) fn let_go_below(&mut self, queue: QueueIndex) {
        let mut at = queue;
        loop {
            if !self.queues.get(at).holds.is_empty() {
                let mut free = Vec::new();
                for (resource, left) in self.queues.all_left(at) {
                    free.extend(
                        self.queues.get(at).holds.range((resource, i64::MIN, 0, 0)..=(resource, left, usize::MAX, usize::MAX)),
                    );
                }
                for (_, _, held, group) in free {
                    self.stats.entries_visited += 1;
                    self.queues.let_go(held, group);
                }
            }
            if at == ROOT {
                return;
            }
            at = self.queues.get(at).parent;
        }
    }

    /// Lets everybody ask again: what is lent is another.
    pub(crate) fn let_everybody_go(&mut self) {
        let all: Vec<QueueIndex> = self.queues.iter().map(|(index, _)| index).chain([ROOT]).collect();
        for queue in all {
            self.let_all_go(queue);
        }
    }

    /// Lets everybody ask again whom this queue's limits held back: they are others.
    pub(crate) fn let_all_go(&mut self, queue: QueueIndex) {
        for (_, _, held, group) in self.queues.get(queue).holds.clone() {
            self.stats.entries_visited += 1;
            self.queues.let_go(held, group);
        }
    }

    /// Lets those of some groups ask again that a budget of money holds back: there is room at another price, or prices are others.
    pub(crate) fn let_unpaid_go(&mut self, groups: std::ops::RangeInclusive<GroupId>) {
        if self.queues.unpaid.is_empty() {
            return;
        }
        let held: Vec<_> = self.queues.unpaid.range((*groups.start(), 0)..=(*groups.end(), usize::MAX)).copied().collect();
        for (group, queue) in held {
            self.stats.entries_visited += 1;
            self.queues.let_go(queue, group);
        }
    }

    /// Ends back-offs, tier waits and the like that are over.
    pub(crate) fn ring_timers(&mut self) {
        while let Some((at, timer)) = self.timers.first().copied() {
            if at > self.now {
                return;
            }
            self.timers.pop_first();
            self.stats.entries_visited += 1;
            match timer {
                Timer::Retry(job) => self.enqueue(job),
                Timer::Tier(lane) => {
                    self.lanes.get_mut(lane).tier_opens = None;
                    self.list_lane(lane);
                }
                Timer::Longer(job) => self.list(job),
                Timer::Promised(job) => self.promise_anew(job),
                Timer::Ripe(queue) => self.queues.touch(queue),
                Timer::Move => self.misplaced.look(),
                // Who may grow is looked at by every plan.
                Timer::Grow(_) => {}
            }
        }
    }
}
