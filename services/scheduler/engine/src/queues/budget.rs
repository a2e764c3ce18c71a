//! What queues may spend. A gang counts in the budgets of its queue and of those above from its decision on, with what it is expected to
//! take; what really counts is told by the caller, who knows the time that a budget is for.

use super::{Limit, Queue, QueueIndex, Queues, ROOT};
use crate::spec::{Budget, BudgetLimit, BudgetUnit};

/// Budgets are limits like those of resources, numbered from here.
const FIRST: usize = 1 << 32;
/// The weight of a queue beyond a soft budget is divided by this.
const SOFT_WEIGHT: f64 = 1_000.0;
/// Milliseconds of an hour, for which prices are.
const HOUR_MS: i128 = 3_600_000;

/// What a gang counts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    gpu_ms: i64,
    micros: i64,
}

impl Work {
    /// GPUs × milliseconds at a price of a GPU-hour in millionths; the money is rounded up.
    pub(crate) fn new(gpu_ms: i64, price: Option<i64>) -> Self {
        let micros = (i128::from(gpu_ms) * i128::from(price.unwrap_or(0)) + HOUR_MS - 1) / HOUR_MS;
        Self { gpu_ms, micros: i64::try_from(micros).unwrap_or(i64::MAX) }
    }

    /// With what moving a dataset costs, once.
    pub(crate) fn with_egress(self, micros: Option<i64>) -> Self {
        Self { micros: self.micros.saturating_add(micros.unwrap_or(0)), ..self }
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        let (gpu_ms, micros) = (self.gpu_ms.saturating_add(other.gpu_ms), self.micros.saturating_add(other.micros));
        Self { gpu_ms, micros }
    }

    pub(crate) fn of(self, unit: BudgetUnit) -> i64 {
        match unit {
            BudgetUnit::GpuMs => self.gpu_ms,
            BudgetUnit::Micros => self.micros,
        }
    }
}

/// Whether a limit is a budget. Lanes of one section ask for equal amounts of resources, but not of budgets.
pub(super) fn is_budget((_, number, _): Limit) -> bool {
    number >= FIRST
}

/// Whether a limit is a budget of money, which another place may keep within.
pub(crate) fn is_of_money(queues: &Queues, (queue, number, _): Limit) -> bool {
    let budget = number.checked_sub(FIRST).and_then(|number| queues.get(queue).spec.budgets.get(number));
    budget.is_some_and(|budget| budget.unit == BudgetUnit::Micros)
}

impl Queue {
    /// Its budgets with what counts in each.
    pub(crate) fn budgets(&self) -> impl Iterator<Item = (&Budget, i64)> {
        self.spec.budgets.iter().zip(self.counted.iter().copied())
    }

    /// The hard budgets that a gang would exceed: (number, budget, what counts, what the gang counts with).
    pub(crate) fn unaffordable(&self, work: Work) -> impl Iterator<Item = (usize, &Budget, i64, i64)> {
        self.budgets().enumerate().filter_map(move |(number, (budget, counted))| {
            let asked = work.of(budget.unit);
            let beyond = budget.limit == BudgetLimit::Hard && asked > 0 && counted.saturating_add(asked) > budget.amount;
            beyond.then_some((number, budget, counted, asked))
        })
    }

    /// The first of them, as a limit.
    pub(super) fn budget_limit(&self, index: QueueIndex, work: Work) -> Option<Limit> {
        self.unaffordable(work).next().map(|(number, _, _, asked)| (index, FIRST + number, asked))
    }

    /// What is left of its budgets, by the number of the limit.
    pub(super) fn budgets_left(&self) -> impl Iterator<Item = (usize, i64)> {
        self.budgets().enumerate().map(|(number, (budget, counted))| (FIRST + number, budget.amount.saturating_sub(counted)))
    }

    /// What its weight is divided by.
    pub(super) fn handicap(&self) -> f64 {
        let beyond = self.budgets().any(|(budget, counted)| budget.limit == BudgetLimit::Soft && counted >= budget.amount);
        if beyond { SOFT_WEIGHT } else { 1.0 }
    }
}

impl Queues {
    /// Counts a gang that is placed.
    pub(crate) fn count(&mut self, queue: QueueIndex, work: Work) {
        let mut at = queue;
        while at != ROOT {
            let entry = self.get_mut(at);
            for (budget, counted) in entry.spec.budgets.iter().zip(&mut entry.counted) {
                *counted = counted.saturating_add(work.of(budget.unit));
            }
            at = entry.parent;
        }
    }
}
