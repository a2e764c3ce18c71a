//! Runs that move. A run that may be interrupted and stands in a worse place than there is room for by now ends and goes on there:
//! after everybody who waits was asked, and only if what remains of it is worth several times its restart. The better place is
//! promised to it, so that nobody gets it while the run is being ended.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use crate::class::{Class, ClassId, FlavorId, time_of, work_of};
use crate::cluster::{Candidate, ClusterIndex};
use crate::egress::HOUR_MS;
use crate::engine::{Engine, Job, State, Timer};
use crate::event::{Cause, Decision, JobId, Time};
use crate::freeing::Going;
use crate::groups::Open;
use crate::prefer::Place;
use crate::promise::Promise;
use crate::queues::Work;
use crate::spec::Prefers;

/// What is saved must be so many times what starting again costs, and the run must last so many times its restart still: what remains
/// is an estimate.
const WORTH_TIMES: i64 = 4;
/// Bounds of one plan: runs looked at in vain, and places found full for a shape.
const MOST_RUNS: usize = 256;
const MOST_FULL: usize = 64;
/// Better places that are looked at for one run.
const MOST_PLACES: usize = 256;

/// Runs that would go elsewhere if there were room, those that are expected to take most still first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Misplaced {
    runs: BTreeSet<(Reverse<i64>, JobId)>,
    /// Whether something has changed since they were looked at that may let one of them move.
    look: bool,
    /// Whether places are in another order since they were listed.
    stale: bool,
}

impl Misplaced {
    /// There may be room for one of them now.
    pub(crate) fn look(&mut self) {
        self.look = true;
    }

    /// Other places are the better ones now.
    pub(crate) fn stale(&mut self) {
        self.stale = true;
    }

    /// A run may not move any more.
    pub(crate) fn remove(&mut self, gpu_ms: i64, id: JobId) {
        self.runs.remove(&(Reverse(gpu_ms), id));
    }
}

/// A run that might move, with what its place is compared by.
struct Mover {
    class: ClassId,
    candidates: Arc<[Candidate]>,
    /// Its own place among them. Those before it are better.
    here: usize,
    prefers: Prefers,
    /// How long it is expected to last still where it is.
    remaining_ms: i64,
}

/// Places that have no room for a gang of a shape.
type Full = BTreeSet<(ClassId, ClusterIndex, Option<FlavorId>)>;

impl Engine {
    /// Lists a run that may be interrupted, if the first of its places would be better for it.
    pub(crate) fn list_misplaced(&mut self, id: JobId) {
        let Some((gpu_ms, mover)) = self.mover(id) else { return };
        if mover.here > 0 && mover.is_worth(self.classes.get(mover.class), &mover.candidates[0]) {
            self.misplaced.runs.insert((Reverse(gpu_ms), id));
            self.misplaced.look();
        }
    }

    /// Lists all runs anew, after a change of what comes first.
    fn list_misplaced_anew(&mut self) {
        self.misplaced.runs.clear();
        let runs = self.sites.iter().flat_map(|site| site.interruptible.iter().map(|(_, id)| *id));
        for id in runs.collect::<Vec<_>>() {
            self.stats.entries_visited += 1;
            self.list_misplaced(id);
        }
    }

    /// Moves the runs for which there is room in a better place, those that are expected to take most still first.
    pub(crate) fn move_runs(&mut self, decisions: &mut Vec<Decision>, limit: usize) {
        if std::mem::take(&mut self.misplaced.stale) {
            self.list_misplaced_anew();
            self.misplaced.look();
        }
        if !std::mem::take(&mut self.misplaced.look) {
            return;
        }
        let (mut full, mut in_vain, mut after) = (Full::new(), 0, Bound::Unbounded);
        while in_vain < MOST_RUNS && full.len() < MOST_FULL {
            let Some(next) = self.misplaced.runs.range((after, Bound::Unbounded)).next().copied() else { return };
            if decisions.len() >= limit {
                self.misplaced.look();
                return;
            }
            after = Bound::Excluded(next);
            self.stats.entries_visited += 1;
            if self.move_run(next.1, &mut full, decisions) {
                // A gang of several parts may be packed because something was taken.
                self.misplaced.look();
            } else {
                in_vain += 1;
            }
        }
    }

    /// Ends a run for a better place of its own, if one has room for it.
    fn move_run(&mut self, id: JobId, full: &mut Full, decisions: &mut Vec<Decision>) -> bool {
        let Some((_, mover)) = self.mover(id) else { return false };
        let Some(Job { queue, state: State::Placed(run), .. }) = self.jobs.get(id) else { return false };
        let (queue, began) = (*queue, run.started_at.unwrap_or(self.now));
        let ripe_at = Time(began.0.saturating_add(self.queues.get(queue).spec.min_runtime_ms));
        for candidate in mover.candidates[..mover.here].iter().take(MOST_PLACES) {
            let class = self.classes.get(mover.class);
            let nodes = &mut self.sites[candidate.cluster].nodes;
            let free = candidate.flavor.is_none_or(|flavor| nodes.gpus_free(flavor) >= class.whole);
            let place = (mover.class, candidate.cluster, candidate.flavor);
            if !free || full.contains(&place) || !mover.is_worth(class, candidate) {
                continue;
            }
            if ripe_at > self.now {
                self.timers.insert((ripe_at, Timer::Move));
                return false;
            }
            let gpu_ms = mover.remaining_ms_at(class, candidate).saturating_mul(class.gpus);
            let work = Work::new(gpu_ms, candidate.price).with_egress(candidate.egress);
            if self.queues.chain(queue).any(|index| self.queues.get(index).unaffordable(work).next().is_some()) {
                continue;
            }
            self.stats.fits_tried += 1;
            let Ok(places) = nodes.place(class, candidate.flavor, &self.resources, &self.mix) else {
                full.insert(place);
                continue;
            };
            let going = Going { whole: BTreeSet::from([id]), ..Going::default() };
            self.promise(id, Promise::of(candidate, places, &going), going, Cause::Better, decisions);
            return true;
        }
        false
    }

    /// What is known of a run that is listed among those that may be interrupted, with the GPU-time it is listed under; `None` also
    /// where its own place is none that a gang could have now: from a cluster that takes nothing new, or is not heard of,
    /// nothing moves away by itself. Nor does an elastic gang: it would begin at its least size again. Nor one that is split.
    fn mover(&mut self, id: JobId) -> Option<(i64, Mover)> {
        let job = self.jobs.get(id).filter(|job| !job.is_elastic())?;
        let Job { class, queue, state: State::Placed(run), .. } = job else { return None };
        if run.is_split() {
            return None;
        }
        let (class, queue, cluster) = (*class, *queue, run.cluster);
        let gpu_ms = run.remaining?.gpu_ms;
        let flavor = self.model_of(self.classes.get(class), cluster, &run.places);
        // The tiers up to its own were open to it.
        let tiers = self.queues.tiers(self.queues.tier_owner(queue)).len();
        let speed = self.classes.get(class).known_speed(flavor);
        let remaining_ms = gpu_ms / self.classes.get(class).gpus.max(1);
        let group = self.group(queue, class, Open::all(tiers), work_of(remaining_ms, speed));
        self.renew(group);
        let candidates = Arc::clone(&self.groups.get(group).candidates);
        let here = candidates.iter().position(|candidate| (candidate.cluster, candidate.flavor) == (cluster, flavor))?;
        Some((gpu_ms, Mover { class, candidates, here, prefers: self.queues.prefers(queue), remaining_ms }))
    }
}

impl Mover {
    fn remaining_ms_at(&self, class: &Class, there: &Candidate) -> i64 {
        let work_ms = work_of(self.remaining_ms, class.known_speed(self.candidates[self.here].flavor));
        time_of(work_ms, class.known_speed(there.flavor))
    }

    /// Whether the rest of the run is worth its restart on a place that comes before its own: it is expected to last several times as
    /// long as that takes, and the place is of an earlier tier, or listed earlier where that counts, or of what the queue prefers
    /// (money, emissions or time) several times as much is saved as the restart takes. Where its dataset has to be moved once
    /// more, money must be saved in any case.
    fn is_worth(&self, class: &Class, there: &Candidate) -> bool {
        let (here, restart_ms) = (&self.candidates[self.here], class.gang.restart_ms.unwrap_or(0));
        if self.remaining_ms <= restart_ms.saturating_mul(WORTH_TIMES) {
            return false;
        }
        let saves = |prefers: Prefers, once: i64| {
            let costs = |candidate: &Candidate, lasts_ms: i64| {
                let costs = Place::of(class, candidate, self.remaining_ms).costs(prefers, lasts_ms)?;
                Some(costs.saturating_mul(i128::from(class.gpus.max(1))))
            };
            let (stays, goes) = (costs(here, self.remaining_ms), costs(there, self.remaining_ms_at(class, there)));
            let (Some(stays), Some(goes), Some(restart)) = (stays, goes, costs(there, restart_ms)) else { return false };
            let once = i128::from(once).saturating_mul(HOUR_MS);
            stays.saturating_sub(goes).saturating_sub(once) > restart.saturating_mul(i128::from(WORTH_TIMES))
        };
        let Some(egress) = there.egress else { return false };
        if egress > 0 && !saves(Prefers::Cheapest, egress) {
            return false;
        }
        let listed_first = self.prefers == Prefers::Listed && there.cluster != here.cluster;
        there.tier < here.tier || listed_first || saves(self.prefers, 0)
    }
}
