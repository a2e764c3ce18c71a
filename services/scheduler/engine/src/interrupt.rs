//! Ending runs early. A gang for which there is no room may take the place of runs that allow it and are expected to take many
//! times its GPU-time still: a week-long run is held up by minutes, and the gang does not wait for a week. Runs are interrupted
//! whole; what they have attained is kept, and they return to their queue at their original time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::amounts::Vector;
use crate::class::ClassId;
use crate::cluster::Candidate;
use crate::engine::{Engine, Job, State, Timer};
use crate::estimate::{begin_ms, level_of};
use crate::event::{Decision, Interruption, JobId, Time};
use crate::lanes::LaneId;
use crate::rows::Remaining;

/// A run makes room only for a gang that is expected to take this many times less GPU-time. With less than that two gangs of one
/// kind would interrupt each other as soon as one has run a little longer than the other.
const TIMES_LONGER: i64 = 8;
/// A run is left alone this long after its start: what starts again and again gets nothing done.
const LEAST_RUN_MS: i64 = 60_000;
/// Interrupting must save at least so many times what starting again costs all that are interrupted.
const RESTART_TIMES: i64 = 4;
/// Bounds of one plan: lanes looked at, gangs looked at in vain, and runs looked at for one gang.
const MOST_LANES: usize = 64;
const MOST_IN_VAIN: usize = 16;
const MOST_RUNS: usize = 128;

impl Engine {
    /// Lists a run, if it may be interrupted, under the GPU-time it is expected to take still; and again when it has lasted so
    /// long that more is to be expected.
    pub(crate) fn list(&mut self, id: JobId) {
        let Some(Job { state: State::Placed(run), class, attained_ms, .. }) = self.jobs.get(&id) else { return };
        let class = self.classes.get(*class);
        let (Some(started_at), Some(_), false) = (run.started_at, class.gang.restart_ms, run.stopping) else { return };
        let lasted_ms = self.now.0.saturating_sub(started_at.0).max(0);
        let attained_ms = attained_ms.saturating_add(lasted_ms);
        let next_ms = begin_ms(level_of(attained_ms).saturating_add(1)).saturating_sub(attained_ms);
        let remaining_ms = self.estimates.remaining_ms(&self.likeness(id), attained_ms);
        let remaining = Remaining {
            gpu_ms: remaining_ms.saturating_mul(class.gpus.max(1)),
            until: Time(self.now.0.saturating_add(next_ms.max(LEAST_RUN_MS - lasted_ms).max(1))),
        };
        self.unlist(id);
        self.list_as(id, remaining);
    }

    pub(crate) fn list_as(&mut self, id: JobId, remaining: Remaining) {
        let Some(Job { state: State::Placed(run), .. }) = self.jobs.get_mut(&id) else { return };
        run.remaining = Some(remaining);
        self.interruptible.entry(run.cluster.clone()).or_default().insert((Reverse(remaining.gpu_ms), id));
        self.timers.insert((remaining.until, Timer::Longer(id)));
    }

    /// Takes a run from the list of those that may be interrupted.
    pub(crate) fn unlist(&mut self, id: JobId) {
        let Some(Job { state: State::Placed(run), .. }) = self.jobs.get_mut(&id) else { return };
        let Some(Remaining { gpu_ms, until }) = run.remaining.take() else { return };
        if let Some(runs) = self.interruptible.get_mut(&run.cluster) {
            runs.remove(&(Reverse(gpu_ms), id));
            if runs.is_empty() {
                self.interruptible.remove(&run.cluster);
            }
        }
        self.timers.remove(&(until, Timer::Longer(id)));
    }

    /// Interrupts runs for the blocked gangs that are expected to be done soonest.
    pub(crate) fn interrupt(&mut self, decisions: &mut Vec<Decision>, limit: usize) {
        let longest = self.interruptible.values().filter_map(|runs| runs.first()).map(|(Reverse(remaining), _)| *remaining).max();
        let Some(longest) = longest else { return };
        let lanes: Vec<LaneId> = self.lanes.shortest.iter().take(MOST_LANES).map(|(_, lane)| *lane).collect();
        // Per class the least claim that was made in vain: whoever claims as much has no more runs to take the place of.
        let mut in_vain: BTreeMap<ClassId, i64> = BTreeMap::new();
        for lane in lanes {
            self.stats.entries_visited += 1;
            if in_vain.len() == MOST_IN_VAIN || decisions.len() >= limit {
                return;
            }
            let entry = self.lanes.get(lane);
            let (queue, class) = (entry.queue, entry.class);
            let Some((submitted_at, job)) = entry.head() else { continue };
            let claim = claim(entry.expected_ms, entry.expected_gpu_ms, self.now.0.saturating_sub(submitted_at.0));
            if claim.saturating_mul(TIMES_LONGER) >= longest
                || self.promised.contains_key(&job)
                || in_vain.get(&class).is_some_and(|least| claim >= *least)
                || self.queues.limit(queue, &self.classes.get(class).total).is_some()
            {
                continue;
            }
            let (owner, candidates) = self.candidates(queue, class);
            let (open, _) = self.tiers_open(owner, submitted_at);
            let mut found = None;
            for candidate in candidates.iter().filter(|candidate| candidate.tier < open) {
                found = self.runs_in_the_way(class, candidate, claim, job);
                if found.is_some() {
                    break;
                }
            }
            let Some(runs) = found else {
                in_vain.insert(class, claim);
                continue;
            };
            for run in &runs {
                self.unlist(*run);
                let entry = self.jobs.get_mut(run).expect("a listed run is known");
                let epoch = entry.epoch;
                if let State::Placed(run) = &mut entry.state {
                    run.stopping = true;
                }
                self.stats.interrupted += 1;
                decisions.push(Decision::Interrupt(Interruption { job: *run, epoch, in_favour_of: job }));
            }
            self.promised.insert(job, runs);
        }
    }

    /// The runs to interrupt so that the gang fits: those expected to last longest, and of these only what is needed.
    fn runs_in_the_way(
        &mut self,
        class_id: ClassId,
        candidate: &Candidate,
        claim: i64,
        for_job: JobId,
    ) -> Option<BTreeSet<JobId>> {
        let name = self.clusters[candidate.cluster].as_ref()?.spec.name.clone();
        let priority = self.jobs[&for_job].spec.priority;
        let class = self.classes.get(class_id);
        let mut missing = class.gpus
            - candidate.flavor.map_or(0, |flavor| {
                self.clusters[candidate.cluster].as_ref().map_or(0, |cluster| cluster.nodes.gpus_free(flavor))
            });
        let mut looked_at = 0;
        let mut eligible: Vec<JobId> = Vec::new();
        for (Reverse(remaining), id) in self.interruptible.get(&name)?.iter().take(MOST_RUNS) {
            looked_at += 1;
            let Some(Job { spec, state: State::Placed(run), class, .. }) = self.jobs.get(id) else { continue };
            let restart = self.classes.get(*class).gang.restart_ms.unwrap_or(0);
            let gpus = self.classes.get(*class).gpus;
            let worth = claim.max(restart.saturating_mul(gpus).saturating_mul(RESTART_TIMES));
            if *remaining <= worth.saturating_mul(TIMES_LONGER) {
                if *remaining <= claim.saturating_mul(TIMES_LONGER) {
                    break;
                }
                continue;
            }
            let young = run.started_at.is_none_or(|at| self.now.0.saturating_sub(at.0) < LEAST_RUN_MS);
            if young || spec.priority > priority {
                continue;
            }
            missing -= gpus;
            eligible.push(*id);
        }
        self.stats.entries_visited += looked_at;
        if missing > 0 {
            return None;
        }
        self.fewest(class_id, candidate, &eligible)
    }

    /// Frees one run after the other, in thought, until the gang fits; then keeps those that share no node with it.
    fn fewest(&mut self, class_id: ClassId, candidate: &Candidate, eligible: &[JobId]) -> Option<BTreeSet<JobId>> {
        let mut freed: Vec<(JobId, Vec<(String, Vector)>)> = Vec::new();
        let mut slots = None;
        for id in eligible {
            let reserved = self.reserved(*id);
            let class = self.classes.get(class_id);
            let nodes = &mut self.clusters[candidate.cluster].as_mut()?.nodes;
            for (node, amount) in &reserved {
                nodes.give(node, amount, &self.resources);
            }
            freed.push((*id, reserved));
            self.stats.fits_tried += 1;
            if nodes.could_fit(class, candidate.flavor)
                && let Ok(found) = nodes.place(class, candidate.flavor, &self.resources)
            {
                slots = Some(found);
                break;
            }
        }
        let class = self.classes.get(class_id);
        let nodes = &mut self.clusters[candidate.cluster].as_mut()?.nodes;
        for slot in slots.iter().flatten() {
            nodes.give(&slot.node, &class.groups[slot.group].each.times(slot.workers), &self.resources);
        }
        for (node, amount) in freed.iter().flat_map(|(_, reserved)| reserved) {
            nodes.take(node, amount, &self.resources);
        }
        let used: BTreeSet<String> = slots?.into_iter().map(|slot| slot.node).collect();
        Some(
            freed
                .into_iter()
                .filter(|(_, reserved)| reserved.iter().any(|(node, _)| used.contains(node)))
                .map(|(id, _)| id)
                .collect(),
        )
    }
}

/// What a waiting gang claims: the GPU-time it is expected to take, less the longer it has waited for its run. With a wait as long
/// as its run it is half, so that a gang is not passed over for ever because it is large (the response ratio of Brinch Hansen's
/// *Highest Response Ratio Next*, 1971).
fn claim(expected_ms: i64, expected_gpu_ms: i64, waited_ms: i64) -> i64 {
    let stretch = 1.0 + waited_ms.max(0) as f64 / expected_ms.max(1_000) as f64;
    (expected_gpu_ms as f64 / stretch) as i64
}
