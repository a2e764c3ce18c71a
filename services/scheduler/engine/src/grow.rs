//! Runs of elastic gangs below their full size take room that nobody who waits can use: in their own cluster, on their GPU model and in
//! their domain, as far as their queues' limits go. Those of the queue with the least share come first, then those that were
//! submitted first; each takes as much as there is. A run that has only just begun or changed its size is left as it is for its queue's
//! least run time. What they take so is given back as soon as somebody waits for it (`surplus.rs`).

use crate::class::{FlavorId, NO_FLAVOR};
use crate::cluster::ClusterIndex;
use crate::engine::{Engine, Job, Run, State};
use crate::event::{BoundNode, ClusterState, Decision, JobId, Resize, SizeChange, Time};
use crate::nodes::Place;
use crate::queues::Work;
use crate::ranking::Share;
use crate::spec::Elastic;

/// A run that may grow, in the order of growing: the shares of its queues from the top, when it was submitted, its row.
type Turn = (Vec<Share>, Time, JobId);

impl Engine {
    /// Lets runs grow. Whoever waits was asked before.
    pub(crate) fn grow(&mut self, decisions: &mut Vec<Decision>, limit: usize) {
        if self.growing.is_empty() {
            return;
        }
        let (mut may, mut later) = (Vec::<Turn>::new(), Vec::new());
        for ((cluster, flavor), runs) in &self.growing {
            if !self.may_have_room(*cluster, *flavor) {
                continue;
            }
            for id in runs {
                let job = self.jobs.held(*id);
                let State::Placed(run) = &job.state else { continue };
                match self.may_change_at(job, run) {
                    Some(at) if at > self.now => later.push((*id, at)),
                    Some(_) => may.push((self.shares_from_the_top(job), job.submitted_at, *id)),
                    None => {}
                }
            }
        }
        for (id, at) in later {
            self.wake_to_grow(id, at);
        }
        may.sort_unstable();
        for (_, _, id) in may {
            if decisions.len() >= limit {
                return;
            }
            self.stats.entries_visited += 1;
            decisions.extend(self.grow_run(id).map(Decision::Resize));
        }
    }

    fn may_have_room(&self, cluster: ClusterIndex, flavor: FlavorId) -> bool {
        let site = &self.sites[cluster];
        let is_live = site.cluster.as_ref().is_some_and(|cluster| cluster.spec.state == ClusterState::Live);
        is_live && (flavor == NO_FLAVOR || site.nodes.in_parts || site.nodes.gpus_free(flavor) > 0)
    }

    /// By this queues are compared that stand anywhere in the tree: at the top first.
    fn shares_from_the_top(&self, job: &Job) -> Vec<Share> {
        let none = crate::vector::Vector::default();
        let mut shares: Vec<Share> =
            self.queues.chain(job.queue).map(|index| self.queues.share(index, &none, &self.everything)).collect();
        shares.reverse();
        shares
    }

    /// How many more workers the limits of its queue allow a run, of those that it has not.
    pub(crate) fn allowed_more(&self, job: &Job, run: &Run) -> u32 {
        let Some(Elastic { group, .. }) = self.elastic(job) else { return 0 };
        let group = &self.classes.get(job.class).groups[group];
        let missing = group.replicas - self.workers_of(job, run.class);
        let allows = |workers: u32| self.queues.limit(job.queue, &group.asked.times(workers), Work::default).is_none();
        largest(0, missing, allows)
    }

    /// Whether its pods have parts of GPUs and are elsewhere than planned: of which GPUs, nobody knows, and it stays as it is.
    pub(crate) fn is_of_unknown_gpus(&self, run: &Run) -> bool {
        self.classes.get(run.class).in_parts && !self.is_as_planned(run)
    }

    fn grow_run(&mut self, id: JobId) -> Option<Resize> {
        let job = self.jobs.held(id);
        let State::Placed(run) = &job.state else { return None };
        let (cluster, class_id) = (run.cluster, job.class);
        let Elastic { group, .. } = self.elastic(job)?;
        let most = self.allowed_more(job, run);
        if most == 0 {
            return None;
        }
        let class = self.classes.get(class_id);
        if self.is_of_unknown_gpus(run) {
            return None;
        }
        let flavor = self.model_of(class, cluster, &run.places).filter(|_| class.on_gpu);
        let (workers, held) = (self.workers_of(job, run.class), run.places.clone());
        self.stats.fits_tried += 1;
        let nodes = &mut self.sites[cluster].nodes;
        let more = nodes.fill(class, (group, most), flavor, &held, &self.resources, &self.mix);
        if more.is_empty() {
            return None;
        }
        self.sites[cluster].taken += 1;
        self.take_in(id, &more);
        let mut places = held;
        places.extend_from_slice(&more);
        self.in_order(cluster, &mut places);
        let class = self.class_at(id, workers + more.iter().map(|place| place.workers).sum::<u32>());
        let resize = self.set_size(id, places, class, SizeChange::Grows);
        self.stats.resized += 1;
        Some(resize)
    }

    /// What was seen of a run's pods and what is planned beside them are held together until all are seen.
    fn take_in(&mut self, id: JobId, more: &[Place]) {
        let job = self.jobs.held(id);
        let State::Placed(run) = &job.state else { return };
        if run.bound.is_none() {
            return;
        }
        let (nodes, gang) = (&self.sites[run.cluster].nodes, &self.classes.get(job.class).gang);
        let planned = more.iter().filter_map(|place| {
            let used = gang.groups[place.group as usize].each.checked_times(place.workers).ok()?;
            Some(BoundNode { node: nodes.name(place.node).to_owned(), used })
        });
        let planned: Vec<BoundNode> = planned.collect();
        if let State::Placed(run) = &mut self.jobs.held_mut(id).state {
            run.bound.as_mut().map_or_else(|| (), |bound| bound.extend(planned));
        }
    }
}

/// The largest number from `least` to `most` that will do, where all below one that will do will do; `least` is taken to.
pub(crate) fn largest(least: u32, most: u32, mut will_do: impl FnMut(u32) -> bool) -> u32 {
    let (mut known, mut beyond) = (least, most.saturating_add(1));
    while beyond - known > 1 {
        let middle = known + (beyond - known) / 2;
        if will_do(middle) { known = middle } else { beyond = middle }
    }
    known
}
