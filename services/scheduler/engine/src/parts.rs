//! Runs that are split: what they have on each of their clusters. Whatever is done to a run on a cluster is done to its part there; its
//! queue is charged once, with all of it.

use crate::class::{Class, ClassId};
use crate::cluster::{Candidate, ClusterIndex};
use crate::engine::{Engine, Run};
use crate::event::{BoundNode, JobId};
use crate::nodes::Place;
use crate::span::Part;
use crate::vector::{ResourceTable, Vector};

/// What a run that is split has on one cluster more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunPart {
    pub(crate) cluster: ClusterIndex,
    pub(crate) places: Vec<Place>,
    pub(crate) bound: Option<Vec<BoundNode>>,
}

impl Run {
    /// Whether it is on several clusters.
    pub(crate) fn is_split(&self) -> bool {
        !self.elsewhere.is_empty()
    }

    /// The clusters it is on besides its first one.
    pub(crate) fn further(&self) -> Vec<ClusterIndex> {
        self.elsewhere.iter().map(|part| part.cluster).collect()
    }

    /// All clusters it is on.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = ClusterIndex> + '_ {
        std::iter::once(self.cluster).chain(self.elsewhere.iter().map(|part| part.cluster))
    }

    /// What it has on a cluster: what is planned, and what is bound where that is known.
    pub(crate) fn on(&self, cluster: ClusterIndex) -> Option<(&[Place], Option<&Vec<BoundNode>>)> {
        if self.cluster == cluster {
            return Some((&self.places, self.bound.as_ref()));
        }
        let part = self.elsewhere.iter().find(|part| part.cluster == cluster)?;
        Some((&part.places, part.bound.as_ref()))
    }

    /// What is bound on a cluster that it is on.
    pub(crate) fn bound_mut(&mut self, cluster: ClusterIndex) -> Option<&mut Option<Vec<BoundNode>>> {
        if self.cluster == cluster {
            return Some(&mut self.bound);
        }
        self.elsewhere.iter_mut().find(|part| part.cluster == cluster).map(|part| &mut part.bound)
    }

    /// Its places on a cluster, with those of workers that leave.
    pub(crate) fn places_mut(&mut self, cluster: ClusterIndex) -> impl Iterator<Item = &mut Place> {
        let first = (self.cluster == cluster).then(|| self.places.iter_mut().chain(&mut self.leaving));
        let further = self.elsewhere.iter_mut().filter(move |part| part.cluster == cluster);
        first.into_iter().flatten().chain(further.flat_map(|part| &mut part.places))
    }
}

/// What workers at some places ask for.
pub(crate) fn asked_at(class: &Class, places: &[Place]) -> Vector {
    let mut sum = Vector::default();
    for place in places {
        sum.add(&class.groups[place.group as usize].asked.times(place.workers));
    }
    sum
}

/// GPUs of workers at some places, parts rounded up to whole ones.
pub(crate) fn gpus_at(resources: &ResourceTable, class: &Class, places: &[Place]) -> i64 {
    resources.gpus_rounded_up(&asked_at(class, places))
}

impl Engine {
    /// Takes the further parts of a placement into the state of their clusters, whose nodes have them already: what is told of them, and
    /// what the run keeps.
    pub(crate) fn parts_of(
        &mut self,
        id: JobId,
        others: Vec<(Candidate, Vec<Place>)>,
        class: ClassId,
    ) -> (Vec<Part>, Vec<RunPart>) {
        let take = |(candidate, places): (Candidate, Vec<Place>)| {
            let Candidate { cluster, price, egress, .. } = candidate;
            let site = &mut self.sites[cluster];
            site.runs.insert(id);
            site.taken += 1;
            let part = Part {
                cluster: site.name.clone(),
                price_micros: price,
                egress_micros: egress.unwrap_or(0),
                gpus: gpus_at(&self.resources, self.classes.get(class), &places),
                slots: self.slots(cluster, &places),
            };
            (part, RunPart { cluster, places, bound: None })
        };
        others.into_iter().map(take).unzip()
    }

    /// GPUs that a run has on a cluster.
    pub(crate) fn gpus_of_run_on(&self, run: &Run, cluster: ClusterIndex) -> i64 {
        let class = self.classes.get(run.class);
        if run.is_split() { run.on(cluster).map_or(0, |(places, _)| gpus_at(&self.resources, class, places)) } else { class.gpus }
    }
}
