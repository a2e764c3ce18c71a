//! What counts in budgets: summed up from the tables now and then, and told to the engine, which adds what it places meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use muster_kit::{Result, Tx, event};
use muster_scheduler_engine::{Budget, BudgetUnit, Event, show_budget};
use sqlx::PgPool;

use super::mind::{Mind, out_of_step};
use crate::domain::queue::{BudgetDefinition, QueueDefinition};
use crate::events;
use crate::store;

/// Windows move on and runs last longer than was expected: so often everything is summed up anew.
const EVERY: SignedDuration = SignedDuration::from_secs(60);
/// The end of a run gives back what it has not used, after so long at the latest. Until then too much counts, never too little.
const AFTER_AN_END: SignedDuration = SignedDuration::from_secs(1);

/// A budget with what counts in it.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetView {
    /// As written.
    pub definition: BudgetDefinition,
    /// What counts, in its unit.
    pub counted: i64,
    /// Since when.
    pub start: Timestamp,
}

impl BudgetView {
    /// Whether everything is spent.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.counted >= self.definition.budget.amount
    }
}

/// When budgets are to be summed up, and which were spent when they last were.
#[derive(Clone, Debug)]
pub(super) struct Counting {
    counted_at: Timestamp,
    due: Timestamp,
    reached: BTreeSet<(String, usize)>,
    /// Budgets that are spent, of which it is to be seen whether that was told.
    untold: Vec<(String, usize, BudgetView)>,
    /// What queues have used lately, in thousandths of GPUs, as the engine was told.
    pub(super) lately: BTreeMap<String, i64>,
}

impl Counting {
    pub(super) fn due(now: Timestamp) -> Self {
        Self { counted_at: now, due: now, reached: BTreeSet::new(), untold: Vec::new(), lately: BTreeMap::new() }
    }

    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        now >= self.due
    }

    /// A run is over.
    pub(super) fn run_ended(&mut self) {
        self.due = self.due.min(self.counted_at.saturating_add(AFTER_AN_END).unwrap_or(self.due));
    }

    /// Queues are others.
    pub(super) fn now(&mut self) {
        self.due = self.counted_at;
    }
}

impl Mind {
    /// Tells the engine what counts, if that is to be summed up by now.
    pub(super) async fn count_budgets_when_due(&mut self, tx: &mut Tx, now: Timestamp) -> Result<()> {
        if !self.counting.is_due(now) {
            return Ok(());
        }
        let mut reached = BTreeSet::new();
        self.counting.untold.clear();
        let spending: Vec<QueueDefinition> =
            self.definitions.values().filter(|queue| !queue.budgets.is_empty()).cloned().collect();
        for queue in spending {
            let views = sum_up(tx, &queue, &self.definitions, now).await?;
            for (number, view) in views.iter().enumerate().filter(|(_, view)| view.is_reached()) {
                let known = (queue.name.clone(), number);
                if !self.counting.reached.contains(&known) {
                    let BudgetDefinition { budget, window } = &view.definition;
                    let spent = show_budget(budget.unit, view.counted);
                    tracing::warn!(queue.name = queue.name, number, spent, window = %window, "a budget is spent");
                }
                reached.insert(known);
                self.counting.untold.push((queue.name.clone(), number, view.clone()));
            }
            let counted = views.iter().map(|view| view.counted).collect();
            // A queue that the engine holds out is none of its concern.
            if self.engine.usage(&queue.name).is_some() {
                self.engine.apply(Event::Counted { queue: queue.name, counted }).map_err(out_of_step)?;
            }
        }
        let due = now.saturating_add(EVERY).unwrap_or(now);
        (self.counting.counted_at, self.counting.due, self.counting.reached) = (now, due, reached);
        self.tell_used_lately(tx, now).await?;
        Ok(())
    }

    /// Tells everybody of budgets that are spent, of each once in its window; whether there was something to tell. The last thing a
    /// transaction does.
    pub(super) async fn tell_spent_budgets(&mut self, tx: &mut Tx, now: Timestamp) -> Result<bool> {
        let mut told = Vec::new();
        for (queue, number, view) in std::mem::take(&mut self.counting.untold) {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            if store::notice::tell(tx, &queue, number, view.start, now).await? {
                told.push(events::budget_reached(&queue, number, &view, now)?);
            }
        }
        event::append_all(tx, &told).await?;
        Ok(!told.is_empty())
    }
}

/// The budgets of a queue as they stand.
pub(super) async fn view(pool: &PgPool, queue: &QueueDefinition, now: Timestamp) -> Result<Vec<BudgetView>> {
    if queue.budgets.is_empty() {
        return Ok(Vec::new());
    }
    let mut definitions = BTreeMap::new();
    let mut tx = muster_kit::db::begin(pool).await?;
    for (name, manifest) in store::queue::manifests(&mut tx).await? {
        definitions.insert(name, super::queues::read(&manifest)?);
    }
    let views = sum_up(&mut tx, queue, &definitions, now).await?;
    tx.rollback().await?;
    Ok(views)
}

/// Sums up what counts in each budget of a queue, over the queues below it too.
async fn sum_up(
    tx: &mut Tx,
    queue: &QueueDefinition,
    definitions: &BTreeMap<String, QueueDefinition>,
    now: Timestamp,
) -> Result<Vec<BudgetView>> {
    let queues = with_those_below(&queue.name, definitions);
    let mut views = Vec::with_capacity(queue.budgets.len());
    for definition in &queue.budgets {
        let start = definition.window.start(now);
        let counted = in_unit(&definition.budget, store::cost::counted(&mut **tx, &queues, start, now).await?);
        views.push(BudgetView { definition: definition.clone(), counted, start });
    }
    Ok(views)
}

fn in_unit(budget: &Budget, counted: store::cost::Counted) -> i64 {
    match budget.unit {
        BudgetUnit::GpuMs => counted.gpu_ms,
        BudgetUnit::Micros => counted.micros,
    }
}

/// A queue's name and those of all queues below it.
pub(super) fn with_those_below(queue: &str, definitions: &BTreeMap<String, QueueDefinition>) -> Vec<String> {
    let mut names = vec![queue.to_owned()];
    let mut at = 0;
    while at < names.len() {
        let below = definitions.values().filter(|other| other.parent.as_deref() == Some(names[at].as_str()));
        // Manifests that name each other as parents are held out of the engine, and could be stored all the same.
        let below: Vec<String> = below.map(|other| other.name.clone()).filter(|name| !names.contains(name)).collect();
        names.extend(below);
        at += 1;
    }
    names
}
