//! Deciding. The queue that is furthest below its share is asked for its next lane; that lane's head is placed on the
//! first candidate with room, or the lane is parked under what holds it. This goes on until nobody asks. Then runs may be
//! interrupted for what is blocked (`interrupt.rs`).

use crate::class::ClassId;
use crate::cluster::{Candidate, ClusterIndex};
use crate::engine::{Engine, Run, State};
use crate::event::{Decision, Epoch, JobId, Placement, Slot, Time};
use crate::lanes::Parked;
use crate::queues::{Charge, QueueIndex, ROOT};

/// What came of trying a lane's head.
enum Tried {
    Placed(Placement),
    OverCapability(QueueIndex),
    NoRoom { tier_opens: Option<Time> },
}

impl Engine {
    /// Decides everything that can be decided now, in order, and takes it into the state: a second call returns nothing.
    pub fn plan(&mut self) -> Vec<Decision> {
        self.plan_at_most(usize::MAX)
    }

    /// Like [`Engine::plan`], but stops after `limit` decisions so that a transaction stays small; call again for more.
    pub fn plan_at_most(&mut self, limit: usize) -> Vec<Decision> {
        self.ring_timers();
        self.wake_for_freed();
        let mut decisions = self.keep_promises();
        self.settle();
        while decisions.len() < limit {
            let Some(lane) = self.queues.next_below(ROOT) else {
                self.fresh.clear();
                self.interrupt(&mut decisions, limit);
                break;
            };
            self.stats.entries_visited += 1;
            let (_, head) = self.lanes.get(lane).head().expect("a lane without jobs is removed");
            match self.try_job(head) {
                Tried::Placed(placement) => decisions.push(Decision::Place(placement)),
                Tried::OverCapability(queue) => self.park_for_capability(lane, queue),
                Tried::NoRoom { tier_opens } => self.park_for_room(lane, tier_opens),
            }
        }
        decisions
    }

    /// Parks the lanes that were woken or made since the last plan and can't be placed as things stand, before anybody is
    /// asked. A blocked head would otherwise speak for its queue with a share that it can't take, and the order among
    /// queues would depend on which lanes happen to be known as blocked: an engine that was restored would decide otherwise.
    fn settle(&mut self) {
        let fresh = std::mem::take(&mut self.fresh);
        if fresh.len() == 1 {
            return;
        }
        for lane in fresh {
            let Some((submitted_at, _)) = self.lanes.all.get(&lane).and_then(crate::lanes::Lane::head) else { continue };
            if self.lanes.get(lane).parked != Parked::Ready {
                continue;
            }
            self.stats.entries_visited += 1;
            let (queue, class) = (self.lanes.get(lane).queue, self.lanes.get(lane).class);
            if let Some(limit) = self.queues.limit(queue, &self.classes.get(class).total) {
                self.park_for_capability(lane, limit);
                continue;
            }
            let (owner, candidates) = self.candidates(queue, class);
            let (open, tier_opens) = self.tiers_open(owner, submitted_at);
            let key = (class, owner, open);
            if !self.no_room.contains(&key) {
                let room =
                    candidates.iter().filter(|candidate| candidate.tier < open).any(|candidate| self.has_room(class, candidate));
                if room {
                    continue;
                }
                self.no_room.insert(key);
            }
            self.park_for_room(lane, tier_opens);
        }
    }

    /// Whether the whole gang fits there now, without placing it.
    fn has_room(&mut self, class: ClassId, candidate: &Candidate) -> bool {
        let class = self.classes.get(class);
        let cluster = self.clusters[candidate.cluster].as_mut().expect("candidates are emptied when a cluster goes");
        if candidate.flavor.is_some_and(|flavor| cluster.nodes.gpus_free(flavor) < class.gpus) {
            return false;
        }
        self.stats.fits_tried += 1;
        if !cluster.nodes.could_fit(class, candidate.flavor) {
            return false;
        }
        let Ok(slots) = cluster.nodes.place(class, candidate.flavor, &self.resources) else { return false };
        for slot in slots {
            cluster.nodes.give(&slot.node, &class.groups[slot.group].each.times(slot.workers), &self.resources);
        }
        true
    }

    /// Places the jobs for which runs were interrupted that have all ended by now. One that has no room after all waits on like
    /// any other.
    fn keep_promises(&mut self) -> Vec<Decision> {
        let due: Vec<JobId> = self.promised.iter().filter(|(_, left)| left.is_empty()).map(|(job, _)| *job).collect();
        let mut kept = Vec::new();
        for job in due {
            self.promised.remove(&job);
            self.stats.entries_visited += 1;
            if let Tried::Placed(placement) = self.try_job(job) {
                kept.push(Decision::Place(placement));
            }
        }
        kept
    }

    /// Places a waiting job on the first candidate with room.
    fn try_job(&mut self, job: JobId) -> Tried {
        let entry = &self.jobs[&job];
        let (queue, class_id, submitted_at) = (entry.queue, entry.class, entry.spec.submitted_at);
        if let Some(limit) = self.queues.limit(queue, &self.classes.get(class_id).total) {
            return Tried::OverCapability(limit);
        }
        let (owner, candidates) = self.candidates(queue, class_id);
        let (open, tier_opens) = self.tiers_open(owner, submitted_at);
        // A lane of the same shape and tiers, perhaps of another queue, was just refused everywhere.
        if self.no_room.contains(&(class_id, owner, open)) {
            return Tried::NoRoom { tier_opens };
        }
        for candidate in candidates.iter().filter(|candidate| candidate.tier < open) {
            let class = self.classes.get(class_id);
            let cluster = self.clusters[candidate.cluster].as_mut().expect("candidates are emptied when a cluster goes");
            if candidate.flavor.is_some_and(|flavor| cluster.nodes.gpus_free(flavor) < class.gpus) {
                continue;
            }
            self.stats.fits_tried += 1;
            if !cluster.nodes.could_fit(class, candidate.flavor) {
                continue;
            }
            if let Ok(slots) = cluster.nodes.place(class, candidate.flavor, &self.resources) {
                let placement = Placement {
                    job,
                    epoch: Epoch(self.jobs[&job].epoch.0 + 1),
                    cluster: cluster.spec.name.clone(),
                    flavor: candidate.flavor.map(|flavor| self.flavors.name(flavor).to_owned()),
                    price_micros: candidate.price,
                    tier: candidate.tier,
                    slots: slots.clone(),
                };
                self.placed(job, candidate.cluster, slots);
                return Tried::Placed(placement);
            }
        }
        self.no_room.insert((class_id, owner, open));
        Tried::NoRoom { tier_opens }
    }

    /// Takes a placement into the state; the nodes have it already.
    fn placed(&mut self, id: JobId, cluster: ClusterIndex, slots: Vec<Slot>) {
        self.dequeue(id);
        let cluster = self.clusters[cluster].as_ref().expect("it was just placed on").spec.name.clone();
        self.runs_at.entry(cluster.clone()).or_default().insert(id);
        let job = self.jobs.get_mut(&id).expect("a job that is placed is known");
        job.epoch = Epoch(job.epoch.0 + 1);
        job.state = State::Placed(Run { cluster, slots, bound: None, started_at: None, stopping: false, remaining: None });
        let queue = job.queue;
        let total = self.classes.get(job.class).total.clone();
        self.queues.charge(queue, &total, Charge::Add);
        self.refresh(queue);
        self.stats.placed += 1;
    }
}
