//! What decides whether a lane has room: its class, the tiers it may use, and how many of them are open to it. Lanes that agree in
//! this, of whatever queue, are of one *group*: one answer for all. A group remembers on which of its candidates there may be
//! room. A release changes that answer for the groups that wait for no more than is free there, and for no other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::class::{ClassId, FlavorId};
use crate::cluster::{Candidate, ClusterIndex, Yardstick};
use crate::engine::Engine;
use crate::queues::{QueueIndex, ROOT};
use crate::spec::TierOpens;
use crate::vector::Vector;

mod gate;
mod spanning;

pub(crate) use gate::Open;
pub(crate) use spanning::of_regions;
use spanning::{Splits, least_of_use};

/// Stands for no place among a group's candidates.
const NOWHERE: u32 = u32::MAX;

/// Number of a group.
pub(crate) type GroupId = usize;

/// What a group waits for: GPUs of a model and how many its gangs need together. A release of fewer can't help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Need {
    pub(crate) what: NeedOf,
    pub(crate) gpus: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NeedOf {
    /// Cpu, memory or named resources only.
    NoGpu,
    /// GPUs of any model.
    AnyGpu,
    /// GPUs of this model.
    Gpu(FlavorId),
}

/// What lanes of a group have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupKey {
    pub(crate) class: ClassId,
    /// The queue whose tiers and preference count.
    pub(crate) owner: QueueIndex,
    pub(crate) open: Open,
    /// The work that is expected of each gang, where a dataset may have to be moved for it; else 0.
    pub(crate) lasts_ms: i64,
}

#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) key: GroupKey,
    /// Where its gangs may go now or while enough waits, in order.
    pub(crate) candidates: Arc<[Candidate]>,
    /// How many of them are in tiers that are open now.
    reach: usize,
    /// The queue that has the tiers.
    says: QueueIndex,
    /// Per cluster its first place among the candidates, or that it has none.
    first_there: Vec<u32>,
    /// Per candidate the next one on its cluster.
    next_there: Vec<u32>,
    /// A bit per candidate; unset where there is certainly no room.
    room: Vec<u64>,
    /// The first candidate with room, and how much had been taken there when that was found out.
    fits_at: Option<(usize, u64)>,
    /// Whether the candidates are to be found anew.
    stale: bool,
    /// How its gangs may be split; `None` for those that stay on one cluster.
    splits: Option<Box<Splits>>,
    needs: Vec<Need>,
    /// Lanes in it.
    lanes: usize,
}

impl Group {
    pub(crate) fn class(&self) -> ClassId {
        self.key.class
    }

    /// Where its gangs may go now, in order.
    pub(crate) fn open_candidates(&self) -> &[Candidate] {
        &self.candidates[..self.reach]
    }

    /// The same beside whoever changes the state: candidates, and how many of them are open now.
    pub(crate) fn shared_candidates(&self) -> (Arc<[Candidate]>, usize) {
        (Arc::clone(&self.candidates), self.reach)
    }

    /// The first candidate with room, and those behind it on the same cluster, at the same price and no greener, that may have room.
    pub(crate) fn equals_of_first(&self) -> impl Iterator<Item = &Candidate> {
        let (place, first) = self.fits_at.map_or((0, None), |(place, _)| (place, Some(&self.candidates[place])));
        let equal = move |candidate: &&Candidate| {
            let of = |candidate: &Candidate| (candidate.tier, candidate.cluster, candidate.price, candidate.emissions);
            first.is_some_and(|first| of(first) == of(candidate))
        };
        let behind = self.candidates.iter().enumerate().skip(place + 1);
        let behind = behind.map_while(move |(at, candidate)| equal(&candidate).then_some((at, candidate)));
        let behind = behind.filter(|(at, _)| self.room[at / 64] >> (at % 64) & 1 == 1).map(|(_, candidate)| candidate);
        first.into_iter().chain(behind)
    }

    /// Every candidate that may have room, in the tiers that are open now and in order.
    pub(crate) fn may_have_room(&self) -> impl Iterator<Item = &Candidate> {
        let may = |(at, candidate)| (self.room[at / 64] >> (at % 64) & 1 == 1).then_some(candidate);
        self.open_candidates().iter().enumerate().filter_map(may)
    }

    /// The first candidate from a place on that may have room, in the tiers that are open now.
    fn maybe_from(&self, place: usize) -> Option<usize> {
        self.marked_from(place).filter(|place| *place < self.reach)
    }

    fn marked_from(&self, place: usize) -> Option<usize> {
        let (first, rest) = (place / 64, place % 64);
        let head = self.room.get(first)? & (u64::MAX << rest);
        if head != 0 {
            return Some(first * 64 + head.trailing_zeros() as usize);
        }
        let (word, bits) = self.room.iter().enumerate().skip(first + 1).find(|(_, word)| **word != 0)?;
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    fn set(&mut self, place: usize, room: bool) {
        let bit = 1 << (place % 64);
        if room {
            self.room[place / 64] |= bit;
        } else {
            self.room[place / 64] &= !bit;
        }
    }
}

/// All groups.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    all: Vec<Option<Group>>,
    unused: Vec<GroupId>,
    by_key: BTreeMap<GroupKey, GroupId>,
    by_need: BTreeMap<Need, BTreeSet<GroupId>>,
    /// Groups to which some tier is open only while enough waits, by the queue that has the tiers; as of when their candidates were
    /// found.
    gated: BTreeMap<QueueIndex, BTreeSet<GroupId>>,
    /// Groups with lanes that may have room, in no order that matters.
    pub(crate) open: Vec<GroupId>,
    /// Groups with lanes whose gangs have parts of several sizes, each of which would fit alone. Packing such gangs may succeed
    /// *because* something was taken, so they are tried again each time.
    unsure: Vec<GroupId>,
    /// A bit per group: whether it is in `open`.
    open_bits: Vec<u64>,
    /// Numbers the states of the set of open groups, from 1.
    pub(crate) state: u64,
    /// Numbers the times that one was added, from 1.
    pub(crate) openings: u64,
}

impl Groups {
    pub(crate) fn get(&self, id: GroupId) -> &Group {
        self.all[id].as_ref().expect("a lane holds its group")
    }

    fn get_mut(&mut self, id: GroupId) -> &mut Group {
        self.all[id].as_mut().expect("a lane holds its group")
    }

    pub(crate) fn is_open(&self, id: GroupId) -> bool {
        self.open_bits.get(id / 64).is_some_and(|bits| bits >> (id % 64) & 1 == 1)
    }

    fn opened(&mut self, id: GroupId) {
        if self.is_open(id) {
            return;
        }
        if self.open_bits.len() <= id / 64 {
            self.open_bits.resize(id / 64 + 1, 0);
        }
        self.open_bits[id / 64] |= 1 << (id % 64);
        self.open.push(id);
        self.state += 1;
        self.openings += 1;
    }

    fn closed(&mut self, id: GroupId) {
        if self.is_open(id) {
            self.open_bits[id / 64] &= !(1 << (id % 64));
            self.open.retain(|open| *open != id);
            self.state += 1;
        }
    }

    /// A lane has come to the group.
    pub(crate) fn enter(&mut self, id: GroupId) {
        let group = self.get_mut(id);
        group.lanes += 1;
        if group.lanes == 1 && (group.stale || group.fits_at.is_some() || group.maybe_from(0).is_some() || group.splits.is_some())
        {
            self.opened(id);
        }
    }

    /// A lane has left the group.
    pub(crate) fn leave(&mut self, id: GroupId) {
        let group = self.get_mut(id);
        group.lanes -= 1;
        if group.lanes == 0 {
            self.closed(id);
            self.unsure.retain(|unsure| *unsure != id);
        }
    }

    /// Clusters or tiers have changed: nothing that was found out holds any more.
    pub(crate) fn all_stale(&mut self) {
        self.stale_of(|_| true);
    }

    /// Only for the groups of which `of` says yes something has changed.
    pub(crate) fn stale_of(&mut self, of: impl Fn(&GroupKey) -> bool) {
        for id in 0..self.all.len() {
            if let Some(group) = self.all[id].as_mut().filter(|group| of(&group.key)) {
                group.stale = true;
                if group.lanes > 0 {
                    self.opened(id);
                }
            }
        }
    }

    /// The class is gone, and its groups with it.
    pub(crate) fn forget(&mut self, class: ClassId) {
        let least = Open { tiers: 0, sure: 0 };
        let first = GroupKey { class, owner: 0, open: least, lasts_ms: 0 };
        let of_class = self.by_key.range(first..).take_while(|(key, _)| key.class == class);
        let gone: Vec<(GroupKey, GroupId)> = of_class.map(|(key, id)| (*key, *id)).collect();
        for (key, id) in gone {
            self.by_key.remove(&key);
            self.closed(id);
            self.unsure.retain(|unsure| *unsure != id);
            self.depends_on(id, None);
            for need in self.all[id].take().into_iter().flat_map(|group| group.needs) {
                if let Some(ids) = self.by_need.get_mut(&need) {
                    ids.remove(&id);
                    if ids.is_empty() {
                        self.by_need.remove(&need);
                    }
                }
            }
            self.unused.push(id);
        }
    }

    /// Groups that wait for no more than is free there.
    fn waiting_for(&self, free: &[Need]) -> Vec<GroupId> {
        let mut ids = Vec::new();
        for need in free {
            let range = Need { what: need.what, gpus: 0 }..=*need;
            ids.extend(self.by_need.range(range).flat_map(|(_, ids)| ids.iter().copied()));
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

impl Engine {
    /// The group of a class in a queue with so many tiers open, of gangs of which so much is expected.
    pub(crate) fn group(&mut self, queue: QueueIndex, class: ClassId, open: Open, expected_ms: i64) -> GroupId {
        // Not of an equal gang with another expectation: the less it works, the more moving its data weighs.
        let moves = self.classes.get(class).gang.dataset.is_some();
        let lasts_ms = if moves { TierOpens::lasts_ms(expected_ms) } else { 0 };
        let key = GroupKey { class, owner: self.queues.tier_owner(queue), open, lasts_ms };
        if let Some(id) = self.groups.by_key.get(&key) {
            return *id;
        }
        let shape = self.classes.get(class);
        let gpus = least_of_use(shape);
        let needs: Vec<Need> = if !shape.on_gpu {
            vec![Need { what: NeedOf::NoGpu, gpus }]
        } else if shape.flavors.is_empty() {
            vec![Need { what: NeedOf::AnyGpu, gpus }]
        } else {
            shape.flavors.iter().map(|flavor| Need { what: NeedOf::Gpu(*flavor), gpus }).collect()
        };
        let group = Some(Group {
            key,
            candidates: Vec::new().into(),
            reach: 0,
            says: ROOT,
            first_there: Vec::new(),
            next_there: Vec::new(),
            room: Vec::new(),
            fits_at: None,
            stale: true,
            splits: None,
            needs: needs.clone(),
            lanes: 0,
        });
        let id = match self.groups.unused.pop() {
            Some(id) => {
                self.groups.all[id] = group;
                id
            }
            None => {
                self.groups.all.push(group);
                self.groups.all.len() - 1
            }
        };
        self.groups.by_key.insert(key, id);
        for need in needs {
            self.groups.by_need.entry(need).or_default().insert(id);
        }
        id
    }

    /// Finds a group's candidates anew if clusters or tiers have changed.
    pub(crate) fn renew(&mut self, id: GroupId) {
        let group = self.groups.get(id);
        if !group.stale {
            return;
        }
        let GroupKey { class, owner, open, lasts_ms } = group.key;
        let yardstick = Yardstick { prefers: self.queues.prefers(owner), typical: &self.typical, lasts_ms };
        let tiers = self.queues.tiers(owner);
        let shape = self.classes.get(class);
        let mut found = crate::cluster::candidates(tiers, yardstick, shape, &self.sites, &self.flavors);
        found.retain(|candidate| candidate.tier < open.tiers);
        let splits = Splits::of(shape, &found, &self.sites);
        let says = (open.sure < open.tiers).then(|| self.queues.tiers_said_by(owner));
        let open_now = says.map_or(open.tiers, |says| open.now(self.queues.shut(says)));
        let mut first_there = vec![NOWHERE; self.sites.len()];
        let mut next_there = vec![NOWHERE; found.len()];
        for (place, candidate) in found.iter().enumerate().rev() {
            let first = &mut first_there[candidate.cluster];
            next_there[place] = std::mem::replace(first, place as u32);
        }
        let group = self.groups.get_mut(id);
        group.room = vec![u64::MAX; found.len() / 64];
        if !found.len().is_multiple_of(64) {
            group.room.push((1 << (found.len() % 64)) - 1);
        }
        group.reach = found.partition_point(|candidate| candidate.tier < open_now);
        group.candidates = found.into();
        (group.first_there, group.next_there) = (first_there, next_there);
        group.fits_at = None;
        group.splits = splits;
        group.stale = false;
        self.groups.depends_on(id, says);
    }

    /// Whether the group has room now, and where first.
    pub(crate) fn has_room(&mut self, id: GroupId) -> bool {
        let whole = self.has_room_for_whole(id);
        if self.groups.get(id).splits.is_none() { whole } else { self.has_split(id, whole) }
    }

    fn has_room_for_whole(&mut self, id: GroupId) -> bool {
        self.renew(id);
        let group = self.groups.get(id);
        if let Some((place, taken)) = group.fits_at
            && self.sites[group.candidates[place].cluster].taken == taken
            && self.classes.get(group.class()).groups.len() == 1
        {
            return true;
        }
        let class = self.classes.get(group.class());
        self.stats.entries_visited += 1;
        let group = self.groups.all[id].as_mut().expect("it was just there");
        let mut from = 0;
        while let Some(place) = group.maybe_from(from) {
            let candidate = &group.candidates[place];
            let site = &mut self.sites[candidate.cluster];
            self.stats.fits_tried += 1;
            if site.nodes.fits(class, candidate.flavor, &self.resources, &self.mix) {
                group.fits_at = Some((place, site.taken));
                return true;
            }
            if class.groups.len() == 1 || !site.nodes.could_fit(class, candidate.flavor) {
                group.set(place, false);
            }
            from = place + 1;
        }
        group.fits_at = None;
        false
    }

    /// Keeps only those groups open that have room.
    pub(crate) fn close_full_groups(&mut self) {
        for id in std::mem::take(&mut self.groups.unsure) {
            self.groups.opened(id);
        }
        let mut at = 0;
        while at < self.groups.open.len() {
            let id = self.groups.open[at];
            if self.has_room(id) {
                at += 1;
            } else {
                self.groups.closed(id);
                let group = self.groups.get(id);
                if group.maybe_from(0).is_some() || group.may_be_split() {
                    self.groups.unsure.push(id);
                }
            }
        }
    }

    /// Not more than any gang of an open group asks for. It is rounded down to powers of two, so that there are few of them.
    pub(crate) fn least_asked(&self) -> Vector {
        let totals = self.groups.open.iter().map(|id| self.asked_by(*id));
        totals.cloned().reduce(|least, total| least.least(&total)).unwrap_or_default().rounded_down()
    }

    /// Opens the groups for which there is room on clusters where something became free.
    pub(crate) fn open_for_freed(&mut self) {
        for queue in std::mem::take(&mut self.in_vain) {
            self.queues.touch(queue);
        }
        self.misplaced.look();
        let freed = std::mem::take(&mut self.freed);
        for index in freed {
            let nodes = &self.sites[index].nodes;
            let mut free = vec![Need { what: NeedOf::NoGpu, gpus: 0 }];
            let mut most = 0;
            for flavor in nodes.flavors() {
                let gpus = nodes.gpus_free(flavor);
                most = most.max(gpus);
                free.push(Need { what: NeedOf::Gpu(flavor), gpus });
            }
            free.push(Need { what: NeedOf::AnyGpu, gpus: most });
            for id in self.groups.waiting_for(&free) {
                self.look_again(id, index);
            }
        }
    }

    fn look_again(&mut self, id: GroupId, cluster: ClusterIndex) {
        let group = self.groups.all[id].as_mut().expect("lists name living groups");
        if group.stale {
            if group.lanes > 0 {
                self.groups.opened(id);
            }
            return;
        }
        let class = self.classes.get(group.class());
        let site = &mut self.sites[cluster];
        let mut at = group.first_there.get(cluster).copied().unwrap_or(NOWHERE);
        // Less than a whole gang's room may be what it lacks.
        let mut found = at != NOWHERE && group.splits.is_some();
        self.stats.entries_visited += u64::from(group.lanes > 0);
        while at != NOWHERE {
            let place = at as usize;
            at = group.next_there[place];
            if group.lanes == 0 {
                // Nobody asks: it is enough to know that there may be room.
                group.set(place, true);
                group.fits_at = None;
                continue;
            }
            self.stats.fits_tried += 1;
            let fits = site.nodes.fits(class, group.candidates[place].flavor, &self.resources, &self.mix);
            let may = fits || (class.groups.len() > 1 && site.nodes.could_fit(class, group.candidates[place].flavor));
            group.set(place, may);
            // Before the first candidate with room there is none that may have room. Where none is known it is found when asked for.
            match group.fits_at {
                Some((known, _)) if fits && known >= place => group.fits_at = Some((place, site.taken)),
                Some((known, _)) if !fits && known == place => group.fits_at = None,
                Some(_) | None => {}
            }
            found |= may && place < group.reach;
        }
        if found && group.lanes > 0 {
            self.groups.opened(id);
            self.let_unpaid_go(id..=id);
        }
    }
}
