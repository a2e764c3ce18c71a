//! What a queue may use: its capability and what it may borrow, and what the queues beside it lend.
//!
//! What a queue is guaranteed and does not lend is its *reserve*. A queue *takes* of its parent what is used in it, and at least its
//! reserve. Whatever is limited is what is taken: a queue may use its own reserve whatever others do, and beyond it only what leaves
//! theirs alone. Above all queues stands everything that there is. This is how Kueue counts in a cohort: what a member is
//! guaranteed and does not lend never reaches the cohort.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::{Charge, Limit, Queue, QueueIndex, Queues, ROOT, Work};
use crate::spec::QueueSpec;
use crate::vector::{ResourceTable, Vector};

/// How much of a resource must be left for a section whose gangs may need less of it by then: they are tried again whenever
/// something is given back.
const ANY: i64 = i64::MIN;

/// What a queue's spec says of amounts.
#[derive(Default)]
pub(super) struct Said {
    pub(super) limits: Vec<(usize, i64)>,
    pub(super) guarantee: Vector,
    pub(super) reserve: Vector,
}

impl Said {
    pub(super) fn of(spec: &QueueSpec, resources: &mut ResourceTable) -> Self {
        let guarantee = resources.intern(&spec.guarantee);
        let mut limits = resources.intern_all(named(&spec.capability));
        for (resource, most) in resources.intern_all(named(&spec.borrowing_limit)) {
            limits.push((resource, guarantee.get(resource).saturating_add(most)));
        }
        let mut reserve = Vector::default();
        for (resource, lent) in resources.intern_all(named(&spec.lending_limit)) {
            reserve.put(resource, guarantee.get(resource).saturating_sub(lent).max(0));
        }
        Self { limits, guarantee, reserve }
    }
}

fn named(limits: &BTreeMap<String, i64>) -> impl Iterator<Item = (&str, i64)> {
    limits.iter().map(|(name, limit)| (name.as_str(), *limit))
}

/// A limit that a gang would exceed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Excess {
    pub(crate) resource: usize,
    pub(crate) limit: i64,
    /// What is used, and what is kept for queues below that do not use it.
    pub(crate) used: i64,
    pub(crate) kept: i64,
    /// What the gang would take here.
    pub(crate) asked: i64,
}

impl Excess {
    /// What is beyond the limit.
    pub(crate) fn beyond(&self) -> i64 {
        self.used.saturating_add(self.kept).saturating_add(self.asked).saturating_sub(self.limit)
    }
}

/// What more is taken of a queue's parent once so much more is taken in the queue, of which `taken` is taken now.
fn passed_on(taken: impl Fn(usize) -> i64, reserve: &Vector, amount: &Vector) -> Vector {
    let mut passed = amount.clone();
    for (resource, more) in amount.iter() {
        let (now, reserve) = (taken(resource), reserve.get(resource));
        passed.put(resource, now.saturating_add(more).max(reserve) - now.max(reserve));
    }
    passed
}

impl Queue {
    /// What is taken of it: what is used, and what queues below it keep.
    fn taken(&self, resource: usize) -> i64 {
        self.usage.get(resource).saturating_add(self.kept.get(resource))
    }

    fn passed_on(&self, amount: &Vector) -> Vector {
        passed_on(|resource| self.taken(resource), &self.reserve, amount)
    }

    /// What it keeps of its own reserve without using it.
    pub(crate) fn unused_reserve(&self, resource: usize) -> i64 {
        self.reserve.get(resource).saturating_sub(self.taken(resource)).max(0)
    }
}

impl Queues {
    /// Whether some queue lends less than it is guaranteed.
    pub(crate) fn reserve(&self) -> bool {
        !self.get(ROOT).limits.is_empty()
    }

    /// The nearest queue of which more would be taken than it may use, among the resources that are asked for, or whose hard budget
    /// the work would exceed, which is asked for only where there is one.
    pub(crate) fn limit(&self, queue: QueueIndex, amount: &Vector, work: impl Fn() -> Work) -> Option<Limit> {
        let (mut at, mut amount, mut least) = (queue, Cow::Borrowed(amount), None);
        loop {
            let queue = self.get(at);
            if !queue.spec.budgets.is_empty()
                && let Some(limit) = queue.budget_limit(at, work())
            {
                return Some(limit);
            }
            for (resource, limit) in &queue.limits {
                let asked = amount.get(*resource);
                if asked > 0 && queue.taken(*resource).saturating_add(asked) > *limit {
                    return Some((at, *resource, least.unwrap_or(asked)));
                }
            }
            if at == ROOT {
                return None;
            }
            if self.reserve() {
                amount = Cow::Owned(queue.passed_on(&amount));
                least = Some(ANY);
            }
            at = queue.parent;
        }
    }

    /// What is left of a limit.
    pub(crate) fn left(&self, queue: QueueIndex, resource: usize) -> i64 {
        let queue = self.get(queue);
        let limit = queue.limits.iter().find(|(limited, _)| *limited == resource).map_or(i64::MAX, |(_, limit)| *limit);
        limit.saturating_sub(queue.taken(resource))
    }

    /// What is left of each of a queue's limits and budgets.
    pub(crate) fn all_left(&self, queue: QueueIndex) -> Vec<(usize, i64)> {
        let entry = self.get(queue);
        let limits = entry.limits.iter().map(|(resource, _)| (*resource, self.left(queue, *resource)));
        limits.chain(entry.budgets_left()).collect()
    }

    /// What a gang of a queue would exceed of the limits of this one, which is the queue itself or above it.
    pub(crate) fn excess(&self, of: QueueIndex, queue: QueueIndex, amount: &Vector) -> Vec<Excess> {
        let mut amount = Cow::Borrowed(amount);
        if self.reserve() {
            for below in self.chain(of).take_while(|below| *below != queue) {
                amount = Cow::Owned(self.get(below).passed_on(&amount));
            }
        }
        let entry = self.get(queue);
        let excess = entry.limits.iter().map(|(resource, limit)| Excess {
            resource: *resource,
            limit: *limit,
            used: entry.usage.get(*resource),
            kept: entry.kept.get(*resource),
            asked: amount.get(*resource),
        });
        excess.filter(|excess| excess.asked > 0 && excess.beyond() > 0).collect()
    }

    /// What a queue is guaranteed.
    pub(crate) fn guarantee(&self, queue: QueueIndex) -> &Vector {
        &self.get(queue).guarantee
    }

    /// The queues below this one that keep some of a resource without using it.
    pub(crate) fn keepers(&self, queue: QueueIndex, resource: usize) -> BTreeSet<String> {
        let below = self.subtree(queue).into_iter().skip(1).map(|index| self.get(index));
        below.filter(|queue| queue.unused_reserve(resource) > 0).map(|queue| queue.spec.name.clone()).collect()
    }

    /// Adds usage to a queue and those above it, or takes it back.
    pub(crate) fn charge(&mut self, queue: QueueIndex, amount: &Vector, charge: Charge) {
        if self.reserve() {
            self.charge_kept(queue, amount, charge);
        }
        let mut at = queue;
        loop {
            let entry = self.get_mut(at);
            match charge {
                Charge::Add => entry.usage.add(amount),
                Charge::Back => entry.usage.sub(amount),
            }
            if at == ROOT {
                break;
            }
            at = entry.parent;
        }
        self.mark(queue);
    }

    /// What is kept above a queue changes with what is used in it.
    fn charge_kept(&mut self, queue: QueueIndex, amount: &Vector, charge: Charge) {
        let amount = charge.signed(amount);
        let (mut at, mut change) = (queue, amount.clone());
        while at != ROOT {
            let entry = self.get(at);
            let (passed, parent) = (entry.passed_on(&change), entry.parent);
            if at != queue {
                change.sub(&amount);
                self.get_mut(at).kept.add(&change);
            }
            (at, change) = (parent, passed);
        }
        change.sub(&amount);
        self.get_mut(ROOT).kept.add(&change);
    }

    /// Computes what queues keep, and what may be taken in all, after a change of the tree or of what there is. Whether somebody keeps
    /// something, or did.
    pub(crate) fn count_kept(&mut self, everything: &Vector) -> bool {
        let mut named: Vec<usize> =
            self.iter().flat_map(|(_, queue)| queue.reserve.iter().map(|(resource, _)| resource)).collect();
        named.sort_unstable();
        named.dedup();
        let had = self.reserve();
        self.get_mut(ROOT).limits = named.into_iter().map(|resource| (resource, everything.get(resource))).collect();
        let some = had || self.reserve();
        if some {
            self.count_kept_in(ROOT);
        }
        some
    }

    fn count_kept_in(&mut self, queue: QueueIndex) {
        let mut kept = Vector::default();
        for child in self.get(queue).children.clone() {
            self.count_kept_in(child);
            let child = self.get(child);
            kept.add(&child.kept);
            for (resource, _) in child.reserve.iter() {
                kept.put(resource, kept.get(resource).saturating_add(child.unused_reserve(resource)));
            }
        }
        self.get_mut(queue).kept = kept;
    }

    /// What may be used once runs among the children of a queue end for a gang.
    pub(crate) fn rights(&self, queue: QueueIndex, total: &Vector, among: QueueIndex) -> Rights {
        let counts = if self.reserve() {
            let account = |queue: &Queue| Account {
                parent: queue.parent,
                limits: queue.limits.clone(),
                reserve: queue.reserve.clone(),
                taken: {
                    let mut taken = queue.usage.clone();
                    taken.add(&queue.kept);
                    taken
                },
            };
            Counts::Exactly { queue, accounts: self.all.iter().map(|entry| entry.as_ref().map(account)).collect() }
        } else {
            let limits =
                |index| self.get(index).limits.iter().map(move |(resource, _)| (index, *resource, self.left(index, *resource)));
            let left: Vec<_> = self.chain(queue).flat_map(limits).collect();
            // From `among` upwards what is freed counts; for the root that is nowhere, and nothing is limited there.
            let from = left.iter().position(|(index, ..)| *index == among).unwrap_or(left.len());
            let left = left.into_iter().enumerate().map(|(at, (_, resource, left))| (resource, left, at >= from)).collect();
            Counts::InSum { left, freed: Vector::default() }
        };
        Rights { total: total.clone(), counts }
    }
}

/// Whether a gang may have what it needs by its queue's limits and those of the queues above, while runs are thought to end for it.
#[derive(Clone, Debug)]
pub(crate) struct Rights {
    total: Vector,
    counts: Counts,
}

#[derive(Clone, Debug)]
enum Counts {
    /// Where every queue lends everything: (resource, what is left of it in a queue, whether what ends was used there).
    InSum { left: Vec<(usize, i64, bool)>, freed: Vector },
    /// What ends may belong to a reserve, which nobody else gets.
    Exactly { queue: QueueIndex, accounts: Vec<Option<Account>> },
}

/// A queue in thought.
#[derive(Clone, Debug)]
struct Account {
    parent: QueueIndex,
    limits: Vec<(usize, i64)>,
    reserve: Vector,
    taken: Vector,
}

impl Account {
    fn passed_on(&self, amount: &Vector) -> Vector {
        passed_on(|resource| self.taken.get(resource), &self.reserve, amount)
    }
}

impl Rights {
    /// A run of a queue ends, or goes on after all.
    pub(crate) fn change(&mut self, queue: QueueIndex, amount: &Vector, charge: Charge) {
        match (&mut self.counts, charge) {
            (Counts::InSum { freed, .. }, Charge::Back) => freed.add(amount),
            (Counts::InSum { freed, .. }, Charge::Add) => freed.sub(amount),
            (Counts::Exactly { accounts, .. }, _) => {
                let (mut at, mut change) = (queue, charge.signed(amount));
                while let Some(account) = &mut accounts[at] {
                    let passed = account.passed_on(&change);
                    account.taken.add(&change);
                    if at == ROOT {
                        break;
                    }
                    (at, change) = (account.parent, passed);
                }
            }
        }
    }

    /// Whether the gang may have it.
    pub(crate) fn allow(&self) -> bool {
        match &self.counts {
            Counts::InSum { left, freed } => left.iter().all(|(resource, left, among)| {
                let asked = self.total.get(*resource);
                let freed = if *among { freed.get(*resource) } else { 0 };
                asked == 0 || asked <= left.saturating_add(freed)
            }),
            Counts::Exactly { queue, accounts } => {
                let (mut at, mut asked) = (*queue, self.total.clone());
                while let Some(account) = &accounts[at] {
                    let fits = |(resource, limit): &(usize, i64)| {
                        asked.get(*resource) <= 0 || account.taken.get(*resource).saturating_add(asked.get(*resource)) <= *limit
                    };
                    if !account.limits.iter().all(fits) {
                        return false;
                    }
                    if at == ROOT {
                        break;
                    }
                    (at, asked) = (account.parent, account.passed_on(&asked));
                }
                true
            }
        }
    }
}
