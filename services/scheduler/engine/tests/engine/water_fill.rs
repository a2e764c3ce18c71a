//! Shares against the water-fill, from both sides: whatever the demand was before, once everybody has had the time to take back
//! what is due, there is one *level* such that nobody who wants more is more than a gang below what is due at it, and
//! nobody more than a gang above. The level is found the slow way, by halving. It is not quite the level of a fill with water,
//! since gangs are not divided: what lies between the two is no more than a gang of each queue in all.
//!
//! In one round all gangs are of one size and their workers of one GPU, so that neither packing nor what is left over of a larger
//! gang hides what the shares are.

use crate::world::{Dice, GPU, cluster, engine, job, queue, submit};
use muster_scheduler_engine::{Amounts, Decision, Engine, Event, JobSpec, JobState, QueueSpec, RunEnd, Time};

const HOUR_MS: i64 = 3_600_000;
const GPUS: i64 = 64;
const LEAVES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Of each queue: name, parent, weight, guarantee, capability.
const TERMS: [(&str, &str, u32, i64, i64); 6] = [
    ("a", "", 1, 0, GPUS),
    ("b", "", 2, 0, 24),
    ("c", "", 1, 16, GPUS),
    ("lab", "", 4, 8, GPUS),
    ("d", "lab", 1, 0, GPUS),
    ("e", "lab", 3, 0, 20),
];

/// What decides what a queue is due, in GPUs.
#[derive(Clone, Debug)]
struct Due {
    name: &'static str,
    weight: f64,
    guarantee: f64,
    /// What it has and asks for, as far as its capability allows.
    asks: f64,
    has: f64,
}

impl Due {
    fn at(&self, level: f64) -> f64 {
        (self.guarantee + self.weight * level).min(self.asks)
    }
}

/// The highest level at which `holds` says yes, if it does below some level and not above.
fn level(holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, GPUS as f64);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if holds(middle) { low = middle } else { high = middle }
    }
    low
}

fn world() -> Engine {
    let spec = |(name, parent, weight, guarantee, capability): (&str, &str, u32, i64, i64)| QueueSpec {
        parent: Some(parent.to_owned()).filter(|parent| !parent.is_empty()),
        guarantee: Amounts::new().with(GPU, guarantee),
        capability: Amounts::new().with(GPU, capability).into(),
        ..queue(name, weight)
    };
    engine(vec![cluster("idc", (GPUS / 8) as u32, "V100", 1)], TERMS.into_iter().map(spec).collect())
}

/// Plans and does what is decided until nothing is.
fn settle(engine: &mut Engine) {
    loop {
        let decisions = engine.plan();
        if decisions.is_empty() {
            return;
        }
        let now = engine.now();
        for decision in decisions {
            let fact = match decision {
                Decision::Place(placement) => Event::Started { job: placement.job, epoch: placement.epoch, at: now },
                Decision::Interrupt(run) => {
                    Event::Ended { job: run.job, epoch: run.epoch, end: RunEnd::Retry { not_before: now } }
                }
                Decision::Resize(resize) => panic!("no gang here is elastic: {resize:?}"),
            };
            engine.apply(fact).unwrap();
        }
    }
}

/// The children of a queue, the root's for "".
fn children(engine: &Engine, parent: &str) -> Vec<Due> {
    let rows = engine.rows().jobs;
    let asks = |leaf: &str, limit: i64| {
        let gangs = rows.iter().filter(|row| row.spec.queue == leaf).map(|row| row.spec.gang.total().unwrap().get(GPU));
        gangs.sum::<i64>().min(limit)
    };
    let of = |name: &'static str, weight: u32, guarantee: i64, limit: i64| {
        let below: Vec<_> = TERMS.iter().filter(|(_, above, ..)| *above == name).collect();
        let asked =
            if below.is_empty() { asks(name, limit) } else { below.iter().map(|(leaf, .., limit)| asks(leaf, *limit)).sum() };
        let has = engine.usage(name).unwrap().get(GPU) as f64;
        Due { name, weight: f64::from(weight), guarantee: guarantee as f64, asks: asked.min(limit) as f64, has }
    };
    let terms = TERMS.iter().filter(|(_, above, ..)| *above == parent);
    terms.map(|(name, _, weight, guarantee, limit)| of(name, *weight, *guarantee, *limit)).collect()
}

/// Holds what the children of one queue have against what they are due.
fn compare(siblings: &[Due], gang: f64, round: &str) {
    let lowest_above = level(|level| siblings.iter().any(|due| due.has - gang > due.at(level)));
    let highest_below = level(|level| siblings.iter().all(|due| due.has + gang >= due.at(level)));
    assert!(lowest_above <= highest_below + 1e-6, "{round}: no level is within a gang of everybody: {siblings:?}");
    for due in siblings {
        let guaranteed = due.guarantee.min(due.asks);
        assert!(due.has + gang > guaranteed, "{round}: {} has not what it is guaranteed: {siblings:?}", due.name);
    }
}

fn play(seed: u64, rounds: u32) {
    let mut engine = world();
    let mut dice = Dice(seed);
    let mut next = 0;
    for round in 0..rounds {
        // All of the last round's gangs are gone after it, some of them in its course: what was lent has to come back.
        let size = 1 + dice.roll(4) as u32;
        for row in engine.rows().jobs {
            let gone = match row.state {
                JobState::Placed { .. } => Event::Ended { job: row.spec.id, epoch: row.epoch, end: RunEnd::Finished },
                JobState::Waiting { .. } | JobState::Suspended => Event::Withdrawn(row.spec.id),
            };
            engine.apply(gone).unwrap();
        }
        for _ in 0..3 {
            for _ in 0..dice.roll(80) / u64::from(size) {
                let name = LEAVES[dice.roll(5) as usize];
                let submitted_at = engine.now();
                submit(&mut engine, JobSpec { submitted_at, ..job(next, name, size, 1) });
                next += 1;
            }
            settle(&mut engine);
            let leaves = LEAVES[dice.roll(5) as usize];
            for row in engine.rows().jobs.into_iter().filter(|row| row.spec.queue == leaves) {
                if let JobState::Placed { .. } = row.state {
                    engine.apply(Event::Ended { job: row.spec.id, epoch: row.epoch, end: RunEnd::Finished }).unwrap();
                }
            }
            settle(&mut engine);
        }
        for _ in 0..4 {
            let later = Time(engine.now().0 + 5 * HOUR_MS);
            engine.apply(Event::Time(later)).unwrap();
            settle(&mut engine);
        }
        let (gang, name) = (f64::from(size), format!("seed {seed}, round {round}, gangs of {size}"));
        let siblings = children(&engine, "");
        let has: f64 = siblings.iter().map(|due| due.has).sum();
        let asks: f64 = siblings.iter().map(|due| due.asks).sum();
        assert!(has + gang > asks.min(GPUS as f64), "{name}: what is asked for is had: {siblings:?}");
        compare(&siblings, gang, &name);
        compare(&children(&engine, "lab"), gang, &name);
    }
}

#[test]
fn everybody_is_within_a_gang_of_the_water_fill_from_both_sides() {
    for seed in 0..12 {
        play(seed, 40);
    }
}
