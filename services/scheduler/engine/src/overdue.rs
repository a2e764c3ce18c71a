//! Nothing starves. A gang that has waited for [`PATIENCE_MS`], runs not counted, is *overdue*: runs make room for it that allow it
//! and are not overdue themselves, or room is reserved for it where runs are expected to end first. Once it runs it is left
//! alone by shorter gangs. One gang of a queue at a time, the one that has waited longest, so that no queue gets more than its
//! share by keeping many waiting.

use std::collections::BTreeSet;

use crate::cluster::Candidate;
use crate::engine::Engine;
use crate::event::{Cause, Decision, JobId, Time};
use crate::interrupt::Claim;
use crate::lanes::LaneId;
use crate::queues::{QueueIndex, Work};

/// How long a gang waits before room is made for it.
pub(crate) const PATIENCE_MS: i64 = 36 * 60 * 60 * 1_000;
/// At most so many gangs have reservations at a time: what is reserved is idle.
const MOST_RESERVED: usize = 4;
/// Lanes looked at by one plan, and candidates tried for one gang.
const MOST_LANES: usize = 32;
const MOST_CANDIDATES: usize = 16;

impl Engine {
    /// Makes or reserves room for the gangs that have waited longest.
    pub(crate) fn reserve_for_overdue(&mut self, decisions: &mut Vec<Decision>, limit: usize) {
        if self.now < self.overdue_at && !self.overdue_waits {
            return;
        }
        let jobs = &self.jobs;
        let oldest = self.lanes.oldest(MOST_LANES, &|job| jobs.held(job).waits_since());
        self.overdue_at = Time(i64::MAX);
        self.overdue_waits = false;
        let mut served: BTreeSet<QueueIndex> = self.promised.keys().map(|job| self.jobs.held(*job).queue).collect();
        for (since, lane) in oldest {
            let overdue_at = Time(since.0.saturating_add(PATIENCE_MS));
            if overdue_at > self.now {
                self.overdue_at = overdue_at;
                return;
            }
            self.overdue_waits = true;
            self.stats.entries_visited += 1;
            let reserved = self.promised.values().filter(|promise| promise.expected_at.is_some()).count();
            if decisions.len() < limit && reserved < MOST_RESERVED && served.insert(self.lanes.get(lane).queue) {
                self.make_room_for_overdue(lane, decisions);
            }
        }
    }

    fn make_room_for_overdue(&mut self, lane: LaneId, decisions: &mut Vec<Decision>) {
        let entry = self.lanes.get(lane);
        let (Some((_, job)), Some((group, _))) = (entry.head(), entry.listed) else { return };
        let (queue, class) = (entry.queue, entry.class);
        if self.queues.limit(queue, &self.classes.get(class).total, Work::default).is_some() {
            return;
        }
        let candidates = self.groups.get(group).open_candidates().iter().take(MOST_CANDIDATES);
        let candidates: Vec<Candidate> = candidates.filter(|candidate| self.affords(job, candidate)).cloned().collect();
        for candidate in &candidates {
            if self.interrupt_for(job, candidate, Claim { gpu_ms: 0, cause: Cause::Overdue }, decisions) {
                return;
            }
        }
        for candidate in &candidates {
            if self.reserve(job, candidate, decisions) {
                return;
            }
        }
        if self.groups.get(group).may_span() {
            self.reserve_over_region(job, group, decisions);
        }
    }

    /// Whether a run was overdue when it began: then shorter gangs leave it alone.
    pub(crate) fn was_overdue(&self, job: JobId, began: Time) -> bool {
        let waited_ms = began.0.saturating_sub(self.jobs.held(job).waits_since().0);
        waited_ms >= PATIENCE_MS
    }
}
