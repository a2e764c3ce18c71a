//! Ending runs early. A gang for which there is no room may take the place of runs that allow it and are expected to take many
//! times its GPU-time still: a week-long run is held up by minutes, and the gang does not wait for a week. Runs are interrupted
//! whole; what they have attained is kept, and they return to their queue at their original time.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::class::{ClassId, time_of};
use crate::cluster::{Candidate, ClusterIndex, Interruptible};
use crate::engine::{Engine, Job, State, Timer};
use crate::estimate::{begin_ms, level_of};
use crate::event::{Cause, Decision, JobId, Time};
use crate::promise::Promise;
use crate::queues::Work;
use crate::rows::Remaining;

/// A run makes room only for a gang that is expected to take this many times less GPU-time. With less than that two gangs of one
/// kind would interrupt each other as soon as one has run a little longer than the other.
const TIMES_LONGER: i64 = 8;
/// Interrupting must save at least so many times what starting again costs all that are interrupted.
const RESTART_TIMES: i64 = 4;
/// Bounds of one plan: lanes looked at, gangs looked at in vain, and runs looked at for one gang.
const MOST_LANES: usize = 64;
const MOST_IN_VAIN: usize = 16;
const MOST_RUNS: usize = 128;

/// What a gang claims of the place of runs: they must be expected to take many times this GPU-time still.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) gpu_ms: i64,
    pub(crate) cause: Cause,
}

impl Engine {
    /// Lists a run, if it may be interrupted, under the GPU-time it is expected to take still; and again when it has lasted so
    /// long that more is to be expected.
    pub(crate) fn list(&mut self, id: JobId) {
        let Some(Job { state: State::Placed(run), queue, likeness, attained_ms, .. }) = self.jobs.get(id) else { return };
        let class = self.classes.get(run.class);
        let (Some(started_at), Some(_), false) = (run.started_at, class.gang.restart_ms, run.stopping) else { return };
        if !run.leaving.is_empty() {
            return;
        }
        if self.was_overdue(id, started_at) {
            return;
        }
        let (lasted_ms, speed) = (self.now.0.saturating_sub(started_at.0).max(0), run.speed);
        let attained_ms = attained_ms.saturating_add(run.done_ms(self.now));
        let next_ms = time_of(begin_ms(level_of(attained_ms).saturating_add(1)).saturating_sub(attained_ms), speed);
        let min_runtime_ms = self.queues.get(*queue).spec.min_runtime_ms;
        let remaining_ms = time_of(self.estimates.remaining_ms(*likeness, attained_ms), speed);
        let remaining = Remaining {
            gpu_ms: remaining_ms.saturating_mul(class.gpus.max(1)),
            until: Time(self.now.0.saturating_add(next_ms.max(min_runtime_ms - lasted_ms).max(1))),
        };
        self.unlist(id);
        self.list_as(id, remaining);
    }

    pub(crate) fn list_as(&mut self, id: JobId, remaining: Remaining) {
        let Some(Job { state: State::Placed(run), .. }) = self.jobs.get_mut(id) else { return };
        run.remaining = Some(remaining);
        let (first, further) = (run.cluster, run.further());
        for cluster in std::iter::once(first).chain(further) {
            self.change_interruptible(cluster, |runs| runs.insert((Reverse(remaining.gpu_ms), id)));
        }
        self.timers.insert((remaining.until, Timer::Longer(id)));
        self.list_misplaced(id);
    }

    /// Takes a run from the list of those that may be interrupted.
    pub(crate) fn unlist(&mut self, id: JobId) {
        let Some(Job { state: State::Placed(run), .. }) = self.jobs.get_mut(id) else { return };
        let Some(Remaining { gpu_ms, until }) = run.remaining.take() else { return };
        let (first, further) = (run.cluster, run.further());
        for cluster in std::iter::once(first).chain(further) {
            self.change_interruptible(cluster, |runs| runs.remove(&(Reverse(gpu_ms), id)));
        }
        self.timers.remove(&(until, Timer::Longer(id)));
        self.misplaced.remove(gpu_ms, id);
    }

    fn change_interruptible(&mut self, cluster: ClusterIndex, change: impl FnOnce(&mut Interruptible) -> bool) {
        let runs = &mut self.sites[cluster].interruptible;
        let before = runs.first().map(|(longest, _)| *longest);
        change(runs);
        let after = runs.first().map(|(longest, _)| *longest);
        if before != after {
            before.map(|longest| self.longest.remove(&(longest, cluster)));
            self.longest.extend(after.map(|longest| (longest, cluster)));
        }
    }

    /// Interrupts runs for the blocked gangs that are expected to be done soonest.
    pub(crate) fn interrupt(&mut self, decisions: &mut Vec<Decision>, limit: usize) {
        let Some((Reverse(longest), _)) = self.longest.first().copied() else { return };
        let jobs = &self.jobs;
        let lanes = self.lanes.shortest(MOST_LANES, &|job| jobs.held(job).waits_since());
        // Per class the least claim that was made in vain: whoever claims as much has no more runs to take the place of.
        let mut in_vain: BTreeMap<ClassId, i64> = BTreeMap::new();
        for lane in lanes {
            self.stats.entries_visited += 1;
            if in_vain.len() == MOST_IN_VAIN || decisions.len() >= limit {
                return;
            }
            let entry = self.lanes.get(lane);
            let (queue, class) = (entry.queue, entry.class);
            let (Some((submitted_at, job)), Some((group, _))) = (entry.head(), entry.listed) else { continue };
            let gpu_ms = claim(entry.expected_ms, entry.expected_gpu_ms, self.now.0.saturating_sub(submitted_at.0));
            let least_ms = time_of(gpu_ms, self.classes.get(class).most_speed());
            if least_ms.saturating_mul(TIMES_LONGER) >= longest
                || self.promised.contains_key(&job)
                || in_vain.get(&class).is_some_and(|least| gpu_ms >= *least)
                || self.queues.limit(queue, &self.classes.get(class).total, Work::default).is_some()
            {
                continue;
            }
            let (candidates, reach) = self.groups.get(group).shared_candidates();
            let candidates = &candidates[..reach];
            if !candidates.iter().any(|candidate| self.affords(job, candidate)) {
                continue;
            }
            let mut try_at = |candidate: &Candidate| {
                let gpu_ms = time_of(gpu_ms, self.classes.get(class).speed(candidate.flavor));
                let claim = Claim { gpu_ms, cause: Cause::Sooner };
                self.affords(job, candidate) && self.interrupt_for(job, candidate, claim, decisions)
            };
            if !candidates.iter().any(&mut try_at) {
                in_vain.insert(class, gpu_ms);
            }
        }
    }

    /// Ends runs in the way of a gang, if enough of them are long enough: those expected to last longest, and of these only what
    /// is needed.
    pub(crate) fn interrupt_for(
        &mut self,
        for_job: JobId,
        candidate: &Candidate,
        claim: Claim,
        decisions: &mut Vec<Decision>,
    ) -> bool {
        let job = self.jobs.held(for_job);
        let (priority, class_id) = (job.priority, job.asks);
        let site = &self.sites[candidate.cluster];
        let class = self.classes.get(class_id);
        let mut missing = class.whole - candidate.flavor.map_or(0, |flavor| site.nodes.gpus_free(flavor));
        let mut looked_at = 0;
        let mut eligible: Vec<JobId> = Vec::new();
        for (Reverse(remaining), id) in site.interruptible.iter().take(MOST_RUNS) {
            looked_at += 1;
            let Some(Job { priority: its_priority, queue, state: State::Placed(run), .. }) = self.jobs.get(*id) else {
                continue;
            };
            let class = self.classes.get(run.class);
            let restart_gpu_ms = class.gang.restart_ms.unwrap_or(0).saturating_mul(class.gpus);
            let worth = claim.gpu_ms.max(restart_gpu_ms.saturating_mul(RESTART_TIMES));
            if *remaining <= worth.saturating_mul(TIMES_LONGER) {
                if *remaining <= claim.gpu_ms.saturating_mul(TIMES_LONGER) {
                    break;
                }
                continue;
            }
            let min_runtime_ms = self.queues.get(*queue).spec.min_runtime_ms;
            let began = run.started_at.unwrap_or(self.now);
            let young = self.now.0.saturating_sub(began.0) < min_runtime_ms;
            if young || *its_priority > priority {
                continue;
            }
            if matches!(claim.cause, Cause::Sooner) && self.stands_on_its_share(*id, began, for_job) {
                continue;
            }
            missing -= self.gpus_of_run_on(run, candidate.cluster);
            eligible.push(*id);
        }
        self.stats.entries_visited += looked_at;
        if missing > 0 {
            return false;
        }
        let eligible = self.with_surplus(&eligible);
        let Some((places, going)) = self.free_up(class_id, candidate, &eligible, None) else { return false };
        let promise = Promise::of(candidate, places, &going);
        self.promise(for_job, promise, going, claim.cause, decisions);
        true
    }
}

/// What a waiting gang claims: the GPU-time it is expected to take, less the longer it has waited for its run. With a wait as long
/// as its run it is half, so that a gang is not passed over for ever because it is large (the response ratio of Brinch Hansen's
/// *Highest Response Ratio Next*, 1971).
fn claim(expected_ms: i64, expected_gpu_ms: i64, waited_ms: i64) -> i64 {
    let stretch = 1.0 + waited_ms.max(0) as f64 / expected_ms.max(1_000) as f64;
    (expected_gpu_ms as f64 / stretch) as i64
}
