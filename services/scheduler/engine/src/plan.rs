//! Deciding. The queue that is furthest below its share is asked for its next lane that has room; that lane's head is placed on the
//! first candidate with room. This goes on until nobody who asks has room. Then runs may have to make room for what is blocked
//! (`reclaim.rs`, `overdue.rs`, `interrupt.rs`).

use crate::class::{ClassId, time_of};
use crate::cluster::Candidate;
use crate::engine::{Engine, Run, State};
use crate::event::{Decision, Epoch, JobId, Placement, Slot};
use crate::groups::GroupId;
use crate::grow::largest;
use crate::lanes::LaneId;
use crate::memo::Offer;
use crate::nodes::Place;
use crate::parts::gpus_at;
use crate::queues::{Charge, Limit, QueueIndex, ROOT, Work};
use crate::size::speed_at;
use crate::spec::Elastic;
use crate::vector::Vector;

/// Where at least one group in so many is open, the lanes of a queue are looked at in their order, else the open groups.
const IN_ORDER: usize = 64;

/// What is found out while queues are asked.
#[derive(Default)]
struct Asking {
    /// Sections that a capability holds back.
    held: Vec<(QueueIndex, GroupId, Limit)>,
    /// Sections looked at, and shares computed.
    visited: u64,
    /// No gang of an open group asks for less of anything.
    least: Vector,
}

impl Engine {
    /// Decides everything that can be decided now, in order, and takes it into the state: a second call returns nothing.
    pub fn plan(&mut self) -> Vec<Decision> {
        self.plan_at_most(usize::MAX)
    }

    /// Like [`Engine::plan`], but stops after `limit` decisions so that a transaction stays small; call again for more.
    pub fn plan_at_most(&mut self, limit: usize) -> Vec<Decision> {
        let mut decisions = Vec::new();
        self.ring_timers();
        self.finish_shrinking(&mut decisions);
        self.give_back_refused(&mut decisions);
        self.keep_promises(&mut decisions);
        while decisions.len() < limit {
            if !self.freed.is_empty() {
                self.open_for_freed();
            }
            if let Some(lane) = self.next_lane() {
                self.stats.entries_visited += 1;
                decisions.extend(self.place_head(lane).map(Decision::Place));
                continue;
            }
            let before = (decisions.len(), self.promised.len());
            self.make_room(&mut decisions, limit);
            // A promise that was given up for another leaves room for those who ask. What was promised or placed may let a gang of
            // several parts be packed, and entitles others to what they had no right to before.
            let made = before != (decisions.len(), self.promised.len());
            // What was placed since the promises were looked at may have used up what one of them needs of a capability or a budget.
            let before = decisions.len();
            self.keep_promises(&mut decisions);
            if self.freed.is_empty() && !made && decisions.len() == before {
                // Nobody who waits has room: what is idle may be a better place for what runs, and then room to grow. Whoever grows may
                // have more than its share from now on.
                self.move_runs(&mut decisions, limit);
                if decisions.len() == before {
                    self.grow(&mut decisions, limit);
                }
                if decisions.len() == before {
                    break;
                }
            }
        }
        decisions
    }

    /// Runs make room for what is blocked.
    fn make_room(&mut self, decisions: &mut Vec<Decision>, limit: usize) {
        self.take_surplus(decisions, limit);
        self.reclaim(decisions, limit);
        self.reserve_for_overdue(decisions, limit);
        self.interrupt(decisions, limit);
        self.backfill(decisions, limit);
    }

    /// The lane that is next, of those with room.
    fn next_lane(&mut self) -> Option<LaneId> {
        self.close_full_groups();
        self.queues.settle(&self.everything);
        if self.groups.open.is_empty() {
            return None;
        }
        let mut asking = Asking { least: self.least_asked(), ..Asking::default() };
        let offer = self.offer(ROOT, &mut asking);
        self.stats.entries_visited += asking.visited;
        for (queue, group, limit) in asking.held {
            self.queues.hold(queue, group, limit);
        }
        offer.map(|offer| offer.lane)
    }

    /// The next lane at or below a queue that has room.
    fn offer(&mut self, queue: QueueIndex, asking: &mut Asking) -> Option<Offer> {
        let entry = self.queues.get(queue);
        let leaf = entry.children.is_empty();
        // A lane that was the first of a queue while more groups were open is the first still.
        let state = if leaf { self.groups.openings } else { self.groups.state };
        if let Some(known) = entry.offer.get(state) {
            let offer = known?;
            // What others have used up since may be what this lane would need.
            if self.groups.is_open(offer.group) && self.limit_of(offer).is_none() {
                return known;
            }
        }
        let offer = if leaf { self.offer_of_leaf(queue, asking) } else { self.offer_among(queue, asking) };
        self.queues.get_mut(queue).offer.set(state, offer);
        offer
    }

    /// The lane of the child with the least share, including the gang it offers.
    fn offer_among(&mut self, queue: QueueIndex, asking: &mut Asking) -> Option<Offer> {
        let mut bounds = std::mem::take(&mut self.queues.get_mut(queue).bounds);
        let mut mask = std::mem::take(&mut bounds.mask);
        let entry = self.queues.get(queue);
        entry.asked.among(&self.groups.open, &mut mask);
        let least = &asking.least;
        let (tree, computed) =
            bounds.with(least, &entry.changes, &mut |place| self.queues.share(entry.children[place], least, &self.everything));
        asking.visited += computed;
        let offer = tree.best(&mask, &mut |place| {
            let child = self.queues.get(queue).children[place];
            let offer = self.offer(child, asking)?;
            Some((self.queues.share(child, self.asked_by(offer.group), &self.everything), offer))
        });
        bounds.mask = mask;
        self.queues.get_mut(queue).bounds = bounds;
        offer
    }

    fn offer_of_leaf(&self, queue: QueueIndex, asking: &mut Asking) -> Option<Offer> {
        let entry = self.queues.get(queue);
        let open = &self.groups.open;
        let mut allowed = |offer: &Offer| {
            asking.visited += 1;
            let limit = self.limit_of(*offer);
            asking.held.extend(limit.map(|limit| (queue, offer.group, limit)));
            limit.is_none()
        };
        if open.len() * IN_ORDER >= entry.heads.len() {
            // Much has room: one of the first lanes will.
            let heads = entry.heads.of(|group| self.groups.is_open(group));
            return heads.map(|(lane, group)| Offer { lane, group, queue }).find(|offer| allowed(offer));
        }
        let sections = open.iter().filter_map(|group| Some((entry.sections.get(group)?, *group)));
        let heads = sections.filter(|(section, _)| section.held_by.is_none());
        let heads = heads.filter_map(|(section, group)| Some((*section.lanes.first()?, group)));
        let offers = heads.map(|((order, lane), group)| (order, Offer { lane, group, queue }));
        offers.filter(|(_, offer)| allowed(offer)).min_by_key(|(order, offer)| (*order, offer.lane)).map(|(_, offer)| offer)
    }

    /// What a gang of a group needs.
    pub(crate) fn asked_by(&self, group: GroupId) -> &Vector {
        &self.classes.get(self.groups.get(group).class()).total
    }

    /// What holds back the gang of a lane, at the first place with room, or where it is split.
    fn limit_of(&self, offer: Offer) -> Option<Limit> {
        let group = self.groups.get(offer.group);
        let class = self.classes.get(group.class());
        let lane = self.lanes.get(offer.lane);
        self.queues.limit(offer.queue, &class.total, || match group.split() {
            Some(parts) => lane.work_over(class, parts),
            None => lane.work(class, group.equals_of_first().next()),
        })
    }

    /// Whether the budgets of its queue allow a waiting job a place.
    pub(crate) fn affords(&self, job: JobId, candidate: &Candidate) -> bool {
        let State::Waiting(lane) = self.jobs.held(job).state else { return false };
        let lane = self.lanes.get(lane);
        let work = lane.work(self.classes.get(lane.class), Some(candidate));
        self.queues.chain(lane.queue).all(|index| self.queues.get(index).unaffordable(work).next().is_none())
    }

    /// Places the head of a lane of a group that has room, where that is.
    fn place_head(&mut self, lane: LaneId) -> Option<Placement> {
        let (_, job) = self.lanes.get(lane).head()?;
        let (group, _) = self.lanes.get(lane).listed?;
        if self.jobs.held(job).is_elastic() {
            return self.place_elastic(job, group);
        }
        if self.groups.get(group).split().is_some() {
            return self.place_split(job, group);
        }
        let candidate = self.least_fragmented(self.jobs.held(job).class, group)?;
        self.place_at(job, &candidate)
    }

    /// Places an elastic gang whose least size has room: at its full size where that has room first, else as large as it can be at the
    /// first place of all.
    fn place_elastic(&mut self, job: JobId, group: GroupId) -> Option<Placement> {
        let entry = self.jobs.held(job);
        let (queue, full, asks) = (entry.queue, entry.class, entry.asks);
        let Elastic { group: part, least } = self.elastic(entry)?;
        let most = self.classes.get(full).groups[part].replicas;
        let allowed = {
            let (class, asks) = (self.classes.get(full), self.classes.get(asks));
            let allows = |workers: u32| {
                let mut total = asks.total.clone();
                total.add(&class.groups[part].asked.times(workers - least));
                self.queues.limit(queue, &total, Work::default).is_none()
            };
            largest(least, most, allows)
        };
        if allowed == most {
            let candidates: Vec<Candidate> = self.groups.get(group).may_have_room().cloned().collect();
            for candidate in &candidates {
                let class = self.classes.get(full);
                self.stats.fits_tried += 1;
                if !self.sites[candidate.cluster].nodes.could_fit(class, candidate.flavor) || !self.affords(job, candidate) {
                    continue;
                }
                let nodes = &mut self.sites[candidate.cluster].nodes;
                if let Ok(places) = nodes.place(class, candidate.flavor, &self.resources, &self.mix) {
                    return Some(self.placed(job, candidate, places, full));
                }
            }
        }
        let candidate = self.least_fragmented(asks, group)?;
        let workers = largest(least, allowed.min(most - 1), |workers| {
            let class = self.class_at(job, workers);
            self.stats.fits_tried += 1;
            let nodes = &mut self.sites[candidate.cluster].nodes;
            let fits = nodes.fits(self.classes.get(class), candidate.flavor, &self.resources, &self.mix);
            self.let_class_go(full, asks, class);
            fits
        });
        let class = self.class_at(job, workers);
        let nodes = &mut self.sites[candidate.cluster].nodes;
        match nodes.place(self.classes.get(class), candidate.flavor, &self.resources, &self.mix) {
            Ok(places) => Some(self.placed(job, &candidate, places, class)),
            Err(_) => {
                self.let_class_go(full, asks, class);
                None
            }
        }
    }

    /// The first candidate of a group with room, or, of several models of its cluster at its price, the one on which fragmentation
    /// grows least.
    fn least_fragmented(&mut self, class: ClassId, group: GroupId) -> Option<Candidate> {
        let class = self.classes.get(class);
        let mut equals = self.groups.get(group).equals_of_first().peekable();
        let mut candidate = equals.next()?;
        if self.sites[candidate.cluster].nodes.in_parts && equals.peek().is_some() {
            let (nodes, parts) = (&mut self.sites[candidate.cluster].nodes, &class.groups[class.packing_order[0]]);
            let mut growth = |candidate: &Candidate| {
                let fits = nodes.fits(class, candidate.flavor, &self.resources, &self.mix);
                fits.then(|| nodes.best(parts, candidate.flavor, &self.mix)).flatten().map(|choice| choice.growth())
            };
            let mut least = growth(candidate);
            for other in equals {
                let by = growth(other);
                if by.is_some() && (least.is_none() || by < least) {
                    (candidate, least) = (other, by);
                }
            }
        }
        Some(candidate.clone())
    }

    /// Places a waiting job on a candidate, if it has room for what the job asks for.
    pub(crate) fn place_at(&mut self, job: JobId, candidate: &Candidate) -> Option<Placement> {
        let asks = self.jobs.held(job).asks;
        let class = self.classes.get(asks);
        self.stats.fits_tried += 1;
        let places = self.sites[candidate.cluster].nodes.place(class, candidate.flavor, &self.resources, &self.mix).ok()?;
        Some(self.placed(job, candidate, places, asks))
    }

    /// Takes a placement at the size of a class into the state; the nodes have it already.
    pub(crate) fn placed(&mut self, id: JobId, candidate: &Candidate, places: Vec<Place>, of_size: ClassId) -> Placement {
        self.placed_over(id, (candidate, places), Vec::new(), of_size)
    }

    /// The same for a gang that is split: its first part, and the others.
    pub(crate) fn placed_over(
        &mut self,
        id: JobId,
        (candidate, places): (&Candidate, Vec<Place>),
        others: Vec<(Candidate, Vec<Place>)>,
        of_size: ClassId,
    ) -> Placement {
        self.dequeue(id);
        let (elsewhere, parts) = if others.is_empty() { Default::default() } else { self.parts_of(id, others, of_size) };
        let site = &mut self.sites[candidate.cluster];
        site.runs.insert(id);
        site.taken += 1;
        let job = self.jobs.held_mut(id);
        job.epoch = Epoch(job.epoch.0 + 1);
        let class = self.classes.get(of_size);
        let gpus = if elsewhere.is_empty() { class.gpus } else { gpus_at(&self.resources, class, &places) };
        let speed = speed_at(&self.classes, job, of_size, candidate.flavor);
        let counted_ms = time_of(crate::lanes::work_ms(job.expected_ms, 1), speed);
        let work_of = |gpus: i64, price, egress| Work::new(counted_ms.saturating_mul(gpus), price).with_egress(egress);
        let mut work = work_of(gpus, candidate.price, candidate.egress);
        for part in &elsewhere {
            work = work.and(work_of(part.gpus, part.price_micros, Some(part.egress_micros)));
        }
        let placement = Placement {
            job: id,
            epoch: job.epoch,
            cluster: site.name.clone(),
            flavor: candidate.flavor.map(|flavor| self.flavors.name(flavor).to_owned()),
            price_micros: candidate.price,
            egress_micros: candidate.egress.unwrap_or(0),
            tier: candidate.tier,
            gpus,
            counted_ms,
            slots: places
                .iter()
                .map(|place| Slot {
                    group: place.group as usize,
                    node: site.nodes.name(place.node).to_owned(),
                    workers: place.workers,
                    gpu: place.gpu,
                })
                .collect(),
            elsewhere,
        };
        let cluster = candidate.cluster;
        job.state = State::Placed(Box::new(Run {
            cluster,
            class: of_size,
            places,
            leaving: Vec::new(),
            bound: None,
            elsewhere: parts,
            started_at: None,
            sized: None,
            refused: None,
            speed,
            stopping: false,
            remaining: None,
            listed: None,
        }));
        self.queues.count(job.queue, work);
        self.queues.charge(job.queue, &class.total, Charge::Add);
        self.stats.placed += 1;
        placement
    }
}
