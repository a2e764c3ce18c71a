//! What runs of elastic gangs have beyond their least size is theirs as long as nobody waits for it. A gang without room takes the workers
//! that it needs of runs of its own queue, of no higher priority, and of queues that may be reclaimed as far as these still have no
//! less than its own queue gets. This needs no right and no patience, since nothing ends: what is taken is the least that makes room.
//!
//! It can't go back and forth: what a gang takes is its least size, which is no surplus.

use std::collections::{BTreeMap, BTreeSet};

use crate::class::ClassId;
use crate::cluster::{Candidate, ClusterIndex};
use crate::engine::Engine;
use crate::event::{Cause, Decision, JobId};
use crate::freeing::{Giving, MOST_WORKERS};
use crate::lanes::LaneId;
use crate::promise::Promise;
use crate::queues::{QueueIndex, ROOT, Work};
use crate::ranking::Share;
use crate::vector::Vector;

/// Bounds of one plan: lanes looked at of each order, gangs looked at in vain, and places tried for one gang.
const MOST_LANES: usize = 32;
const MOST_IN_VAIN: usize = 16;
const MOST_CANDIDATES: usize = 16;

impl Engine {
    /// Takes surplus workers for blocked gangs: for those that have waited longest, and those that are expected to be done soonest.
    pub(crate) fn take_surplus(&mut self, decisions: &mut Vec<Decision>, limit: usize) {
        if self.ample == 0 {
            return;
        }
        let jobs = &self.jobs;
        let since = |job| jobs.held(job).waits_since();
        let oldest = self.lanes.oldest(MOST_LANES, &since).into_iter().map(|(_, lane)| lane);
        let mut lanes: Vec<LaneId> = oldest.collect();
        lanes.extend(self.lanes.shortest(MOST_LANES, &since));
        let mut seen = BTreeSet::new();
        lanes.retain(|lane| seen.insert(*lane));
        // Whoever is of the same queue, shape and priority gets no more than who was looked at.
        let mut in_vain: BTreeSet<(QueueIndex, ClassId, i32)> = BTreeSet::new();
        for lane in lanes {
            if decisions.len() >= limit || in_vain.len() == MOST_IN_VAIN || self.ample == 0 {
                return;
            }
            self.stats.entries_visited += 1;
            let entry = self.lanes.get(lane);
            let alike = (entry.queue, entry.class, entry.priority);
            if !in_vain.contains(&alike) && !self.take_surplus_for(lane, decisions) {
                in_vain.insert(alike);
            }
        }
    }

    fn take_surplus_for(&mut self, lane: LaneId, decisions: &mut Vec<Decision>) -> bool {
        let entry = self.lanes.get(lane);
        let (Some((_, job)), Some((group, _))) = (entry.head(), entry.listed) else { return false };
        let (queue, class, priority) = (entry.queue, entry.class, entry.priority);
        if self.promised.contains_key(&job) {
            return false;
        }
        self.renew(group);
        let candidates = self.groups.get(group).open_candidates().iter().take(MOST_CANDIDATES);
        let ample = candidates.filter(|candidate| !self.sites[candidate.cluster].surplus.is_empty());
        let candidates: Vec<Candidate> = ample.filter(|candidate| self.affords(job, candidate)).cloned().collect();
        // Who is held back by a limit of its queue can be helped by its own queue only.
        let limited = self.queues.limit(queue, &self.classes.get(class).total, Work::default).is_some();
        for candidate in &candidates {
            let mut giving = self.surplus_in_queue(candidate.cluster, queue, priority);
            if !limited {
                giving.extend(self.surplus_of_others(candidate.cluster, queue, class));
            }
            giving.truncate(MOST_WORKERS);
            if giving.is_empty() {
                continue;
            }
            let rights = limited.then(|| self.queues.rights(queue, &self.classes.get(class).total, queue));
            let Some((places, going)) = self.free_up(class, candidate, &giving, rights) else { continue };
            let promise = Promise::of(candidate, places, &going);
            self.promise(job, promise, going, Cause::Surplus, decisions);
            return true;
        }
        false
    }

    /// Workers that runs of the queue itself have to give, of the youngest first.
    fn surplus_in_queue(&self, cluster: ClusterIndex, queue: QueueIndex, priority: i32) -> Vec<Giving> {
        let runs = self.sites[cluster].surplus.iter().map(|(_, id)| id.0);
        let of_queue = runs.filter(|id| {
            let job = self.jobs.held(*id);
            job.queue == queue && job.priority <= priority
        });
        of_queue.flat_map(|id| self.surplus_of(id).into_iter().map(move |place| Giving::Worker(id, place))).collect()
    }

    /// Workers that runs of other queues have to give, as far as these have no less afterwards than the gang's queue with the gang.
    fn surplus_of_others(&self, cluster: ClusterIndex, queue: QueueIndex, class: ClassId) -> Vec<Giving> {
        let total = &self.classes.get(class).total;
        let mut left: BTreeMap<QueueIndex, Vector> = BTreeMap::new();
        let mut giving = Vec::new();
        let runs: Vec<JobId> = self.sites[cluster].surplus.iter().map(|(_, id)| id.0).collect();
        for id in runs {
            let its_queue = self.jobs.held(id).queue;
            let Some((taker, giver)) = self.queues.sides(queue, its_queue) else { continue };
            if !self.may_be_reclaimed(its_queue, giver) {
                continue;
            }
            let with: Share = self.queues.share(taker, total, &self.everything);
            let left = left.entry(giver).or_insert_with(|| self.queues.get(giver).usage.clone());
            for place in self.surplus_of(id) {
                let mut less = left.clone();
                less.sub(&self.class_of_run(id).groups[place.group as usize].asked);
                if with > self.queues.share_of(giver, &less, &self.everything) {
                    break;
                }
                *left = less;
                giving.push(Giving::Worker(id, place));
            }
        }
        giving
    }

    /// Whether everything from a queue up to one above it may be reclaimed.
    fn may_be_reclaimed(&self, queue: QueueIndex, up_to: QueueIndex) -> bool {
        let mut at = queue;
        while at != ROOT {
            let entry = self.queues.get(at);
            if !entry.spec.reclaimable {
                return false;
            }
            if at == up_to {
                return true;
            }
            at = entry.parent;
        }
        false
    }
}
