//! Deciding. The queue that is furthest below its share is asked for its next lane that has room; that lane's head is placed on the
//! first candidate with room. This goes on until nobody who asks has room. Then runs may have to make room for what is blocked
//! (`reclaim.rs`, `overdue.rs`, `interrupt.rs`).

use crate::cluster::Candidate;
use crate::engine::{Engine, Run, State};
use crate::event::{Decision, Epoch, JobId, Placement, Slot};
use crate::groups::GroupId;
use crate::lanes::{LaneId, LaneOrder};
use crate::nodes::Place;
use crate::queues::{Charge, Limit, QueueIndex, ROOT};

/// Lanes looked at in their order before each of the open groups is looked up.
const FIRST_LANES: usize = 16;

/// What is found out while queues are asked.
#[derive(Default)]
struct Asking {
    /// Sections that a capability holds back.
    held: Vec<(QueueIndex, GroupId, Limit)>,
    /// Sections looked at.
    visited: u64,
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
            self.make_room(&mut decisions, limit);
            // A promise that was given up for another leaves room for those who ask.
            if self.freed.is_empty() {
                break;
            }
            self.keep_promises(&mut decisions);
        }
        decisions
    }

    /// Runs make room for what is blocked.
    fn make_room(&mut self, decisions: &mut Vec<Decision>, limit: usize) {
        self.reclaim(decisions, limit);
        self.reserve_for_overdue(decisions, limit);
        self.interrupt(decisions, limit);
        self.backfill(decisions, limit);
    }

    /// The lane that is next, of those with room.
    fn next_lane(&mut self) -> Option<LaneId> {
        self.queues.settle(&self.everything);
        self.close_full_groups();
        if self.groups.open.is_empty() {
            return None;
        }
        let mut asking = Asking::default();
        let lane = self.offer(ROOT, &mut asking);
        self.stats.entries_visited += asking.visited;
        for (queue, group, limit) in asking.held {
            self.queues.hold(queue, group, limit);
        }
        lane
    }

    /// The next lane at or below a queue that has room.
    fn offer(&self, queue: QueueIndex, asking: &mut Asking) -> Option<LaneId> {
        let entry = self.queues.get(queue);
        let state = self.groups.state;
        if let Some(known) = entry.offer.get(state) {
            // What others have used up since may be what this lane would need.
            let limited = known.is_some_and(|lane| {
                let lane = self.lanes.get(lane);
                self.queues.limit(lane.queue, &self.classes.get(lane.class).total).is_some()
            });
            if !limited {
                return known;
            }
        }
        let lane = if entry.children.is_empty() {
            self.offer_of_leaf(queue, asking)
        } else {
            entry.ranking.best(&mut |place| {
                let child = entry.children[place];
                let lane = self.offer(child, asking)?;
                let total = &self.classes.get(self.lanes.get(lane).class).total;
                Some((self.queues.share(child, total, &self.everything), lane))
            })
        };
        entry.offer.set(state, lane);
        lane
    }

    fn offer_of_leaf(&self, queue: QueueIndex, asking: &mut Asking) -> Option<LaneId> {
        let entry = self.queues.get(queue);
        let open = &self.groups.open;
        if open.len() * 2 >= entry.sections.len() {
            // Much has room: one of the first lanes will.
            for (_, lane) in entry.order.iter().take(FIRST_LANES) {
                let Some((group, _)) = self.lanes.get(*lane).listed.filter(|(group, _)| self.groups.is_open(*group)) else {
                    continue;
                };
                asking.visited += 1;
                match self.queues.limit(queue, &self.classes.get(self.lanes.get(*lane).class).total) {
                    Some(limit) => asking.held.push((queue, group, limit)),
                    None => return Some(*lane),
                }
            }
        }
        let mut first: Option<(LaneOrder, LaneId)> = None;
        for group in open {
            let Some(section) = entry.sections.get(group).filter(|section| section.held_by.is_none()) else { continue };
            let Some(lane) = section.lanes.first() else { continue };
            asking.visited += 1;
            let (class, ..) = self.groups.get(*group).key;
            if let Some(limit) = self.queues.limit(queue, &self.classes.get(class).total) {
                asking.held.push((queue, *group, limit));
            } else if first.is_none_or(|known| *lane < known) {
                first = Some(*lane);
            }
        }
        first.map(|(_, lane)| lane)
    }

    /// Places the head of a lane of a group that has room, where that is.
    fn place_head(&mut self, lane: LaneId) -> Option<Placement> {
        let (_, job) = self.lanes.get(lane).head()?;
        let (group, _) = self.lanes.get(lane).listed?;
        let candidate = self.groups.get(group).first()?.clone();
        self.place_at(job, &candidate)
    }

    /// Places a waiting job on a candidate, if it has room.
    pub(crate) fn place_at(&mut self, job: JobId, candidate: &Candidate) -> Option<Placement> {
        let class = self.classes.get(self.jobs.held(job).class);
        self.stats.fits_tried += 1;
        let places = self.sites[candidate.cluster].nodes.place(class, candidate.flavor, &self.resources).ok()?;
        Some(self.placed(job, candidate, places))
    }

    /// Takes a placement into the state; the nodes have it already.
    pub(crate) fn placed(&mut self, id: JobId, candidate: &Candidate, places: Vec<Place>) -> Placement {
        self.dequeue(id);
        let site = &mut self.sites[candidate.cluster];
        site.runs.insert(id);
        site.taken += 1;
        let job = self.jobs.held_mut(id);
        job.epoch = Epoch(job.epoch.0 + 1);
        let placement = Placement {
            job: id,
            epoch: job.epoch,
            cluster: site.name.clone(),
            flavor: candidate.flavor.map(|flavor| self.flavors.name(flavor).to_owned()),
            price_micros: candidate.price,
            tier: candidate.tier,
            slots: places
                .iter()
                .map(|place| Slot {
                    group: place.group as usize,
                    node: site.nodes.name(place.node).to_owned(),
                    workers: place.workers,
                })
                .collect(),
        };
        let cluster = candidate.cluster;
        job.state =
            State::Placed(Box::new(Run { cluster, places, bound: None, started_at: None, stopping: false, remaining: None }));
        self.queues.charge(job.queue, &self.classes.get(job.class).total, Charge::Add);
        self.stats.placed += 1;
        placement
    }
}
