//! Budgets: what may start, what waits, who is asked first, and a random life in which no hard budget is ever exceeded by a decision.

use std::collections::BTreeMap;

use crate::world::{Dice, cluster, engine, job, placed, plan, queue, submit, tier};
use muster_scheduler_engine::{
    Budget, BudgetLimit, BudgetUnit, Engine, Event, Explanation, Hold, JobId, Placement, QueueSpec, Reason, RunEnd, Standing,
    TierOpens, Time,
};

const HOUR_MS: i64 = 3_600_000;

fn gpu_hours(amount: i64, limit: BudgetLimit) -> Budget {
    Budget { unit: BudgetUnit::GpuMs, amount: amount * HOUR_MS, limit }
}

fn money(micros: i64) -> Budget {
    Budget { unit: BudgetUnit::Micros, amount: micros, limit: BudgetLimit::Hard }
}

fn with(budgets: Vec<Budget>, spec: QueueSpec) -> QueueSpec {
    QueueSpec { budgets, ..spec }
}

fn counted(engine: &mut Engine, queue: &str, counted: Vec<i64>) {
    engine.apply(Event::Counted { queue: queue.to_owned(), counted }).expect("a queue with so many budgets");
}

#[test]
fn nothing_starts_with_which_more_than_a_hard_budget_would_count() {
    let spec = with(vec![gpu_hours(10, BudgetLimit::Hard)], queue("a", 1));
    let mut engine = engine(vec![cluster("idc", 4, "V100", 1)], vec![spec]);
    for id in 1..=3 {
        submit(&mut engine, job(id, "a", 1, 4));
    }
    // Nothing is known of how long they take: an hour each. 4 + 4 GPU-hours count, the third would make them 12.
    assert_eq!(placed(&plan(&mut engine)), [(1, "idc"), (2, "idc")]);
    let explanation = engine.explain(JobId(3)).expect("it waits");
    let [Hold::Budget { queue, counted: count, asked, .. }] = explanation.holds.as_slice() else {
        panic!("the budget is the only hold: {:?}", explanation.holds)
    };
    assert_eq!((queue.as_str(), *count, *asked), ("a", 8 * HOUR_MS, 4 * HOUR_MS));
    // They have really taken less, or it was long ago.
    counted(&mut engine, "a", vec![6 * HOUR_MS]);
    assert_eq!(placed(&plan(&mut engine)), [(3, "idc")]);
}

#[test]
fn a_budget_of_the_queue_above_counts_for_all_below_it() {
    let below = |name: &str| QueueSpec { parent: Some("lab".to_owned()), ..queue(name, 1) };
    let lab = with(vec![gpu_hours(8, BudgetLimit::Hard)], queue("lab", 1));
    let mut engine = engine(vec![cluster("idc", 4, "V100", 1)], vec![lab, below("a"), below("b")]);
    submit(&mut engine, job(1, "a", 1, 8));
    submit(&mut engine, job(2, "b", 1, 1));
    submit(&mut engine, job(3, "b", 1, 0));
    assert_eq!(placed(&plan(&mut engine)), [(2, "idc"), (3, "idc")], "what has no GPUs does not count");
    counted(&mut engine, "lab", vec![0]);
    assert_eq!(placed(&plan(&mut engine)), [(1, "idc")]);
}

#[test]
fn what_is_too_dear_now_starts_where_it_is_cheap_later() {
    let tiers = vec![tier(&["idc"], TierOpens::WhenFull), tier(&["cloud"], TierOpens::WhenFull)];
    let spec = with(vec![money(20)], QueueSpec { tiers, ..queue("a", 1) });
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1), cluster("cloud", 1, "A100", 9)], vec![spec]);
    submit(&mut engine, job(1, "a", 1, 8));
    submit(&mut engine, job(2, "a", 1, 8));
    let first = plan(&mut engine);
    assert_eq!(placed(&first), [(1, "idc")], "8 counts; 72 more in the cloud would be too much");
    engine.apply(Event::Ended { job: JobId(1), epoch: first[0].epoch, end: RunEnd::Finished }).expect("it ran");
    assert_eq!(placed(&plan(&mut engine)), [(2, "idc")], "8 and 8");
}

#[test]
fn a_queue_beyond_its_soft_budget_is_asked_after_the_others() {
    let spec = with(vec![gpu_hours(1, BudgetLimit::Soft)], queue("a", 4));
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1)], vec![spec, queue("b", 1)]);
    counted(&mut engine, "a", vec![HOUR_MS]);
    for id in 1..=3 {
        submit(&mut engine, job(id, "a", 1, 2));
        submit(&mut engine, job(10 + id, "b", 1, 2));
    }
    assert_eq!(placed(&plan(&mut engine)), [(11, "idc"), (12, "idc"), (13, "idc"), (1, "idc")]);
}

#[test]
fn runs_are_not_ended_for_a_gang_that_the_budget_does_not_allow() {
    let spec = with(vec![gpu_hours(4, BudgetLimit::Hard)], queue("a", 1));
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1)], vec![spec]);
    submit(&mut engine, job(1, "a", 1, 4));
    let first = plan(&mut engine);
    engine.apply(Event::Started { job: JobId(1), epoch: first[0].epoch, at: Time(0) }).expect("it was placed");
    let mut urgent = job(2, "a", 1, 8);
    urgent.priority = 100;
    submit(&mut engine, urgent);
    engine.apply(Event::Time(Time(HOUR_MS))).expect("time");
    assert_eq!(engine.plan(), [], "8 more GPU-hours are too much, whoever makes room");
}

/// What the test itself adds up.
struct Ledger {
    budgets: BTreeMap<&'static str, Vec<Budget>>,
    counted: BTreeMap<&'static str, Vec<i64>>,
    runs: BTreeMap<JobId, (&'static str, Placement, i64)>,
}

impl Ledger {
    fn chain(queue: &'static str) -> Vec<&'static str> {
        if queue == "c" { vec!["c"] } else { vec![queue, "lab"] }
    }

    fn take(&mut self, queue: &'static str, gpus: i64, placement: Placement) {
        let gpu_ms = placement.counted_ms * gpus;
        for name in Self::chain(queue) {
            for (budget, counted) in self.budgets[name].iter().zip(self.counted.get_mut(name).unwrap()) {
                let asked = match budget.unit {
                    BudgetUnit::GpuMs => gpu_ms,
                    BudgetUnit::Micros => {
                        let exact = i128::from(gpu_ms) * i128::from(placement.price_micros.unwrap_or(0));
                        (exact.div_euclid(i128::from(HOUR_MS)) + i128::from(exact % i128::from(HOUR_MS) > 0)) as i64
                    }
                };
                *counted += asked;
                let hard = budget.limit == BudgetLimit::Hard && asked > 0;
                assert!(!hard || *counted <= budget.amount, "{name}: {counted} of {} by {placement:?}", budget.amount);
            }
        }
        self.runs.insert(placement.job, (queue, placement, gpus));
    }
}

#[test]
fn in_a_random_life_no_decision_exceeds_a_hard_budget_and_what_is_allowed_does_not_wait() {
    for seed in 0..12 {
        let mut dice = Dice(seed);
        let budgets = BTreeMap::from([
            ("lab", vec![gpu_hours(30, BudgetLimit::Hard), gpu_hours(10, BudgetLimit::Soft)]),
            ("a", vec![money(60)]),
            ("b", vec![gpu_hours(16, BudgetLimit::Soft)]),
            ("c", vec![money(150), gpu_hours(24, BudgetLimit::Hard)]),
        ]);
        let of = |name: &str, parent: Option<&str>| {
            with(budgets[name].clone(), QueueSpec { parent: parent.map(str::to_owned), ..queue(name, 1) })
        };
        let clusters = vec![cluster("idc", 2, "V100", 1), cluster("cloud", 2, "A100", 4)];
        let mut engine = engine(clusters, vec![of("lab", None), of("a", Some("lab")), of("b", Some("lab")), of("c", None)]);
        let mut ledger = Ledger {
            counted: budgets.iter().map(|(name, budgets)| (*name, vec![0; budgets.len()])).collect(),
            budgets,
            runs: BTreeMap::new(),
        };
        let mut waiting: BTreeMap<JobId, (&'static str, i64)> = BTreeMap::new();
        for step in 1..=600 {
            match dice.roll(5) {
                0 | 1 => {
                    let queue = ["a", "b", "c"][dice.roll(3) as usize];
                    let (workers, each) = (1 + dice.roll(3), dice.roll(5) as i64);
                    let mut spec = job(step, queue, workers as u32, each);
                    spec.priority = dice.roll(2) as i32;
                    spec.submitted_at = engine.now();
                    if dice.roll(2) == 0 {
                        spec.gang.restart_ms = Some(0);
                    }
                    waiting.insert(spec.id, (queue, workers as i64 * each));
                    submit(&mut engine, spec);
                }
                2 => {
                    let runs: Vec<JobId> = ledger.runs.keys().copied().collect();
                    let Some(id) = dice.pick(&runs).copied() else { continue };
                    let (queue, placement, gpus) = ledger.runs.remove(&id).unwrap();
                    let again = dice.roll(3) == 0;
                    let end = if again { RunEnd::Retry { not_before: Time(0) } } else { RunEnd::Finished };
                    engine.apply(Event::Ended { job: id, epoch: placement.epoch, end }).expect("it ran");
                    if again {
                        waiting.insert(id, (queue, gpus));
                    }
                }
                3 => {
                    let now = Time(engine.now().0 + dice.roll(HOUR_MS as u64) as i64);
                    engine.apply(Event::Time(now)).expect("time");
                    for (id, (_, placement, _)) in &ledger.runs {
                        let started = Event::Started { job: *id, epoch: placement.epoch, at: now };
                        engine.apply(started).expect("it was placed");
                    }
                }
                _ => {
                    // A window moved on, or runs took longer than was thought.
                    let name = ["lab", "a", "b", "c"][dice.roll(4) as usize];
                    let amounts = ledger.counted.get_mut(name).unwrap();
                    for amount in amounts.iter_mut() {
                        *amount = *amount * dice.roll(13) as i64 / 10;
                    }
                    counted(&mut engine, name, amounts.clone());
                }
            }
            if dice.roll(10) == 0 {
                engine = Engine::restore(engine.rows(), engine.now()).expect("an engine's own rows");
            }
            for placement in plan(&mut engine) {
                let (queue, gpus) = waiting.remove(&placement.job).expect("it waited");
                ledger.take(queue, gpus, placement);
            }
            let second = engine.plan();
            assert!(second.is_empty(), "seed {seed}, step {step}: a second plan is {second:?}");
            // Of gangs of one shape the next one of their queue is not passed.
            let of: BTreeMap<JobId, Explanation> =
                waiting.keys().map(|id| (*id, engine.explain(*id).expect("it waits"))).collect();
            let shape = |id: &JobId| {
                let spec = engine.job(*id).expect("it waits").spec;
                (spec.queue, spec.gang)
            };
            let held = |explanation: &Explanation| matches!(explanation.holds.first(), Some(Hold::Budget { .. }));
            for (id, explanation) in &of {
                let reasons = || explanation.clusters.iter().map(|verdict| &verdict.reason);
                // At the cheapest place there may be no room, and at the other it may be too dear.
                let everywhere = reasons().all(|reason| *reason == Reason::Room);
                let free = everywhere && explanation.holds.is_empty() && explanation.standing == Standing::Waiting;
                let behind = || {
                    of.iter().any(|(other, known)| held(known) && known.ahead < explanation.ahead && shape(other) == shape(id))
                };
                assert!(!free || behind(), "seed {seed}, step {step}: job {} waits for nothing: {explanation:?}", id.0);
            }
        }
        assert!(ledger.runs.len() + waiting.len() > 50, "much has happened");
    }
}
