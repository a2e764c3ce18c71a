//! What has to go so that a gang fits: workers beyond the least size of elastic gangs first, then whole gangs, and no more than needed.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::class::ClassId;
use crate::cluster::Candidate;
use crate::engine::{Engine, Job, State};
use crate::event::JobId;
use crate::nodes::{Held, NodeIndex, Place};
use crate::queues::{Charge, Rights};
use crate::size::together;
use crate::thought::Thought;
use crate::vector::Vector;

/// Workers looked at one by one for one gang.
pub(crate) const MOST_WORKERS: usize = 8_192;

/// Something that may go for a gang.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Giving {
    /// One worker of a run that stays.
    Worker(JobId, Place),
    /// A run, or what is left of it.
    Whole(JobId),
}

impl Giving {
    /// Of which run it is.
    fn of(self) -> JobId {
        match self {
            Self::Worker(id, _) | Self::Whole(id) => id,
        }
    }
}

/// How many workers of runs were freed one by one, and what these held.
type Partly = BTreeMap<JobId, (u32, Vec<(NodeIndex, Held)>)>;

/// What goes for a gang.
#[derive(Clone, Debug, Default)]
pub(crate) struct Going {
    /// Runs that end.
    pub(crate) whole: BTreeSet<JobId>,
    /// Workers of runs that go on without them.
    pub(crate) workers: BTreeMap<JobId, Vec<Place>>,
}

impl Engine {
    /// Runs that may end, before them the workers of those among them that have more than they need, of the youngest runs first.
    pub(crate) fn with_surplus(&self, runs: &[JobId]) -> Vec<Giving> {
        let mut giving = Vec::with_capacity(runs.len());
        if self.ample > 0 {
            let mut ample: Vec<_> = runs.iter().filter(|id| self.jobs.held(**id).is_elastic()).collect();
            ample.sort_by_key(|id| match &self.jobs.held(**id).state {
                State::Placed(run) => (Reverse(run.started_at), Reverse(**id)),
                State::Waiting(_) | State::BackOff(_) | State::Suspended => (Reverse(None), Reverse(**id)),
            });
            for id in ample {
                giving.extend(self.surplus_of(*id).into_iter().map(|place| Giving::Worker(*id, place)));
            }
            giving.truncate(MOST_WORKERS);
        }
        giving.extend(runs.iter().map(|id| Giving::Whole(*id)));
        giving
    }

    /// Frees one after the other, in thought, until the gang fits and, if they are looked at, its rights allow it; then spares those,
    /// the last first, that need not go for it. The gang's places are charged, and what goes still is.
    pub(crate) fn free_up(
        &mut self,
        class_id: ClassId,
        candidate: &Candidate,
        eligible: &[Giving],
        mut rights: Option<Rights>,
    ) -> Option<(Vec<Place>, Going)> {
        let cluster = candidate.cluster;
        let mut freed: Vec<(Giving, Vec<(NodeIndex, Held)>)> = Vec::new();
        let mut partly = Partly::new();
        // What was given to the nodes, and what is to be before the next try.
        let (mut given, mut pending) = (Vec::new(), Vec::new());
        let mut thought = Thought::new(self.classes.get(class_id), candidate.flavor, &self.sites[cluster].nodes);
        let mut places = None;
        for giving in eligible {
            let reserved = match giving {
                Giving::Worker(id, place) => {
                    let held = vec![(place.node, place.held(self.class_of_run(*id)))];
                    let (workers, known) = partly.entry(*id).or_default();
                    *workers += 1;
                    known.extend(held.iter().cloned());
                    held
                }
                Giving::Whole(id) => match partly.get(id) {
                    Some((_, known)) => without(self.reserved(*id, cluster), known),
                    None => self.reserved(*id, cluster),
                },
            };
            let class = self.classes.get(class_id);
            let nodes = &mut self.sites[cluster].nodes;
            for (node, held) in &reserved {
                thought.give(class, nodes, *node, held);
            }
            pending.extend(reserved.iter().cloned());
            freed.push((*giving, reserved));
            if let Some(rights) = &mut rights {
                let job = self.jobs.held(giving.of());
                rights.change(job.queue, &self.amount_of(job, *giving, &partly), Charge::Back);
            }
            if !thought.could_fit(class) || rights.as_ref().is_some_and(|rights| !rights.allow()) {
                continue;
            }
            let nodes = &mut self.sites[cluster].nodes;
            for (node, amount) in by_node(std::mem::take(&mut pending)) {
                nodes.give(node, &amount, &self.resources);
                given.push((node, amount));
            }
            self.stats.fits_tried += 1;
            if let Ok(found) = nodes.place(class, candidate.flavor, &self.resources, &self.mix) {
                places = Some(found);
                break;
            }
        }
        let Some(places) = places else {
            let nodes = &mut self.sites[cluster].nodes;
            for (node, amount) in by_node(given) {
                nodes.take(node, &amount, &self.resources);
            }
            return None;
        };
        let of_gang: BTreeSet<NodeIndex> = places.iter().map(|place| place.node).collect();
        let (mut going, mut held) = (Going::default(), Vec::new());
        while let Some((giving, reserved)) = freed.pop() {
            // With a run that ends all its workers go.
            let ends = matches!(giving, Giving::Worker(id, _) if going.whole.contains(&id));
            let nodes = &self.sites[cluster].nodes;
            // On nodes that the gang does not get nothing has to end.
            let has_place = |(node, held): &(NodeIndex, Held)| !of_gang.contains(node) || nodes.has_room_for(*node, held);
            let fits = !ends && reserved.iter().all(has_place);
            let spared = fits
                && rights.as_mut().is_none_or(|rights| {
                    let job = self.jobs.held(giving.of());
                    let amount = self.amount_of(job, giving, &partly);
                    rights.change(job.queue, &amount, Charge::Add);
                    let allowed = rights.allow();
                    if !allowed {
                        rights.change(job.queue, &amount, Charge::Back);
                    }
                    allowed
                });
            if spared {
                let nodes = &mut self.sites[cluster].nodes;
                for (node, amount) in &reserved {
                    nodes.take(*node, amount, &self.resources);
                }
                continue;
            }
            match giving {
                Giving::Worker(id, place) => going.workers.entry(id).or_default().push(place),
                Giving::Whole(id) => drop(going.whole.insert(id)),
            }
            held.extend(reserved);
        }
        let nodes = &mut self.sites[cluster].nodes;
        for (node, amount) in by_node(held) {
            nodes.take(node, &amount, &self.resources);
        }
        going.workers.retain(|id, _| !going.whole.contains(id));
        for places in going.workers.values_mut() {
            places.sort_unstable();
            together(places);
        }
        Some((places, going))
    }

    /// What a run's queue is charged for what may go of it.
    fn amount_of(&self, job: &Job, giving: Giving, partly: &Partly) -> Cow<'_, Vector> {
        let State::Placed(run) = &job.state else { return Cow::Owned(Vector::default()) };
        let class = self.classes.get(run.class);
        match giving {
            Giving::Worker(_, place) => Cow::Borrowed(&class.groups[place.group as usize].asked),
            Giving::Whole(id) => match (partly.get(&id), self.elastic(job)) {
                (Some((workers, _)), Some(elastic)) => {
                    let mut total = class.total.clone();
                    total.sub(&class.groups[elastic.group].asked.times(*workers));
                    Cow::Owned(total)
                }
                (Some(_) | None, _) => Cow::Borrowed(&class.total),
            },
        }
    }
}

/// What there is on each node together: a node changes once then, however many runs are on it.
fn by_node(mut amounts: Vec<(NodeIndex, Held)>) -> Vec<(NodeIndex, Held)> {
    amounts.sort_by_key(|(node, _)| *node);
    amounts.dedup_by(|(node, amount), (first, sum)| {
        let same = node == first;
        if same {
            sum.add(amount);
        }
        same
    });
    amounts
}

/// What is held without some of it.
fn without(held: Vec<(NodeIndex, Held)>, gone: &[(NodeIndex, Held)]) -> Vec<(NodeIndex, Held)> {
    let mut rest = by_node(held);
    for (node, gone) in gone {
        let Ok(at) = rest.binary_search_by_key(node, |(node, _)| *node) else { continue };
        let held = &mut rest[at].1;
        held.amount.sub(&gone.amount);
        for part in &gone.parts {
            if let Some(at) = held.parts.iter().position(|held| held == part) {
                held.parts.swap_remove(at);
            }
        }
    }
    rest
}
