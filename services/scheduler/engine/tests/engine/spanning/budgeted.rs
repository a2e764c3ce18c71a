//! A random life in which money is short: no split exceeds a hard budget, whoever may be split over what it can pay does not wait, and
//! what becomes free or is taken, at whatever price, is noticed as a new engine would notice it.

use std::collections::BTreeMap;

use super::*;
use crate::world::Dice;
use muster_scheduler_engine::Epoch;

const HOUR_MS: i64 = 3_600_000;

/// What a placement counts with: each part rounded up.
fn cost(placement: &Placement) -> i64 {
    let of = |gpus: i64, price: Option<i64>, egress: i64| {
        let exact = i128::from(placement.counted_ms) * i128::from(gpus) * i128::from(price.unwrap_or(0));
        i64::try_from((exact + i128::from(HOUR_MS) - 1) / i128::from(HOUR_MS)).unwrap() + egress
    };
    let first = of(placement.gpus, placement.price_micros, placement.egress_micros);
    placement.elsewhere.iter().fold(first, |sum, part| sum + of(part.gpus, part.price_micros, part.egress_micros))
}

#[test]
fn no_split_exceeds_a_budget_and_no_price_that_can_be_paid_is_overlooked() {
    let mut split = 0;
    for seed in 0..20 {
        let mut dice = Dice(seed);
        let priced = |name: &str, region: &str, nodes, price| ClusterSpec {
            prices: [("V100".to_owned(), price)].into(),
            ..of(region, name, nodes)
        };
        let clusters = vec![
            priced("a", "eu", 2, 1),
            priced("b", "eu", 3, 4),
            priced("c", "eu", 1, 2),
            priced("d", "us", 2, 3),
            priced("e", "us", 1, 1),
        ];
        let amount = 200;
        let budgets = vec![Budget { unit: BudgetUnit::Micros, amount, limit: BudgetLimit::Hard }];
        let queues = vec![QueueSpec { budgets, ..queue("q", 1) }, queue("free", 1)];
        let mut engine = engine(clusters, queues);
        let (mut counted, mut runs) = (0, BTreeMap::<JobId, Epoch>::new());
        for step in 1..=400 {
            match dice.roll(4) {
                0 => {
                    let mut job = wide(step, ["q", "free"][dice.roll(2) as usize], 1 + dice.roll(4) as u32);
                    if dice.roll(4) == 0 {
                        job.gang.groups.push(WorkerGroup { name: "launcher".to_owned(), replicas: 1, each: amounts(60, 1, 0) });
                    }
                    job.submitted_at = engine.now();
                    submit(&mut engine, job);
                }
                1 | 2 => {
                    let ids: Vec<JobId> = runs.keys().copied().collect();
                    let Some(id) = dice.pick(&ids).copied() else { continue };
                    engine.apply(Event::Ended { job: id, epoch: runs.remove(&id).unwrap(), end: RunEnd::Finished }).unwrap();
                }
                _ => {
                    counted = counted * dice.roll(12) as i64 / 10;
                    engine.apply(Event::Counted { queue: "q".to_owned(), counted: vec![counted] }).unwrap();
                }
            }
            let mut other = Engine::restore(engine.rows(), engine.now()).unwrap();
            let placements = plan(&mut engine);
            assert_eq!(plan(&mut other), placements, "a new engine decides the same (seed {seed}, step {step})");
            for placement in placements {
                if engine.job(placement.job).unwrap().spec.queue == "q" {
                    counted += cost(&placement);
                    assert!(counted <= amount, "{counted} of {amount} by {placement:?}");
                }
                split += u64::from(!placement.elsewhere.is_empty());
                runs.insert(placement.job, placement.epoch);
            }
            assert_eq!(engine.rows().counted["q"], [counted]);
            assert_eq!(engine.plan(), []);
        }
    }
    assert!(split > 100, "{split} were split");
}
