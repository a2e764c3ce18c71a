//! Runs of elastic gangs give up workers for gangs that wait. Which of its pods a cluster ends is its own business: a run is charged for
//! all of them until fewer are seen, wherever the others were.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::class::Class;
use crate::engine::{Engine, Job, Run, State};
use crate::event::{Decision, JobId, Resize, SizeChange};
use crate::nodes::{NodeIndex, Place};
use crate::queues::Charge;
use crate::size::less;
use crate::spec::Elastic;
use crate::vector::Vector;

impl Engine {
    /// The class of the size that a run has.
    pub(crate) fn class_of_run(&self, id: JobId) -> &Class {
        let job = self.jobs.held(id);
        match &job.state {
            State::Placed(run) => self.classes.get(run.class),
            State::Waiting(_) | State::BackOff(_) | State::Suspended => self.classes.get(job.class),
        }
    }

    /// The workers that a run may give up, one by one: those beyond its least size, first those on nodes on which the most would be free
    /// without them, of these where the fewest of them stand, so that whole nodes become free.
    pub(crate) fn surplus_of(&self, id: JobId) -> Vec<Place> {
        let job = self.jobs.held(id);
        let (Some(Elastic { group, least }), State::Placed(run)) = (self.elastic(job), &job.state) else { return Vec::new() };
        if run.listed.is_none() {
            return Vec::new();
        }
        let spare = self.workers_of(job, run.class).saturating_sub(least);
        let Some(places) = self.seen(job, run).filter(|_| spare > 0) else { return Vec::new() };
        let nodes = &self.sites[run.cluster].nodes;
        let mut there: BTreeMap<NodeIndex, u32> = BTreeMap::new();
        let of_group = places.iter().filter(|place| place.group == group as u32);
        for place in of_group.clone() {
            *there.entry(place.node).or_default() += place.workers;
        }
        let asked = &self.classes.get(run.class).groups[group].asked;
        let order = |place: &&Place| {
            let fits = nodes.free_on(place.node).map_or(0, |free| asked.fits_into(free));
            (Reverse(fits.saturating_add(there[&place.node])), there[&place.node], place.node, place.gpu)
        };
        let mut places: Vec<&Place> = of_group.collect();
        places.sort_by_key(order);
        let each = places.into_iter().flat_map(|place| (0..place.workers).map(|_| Place { workers: 1, ..*place }));
        each.take(spare as usize).collect()
    }

    /// Where the workers of a run stand: where they were seen, as far as it can be told which is which, else where they were to go;
    /// `None` where they were seen elsewhere and can't be told apart.
    fn seen(&self, job: &Job, run: &Run) -> Option<Vec<Place>> {
        let Some(bound) = &run.bound else { return Some(run.places.clone()) };
        let Elastic { group, .. } = self.elastic(job)?;
        let (class, nodes) = (self.classes.get(run.class), &self.sites[run.cluster].nodes);
        if class.in_parts {
            return self.is_as_planned(run).then(|| run.places.clone());
        }
        let asked = &class.groups[group].asked;
        let mut used: BTreeMap<NodeIndex, Vector> = BTreeMap::new();
        for bound in bound {
            used.entry(nodes.find(&bound.node)?).or_default().add(&self.resources.find_all(&bound.used));
        }
        let others = run.places.iter().filter(|place| place.group != group as u32);
        let mut places: Vec<Place> = others.copied().collect();
        for place in &places {
            used.get_mut(&place.node)?.sub(&class.groups[place.group as usize].asked.times(place.workers));
        }
        for (node, used) in used {
            let workers = if used.covers(asked) { asked.fits_into(&used) } else { 0 };
            // What is there besides is not of this group.
            let exactly = asked.iter().all(|(resource, each)| used.get(resource) == each.saturating_mul(i64::from(workers)));
            if !exactly {
                return None;
            }
            if workers > 0 {
                places.push(Place { group: group as u32, node, workers, gpu: None });
            }
        }
        self.in_order(run.cluster, &mut places);
        Some(places)
    }

    /// Tells a run that some of its workers are to leave.
    pub(crate) fn tell_to_shrink(&mut self, id: JobId, leaving: Vec<Place>, change: SizeChange) -> Decision {
        self.unlist(id);
        self.unlist_started(id);
        self.unlist_size(id);
        let job = self.jobs.held(id);
        let State::Placed(run) = &job.state else { unreachable!("only runs shrink") };
        let seen = self.seen(job, run).unwrap_or_else(|| run.places.clone());
        if let State::Placed(run) = &mut self.jobs.held_mut(id).state {
            (run.places, run.leaving) = (seen, leaving);
        }
        self.leaving.insert(id);
        Decision::Resize(self.resize_of(id, change))
    }

    /// What a run asks for once the workers that were told to have left.
    pub(crate) fn total_without_leaving(&self, class: &Class, run: &Run) -> Vector {
        let mut total = class.total.clone();
        for place in &run.leaving {
            total.sub(&class.groups[place.group as usize].asked.times(place.workers));
        }
        total
    }

    /// Takes in that workers have left that were told to.
    pub(crate) fn finish_shrinking(&mut self, decisions: &mut Vec<Decision>) {
        if self.leaving.is_empty() {
            return;
        }
        let gone: Vec<JobId> = self.leaving.iter().copied().filter(|id| self.have_left(*id)).collect();
        for id in gone {
            decisions.push(self.finish_shrinking_of(id));
        }
    }

    /// Whether the pods that were seen of a run are as many as it is to have, and not one more.
    fn have_left(&self, id: JobId) -> bool {
        let job = self.jobs.held(id);
        let (State::Placed(run), Some(Elastic { group, .. })) = (&job.state, self.elastic(job)) else { return false };
        let Some(bound) = &run.bound else { return false };
        let class = self.classes.get(run.class);
        let mut used = Vector::default();
        for bound in bound {
            used.add(&self.resources.find_all(&bound.used));
        }
        used.sub(&self.total_without_leaving(class, run));
        let asked = &class.groups[group].asked;
        asked.iter().any(|(resource, each)| used.get(resource) < each)
    }

    fn finish_shrinking_of(&mut self, id: JobId) -> Decision {
        self.leaving.remove(&id);
        self.hold(id, Charge::Back);
        let job = self.jobs.held(id);
        let State::Placed(run) = &job.state else { unreachable!("only runs shrink") };
        let (queue, cluster) = (job.queue, run.cluster);
        let left: u32 = run.leaving.iter().map(|place| place.workers).sum();
        let workers = self.workers_of(job, run.class) - left;
        let planned = less(&run.places, &run.leaving);
        let class = self.class_at(id, workers);
        if let State::Placed(run) = &mut self.jobs.held_mut(id).state {
            (run.places, run.leaving) = (planned.clone(), Vec::new());
        }
        let resize = self.set_size(id, planned.clone(), class, SizeChange::HasShrunk);
        self.hold(id, Charge::Add);
        let job = self.jobs.held(id);
        let State::Placed(run) = &job.state else { unreachable!("only runs shrink") };
        let elsewhere = self.seen(job, run).is_none_or(|seen| seen != planned);
        let mut scattered_for = None;
        for (taker, promise) in &mut self.promised {
            if promise.left.remove(&id) && elsewhere {
                promise.elsewhere = true;
                scattered_for = Some(*taker);
            }
        }
        let State::Placed(run) = &mut self.jobs.held_mut(id).state else { unreachable!("only runs shrink") };
        if let Some(sized) = &mut run.sized {
            sized.scattered_for = scattered_for;
        }
        let resize = Resize { sized: run.sized, ..resize };
        self.list_started(id);
        self.freed.insert(cluster);
        self.let_go_below(queue);
        Decision::Resize(resize)
    }
}
