//! The queue tree: who is asked next, and what each queue may use. Each queue stands among its siblings by its *weighted dominant
//! share including the candidate* (Ghodsi et al., Dominant Resource Fairness, NSDI 2011; with the candidate counted, as Armada
//! does), counted beyond what it is guaranteed first. The least one is next.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::event::Refused;
use crate::groups::GroupId;
use crate::jobs::Hashing;
use crate::lanes::{LaneId, LaneOrder};
use crate::memo::Memo;
use crate::ranking::Ranking;
use crate::spec::{Budget, Prefers, QueueSpec, Tier};
use crate::vector::{ResourceTable, Vector};

mod below;
mod budget;
mod demand;
mod heads;
mod limits;
mod lists;
mod marks;
mod share;

pub(crate) use below::{Asked, Blocked, Bounds, Changes};
pub(crate) use budget::{Work, is_of_money};
pub(crate) use demand::{Demand, Waiting};
pub(crate) use heads::Heads;
use limits::Said;
pub(crate) use limits::{Excess, Rights};

/// Place of a queue in [`Queues`].
pub(crate) type QueueIndex = usize;
/// The parent of all queues without a parent. Unlimited, without a name.
pub(crate) const ROOT: QueueIndex = 0;
/// Queues may be nested this deep. Each level costs a step per decision.
pub const MAX_DEPTH: usize = 8;

/// What holds lanes back: the queue whose limit or budget it is, the resource or the budget, and how much of it must be left.
pub(crate) type Limit = (QueueIndex, usize, i64);

/// A queue's lanes of one group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Section {
    pub(crate) lanes: BTreeSet<(LaneOrder, LaneId)>,
    /// Set while a limit holds all of them back.
    pub(crate) held_by: Option<Limit>,
}

#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) spec: QueueSpec,
    pub(crate) parent: QueueIndex,
    /// Queues below it, by name.
    pub(crate) children: Vec<QueueIndex>,
    /// Its place among its parent's children.
    place: usize,
    /// The most that may be used of a resource: its capability, or what it is guaranteed and may borrow. Of the root everything
    /// that there is, where somebody keeps some of it.
    limits: Vec<(usize, i64)>,
    guarantee: Vector,
    /// What it is guaranteed and does not lend.
    reserve: Vector,
    /// What is guaranteed of each resource, also of those that are not named.
    guaranteed: Vec<f64>,
    /// What counts in each of its budgets.
    pub(crate) counted: Vec<i64>,
    /// What is placed for it and its descendants.
    pub(crate) usage: Vector,
    /// What its descendants keep of their reserves without using it.
    kept: Vector,
    /// What it has used lately, where that counts.
    pub(crate) lately: Option<share::Lately>,
    /// What waits in it itself.
    demand: Demand,
    /// What waits in it and below it, where its tiers open by that.
    gate: Option<demand::Gate>,
    /// Its lanes, by what decides whether they have room.
    pub(crate) sections: BTreeMap<GroupId, Section>,
    /// How many of these are held back.
    sections_held: usize,
    /// Lanes that no limit holds back.
    pub(crate) order: BTreeSet<(LaneOrder, LaneId)>,
    /// The first of them of each group.
    pub(crate) heads: Heads,
    /// (resource, amount that must be left, queue, group): sections, also of descendants, that its limits hold back.
    pub(crate) holds: BTreeSet<(usize, i64, QueueIndex, GroupId)>,
    /// Who of its children asks, and the greatest share of one.
    pub(crate) ranking: Ranking,
    /// What its children ask for.
    pub(crate) asked: Asked,
    /// Which of its children have changed.
    pub(crate) changes: Changes,
    /// What its children's shares are at least with what they may offer.
    pub(crate) bounds: Bounds,
    /// The lane it offers among those with room, under the numbered state of the open groups.
    pub(crate) offer: Memo,
    /// The lanes that are next, also of those that limits hold back.
    pub(crate) blocked: Blocked,
    /// Whether its share is to be computed anew.
    dirty: bool,
    /// Whether something changed that may entitle a gang in or below it to the place of a run there.
    touched: bool,
    /// Started runs by priority.
    pub(crate) started: BTreeMap<i32, u64>,
    /// Jobs in any state that name this queue.
    pub(crate) jobs: u64,
}

/// All queues.
#[derive(Clone, Debug)]
pub(crate) struct Queues {
    all: Vec<Option<Queue>>,
    by_name: BTreeMap<String, QueueIndex>,
    /// The same without the order.
    found: HashMap<String, QueueIndex, Hashing>,
    /// Queues whose shares, and those above them, are to be computed anew before anybody is asked.
    dirty: Vec<QueueIndex>,
    /// Queues in or below which runs may have to make room.
    touched: Vec<QueueIndex>,
    /// Sections that a budget of money holds back.
    pub(crate) unpaid: BTreeSet<(GroupId, QueueIndex)>,
    /// How many queues have tiers that open by what waits.
    gated: usize,
    /// Those of them to which that happened since runs were last looked at that may have to make room.
    moved: BTreeSet<QueueIndex>,
}

impl Queues {
    pub(crate) fn new() -> Self {
        let root = Queue::new(QueueSpec::named(""), ROOT, Said::default());
        Self {
            all: vec![Some(root)],
            by_name: BTreeMap::new(),
            found: HashMap::default(),
            dirty: Vec::new(),
            touched: Vec::new(),
            unpaid: BTreeSet::new(),
            gated: 0,
            moved: BTreeSet::new(),
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<QueueIndex> {
        self.found.get(name).copied()
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

    /// The siblings at or above two queues by which their shares are compared; `None` if one is at or above the other.
    pub(crate) fn sides(&self, left: QueueIndex, right: QueueIndex) -> Option<(QueueIndex, QueueIndex)> {
        let mut at = left;
        while at != ROOT {
            let parent = self.get(at).parent;
            if let Some(other) = self.chain(right).find(|index| self.get(*index).parent == parent) {
                return (other != at).then_some((at, other));
            }
            at = parent;
        }
        None
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
        let says = |index: &QueueIndex| !self.get(*index).spec.tiers.is_empty() || self.get(*index).spec.prefers.is_some();
        self.chain(queue).find(says).unwrap_or(ROOT)
    }

    pub(crate) fn tiers(&self, queue: QueueIndex) -> &[Tier] {
        &self.get(self.tiers_said_by(queue)).spec.tiers
    }

    /// The queue that has the tiers that count for this one; the root, which has none, where no queue has some.
    pub(crate) fn tiers_said_by(&self, queue: QueueIndex) -> QueueIndex {
        self.chain(queue).find(|index| !self.get(*index).spec.tiers.is_empty()).unwrap_or(ROOT)
    }

    /// Which places come first for its jobs.
    pub(crate) fn prefers(&self, queue: QueueIndex) -> Prefers {
        self.chain(queue).find_map(|index| self.get(index).spec.prefers).unwrap_or(Prefers::Cheapest)
    }

    /// Makes or changes a queue. Usage below it moves with it to another parent.
    pub(crate) fn upsert(
        &mut self,
        spec: QueueSpec,
        resources: &mut ResourceTable,
        everything: &Vector,
    ) -> Result<QueueIndex, Refused> {
        let parent = self.check(&spec)?;
        let amounts = Said::of(&spec, resources);
        let Some(index) = self.find(&spec.name) else {
            let index = self.all.len();
            self.by_name.insert(spec.name.clone(), index);
            self.found.insert(spec.name.clone(), index);
            self.all.push(Some(Queue::new(spec, parent, amounts)));
            self.get_mut(parent).children.push(index);
            self.get_mut(index).set_guaranteed(everything);
            self.seat(parent);
            self.count_waiting();
            return Ok(index);
        };
        let old_parent = self.get(index).parent;
        if old_parent != parent {
            let usage = self.get(index).usage.clone();
            self.charge(old_parent, &usage, Charge::Back);
            self.charge(parent, &usage, Charge::Add);
            self.get_mut(old_parent).children.retain(|child| *child != index);
            self.get_mut(parent).children.push(index);
        }
        let queue = self.get_mut(index);
        let unit = |budget: &Budget| budget.unit;
        if !queue.spec.budgets.iter().map(unit).eq(spec.budgets.iter().map(unit)) {
            queue.counted = vec![0; spec.budgets.len()];
        }
        queue.spec = spec;
        queue.parent = parent;
        (queue.limits, queue.guarantee, queue.reserve) = (amounts.limits, amounts.guarantee, amounts.reserve);
        queue.set_guaranteed(everything);
        if old_parent != parent {
            self.seat(old_parent);
            self.seat(parent);
        }
        self.count_waiting();
        self.mark(index);
        Ok(index)
    }

    fn check(&self, spec: &QueueSpec) -> Result<QueueIndex, Refused> {
        if spec.name.is_empty() {
            return Err(Refused::new("name", "must not be empty"));
        }
        if spec.weight == 0 {
            return Err(Refused::new("weight", "must be at least 1"));
        }
        if spec.min_runtime_ms < 0 {
            return Err(Refused::new("min_runtime_ms", "must not be negative"));
        }
        if let Some((name, _)) = spec.guarantee.iter().find(|(_, amount)| *amount < 0) {
            return Err(Refused::new(format!("guarantee[{name}]"), "must not be negative"));
        }
        if let Some(at) = spec.budgets.iter().position(|budget| budget.amount < 0) {
            return Err(Refused::new(format!("budgets[{at}].amount"), "must not be negative"));
        }
        for (field, limits) in
            [("capability", &spec.capability), ("borrowing_limit", &spec.borrowing_limit), ("lending_limit", &spec.lending_limit)]
        {
            if let Some((name, _)) = limits.iter().find(|(_, limit)| **limit < 0) {
                return Err(Refused::new(format!("{field}[{name}]"), "must not be negative"));
            }
        }
        demand::check(spec)?;
        let beyond = spec.capability.iter().find(|(name, limit)| spec.guarantee.get(name) > **limit);
        if let Some((name, _)) = beyond {
            return Err(Refused::new(format!("guarantee[{name}]"), "is more than the capability"));
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
        Ok(parent)
    }

    fn height(&self, index: QueueIndex) -> usize {
        1 + self.get(index).children.iter().map(|child| self.height(*child)).max().unwrap_or(0)
    }

    /// Gives the children of a queue their places, in name order.
    fn seat(&mut self, parent: QueueIndex) {
        let mut children = self.get(parent).children.clone();
        children.sort_by(|left, right| self.get(*left).spec.name.cmp(&self.get(*right).spec.name));
        for (place, child) in children.iter().enumerate() {
            self.get_mut(*child).place = place;
            self.mark(*child);
        }
        let queue = self.get_mut(parent);
        queue.ranking = Ranking::new(children.len());
        queue.changes = Changes::new(children.len());
        queue.bounds = Bounds::default();
        queue.blocked = Blocked::default();
        queue.children = children;
        self.mark(parent);
        self.show_children(parent);
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
        self.get_mut(parent).children.retain(|child| *child != index);
        self.by_name.remove(name);
        self.found.remove(name);
        self.dirty.retain(|marked| *marked != index);
        self.all[index] = None;
        self.seat(parent);
        self.count_waiting();
        Ok(())
    }
}

/// Which way a charge goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Charge {
    Add,
    Back,
}

impl Charge {
    /// What is added.
    fn signed(self, amount: &Vector) -> Vector {
        match self {
            Self::Add => amount.clone(),
            Self::Back => {
                let mut none = Vector::default();
                none.sub(amount);
                none
            }
        }
    }
}

impl Queue {
    fn new(spec: QueueSpec, parent: QueueIndex, amounts: Said) -> Self {
        let Said { limits, guarantee, reserve } = amounts;
        let counted = vec![0; spec.budgets.len()];
        Self {
            spec,
            parent,
            children: Vec::new(),
            place: 0,
            limits,
            guarantee,
            reserve,
            guaranteed: Vec::new(),
            counted,
            usage: Vector::default(),
            kept: Vector::default(),
            lately: None,
            demand: Demand::default(),
            gate: None,
            sections: BTreeMap::new(),
            sections_held: 0,
            order: BTreeSet::new(),
            heads: Heads::default(),
            holds: BTreeSet::new(),
            ranking: Ranking::new(0),
            asked: Asked::new(0),
            changes: Changes::new(0),
            bounds: Bounds::default(),
            offer: Memo::default(),
            blocked: Blocked::default(),
            dirty: false,
            touched: false,
            started: BTreeMap::new(),
            jobs: 0,
        }
    }
}
