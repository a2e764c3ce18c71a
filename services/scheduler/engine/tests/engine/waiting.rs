//! The work an event costs does not grow with how many jobs wait. Counted, not timed.

use crate::world::{amounts, cluster, engine, job, plan, queue, submit};
use muster_scheduler_engine::{ClusterSpec, Engine, Epoch, Event, JobId, RunEnd, Time};

/// Four queues, five shapes, two full clusters, and `waiting` jobs that don't fit.
fn full_house(waiting: u64) -> (Engine, ClusterSpec) {
    let idc = cluster("idc", 4, "V100", 1);
    let mut capped = queue("capped", 1);
    capped.capability = amounts(0, 0, 8).into();
    let queues = vec![queue("one", 1), queue("two", 2), queue("three", 3), capped];
    let mut engine = engine(vec![idc.clone(), cluster("cloud", 4, "A100", 2)], queues);
    for id in 1..=8 {
        submit(&mut engine, job(id, ["one", "two", "three", "capped"][id as usize % 4], 1, 8));
    }
    plan(&mut engine);
    for id in 9..9 + waiting {
        let queue = ["one", "two", "three", "capped"][id as usize % 4];
        submit(&mut engine, job(id, queue, 1 + (id % 5) as u32, 8));
    }
    plan(&mut engine);
    (engine, idc)
}

/// Entries visited by folding the event and planning after it.
fn visited(engine: &Engine, event: &Event) -> (u64, usize) {
    let mut engine = engine.clone();
    let before = engine.stats().entries_visited;
    engine.apply(event.clone()).expect("the event fits the house");
    let decided = engine.plan().len();
    (engine.stats().entries_visited - before, decided)
}

#[test]
fn entries_visited_per_event_are_the_same_at_a_thousand_and_at_a_hundred_thousand_waiting_jobs() {
    let (few, idc) = full_house(1_000);
    let (many, _) = full_house(100_000);
    let mut busier = idc.clone();
    busier.nodes[0].used_by_others = amounts(1, 1, 0);
    let mut larger = idc;
    larger.nodes.extend(cluster("more", 1, "V100", 1).nodes.into_iter().map(|mut node| {
        node.name = "more-0".to_owned();
        node
    }));
    let running = few.audit().placed.keys().next().copied().expect("the house is full");
    let events = [
        ("a blocked shape is submitted", Event::Submitted { job: job(900_001, "one", 2, 8), suspended: false }),
        ("a shape that fits nowhere is submitted", Event::Submitted { job: job(900_001, "one", 7, 8), suspended: false }),
        ("a waiting job is withdrawn", Event::Withdrawn(JobId(500))),
        ("a waiting job is suspended", Event::Suspended(JobId(501))),
        ("a run ends", Event::Ended { job: running, epoch: Epoch(1), end: RunEnd::Finished }),
        ("a run fails", Event::Ended { job: running, epoch: Epoch(1), end: RunEnd::Retry { not_before: Time(10_000_000) } }),
        ("others take something", Event::Cluster(busier)),
        ("a node is added", Event::Cluster(larger)),
        ("a queue's weight changes", Event::Queue(queue("one", 5))),
        ("time passes", Event::Time(Time(20_000_000))),
    ];
    for (what, event) in &events {
        let (at_few, decided_few) = visited(&few, event);
        let (at_many, decided_many) = visited(&many, event);
        assert_eq!((at_few, decided_few), (at_many, decided_many), "{what}");
        assert!(at_many <= 64, "{what}: {at_many} entries visited; four queues and five shapes make at most twenty lanes");
    }
    // The counter is alive: an event that places something visits at least what it places.
    let (visited_by_end, decided) = visited(&many, &events[4].1);
    assert!(decided >= 1 && visited_by_end > decided as u64);
}

#[test]
fn one_job_that_fits_is_found_behind_a_hundred_thousand_that_do_not() {
    let (mut engine, _) = full_house(100_000);
    engine.apply(Event::Cluster(cluster("spare", 1, "T4", 9))).unwrap();
    plan(&mut engine);
    submit(&mut engine, job(900_001, "three", 1, 0));
    let before = engine.stats();
    assert_eq!(plan(&mut engine).len(), 1);
    assert!(engine.stats().entries_visited - before.entries_visited <= 20);
}

#[test]
fn a_release_wakes_only_what_it_could_satisfy() {
    let mut engine = engine(vec![cluster("idc", 4, "V100", 1), cluster("cloud", 4, "A100", 2)], vec![queue("one", 1)]);
    for id in 1..=8 {
        submit(&mut engine, job(id, "one", 1, 8));
    }
    assert_eq!(plan(&mut engine).len(), 8);
    // Twenty shapes that need two to twenty-one nodes.
    for id in 9..=28 {
        submit(&mut engine, job(id, "one", id as u32 - 7, 8));
    }
    assert!(plan(&mut engine).is_empty());
    let before = engine.stats().entries_visited;
    engine.apply(Event::Ended { job: JobId(1), epoch: Epoch(1), end: RunEnd::Finished }).unwrap();
    assert!(plan(&mut engine).is_empty());
    assert_eq!(engine.stats().entries_visited, before, "one node is free, and all that wait need at least two");
}
