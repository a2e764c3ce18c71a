//! Room that is kept for a gang before it is free. A *promise* names the nodes on which the gang will run and charges them with it at
//! once, below zero if need be, so that nobody else gets what becomes free there. It waits for runs that were told to end, or
//! for runs that are expected to end (a reservation: Lifka, *The ANL/IBM SP Scheduling System*, 1995).

use std::collections::{BTreeMap, BTreeSet};

use crate::class::{FlavorId, time_of};
use crate::cluster::{Candidate, ClusterIndex};
use crate::engine::{Engine, Job, State, Timer};
use crate::event::{Cause, Decision, Interruption, JobId, SizeChange, Time};
use crate::freeing::Going;
use crate::lanes::LaneId;
use crate::nodes::{Held, NodeIndex, Place};
use crate::queues::Work;

mod regions;

/// Runs looked at for one reservation, by row. In a larger cluster a gang finds its room among so many all the same.
const MOST_RUNS: usize = 10_000;
/// Lanes looked at by one plan for gangs that are done before a reservation begins.
const MOST_LANES: usize = 64;

/// Room that is kept for a gang that waits, or whose run is being ended for a better place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Promise {
    pub(crate) cluster: ClusterIndex,
    pub(crate) flavor: Option<FlavorId>,
    /// The tier that the gang gets it by.
    pub(crate) tier: usize,
    pub(crate) places: Vec<Place>,
    /// What is kept on other clusters for a gang that will be split.
    pub(crate) further: Vec<(ClusterIndex, Vec<Place>)>,
    /// Runs that were told to end for it and have not yet.
    pub(crate) left: BTreeSet<JobId>,
    /// When it should have its room at the latest; `None` if only the runs in `left` are in its way.
    pub(crate) expected_at: Option<Time>,
    /// Whether workers that left for it stood elsewhere than was thought.
    pub(crate) elsewhere: bool,
}

impl Promise {
    /// Room that comes once what is in its way has gone.
    pub(crate) fn of(candidate: &Candidate, places: Vec<Place>, going: &Going) -> Self {
        let left = going.whole.iter().chain(going.workers.keys()).copied().collect();
        let Candidate { cluster, flavor, tier, .. } = *candidate;
        Self { cluster, flavor, tier, places, further: Vec::new(), left, expected_at: None, elsewhere: false }
    }
}

impl Engine {
    /// Keeps room for a gang, whose places are charged already, and ends the runs, and takes the workers of runs, that are in its way.
    pub(crate) fn promise(&mut self, job: JobId, promise: Promise, going: Going, cause: Cause, decisions: &mut Vec<Decision>) {
        for (cluster, _) in promise.parts() {
            self.sites[cluster].taken += 1;
        }
        self.queues.mark(self.jobs.held(job).queue);
        for (run, workers) in going.workers {
            self.stats.resized += 1;
            decisions.push(self.tell_to_shrink(run, workers, SizeChange::Shrinks { in_favour_of: job, cause }));
        }
        for run in &going.whole {
            self.unlist(*run);
            self.unlist_started(*run);
            self.unlist_size(*run);
            let entry = self.jobs.held_mut(*run);
            let epoch = entry.epoch;
            if let State::Placed(run) = &mut entry.state {
                run.stopping = true;
            }
            self.stats.interrupted += 1;
            decisions.push(Decision::Interrupt(Interruption { job: *run, epoch, in_favour_of: job, cause }));
        }
        if let Some(at) = promise.expected_at {
            self.timers.insert((at, Timer::Promised(job)));
        }
        self.promised.insert(job, promise);
    }

    /// Gives up the room that is kept for a gang.
    pub(crate) fn break_promise(&mut self, job: JobId) {
        if let Some(promise) = self.set_promise_aside(job) {
            self.freed.extend(promise.parts().map(|(cluster, _)| cluster));
        }
    }

    /// Takes a promise from the state, with what it charges.
    pub(crate) fn set_promise_aside(&mut self, job: JobId) -> Option<Promise> {
        if self.promised.is_empty() {
            return None;
        }
        let promise = self.promised.remove(&job)?;
        self.queues.mark(self.jobs.held(job).queue);
        if let Some(at) = promise.expected_at {
            self.timers.remove(&(at, Timer::Promised(job)));
        }
        self.give_promised(self.jobs.held(job).class, &promise);
        Some(promise)
    }

    /// Whether runs were told to end for the job.
    pub(crate) fn has_runs_ending(&self, job: JobId) -> bool {
        self.promised.get(&job).is_some_and(|promise| promise.expected_at.is_none())
    }

    /// Places the gangs whose kept room is free by now. A promise that can't be kept any more is given up: the gang waits on like
    /// any other.
    pub(crate) fn keep_promises(&mut self, decisions: &mut Vec<Decision>) {
        if self.promised.is_empty() {
            return;
        }
        let mut due: Vec<(bool, JobId)> = self
            .promised
            .iter()
            .filter(|(_, promise)| promise.left.is_empty())
            .map(|(job, promise)| (promise.expected_at.is_some(), *job))
            .collect();
        // Those for whom runs were ended go before those who waited for ends.
        due.sort_unstable();
        for (_, job) in due {
            self.stats.entries_visited += 1;
            let Some(candidates) = self.promised_candidates(job) else {
                self.break_promise(job);
                continue;
            };
            let has_come = candidates.iter().all(|candidate| {
                // What is reserved for others counts only once they run.
                let others = self.set_reservations_aside(candidate.cluster, Some(job));
                let class = self.classes.get(self.jobs.held(job).class);
                let (nodes, places) = (&self.sites[candidate.cluster].nodes, self.promised[&job].on(candidate.cluster));
                let has_come = places.is_some_and(|places| places.iter().all(|place| nodes.has_come(class, *place)));
                self.put_reservations_back(candidate.cluster, &others);
                has_come
            });
            if has_come {
                let promise = self.promised.remove(&job).expect("it was just looked at");
                if let Some(at) = promise.expected_at {
                    self.timers.remove(&(at, Timer::Promised(job)));
                }
                let asks = self.jobs.held(job).asks;
                let further = promise.further.into_iter().map(|(_, places)| places);
                let others = candidates[1..].iter().cloned().zip(further).collect();
                decisions.push(Decision::Place(self.placed_over(job, (&candidates[0], promise.places), others, asks)));
            } else if self.promised[&job].elsewhere {
                // What it waited for has gone, and its room is not where it was to be.
                self.break_promise(job);
            }
        }
    }

    /// Gives back what is charged for reservations on a cluster, but for one of them.
    fn set_reservations_aside(&mut self, cluster: ClusterIndex, but: Option<JobId>) -> Vec<JobId> {
        let theirs = self
            .promised
            .iter()
            .filter(|(job, promise)| promise.on(cluster).is_some() && promise.expected_at.is_some() && Some(**job) != but);
        let jobs: Vec<JobId> = theirs.map(|(job, _)| *job).collect();
        for job in &jobs {
            let (class, places) = (self.classes.get(self.jobs.held(*job).class), self.promised[job].on(cluster));
            self.sites[cluster].nodes.give_places(class, places.unwrap_or_default(), &self.resources);
        }
        jobs
    }

    fn put_reservations_back(&mut self, cluster: ClusterIndex, jobs: &[JobId]) {
        for job in jobs {
            let (class, places) = (self.classes.get(self.jobs.held(*job).class), self.promised[job].on(cluster));
            self.sites[cluster].nodes.take_places(class, places.unwrap_or_default(), &self.resources);
        }
        if !jobs.is_empty() {
            self.sites[cluster].taken += 1;
        }
    }

    /// The candidate that was promised, or those of a gang that will be split, if it may still go there.
    fn promised_candidates(&mut self, job: JobId) -> Option<Vec<Candidate>> {
        let promise = self.promised.get(&job)?;
        let entry = self.jobs.get(job)?;
        let class = self.classes.get(entry.asks);
        let there = |(cluster, places): (ClusterIndex, &[Place])| {
            places.iter().all(|place| self.sites[cluster].nodes.free_on(place.node).is_some())
        };
        let nodes = &self.sites[promise.cluster].nodes;
        if !promise.parts().all(there)
            || !nodes.is_together(class, &promise.places)
            || self.queues.limit(entry.queue, &class.total, Work::default).is_some()
        {
            return None;
        }
        let (queue, class, expected_ms) = (entry.queue, entry.asks, entry.expected_ms);
        let flavor = promise.flavor;
        let owner = self.queues.tier_owner(queue);
        let tier = promise.tier;
        let (open, _) = self.tiers_open(owner, self.waits(entry));
        // A tier that was open when the room was promised stays open for it.
        let open = open.with(tier, self.queues.tiers(owner).len());
        let group = self.group(queue, class, open, expected_ms);
        self.renew(group);
        let candidates = &self.groups.get(group).candidates;
        let promise = self.promised.get(&job)?;
        let on = |cluster: ClusterIndex| {
            candidates.iter().find(|candidate| candidate.cluster == cluster && candidate.flavor == flavor)
        };
        if !promise.is_split() {
            return on(promise.cluster).filter(|candidate| self.affords(job, candidate)).map(|candidate| vec![candidate.clone()]);
        }
        let parts: Option<Vec<(Candidate, &[Place])>> =
            promise.parts().map(|(cluster, places)| Some((on(cluster)?.clone(), places))).collect();
        let parts = parts.filter(|parts| self.may_be_split_over(job, parts))?;
        Some(parts.into_iter().map(|(candidate, _)| candidate).collect())
    }

    /// Reserves room for a gang on a candidate, where it is expected first.
    pub(crate) fn reserve(&mut self, job: JobId, candidate: &Candidate, decisions: &mut Vec<Decision>) -> bool {
        let mut ends: Vec<(Time, JobId)> = Vec::new();
        let runs: Vec<JobId> = self.sites[candidate.cluster].runs.iter().take(MOST_RUNS).copied().collect();
        for id in runs {
            ends.push((self.expected_end(id), id));
        }
        ends.sort_unstable();
        let class_id = self.jobs.held(job).asks;
        let mut given: Vec<(NodeIndex, Held)> = Vec::new();
        let (mut looked_at, mut next_try, mut found) = (0, 1, None);
        while looked_at < ends.len() && found.is_none() {
            // Twice as many ends before each try: the last try may look at twice as many as needed, never at each alone.
            while looked_at < ends.len() && looked_at < next_try {
                for (node, amount) in self.reserved(ends[looked_at].1, candidate.cluster) {
                    self.sites[candidate.cluster].nodes.give(node, &amount, &self.resources);
                    given.push((node, amount));
                }
                looked_at += 1;
            }
            next_try += (next_try / 4).max(1);
            let class = self.classes.get(class_id);
            let nodes = &mut self.sites[candidate.cluster].nodes;
            self.stats.fits_tried += 1;
            if nodes.could_fit(class, candidate.flavor) {
                found = nodes.place(class, candidate.flavor, &self.resources, &self.mix).ok();
            }
        }
        for (node, amount) in &given {
            self.sites[candidate.cluster].nodes.take(*node, amount, &self.resources);
        }
        let Some(places) = found else { return false };
        let last = ends[looked_at - 1].0;
        let expected_at = Some(last.max(Time(self.now.0.saturating_add(60_000))));
        let promise = Promise { expected_at, ..Promise::of(candidate, places, &Going::default()) };
        self.promise(job, promise, Going::default(), Cause::Overdue, decisions);
        true
    }

    /// When a run is expected to end; now for one that is told to.
    fn expected_end(&mut self, id: JobId) -> Time {
        let now = self.now;
        let Some(Job { state: State::Placed(run), likeness, attained_ms, .. }) = self.jobs.get(id) else { return now };
        if run.started_at.is_none() || run.stopping {
            return now;
        }
        let speed = run.speed;
        let attained_ms = attained_ms.saturating_add(run.done_ms(now));
        Time(now.0.saturating_add(time_of(self.estimates.remaining_ms(*likeness, attained_ms), speed)))
    }

    /// A gang's reservation should have come by now: it is made again, from what is expected now.
    pub(crate) fn promise_anew(&mut self, job: JobId) {
        let Some(candidates) = self.promised_candidates(job) else {
            self.break_promise(job);
            return;
        };
        let [candidate] = candidates.as_slice() else { return self.reserve_over_region_anew(job) };
        self.break_promise(job);
        let made = self.reserve(job, candidate, &mut Vec::new());
        if !made {
            self.freed.insert(candidate.cluster);
        }
    }

    /// Lets gangs run in reserved room that are expected to be done before it is needed.
    pub(crate) fn backfill(&mut self, decisions: &mut Vec<Decision>, limit: usize) {
        // Per cluster the earliest moment at which something is reserved there.
        let mut until: BTreeMap<ClusterIndex, Time> = BTreeMap::new();
        for promise in self.promised.values() {
            if let Some(at) = promise.expected_at {
                for (cluster, _) in promise.parts() {
                    let earliest = until.entry(cluster).or_insert(at);
                    *earliest = at.min(*earliest);
                }
            }
        }
        if until.is_empty() {
            return;
        }
        let jobs = &self.jobs;
        let lanes = self.lanes.shortest(MOST_LANES, &|job| jobs.held(job).waits_since());
        for lane in lanes {
            while decisions.len() < limit && self.backfill_head(lane, &until, decisions) {}
        }
    }

    fn backfill_head(&mut self, lane: LaneId, until: &BTreeMap<ClusterIndex, Time>, decisions: &mut Vec<Decision>) -> bool {
        self.stats.entries_visited += 1;
        let Some(entry) = self.lanes.living(lane) else { return false };
        let (Some((_, job)), Some((group, _))) = (entry.head(), entry.listed) else { return false };
        let (queue, class, expected_ms, now) = (entry.queue, entry.class, entry.expected_ms, self.now);
        if entry.expected_ms == 0 || self.promised.contains_key(&job) {
            return false;
        }
        if self.queues.limit(queue, &self.classes.get(class).total, Work::default).is_some() {
            return false;
        }
        let (candidates, reach) = self.groups.get(group).shared_candidates();
        for candidate in &candidates[..reach] {
            let lasts_ms = time_of(expected_ms, self.speed_at(self.jobs.held(job), class, candidate.flavor));
            let done_at = Time(now.0.saturating_add(lasts_ms));
            if until.get(&candidate.cluster).is_none_or(|at| done_at > *at) || !self.affords(job, candidate) {
                continue;
            }
            let reservations = self.set_reservations_aside(candidate.cluster, None);
            let placement = self.place_at(job, candidate);
            self.put_reservations_back(candidate.cluster, &reservations);
            if let Some(placement) = placement {
                decisions.push(Decision::Place(placement));
                return true;
            }
        }
        false
    }
}
