//! Reservations over clusters of a region, for gangs that may be split and that no single cluster could hold: room is kept on all of them
//! or on none, and the gang begins when all of it has come.

use std::collections::BTreeSet;

use super::Promise;
use crate::class::ClassId;
use crate::cluster::{Candidate, ClusterIndex};
use crate::engine::{Engine, State};
use crate::event::{Cause, Decision, JobId, Time};
use crate::freeing::Going;
use crate::groups::GroupId;
use crate::nodes::{Held, NodeIndex, Piece, Place};
use crate::parts::gpus_at;

impl Promise {
    /// Whether it is over several clusters.
    pub(crate) fn is_split(&self) -> bool {
        !self.further.is_empty()
    }

    /// The clusters on which room is kept, with what is kept there.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (ClusterIndex, &[Place])> {
        let further = self.further.iter().map(|(cluster, places)| (*cluster, places.as_slice()));
        std::iter::once((self.cluster, self.places.as_slice())).chain(further)
    }

    /// What is kept on a cluster.
    pub(crate) fn on(&self, cluster: ClusterIndex) -> Option<&[Place]> {
        self.parts().find(|(known, _)| *known == cluster).map(|(_, places)| places)
    }

    /// The same, for nodes that get other numbers.
    pub(crate) fn places_mut(&mut self, cluster: ClusterIndex) -> impl Iterator<Item = &mut Place> {
        let first = (self.cluster == cluster).then_some(&mut self.places);
        let further = self.further.iter_mut().filter(move |(known, _)| *known == cluster).map(|(_, places)| places);
        first.into_iter().chain(further).flatten()
    }
}

impl Engine {
    /// Charges what is promised to the nodes of all its clusters.
    pub(crate) fn take_promised(&mut self, class: ClassId, promise: &Promise) {
        let class = self.classes.get(class);
        for (cluster, places) in promise.parts() {
            self.sites[cluster].nodes.take_places(class, places, &self.resources);
        }
    }

    /// Gives back what is promised.
    pub(crate) fn give_promised(&mut self, class: ClassId, promise: &Promise) {
        let class = self.classes.get(class);
        for (cluster, places) in promise.parts() {
            self.sites[cluster].nodes.give_places(class, places, &self.resources);
        }
    }

    /// Whether candidates are such that a gang may be split over them, and the budgets of its queue allow it that.
    pub(super) fn may_be_split_over(&self, job: JobId, parts: &[(Candidate, &[Place])]) -> bool {
        let region =
            |candidate: &Candidate| self.sites[candidate.cluster].cluster.as_ref().map(|known| known.spec.region.as_str());
        let (first, _) = &parts[0];
        let together = parts.iter().all(|(candidate, _)| (candidate.tier, region(candidate)) == (first.tier, region(first)));
        let State::Waiting(lane) = self.jobs.held(job).state else { return false };
        let lane = self.lanes.get(lane);
        let class = self.classes.get(lane.class);
        let work =
            lane.work_over(class, parts.iter().map(|(candidate, places)| (candidate, gpus_at(&self.resources, class, places))));
        let affordable = self.queues.chain(lane.queue).all(|index| self.queues.get(index).unaffordable(work).next().is_none());
        together && region(first).is_some_and(|region| !region.is_empty()) && affordable
    }

    /// Reserves room for a gang over clusters of a region in an open tier, where it is expected first of those of the first region that
    /// could hold it.
    pub(crate) fn reserve_over_region(&mut self, job: JobId, group: GroupId, decisions: &mut Vec<Decision>) -> bool {
        self.renew(group);
        let (candidates, _) = self.groups.get(group).shared_candidates();
        for of_region in self.groups.get(group).open_regions() {
            if let Some(promise) = self.reservation_over(job, &of_region, &candidates) {
                self.promise(job, promise, Going::default(), Cause::Overdue, decisions);
                return true;
            }
        }
        false
    }

    /// Room for a gang once runs on these clusters have ended, those first that are expected to end first. Its places are charged.
    fn reservation_over(&mut self, job: JobId, of_region: &[u32], candidates: &[Candidate]) -> Option<Promise> {
        let clusters: Vec<ClusterIndex> = of_region.iter().map(|place| candidates[*place as usize].cluster).collect();
        let runs = clusters.iter().flat_map(|cluster| self.sites[*cluster].runs.iter().take(super::MOST_RUNS).copied());
        let runs: BTreeSet<JobId> = runs.collect();
        let mut ends: Vec<(Time, JobId)> = runs.into_iter().map(|id| (self.expected_end(id), id)).collect();
        ends.sort_unstable();
        let class = self.jobs.held(job).asks;
        let mut given: Vec<(ClusterIndex, NodeIndex, Held)> = Vec::new();
        let (mut looked_at, mut next_try, mut found) = (0, 1, None);
        while looked_at < ends.len() && found.is_none() {
            // As in a reservation on one cluster.
            while looked_at < ends.len() && looked_at < next_try {
                for cluster in &clusters {
                    for (node, amount) in self.reserved(ends[looked_at].1, *cluster) {
                        self.sites[*cluster].nodes.give(node, &amount, &self.resources);
                        given.push((*cluster, node, amount));
                    }
                }
                looked_at += 1;
            }
            next_try += (next_try / 4).max(1);
            found = self.take_split(class, of_region, candidates).ok();
        }
        for (cluster, node, amount) in &given {
            self.sites[*cluster].nodes.take(*node, amount, &self.resources);
        }
        let last = ends.get(looked_at.checked_sub(1)?)?.0;
        let promise = self.promise_of_pieces(found?, of_region, candidates, last)?;
        let parts: Vec<(Candidate, &[Place])> = promise
            .parts()
            .filter_map(|(cluster, places)| {
                let place = of_region.iter().find(|place| candidates[**place as usize].cluster == cluster)?;
                Some((candidates[*place as usize].clone(), places))
            })
            .collect();
        if self.may_be_split_over(job, &parts) {
            return Some(promise);
        }
        self.give_promised(class, &promise);
        None
    }

    fn promise_of_pieces(&self, pieces: Vec<Piece>, of_region: &[u32], candidates: &[Candidate], last: Time) -> Option<Promise> {
        let candidate = |at: usize| &candidates[of_region[at] as usize];
        let mut parts = pieces.into_iter().map(|(at, places)| (candidate(at), places));
        let (first, places) = parts.next()?;
        let further = parts.map(|(candidate, places)| (candidate.cluster, places)).collect();
        let expected_at = Some(last.max(Time(self.now.0.saturating_add(60_000))));
        Some(Promise { further, expected_at, ..Promise::of(first, places, &Going::default()) })
    }

    /// Makes a reservation over a region again, which should have come by now.
    pub(super) fn reserve_over_region_anew(&mut self, job: JobId) {
        self.break_promise(job);
        let State::Waiting(lane) = self.jobs.held(job).state else { return };
        if let Some((group, _)) = self.lanes.get(lane).listed {
            self.reserve_over_region(job, group, &mut Vec::new());
        }
    }
}
