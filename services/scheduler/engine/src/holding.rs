//! What runs hold of nodes: what is planned, and what is bound where that is known.

use std::collections::BTreeMap;

use crate::amounts::WHOLE;
use crate::class::Class;
use crate::cluster::ClusterIndex;
use crate::engine::{Engine, Job, Run, State};
use crate::event::{BoundNode, Epoch, JobId, Refused};
use crate::nodes::{Held, NodeIndex, Nodes, Place};
use crate::parts::asked_at;
use crate::queues::Charge;
use crate::vector::{ResourceTable, Vector};

impl Engine {
    /// What a placed job holds on a cluster, node by node: what is bound where that is known, else what is planned.
    pub(crate) fn reserved(&self, id: JobId, cluster: ClusterIndex) -> Vec<(NodeIndex, Held)> {
        let Some(Job { state: State::Placed(run), .. }) = self.jobs.get(id) else { return Vec::new() };
        let Some((places, bound)) = run.on(cluster) else { return Vec::new() };
        let (class, nodes) = (self.classes.get(run.class), &self.sites[cluster].nodes);
        match bound {
            Some(bound) => {
                let bound = self.bound_to(nodes, bound);
                if class.in_parts && as_planned(class, places, &bound) {
                    return planned(class, places);
                }
                bound.into_iter().map(|(node, amount)| (node, in_whole_gpus(class, amount, &self.resources))).collect()
            }
            None => planned(class, places),
        }
    }

    fn bound_to(&self, nodes: &Nodes, bound: &[BoundNode]) -> Vec<(NodeIndex, Vector)> {
        let amount = |bound: &BoundNode| Some((nodes.find(&bound.node)?, self.resources.find_all(&bound.used)));
        bound.iter().filter_map(amount).collect()
    }

    /// Whether a run's pods were not seen elsewhere than where they were to go.
    pub(crate) fn is_as_planned(&self, run: &Run) -> bool {
        let (class, nodes) = (self.classes.get(run.class), &self.sites[run.cluster].nodes);
        run.bound.as_ref().is_none_or(|bound| as_planned(class, &run.places, &self.bound_to(nodes, bound)))
    }

    /// Charges a placed job to the nodes of all its clusters, or gives back what was.
    pub(crate) fn hold(&mut self, id: JobId, charge: Charge) {
        let Some(Job { state: State::Placed(run), .. }) = self.jobs.get(id) else { return };
        let index = run.cluster;
        if run.is_split() || run.bound.is_some() {
            for cluster in run.clusters().collect::<Vec<_>>() {
                self.hold_on(id, cluster, charge);
            }
            return;
        }
        // What is planned needs no list of its own.
        let (site, class) = (&mut self.sites[index], self.classes.get(run.class));
        match charge {
            Charge::Add => site.nodes.take_places(class, &run.places, &self.resources),
            Charge::Back => site.nodes.give_places(class, &run.places, &self.resources),
        }
        self.note_held(index, charge);
    }

    fn hold_on(&mut self, id: JobId, index: ClusterIndex, charge: Charge) {
        for (node, amount) in self.reserved(id, index) {
            match charge {
                Charge::Add => self.sites[index].nodes.take(node, &amount, &self.resources),
                Charge::Back => self.sites[index].nodes.give(node, &amount, &self.resources),
            }
        }
        self.note_held(index, charge);
    }

    /// Notes that something has become scarcer on a cluster, or free.
    fn note_held(&mut self, index: ClusterIndex, charge: Charge) {
        match charge {
            Charge::Add => self.sites[index].taken += 1,
            Charge::Back => {
                self.freed.insert(index);
            }
        }
    }

    /// Takes in where the pods are that a run has on its first cluster.
    pub(crate) fn bind(&mut self, id: JobId, epoch: Epoch, nodes: Vec<BoundNode>) -> Result<(), Refused> {
        let cluster = self.run_mut(id, epoch)?.cluster;
        self.bind_on(id, epoch, cluster, nodes)
    }

    /// Takes in where the pods are that a run has on the cluster with this name.
    pub(crate) fn bind_named(&mut self, id: JobId, epoch: Epoch, name: &str, nodes: Vec<BoundNode>) -> Result<(), Refused> {
        let known = self.site_by_name.get(name).copied();
        let run = self.run_mut(id, epoch)?;
        let cluster = known.filter(|cluster| run.on(*cluster).is_some());
        let cluster = cluster.ok_or_else(|| Refused::new("cluster", format!("job {} has nothing on {name:?}", id.0)))?;
        self.bind_on(id, epoch, cluster, nodes)
    }

    fn bind_on(&mut self, id: JobId, epoch: Epoch, cluster: ClusterIndex, nodes: Vec<BoundNode>) -> Result<(), Refused> {
        let run = self.run_mut(id, epoch)?;
        if run.on(cluster).is_none_or(|(_, bound)| bound == Some(&nodes)) {
            return Ok(());
        }
        let mut sum = Vector::default();
        for bound in &nodes {
            sum.add(&self.resources.intern(&bound.used));
        }
        // Fewer pods than planned: the others are still to come, and their places are kept.
        let State::Placed(run) = &self.jobs.held(id).state else { return Ok(()) };
        let class = self.classes.get(run.class);
        let all_are_there = match (run.leaving.is_empty(), run.is_split()) {
            (true, false) => sum.covers(&class.total),
            (true, true) => run.on(cluster).is_some_and(|(places, _)| sum.covers(&asked_at(class, places))),
            (false, _) => sum.covers(&self.total_without_leaving(class, run)),
        };
        if !all_are_there {
            return Ok(());
        }
        self.hold_on(id, cluster, Charge::Back);
        if let Some(bound) = self.run_mut(id, epoch)?.bound_mut(cluster) {
            *bound = Some(nodes);
        }
        self.hold_on(id, cluster, Charge::Add);
        Ok(())
    }

    /// Charges a placed job that was read from its row.
    pub(crate) fn charge_restored(&mut self, id: JobId) {
        let Some(Job { queue, state: State::Placed(run), .. }) = self.jobs.get(id) else { return };
        for cluster in run.clusters() {
            self.sites[cluster].runs.insert(id);
        }
        self.queues.charge(*queue, &self.classes.get(run.class).total, Charge::Add);
        if !run.leaving.is_empty() {
            self.leaving.insert(id);
        }
        self.hold(id, Charge::Add);
        self.list_started(id);
        self.list_size(id);
    }
}

fn planned(class: &Class, places: &[Place]) -> Vec<(NodeIndex, Held)> {
    places.iter().map(|place| (place.node, place.held(class))).collect()
}

/// Whether on each node there is what was planned for it.
fn as_planned(class: &Class, places: &[Place], bound: &[(NodeIndex, Vector)]) -> bool {
    let mut differs: BTreeMap<NodeIndex, Vector> = BTreeMap::new();
    for (node, amount) in bound {
        differs.entry(*node).or_default().add(amount);
    }
    for place in places {
        differs.entry(place.node).or_default().sub(&class.groups[place.group as usize].asked.times(place.workers));
    }
    differs.values().all(|differs| *differs == Vector::default())
}

/// What pods that are elsewhere than planned hold: nobody knows of which GPUs they have parts, and nobody gets the rest of these.
fn in_whole_gpus(class: &Class, mut amount: Vector, resources: &ResourceTable) -> Held {
    let parts = || class.groups.iter().filter(|group| group.part > 0);
    if let (Some(least), Some(gpu)) = (parts().map(|group| group.part).min(), resources.gpu_of(&amount)) {
        let workers: i64 = parts().map(|group| i64::from(group.replicas)).sum();
        let gpus = amount.get(gpu).div_euclid(least) + 1;
        amount.put(gpu, gpus.min(class.whole + workers) * WHOLE);
    }
    Held { amount, parts: Vec::new() }
}
