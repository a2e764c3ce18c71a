//! Sizes of elastic gangs. A job's class is that of its full size; while it waits it asks for its least size, which is a class of its
//! own, and a run is charged as the class of the size that it has. So whatever decides about gangs decides about sizes too.
//!
//! A run does work as fast as its part of the full gang: with half the GPUs what remains lasts twice as long, and is the same GPU-time.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::class::{Class, ClassId, Classes, FlavorId, NO_FLAVOR};
use crate::cluster::ClusterIndex;
use crate::engine::{Engine, Job, Run, State, Timer};
use crate::event::{JobId, Resize, SizeChange, Time};
use crate::nodes::{NodeIndex, Place};
use crate::queues::Charge;
use crate::rows::Resized;
use crate::spec::Elastic;

/// How long a run does not grow at most after its workers left for a gang that could not use the room that came of it.
const SCATTERED_MS: i64 = 60 * 60 * 1_000;

/// Where a run of an elastic gang is listed by its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SizeListing {
    flavor: FlavorId,
    started_at: Time,
}

impl Job {
    /// Whether its gang may have several sizes.
    pub(crate) fn is_elastic(&self) -> bool {
        self.asks != self.class
    }
}

impl Run {
    /// The work that was done in this run.
    pub(crate) fn done_ms(&self, now: Time) -> i64 {
        let Some(started_at) = self.started_at else { return 0 };
        let (at, done_ms) = self.sized.map_or((started_at, 0), |sized| (sized.at, sized.done_ms));
        done_ms.saturating_add(crate::class::work_of(now.0.saturating_sub(at.0).max(0), self.speed))
    }

    /// When it began or last got another size.
    pub(crate) fn changed_at(&self) -> Option<Time> {
        self.sized.map(|sized| sized.at).or(self.started_at)
    }
}

impl Engine {
    /// The elastic group of a job's gang.
    pub(crate) fn elastic(&self, job: &Job) -> Option<Elastic> {
        self.classes.get(job.class).gang.elastic.filter(|_| job.is_elastic())
    }

    /// Workers in the elastic group of a class that a job's run has; 0 for a gang that is not elastic.
    pub(crate) fn workers_of(&self, job: &Job, class: ClassId) -> u32 {
        self.elastic(job).map_or(0, |elastic| self.classes.get(class).groups[elastic.group].replicas)
    }

    /// The class of a job's gang with so many workers in its elastic group. It is held until [`Engine::let_class_go`].
    pub(crate) fn class_at(&mut self, id: JobId, workers: u32) -> ClassId {
        let job = self.jobs.held(id);
        let (full, asks) = (job.class, job.asks);
        let Some(Elastic { group, least }) = self.elastic(job) else { return full };
        let class = self.classes.get(full);
        if workers == least {
            return asks;
        }
        if workers == class.groups[group].replicas {
            return full;
        }
        let (gang, learned) = (class.gang.at(workers), class.learned.clone());
        self.intern(&gang, &learned)
    }

    /// The class of a gang that is smaller than one that was found sound.
    pub(crate) fn intern(&mut self, gang: &crate::Gang, learned: &BTreeMap<String, u32>) -> ClassId {
        let Self { classes, resources, flavors, mix, .. } = self;
        classes.acquire(gang, learned, resources, flavors, mix).expect("what is smaller than a sound gang is sound")
    }

    /// A job needs the class of a size no more.
    pub(crate) fn let_class_go(&mut self, full: ClassId, asks: ClassId, class: ClassId) {
        if class != full && class != asks && self.classes.release(class, &mut self.mix) {
            self.groups.forget(class);
        }
    }

    /// How fast a job works at a size on a model, in thousandths: its part of the full gang, by GPUs, or without these by workers.
    pub(crate) fn speed_at(&self, job: &Job, class: ClassId, flavor: Option<FlavorId>) -> i64 {
        speed_at(&self.classes, job, class, flavor)
    }

    /// The GPU model that a gang is on, as far as it is known.
    pub(crate) fn model_of(&self, class: &Class, cluster: ClusterIndex, places: &[Place]) -> Option<FlavorId> {
        let nodes = &self.sites[cluster].nodes;
        let on_gpu = places.iter().filter(|place| class.groups[place.group as usize].on_gpu);
        on_gpu.map(|place| place.node).find_map(|node| nodes.flavor_of(node))
    }

    /// Lists a run among those that may grow and those that have workers to give, as far as it is one. A run that is to end or to shrink
    /// is in neither list.
    pub(crate) fn list_size(&mut self, id: JobId) {
        let job = self.jobs.held(id);
        if !job.is_elastic() {
            return;
        }
        self.unlist_size(id);
        let job = self.jobs.held(id);
        let (Some(Elastic { group, least }), State::Placed(run)) = (self.elastic(job), &job.state) else { return };
        let (Some(started_at), false, true) = (run.started_at, run.stopping, run.leaving.is_empty()) else { return };
        let full = self.classes.get(job.class);
        let workers = self.classes.get(run.class).groups[group].replicas;
        let (cluster, below, above) = (run.cluster, workers < full.groups[group].replicas, workers > least);
        let flavor = self.model_of(full, cluster, &run.places).unwrap_or(NO_FLAVOR);
        if below {
            self.growing.entry((cluster, flavor)).or_default().insert(id);
        }
        if above {
            self.sites[cluster].surplus.insert((Reverse(started_at), Reverse(id)));
            self.ample += 1;
        }
        if let State::Placed(run) = &mut self.jobs.held_mut(id).state {
            run.listed = Some(SizeListing { flavor, started_at });
        }
    }

    /// Takes a run from these lists.
    pub(crate) fn unlist_size(&mut self, id: JobId) {
        let State::Placed(run) = &mut self.jobs.held_mut(id).state else { return };
        let Some(SizeListing { flavor, started_at }) = run.listed.take() else { return };
        let cluster = run.cluster;
        if let Some(runs) = self.growing.get_mut(&(cluster, flavor)) {
            runs.remove(&id);
            if runs.is_empty() {
                self.growing.remove(&(cluster, flavor));
            }
        }
        if self.sites[cluster].surplus.remove(&(Reverse(started_at), Reverse(id))) {
            self.ample -= 1;
        }
    }

    /// Gives a run another size: what it has done until now is counted at the old one, and its queue is charged for the new one. The
    /// nodes are the caller's business.
    pub(crate) fn set_size(&mut self, id: JobId, places: Vec<Place>, class: ClassId, change: SizeChange) -> Resize {
        self.unlist_size(id);
        let now = self.now;
        let job = self.jobs.held(id);
        let State::Placed(run) = &job.state else { unreachable!("only runs have a size") };
        let model = self.model_of(self.classes.get(job.class), run.cluster, &places);
        let (speed, done_ms, old) = (self.speed_at(job, class, model), run.done_ms(now), run.class);
        let (queue, full, asks) = (job.queue, job.class, job.asks);
        self.queues.charge(queue, &self.classes.get(old).total, Charge::Back);
        self.queues.charge(queue, &self.classes.get(class).total, Charge::Add);
        if let State::Placed(run) = &mut self.jobs.held_mut(id).state {
            (run.places, run.class, run.speed) = (places, class, speed);
            run.sized = Some(Resized { at: now, done_ms, scattered_for: None });
        }
        self.let_class_go(full, asks, old);
        self.list(id);
        self.list_size(id);
        self.resize_of(id, change)
    }

    /// What is told of a run's size.
    pub(crate) fn resize_of(&self, id: JobId, change: SizeChange) -> Resize {
        let job = self.jobs.held(id);
        let State::Placed(run) = &job.state else { unreachable!("only runs have a size") };
        let places = less(&run.places, &run.leaving);
        let group = self.elastic(job).map_or(0, |elastic| elastic.group) as u32;
        let workers = places.iter().filter(|place| place.group == group).map(|place| place.workers).sum();
        let (slots, leaving) = (self.slots(run.cluster, &places), self.slots(run.cluster, &run.leaving));
        Resize { job: id, epoch: job.epoch, workers, slots, leaving, sized: run.sized, change }
    }

    /// Sorts places as a plan has them, with equal ones put together.
    pub(crate) fn in_order(&self, cluster: ClusterIndex, places: &mut Vec<Place>) {
        let nodes = &self.sites[cluster].nodes;
        let key = |place: &Place| (place.group, place.gpu);
        places.sort_by(|left, right| {
            nodes
                .name(left.node)
                .cmp(nodes.name(right.node))
                .then(key(left).cmp(&key(right)))
                .then(left.workers.cmp(&right.workers))
        });
        together(places);
    }

    /// A run may have been left at its size for long enough.
    pub(crate) fn may_change_at(&self, job: &Job, run: &Run) -> Option<Time> {
        let least_ms = self.queues.get(job.queue).spec.min_runtime_ms;
        let taker = run.sized.and_then(|sized| sized.scattered_for).and_then(|id| self.jobs.get(id));
        let still_waits = taker.is_some_and(|taker| matches!(taker.state, State::Waiting(_)));
        let least_ms = if still_waits { least_ms.max(SCATTERED_MS) } else { least_ms };
        let at = run.changed_at().map(|at| Time(at.0.saturating_add(least_ms)));
        at.map(|at| run.refused_until().map_or(at, |until| until.max(at)))
    }

    /// Wakes the engine when a run may grow.
    pub(crate) fn wake_to_grow(&mut self, id: JobId, at: Time) {
        self.timers.insert((at, Timer::Grow(id)));
    }
}

/// See [`Engine::speed_at`].
pub(crate) fn speed_at(classes: &Classes, job: &Job, class: ClassId, flavor: Option<FlavorId>) -> i64 {
    let full = classes.get(job.class);
    let speed = full.speed(flavor);
    if class == job.class {
        return speed;
    }
    let class = classes.get(class);
    let workers = |class: &Class| class.groups.iter().map(|group| i64::from(group.replicas)).sum::<i64>();
    let (part, all) = if full.gpus > 0 { (class.gpus, full.gpus) } else { (workers(class), workers(full)) };
    (speed.saturating_mul(part) / all.max(1)).max(1)
}

/// Puts neighbours together that differ in nothing but how many workers they are of. Workers with a part of a GPU stay apart.
pub(crate) fn together(places: &mut Vec<Place>) {
    places.dedup_by(|place, first| {
        let same = (place.group, place.node) == (first.group, first.node) && place.gpu.is_none() && first.gpu.is_none();
        if same {
            first.workers += place.workers;
        }
        same
    });
}

/// Places without some of their workers.
pub(crate) fn less(places: &[Place], without: &[Place]) -> Vec<Place> {
    let mut gone: BTreeMap<(u32, NodeIndex, Option<u16>), u32> = BTreeMap::new();
    for Place { group, node, workers, gpu } in without {
        *gone.entry((*group, *node, *gpu)).or_default() += workers;
    }
    let rest = places.iter().filter_map(|place| {
        let Place { group, node, workers, gpu } = *place;
        let Some(gone) = gone.get_mut(&(group, node, gpu)) else { return Some(*place) };
        let here = workers.min(*gone);
        *gone -= here;
        (workers > here).then_some(Place { workers: workers - here, ..*place })
    });
    rest.collect()
}
