//! The queue tree: who is asked next. Each queue stands among its siblings by its *weighted dominant share including
//! the candidate*: max over resources of (usage + candidate) ÷ everything there is, divided by its weight (Ghodsi et
//! al., Dominant Resource Fairness, NSDI 2011; with the candidate counted, as Armada does). The least one is next.

use std::collections::{BTreeMap, BTreeSet};

use crate::amounts::{ResourceTable, Vector};
use crate::event::{QueueSpec, Refused, Tier};
use crate::lanes::{LaneId, LaneOrder};

/// Place of a queue in [`Queues`].
pub(crate) type QueueIndex = usize;
/// The parent of all queues without a parent. Unlimited, without a name.
pub(crate) const ROOT: QueueIndex = 0;
/// Queues may be nested this deep. Each level costs a step per decision.
pub const MAX_DEPTH: usize = 8;

/// A share as its bits: for numbers that are not negative the order of the bits is the order of the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Share(u64);

impl Share {
    pub(crate) fn of(usage: &Vector, candidate: &Vector, total: &Vector, weight: u32) -> Self {
        let mut share = 0.0_f64;
        for index in 0..usage.len().max(candidate.len()) {
            let used = usage.get(index).saturating_add(candidate.get(index));
            let all = total.get(index);
            if used > 0 && all > 0 {
                share = share.max(used as f64 / all as f64);
            }
        }
        Self((share / f64::from(weight)).to_bits())
    }

    pub(crate) fn value(self) -> f64 {
        f64::from_bits(self.0)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) spec: QueueSpec,
    pub(crate) parent: QueueIndex,
    pub(crate) children: BTreeSet<QueueIndex>,
    capability: Vec<(usize, i64)>,
    /// What is placed for it and its descendants.
    pub(crate) usage: Vector,
    /// Its lanes that may be tried, in the queue's order.
    pub(crate) ready: BTreeSet<(LaneOrder, LaneId)>,
    /// All its lanes.
    pub(crate) lanes: BTreeSet<LaneId>,
    /// Lanes (also of descendants) that wait for room under this queue's capability.
    pub(crate) limited: BTreeSet<LaneId>,
    /// Children with something to try, by share.
    asking: BTreeSet<(Share, String, QueueIndex)>,
    offered: Option<Share>,
    /// Jobs in any state that name this queue.
    pub(crate) jobs: u64,
}

/// All queues.
#[derive(Clone, Debug)]
pub(crate) struct Queues {
    all: Vec<Option<Queue>>,
    by_name: BTreeMap<String, QueueIndex>,
}

impl Queues {
    pub(crate) fn new() -> Self {
        let root = QueueSpec {
            name: String::new(),
            parent: None,
            weight: 1,
            capability: crate::Amounts::new(),
            reclaimable: false,
            tiers: Vec::new(),
        };
        Self { all: vec![Some(Queue::new(root, ROOT, Vec::new()))], by_name: BTreeMap::new() }
    }

    pub(crate) fn find(&self, name: &str) -> Option<QueueIndex> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn get(&self, index: QueueIndex) -> &Queue {
        self.all[index].as_ref().expect("a job, a lane or a child holds its queue")
    }

    pub(crate) fn get_mut(&mut self, index: QueueIndex) -> &mut Queue {
        self.all[index].as_mut().expect("a job, a lane or a child holds its queue")
    }

    /// Every queue but the root, in name order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (QueueIndex, &Queue)> {
        self.by_name.values().map(|index| (*index, self.get(*index)))
    }

    /// The queue and its ancestors without the root, from the leaf up.
    pub(crate) fn chain(&self, queue: QueueIndex) -> impl Iterator<Item = QueueIndex> + '_ {
        std::iter::successors(Some(queue), |index| Some(self.get(*index).parent)).take_while(|index| *index != ROOT)
    }

    /// The queue and everything below it.
    pub(crate) fn subtree(&self, queue: QueueIndex) -> Vec<QueueIndex> {
        let mut found = vec![queue];
        let mut next = 0;
        while next < found.len() {
            found.extend(self.get(found[next]).children.iter());
            next += 1;
        }
        found
    }

    /// The queue whose tiers count for this one: itself or the nearest ancestor with some; else the root, which has none.
    pub(crate) fn tier_owner(&self, queue: QueueIndex) -> QueueIndex {
        self.chain(queue).find(|index| !self.get(*index).spec.tiers.is_empty()).unwrap_or(ROOT)
    }

    pub(crate) fn tiers(&self, queue: QueueIndex) -> &[Tier] {
        &self.get(self.tier_owner(queue)).spec.tiers
    }

    /// Makes or changes a queue. Usage below it moves with it to another parent.
    pub(crate) fn upsert(&mut self, spec: QueueSpec, resources: &mut ResourceTable) -> Result<QueueIndex, Refused> {
        if spec.name.is_empty() {
            return Err(Refused::new("name", "must not be empty"));
        }
        if spec.weight == 0 {
            return Err(Refused::new("weight", "must be at least 1"));
        }
        if let Some((name, _)) = spec.capability.iter().find(|(_, amount)| *amount < 0) {
            return Err(Refused::new(format!("capability[{name}]"), "must not be negative"));
        }
        let parent = match &spec.parent {
            None => ROOT,
            Some(name) => self.find(name).ok_or_else(|| Refused::new("parent", format!("queue {name:?} does not exist")))?,
        };
        if parent != ROOT && self.get(parent).jobs > 0 {
            return Err(Refused::new("parent", format!("queue {:?} has jobs of its own", self.get(parent).spec.name)));
        }
        let existing = self.find(&spec.name);
        let height = existing.map_or(1, |index| self.height(index));
        if existing.is_some_and(|index| self.chain(parent).any(|above| above == index)) {
            return Err(Refused::new("parent", "a queue can't be below itself"));
        }
        if self.chain(parent).count() + height > MAX_DEPTH {
            return Err(Refused::new("parent", format!("queues are nested at most {MAX_DEPTH} deep")));
        }
        let capability = resources.intern(&spec.capability);
        let capability: Vec<(usize, i64)> = capability.iter().collect();
        let Some(index) = existing else {
            let index = self.all.len();
            self.by_name.insert(spec.name.clone(), index);
            self.all.push(Some(Queue::new(spec, parent, capability)));
            self.get_mut(parent).children.insert(index);
            return Ok(index);
        };
        let old_parent = self.get(index).parent;
        self.withdraw_offer(index);
        if old_parent != parent {
            let usage = self.get(index).usage.clone();
            self.charge(old_parent, &usage, Charge::Back);
            self.charge(parent, &usage, Charge::Add);
            self.get_mut(old_parent).children.remove(&index);
            self.get_mut(parent).children.insert(index);
        }
        let queue = self.get_mut(index);
        queue.spec = spec;
        queue.parent = parent;
        queue.capability = capability;
        Ok(index)
    }

    fn height(&self, index: QueueIndex) -> usize {
        1 + self.get(index).children.iter().map(|child| self.height(*child)).max().unwrap_or(0)
    }

    pub(crate) fn remove(&mut self, name: &str) -> Result<(), Refused> {
        let index = self.find(name).ok_or_else(|| Refused::new("name", format!("queue {name:?} does not exist")))?;
        let queue = self.get(index);
        if queue.jobs > 0 {
            return Err(Refused::new("name", format!("queue {name:?} has {} jobs", queue.jobs)));
        }
        if !queue.children.is_empty() {
            return Err(Refused::new("name", format!("queue {name:?} has queues below it")));
        }
        let parent = queue.parent;
        self.withdraw_offer(index);
        self.get_mut(parent).children.remove(&index);
        self.by_name.remove(name);
        self.all[index] = None;
        Ok(())
    }

    /// Adds usage to a queue and its ancestors, or takes it back.
    pub(crate) fn charge(&mut self, queue: QueueIndex, amount: &Vector, charge: Charge) {
        let chain: Vec<QueueIndex> = self.chain(queue).collect();
        for index in chain {
            match charge {
                Charge::Add => self.get_mut(index).usage.add(amount),
                Charge::Back => self.get_mut(index).usage.sub(amount),
            }
        }
    }

    /// The nearest queue whose capability the amount would exceed, among the resources that are asked for.
    pub(crate) fn limit(&self, queue: QueueIndex, amount: &Vector) -> Option<QueueIndex> {
        self.chain(queue).find(|index| self.excess(*index, amount).next().is_some())
    }

    /// Per resource that the amount asks for: (resource, limit, usage, what is beyond the limit).
    pub(crate) fn excess<'a>(
        &'a self,
        queue: QueueIndex,
        amount: &'a Vector,
    ) -> impl Iterator<Item = (usize, i64, i64, i64)> + 'a {
        let queue = self.get(queue);
        queue.capability.iter().filter_map(move |(resource, limit)| {
            let asked = amount.get(*resource);
            let used = queue.usage.get(*resource);
            let beyond = used.saturating_add(asked).saturating_sub(*limit);
            (asked > 0 && beyond > 0).then_some((*resource, *limit, used, beyond))
        })
    }

    fn withdraw_offer(&mut self, queue: QueueIndex) {
        let Some(share) = self.get_mut(queue).offered.take() else { return };
        let (parent, name) = (self.get(queue).parent, self.get(queue).spec.name.clone());
        self.get_mut(parent).asking.remove(&(share, name, queue));
    }

    /// Puts the queue and its ancestors at their right place among their siblings. `total_of` gives a lane's total.
    pub(crate) fn refresh(&mut self, queue: QueueIndex, everything: &Vector, total_of: &dyn Fn(LaneId) -> Vector) {
        let chain: Vec<QueueIndex> = self.chain(queue).collect();
        for index in chain {
            self.withdraw_offer(index);
            let Some(lane) = self.next_below(index) else { continue };
            let queue = self.get(index);
            let share = Share::of(&queue.usage, &total_of(lane), everything, queue.spec.weight);
            let (parent, name) = (queue.parent, queue.spec.name.clone());
            self.get_mut(index).offered = Some(share);
            self.get_mut(parent).asking.insert((share, name, index));
        }
    }

    /// The lane that is next at or below this queue.
    pub(crate) fn next_below(&self, queue: QueueIndex) -> Option<LaneId> {
        let mut queue = self.get(queue);
        loop {
            if let Some((_, lane)) = queue.ready.first() {
                return Some(*lane);
            }
            let (_, _, child) = queue.asking.first()?;
            queue = self.get(*child);
        }
    }

    /// A queue's weighted dominant share of everything, without a candidate.
    pub(crate) fn share(&self, queue: QueueIndex, everything: &Vector) -> f64 {
        let queue = self.get(queue);
        Share::of(&queue.usage, &Vector::default(), everything, queue.spec.weight).value()
    }
}

/// Which way a charge goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Charge {
    Add,
    Back,
}

impl Queue {
    fn new(spec: QueueSpec, parent: QueueIndex, capability: Vec<(usize, i64)>) -> Self {
        Self {
            spec,
            parent,
            children: BTreeSet::new(),
            capability,
            usage: Vector::default(),
            ready: BTreeSet::new(),
            lanes: BTreeSet::new(),
            limited: BTreeSet::new(),
            asking: BTreeSet::new(),
            offered: None,
            jobs: 0,
        }
    }
}
