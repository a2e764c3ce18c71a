//! Millions of random events, told to the engine and to a twin that believes nothing: it adds up what every decision takes, node by
//! node and queue by queue, and stops at the first that takes more than there is, splits a gang, or loses or doubles a job.
//!
//! The tests play what a build for development does in half a minute; `cargo run --release -p muster-scheduler-engine --example twin`
//! plays as many as it is told.

use std::collections::{BTreeMap, BTreeSet};

use crate::world::{Dice, GPU, RACK, amounts, beyond, cluster, elastic, engine, job, queue, racked, tier, together};
use muster_scheduler_engine::{
    Amounts, ClusterSpec, Dataset, Decision, Engine, Event, JobSpec, JobState, Prefers, QueueSpec, RunEnd, Slot, Span, TierOpens,
    Time, Topology, TopologyMode,
};

#[path = "twin/books.rs"]
mod books;

use books::{Its, Running, Twin};

/// Events of each test.
#[cfg(test)]
const EVENTS: u64 = 1_000_000;
/// Unfinished jobs at a time: enough that most wait.
const MOST_JOBS: usize = 120;
const QUEUES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// What a world is like.
#[derive(Clone, Copy)]
struct Kind {
    /// Queues keep what they are guaranteed for themselves.
    limited: bool,
    /// There are more clusters in each region, and gangs that may be split.
    wide: bool,
}

impl Kind {
    fn of(seed: u64) -> Self {
        Self { limited: seed % 2 == 1, wide: seed.is_multiple_of(3) }
    }
}

/// A small world.
fn world(Kind { limited, wide }: Kind) -> (Engine, Twin) {
    let mut clusters = vec![cluster("idc", 4, "V100", 1), cluster("cloud", 3, "A100", 9), cluster("plain", 2, "", 0)];
    if wide {
        clusters.extend([cluster("idc-2", 2, "V100", 2), cluster("cloud-2", 2, "A100", 8), cluster("cloud-3", 1, "V100", 7)]);
    }
    let mut clusters: Vec<ClusterSpec> = clusters.into_iter().map(|cluster| racked(cluster, 2)).collect();
    let regions = [("eu", 3), ("us", 2), ("eu", 1), ("eu", 2), ("us", 3), ("us", 1)];
    for (cluster, (region, egress)) in clusters.iter_mut().zip(regions) {
        cluster.region = region.to_owned();
        cluster.egress = [("us", egress), ("eu", 2 * egress)].map(|(from, micros)| (from.to_owned(), micros)).into();
    }
    let below = |name: &str, parent: &str| QueueSpec { parent: Some(parent.to_owned()), ..queue(name, 1 + name.len() as u32) };
    // `b` has the tiers of `lab`; its jobs and those of `c` open the second one.
    let while_waiting = |gpus, jobs| TierOpens::WhileWaiting { gpus, jobs };
    let (own, dear): (&[&str], &[&str]) = match wide {
        false => (&["idc", "plain"], &["cloud"]),
        true => (&["idc", "idc-2", "plain"], &["cloud", "cloud-2", "cloud-3"]),
    };
    let tiers_of_lab = vec![tier(own, TierOpens::WhenFull), tier(dear, while_waiting(Some(if wide { 2 } else { 12 }), None))];
    let lab = QueueSpec {
        capability: Amounts::new().with(GPU, if wide { 80 } else { 40 }).into(),
        guarantee: Amounts::new().with(GPU, 16),
        tiers: tiers_of_lab,
        ..queue("lab", 2)
    };
    let a = QueueSpec { capability: amounts(200, 0, 20).into(), ..queue("a", 1) };
    let b = QueueSpec { guarantee: Amounts::new().with(GPU, 8), min_runtime_ms: 0, ..below("b", "lab") };
    let tiers = vec![tier(own, TierOpens::WhenFull), tier(dear, TierOpens::AfterWaitingMs(600_000))];
    let c = QueueSpec { tiers, ..below("c", "lab") };
    let d = QueueSpec { reclaimable: false, prefers: Some(Prefers::Fastest), ..queue("d", 3) };
    let (first, second): (Vec<&str>, Vec<&str>) = match wide {
        false => (vec!["cloud", "plain"], vec!["idc"]),
        true => ([dear, &["plain"]].concat(), vec!["idc", "idc-2"]),
    };
    let tiers =
        vec![tier(&first, TierOpens::WhenFull), tier(&second, while_waiting(Some(30), Some(if limited { 2 } else { 4 })))];
    let mut queues = vec![lab, a, b, c, d, QueueSpec { tiers, prefers: Some(Prefers::Listed), ..queue("e", 1) }];
    if limited {
        let gpus = |gpus| BTreeMap::from([(GPU.to_owned(), gpus)]);
        let limits =
            [("lab", 16, Some(12), None), ("b", 8, Some(2), None), ("c", 4, None, Some(10)), ("e", 8, Some(0), Some(12))];
        for (name, guarantee, lends, borrows) in limits {
            let spec = queues.iter_mut().find(|spec| spec.name == name).expect("a queue of the world");
            spec.guarantee = Amounts::new().with(GPU, guarantee);
            (spec.lending_limit, spec.borrowing_limit) =
                (lends.map_or_else(BTreeMap::new, gpus), borrows.map_or_else(BTreeMap::new, gpus));
        }
    }
    let nodes = clusters.iter().flat_map(|cluster| cluster.nodes.iter().map(move |node| (cluster.name.clone(), node)));
    let twin = Twin {
        free: nodes.clone().map(|(name, node)| ((name, node.name.clone()), node.allocatable.clone())).collect(),
        flavor: nodes.clone().map(|(name, node)| ((name, node.name.clone()), node.flavor.clone())).collect(),
        rack: nodes.clone().map(|(_, node)| (node.name.clone(), node.domains[RACK].clone())).collect(),
        clusters: clusters.iter().map(|cluster| (cluster.name.clone(), cluster.clone())).collect(),
        queues: queues.iter().map(|queue| (queue.name.clone(), queue.clone())).collect(),
        everything: nodes.clone().fold(Amounts::new(), |sum, (_, node)| sum.checked_add(&node.allocatable).unwrap()),
        used: BTreeMap::new(),
        jobs: BTreeMap::new(),
        backs_off: BTreeMap::new(),
        kept: BTreeSet::new(),
        now: 0,
        next: 0,
        placed: 0,
        opened: 0,
        moved: 0,
        ended_for_others: 0,
        went_on: 0,
        grown: 0,
        shrunk: 0,
        split: 0,
    };
    (engine(clusters, queues), twin)
}

fn random_job(dice: &mut Dice, kind: Kind, id: u64, now: i64) -> JobSpec {
    let gpus = [0, 1, 1, 2, 4, 8][dice.roll(6) as usize];
    let mut spec = job(id, QUEUES[dice.roll(5) as usize], 1 + dice.roll(3) as u32, gpus);
    spec.kind = ["short", "long", ""][dice.roll(3) as usize].to_owned();
    spec.priority = [0, 0, 0, 1, 2][dice.roll(5) as usize];
    spec.submitted_at = Time(now);
    if dice.roll(3) == 0 {
        spec.deadline = Some(Time(now + 100_000 * dice.roll(40) as i64));
    }
    if dice.roll(2) == 0 {
        spec.gang.restart_ms = Some(1_000);
    }
    if dice.roll(3) == 0 {
        let speeds = [("V100", 250 + 250 * dice.roll(8) as u32), ("A100", 2_000)];
        spec.gang.speeds = speeds.into_iter().map(|(model, speed)| (model.to_owned(), speed)).collect();
    }
    if dice.roll(4) == 0 {
        let mode = [TopologyMode::Required, TopologyMode::Preferred][dice.roll(2) as usize];
        spec = together(spec, [RACK, Topology::NODE][dice.roll(2) as usize], mode);
    }
    if dice.roll(4) == 0 {
        let region = ["eu", "us", "asia"][dice.roll(3) as usize].to_owned();
        spec.gang.dataset = Some(Dataset { region, bytes: Dataset::GIB * dice.roll(50) as i64 });
    }
    if dice.roll(4) == 0 {
        spec.gang.groups.push(muster_scheduler_engine::WorkerGroup {
            name: "launcher".to_owned(),
            replicas: 1,
            each: amounts(1 + dice.roll(40) as i64, 1, 0),
        });
    }
    if spec.gang.groups[0].replicas > 1 && dice.roll(3) == 0 {
        let least = 1 + dice.roll(u64::from(spec.gang.groups[0].replicas) - 1) as u32;
        spec = elastic(spec, least);
    }
    let together = spec.gang.topology.as_ref().is_some_and(|topology| topology.mode == TopologyMode::Required);
    if kind.wide && spec.gang.elastic.is_none() && !together && dice.roll(2) == 0 {
        spec.gang.span = Span::Region;
        spec.gang.groups[0].replicas += dice.roll(6) as u32;
        spec.gang.min_available = 1;
    }
    spec
}

/// One random fact, told to both.
fn happen(dice: &mut Dice, kind: Kind, engine: &mut Engine, twin: &mut Twin) {
    // Mostly seconds, now and then a good part of a day, so that gangs become overdue.
    twin.now += if dice.roll(200) == 0 { dice.roll(40_000_000) as i64 } else { dice.roll(60_000) as i64 };
    engine.apply(Event::Time(Time(twin.now))).unwrap();
    if dice.roll(128) == 0 {
        let queue = QUEUES[dice.roll(5) as usize].to_owned();
        engine.apply(Event::UsedLately { queue, gpus: 500 * dice.roll(40) as i64 }).unwrap();
    }
    let event = match dice.roll(16) {
        0..=5 if twin.jobs.len() < MOST_JOBS => {
            twin.next += 1;
            let job = random_job(dice, kind, twin.next, twin.now);
            let suspended = dice.roll(20) == 0;
            twin.jobs.insert(job.id, (job.clone(), if suspended { Its::Aside } else { Its::Waiting }));
            Event::Submitted { job, suspended }
        }
        0..=9 => {
            let Some(id) = twin.pick(dice, |its| matches!(its, Its::Running(_))) else { return };
            let epoch = twin.free_up(id);
            let end = match dice.roll(8) {
                0 => RunEnd::Retry { not_before: Time(twin.now + dice.roll(100_000) as i64) },
                1 => RunEnd::Suspended,
                _ => RunEnd::Finished,
            };
            let (spec, _) = twin.jobs.remove(&id).unwrap();
            match end {
                RunEnd::Finished => {}
                RunEnd::Suspended => drop(twin.jobs.insert(id, (spec, Its::Aside))),
                RunEnd::Retry { not_before } => {
                    twin.backs_off.insert(id, not_before.0);
                    twin.jobs.insert(id, (spec, Its::Waiting));
                }
            }
            Event::Ended { job: id, epoch, end }
        }
        10 => {
            let Some(id) = twin.pick(dice, |its| matches!(its, Its::Waiting)) else { return };
            if dice.roll(2) == 0 {
                twin.jobs.remove(&id);
                Event::Withdrawn(id)
            } else {
                twin.kept.remove(&id);
                twin.jobs.get_mut(&id).unwrap().1 = Its::Aside;
                Event::Suspended(id)
            }
        }
        11 => {
            let Some(id) = twin.pick(dice, |its| matches!(its, Its::Aside)) else { return };
            twin.jobs.get_mut(&id).unwrap().1 = Its::Waiting;
            twin.backs_off.remove(&id);
            Event::Resumed(id)
        }
        _ => {
            // Runs that were told to end, and workers that were told to leave, do, sooner or later; the others start.
            let to_come = |its: &Its| match its {
                Its::Running(running) => !running.started || running.told_to_end || running.shrinks_to.is_some(),
                Its::Waiting | Its::Aside => false,
            };
            let Some(id) = twin.pick(dice, to_come) else { return };
            match &mut twin.jobs.get_mut(&id).unwrap().1 {
                Its::Running(running @ Running { started: false, .. }) => {
                    (running.started, running.changed) = (true, twin.now);
                    Event::Started { job: id, epoch: running.epoch, at: Time(twin.now) }
                }
                Its::Running(Running { epoch, shrinks_to: Some(_), .. }) => {
                    let epoch = *epoch;
                    Event::Bound { job: id, epoch, nodes: twin.have_left(id) }
                }
                Its::Running(_) | Its::Waiting | Its::Aside => {
                    let epoch = twin.free_up(id);
                    twin.jobs.get_mut(&id).unwrap().1 = Its::Waiting;
                    Event::Ended { job: id, epoch, end: RunEnd::Retry { not_before: Time(twin.now) } }
                }
            }
        }
    };
    engine.apply(event).expect("the twin only tells what is true");
}

fn follow(decisions: Vec<Decision>, twin: &mut Twin) {
    for decision in decisions {
        match decision {
            Decision::Place(placement) => twin.place(&placement),
            Decision::Interrupt(interruption) => twin.interrupt(&interruption),
            Decision::Resize(resize) => twin.resize(&resize),
        }
    }
}

/// Every job is where the twin has it, and nowhere else.
fn compare(engine: &Engine, twin: &Twin) {
    let rows = engine.rows();
    assert_eq!(rows.jobs.len(), twin.jobs.len(), "no job is lost and none is doubled");
    for row in &rows.jobs {
        let (spec, its) = twin.jobs.get(&row.spec.id).expect("a known job");
        assert_eq!(&row.spec, spec);
        match (its, &row.state) {
            (Its::Waiting, JobState::Waiting { .. }) | (Its::Aside, JobState::Suspended) => {}
            (Its::Running(running), JobState::Placed { cluster, slots, leaving, elsewhere, .. }) => {
                assert_eq!((running.epoch, &running.cluster), (row.epoch, cluster));
                assert!(running.slots == *slots, "{:?}: {running:?} and {slots:?}", row.spec.id);
                let elsewhere: Vec<(String, Vec<Slot>)> =
                    elsewhere.iter().map(|part| (part.cluster.clone(), part.slots.clone())).collect();
                assert_eq!(running.elsewhere, elsewhere, "{:?}", row.spec.id);
                let leave = running.shrinks_to.as_ref().map_or_else(Vec::new, |left| beyond(&running.slots, left));
                assert_eq!(&leave, leaving, "{:?}", row.spec.id);
            }
            (its, state) => panic!("{:?}: {its:?} and {state:?}", row.spec.id),
        }
    }
    for queue in QUEUES.iter().chain(&["lab"]) {
        assert_eq!(engine.usage(queue).unwrap(), twin.used.get(*queue).cloned().unwrap_or_default(), "{queue}");
    }
}

/// Plays so many events and stops at the first decision that is wrong; in worlds of odd seeds queues limit what they lend and borrow, and
/// in every third one there are gangs that may be split.
/// `progress` is told how many are done, now and then.
pub fn play(seed: u64, events: u64, progress: &dyn Fn(u64)) {
    let mut dice = Dice(seed);
    let kind = Kind::of(seed);
    let (mut engine, mut twin) = world(kind);
    for step in 0..events {
        happen(&mut dice, kind, &mut engine, &mut twin);
        let folded =
            (step % 2_000 == 1).then(|| Engine::restore(engine.rows(), engine.now()).expect("rows that an engine wrote"));
        let decided = engine.plan();
        if let Some(mut folded) = folded {
            assert_eq!(folded.plan(), decided, "a new leader decides what the old one would have (step {step})");
        }
        follow(decided, &mut twin);
        if step % 1_000 == 0 {
            let again = engine.plan();
            assert!(again.is_empty(), "the second plan is empty (step {step}): {again:?}");
            compare(&engine, &twin);
        }
        if step % 20_000 == 0 {
            progress(step);
            let mut folded = Engine::restore(engine.rows(), engine.now()).expect("rows that an engine wrote");
            assert!(folded.plan().is_empty(), "a fold has nothing left to decide (step {step})");
            assert_eq!(folded.audit(), engine.audit(), "fold and increment agree (step {step})");
            assert_eq!(folded.rows(), engine.rows(), "step {step}");
        }
    }
    assert!(twin.moved > events / 100, "{} of {} placements moved a dataset", twin.moved, twin.placed);
    assert!(twin.opened > events / 1_000, "{} of {} placements were by what waited", twin.opened, twin.placed);
    assert!(twin.placed > events / 10 && twin.ended_for_others > events / 1_000, "the world was alive");
    assert!(twin.went_on > events / 10_000, "{} runs went on in a better place", twin.went_on);
    assert!(!kind.wide || twin.split > events / 1_000, "{} of {} placements were split", twin.split, twin.placed);
    // Most of the gangs that may be split can't be smaller.
    let least = if kind.wide { events / 2_000 } else { events / 1_000 };
    assert!(twin.grown > least && twin.shrunk > events / 10_000, "{} grew, {} shrank", twin.grown, twin.shrunk);
}

#[test]
fn the_twin_agrees_over_millions_of_events() {
    play(2024, EVENTS, &|_| ());
}

#[test]
fn the_twin_agrees_over_millions_of_other_events() {
    play(7, EVENTS, &|_| ());
}

#[test]
fn the_twin_agrees_where_gangs_are_split() {
    play(3, EVENTS, &|_| ());
}
