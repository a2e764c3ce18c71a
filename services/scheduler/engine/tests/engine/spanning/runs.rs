//! Runs of gangs that are split: what they hold, for whom they make room, what is kept for them, and what an event costs where they wait.

use super::*;
use muster_scheduler_engine::{BoundNode, Cause, ClusterState, Decision, Epoch, Interruption, JobState};

#[test]
fn it_begins_and_ends_everywhere_at_once() {
    let mut engine = on_q(vec![of("eu", "one", 2), of("eu", "two", 2)]);
    submit(&mut engine, job(1, "q", 1, 8));
    submit(&mut engine, wide(2, "q", 4));
    assert_eq!(plan(&mut engine).len(), 1);
    assert_eq!((free(&engine, "one"), free(&engine, "two")), (8, 16), "nothing is taken for a part of it");
    ended(&mut engine, 1, RunEnd::Finished);
    assert_eq!(parts(&plan(&mut engine)[0]), [("one", 2), ("two", 2)]);
    assert_eq!(plan(&mut engine), []);
    let (job, epoch) = (JobId(2), Epoch(1));
    engine.apply(Event::Started { job, epoch, at: Time(5) }).unwrap();
    folds(&engine);
    engine.apply(Event::Stopping { job, epoch }).unwrap();
    assert_eq!((free(&engine, "one"), free(&engine, "two")), (0, 0), "it is charged until it has ended");
    ended(&mut engine, 2, RunEnd::Retry { not_before: Time(100) });
    assert_eq!((free(&engine, "one"), free(&engine, "two")), (16, 16));
    assert_eq!(engine.usage("q").unwrap(), Amounts::new());
    engine.apply(Event::Time(Time(100))).unwrap();
    assert_eq!(plan(&mut engine)[0].epoch, Epoch(2));
}

#[test]
fn it_is_asked_again_when_less_than_a_gangs_room_becomes_free() {
    let mut engine = on_q(vec![of("eu", "one", 4), of("eu", "two", 4)]);
    for id in 1..=8 {
        submit(&mut engine, job(id, "q", 1, 8));
    }
    assert_eq!(plan(&mut engine).len(), 8);
    submit(&mut engine, wide(9, "q", 2));
    assert_eq!(plan(&mut engine), []);
    ended(&mut engine, 1, RunEnd::Finished);
    assert_eq!(plan(&mut engine), []);
    ended(&mut engine, 8, RunEnd::Finished);
    assert_eq!(parts(&plan(&mut engine)[0]), [("one", 1), ("two", 1)]);
}

/// What an event and the plan after it look at, where so many gangs wait that may be split.
fn visited(waiting: u64, event: Event) -> u64 {
    let clusters = vec![of("eu", "one", 4), of("eu", "two", 4), of("us", "three", 4)];
    let mut engine = engine(clusters, vec![queue("a", 1), queue("b", 2)]);
    for id in 1..=12 {
        submit(&mut engine, job(id, ["a", "b"][id as usize % 2], 1, 8));
    }
    assert_eq!(plan(&mut engine).len(), 12);
    for id in 13..13 + waiting {
        submit(&mut engine, wide(id, ["a", "b"][id as usize % 2], 2 + (id % 5) as u32));
    }
    assert_eq!(plan(&mut engine), []);
    let before = engine.stats().entries_visited;
    engine.apply(event).unwrap();
    engine.plan();
    engine.stats().entries_visited - before
}

#[test]
fn an_event_costs_the_same_however_many_of_them_wait() {
    let (job, epoch) = (JobId(1), Epoch(1));
    let mut busier = of("eu", "one", 4);
    busier.nodes[0].used_by_others = amounts(1, 1, 0);
    let events = [
        Event::Ended { job, epoch, end: RunEnd::Finished },
        Event::Cluster(busier),
        Event::Withdrawn(JobId(500)),
        Event::Time(Time(1_000_000)),
        Event::Submitted { job: wide(900_001, "a", 4), suspended: false },
    ];
    for event in events {
        let (few, many) = (visited(1_000, event.clone()), visited(50_000, event.clone()));
        assert_eq!(few, many, "{event:?}");
        assert!(many <= 64, "{many} entries for {event:?}");
    }
}

#[test]
fn what_is_bound_is_told_of_each_cluster() {
    let mut engine = on_q(vec![of("eu", "one", 3), of("eu", "two", 3)]);
    submit(&mut engine, wide(1, "q", 5));
    assert_eq!(parts(&plan(&mut engine)[0]), [("one", 3), ("two", 2)]);
    let on = |node: &str| BoundNode { node: node.to_owned(), used: amounts(32, 256, 8) };
    let bound = |cluster: &str, nodes: &[&str]| Event::BoundOn {
        job: JobId(1),
        epoch: Epoch(1),
        cluster: cluster.to_owned(),
        nodes: nodes.iter().map(|node| on(node)).collect(),
    };
    let idle = |engine: &Engine| {
        let free = engine.audit().free["two"].clone();
        free.into_iter().filter(|(_, free)| free.get(GPU) == 8).map(|(node, _)| node).collect::<Vec<_>>()
    };
    assert_eq!(idle(&engine), ["node-2"]);
    engine.apply(bound("two", &["node-2"])).unwrap();
    assert_eq!(idle(&engine), ["node-2"], "one is still to come");
    engine.apply(bound("two", &["node-1", "node-2"])).unwrap();
    assert_eq!(idle(&engine), ["node-0"]);
    folds(&engine);
    engine.apply(bound("one", &["node-0", "node-1", "node-2"])).unwrap();
    let JobState::Placed { bound: first, elsewhere, .. } = engine.job(JobId(1)).unwrap().state else { panic!("it runs") };
    assert_eq!((first.unwrap().len(), elsewhere[0].bound.as_ref().unwrap().len()), (3, 2));
    assert_eq!(engine.apply(bound("three", &["node-0"])).unwrap_err().to_string(), r#"cluster: job 1 has nothing on "three""#);
    ended(&mut engine, 1, RunEnd::Finished);
    assert_eq!((free(&engine, "one"), free(&engine, "two")), (24, 24));
}

#[test]
fn a_part_stays_charged_whatever_becomes_of_its_cluster() {
    let two = of("eu", "two", 2);
    let mut engine = on_q(vec![of("eu", "one", 2), two.clone()]);
    submit(&mut engine, wide(1, "q", 3));
    let placement = plan(&mut engine).remove(0);
    assert_eq!((parts(&placement), placement.elsewhere[0].slots[0].node.as_str()), (vec![("one", 2), ("two", 1)], "node-0"));
    // Its nodes in another order, one more of them, then nothing of it, then all again.
    let mut turned = of("eu", "two", 3);
    turned.nodes.reverse();
    engine.apply(Event::Cluster(turned)).unwrap();
    let free_on = |engine: &Engine, node: &str| engine.audit().free["two"][node].get(GPU);
    assert_eq!((free_on(&engine, "node-0"), free_on(&engine, "node-2")), (0, 8));
    engine.apply(Event::ClusterGone("two".to_owned())).unwrap();
    assert_eq!(engine.usage("q").unwrap().get(GPU), 24);
    folds(&engine);
    engine.apply(Event::Cluster(ClusterSpec { state: ClusterState::Lost, ..two })).unwrap();
    assert_eq!((free_on(&engine, "node-0"), free_on(&engine, "node-1")), (0, 8));
    folds(&engine);
    submit(&mut engine, wide(2, "q", 1));
    assert_eq!(plan(&mut engine), [], "nothing goes to what is lost");
    ended(&mut engine, 1, RunEnd::Finished);
    assert_eq!((free(&engine, "one"), free(&engine, "two")), (16, 16));
}

fn interrupted(decisions: &[Decision]) -> Vec<Interruption> {
    let interruption = |decision: &Decision| match decision {
        Decision::Interrupt(interruption) => Some(*interruption),
        Decision::Place(_) | Decision::Resize(_) => None,
    };
    decisions.iter().filter_map(interruption).collect()
}

#[test]
fn it_makes_room_like_any_other_and_on_all_its_clusters() {
    let urgent = |on: &str, cause: Cause, queue: &str| {
        let guaranteed = QueueSpec { guarantee: amounts(0, 0, 16), ..crate::world::queue("other", 1) };
        let mut engine = engine(vec![of("eu", "one", 2), of("eu", "two", 2)], vec![crate::world::queue("q", 1), guaranteed]);
        submit(&mut engine, wide(1, "q", 4));
        run_all(&mut engine);
        engine.apply(Event::Time(Time(120_000))).unwrap();
        let mut urgent = job(2, queue, 2, 8);
        urgent.priority = i32::from(cause == Cause::Priority);
        submit(&mut engine, urgent);
        let decisions = engine.plan();
        let interruption = Interruption { job: JobId(1), epoch: Epoch(1), in_favour_of: JobId(2), cause };
        assert_eq!(interrupted(&decisions), [interruption], "{on}: it is told once");
        assert_eq!(engine.plan(), []);
        folds(&engine);
        ended(&mut engine, 1, RunEnd::Retry { not_before: Time(0) });
        let placements = plan(&mut engine);
        assert_eq!((placements.len(), placements[0].cluster.as_str()), (1, "one"));
        assert_eq!(free(&engine, "two"), 16, "its other part is free too");
        assert_eq!(engine.usage("q").unwrap().get(GPU), if queue == "q" { 16 } else { 0 });
        folds(&engine);
    };
    urgent("priority", Cause::Priority, "q");
    urgent("share", Cause::Share, "other");
}

#[test]
fn a_shorter_gang_may_take_its_place() {
    let mut engine = on_q(vec![of("eu", "one", 1), of("eu", "two", 1)]);
    let mut now = 0;
    for (id, (kind, lasts)) in (10..).zip([("short", 60_000), ("long", 36_000_000)].repeat(5)) {
        let job = JobSpec { kind: kind.to_owned(), submitted_at: Time(now), ..job(id, "q", 1, 8) };
        let job = if kind == "long" { JobSpec { gang: wide(id, "q", 2).gang, ..job } } else { job };
        submit(&mut engine, job);
        run_all(&mut engine);
        now += lasts;
        engine.apply(Event::Time(Time(now))).unwrap();
        ended(&mut engine, id, RunEnd::Finished);
    }
    let mut long = JobSpec { kind: "long".to_owned(), submitted_at: Time(now), ..wide(1, "q", 2) };
    long.gang.restart_ms = Some(1_000);
    submit(&mut engine, long);
    run_all(&mut engine);
    engine.apply(Event::Time(Time(now + 120_000))).unwrap();
    submit(&mut engine, JobSpec { kind: "short".to_owned(), submitted_at: Time(now + 120_000), ..job(2, "q", 1, 8) });
    let interruption = Interruption { job: JobId(1), epoch: Epoch(1), in_favour_of: JobId(2), cause: Cause::Sooner };
    assert_eq!(interrupted(&engine.plan()), [interruption]);
    ended(&mut engine, 1, RunEnd::Retry { not_before: Time(0) });
    assert_eq!(plan(&mut engine).len(), 1);
    folds(&engine);
}

#[test]
fn a_promise_of_one_cluster_ends_where_it_can_begin_split() {
    let mut engine = on_q(vec![of("eu", "one", 2), of("eu", "two", 2)]);
    for id in 1..=4 {
        submit(&mut engine, job(id, "q", 1, 8));
    }
    run_all(&mut engine);
    submit(&mut engine, wide(5, "q", 2));
    assert_eq!(plan(&mut engine), []);
    engine.apply(Event::Time(Time(37 * 3_600_000))).unwrap();
    assert_eq!(plan(&mut engine), [], "it is overdue, and one cluster is reserved for it");
    let JobState::Waiting { promised: Some(promised), .. } = engine.job(JobId(5)).unwrap().state else { panic!("it waits") };
    let free_there = |cluster: &str| if cluster == "one" { ["1", "2"] } else { ["3", "4"] };
    let other = if promised.cluster == "one" { "two" } else { "one" };
    ended(&mut engine, free_there(other)[0].parse().unwrap(), RunEnd::Finished);
    assert_eq!(plan(&mut engine), []);
    // The room that is kept for it becomes free in part, and what it needs besides is there already.
    ended(&mut engine, free_there(other)[1].parse().unwrap(), RunEnd::Finished);
    let placements = plan(&mut engine);
    assert_eq!(parts(&placements[0]), [(other, 2)]);
    assert_eq!(free(&engine, &promised.cluster), 0, "nothing is kept for it any more");
    folds(&engine);
}

/// Two clusters of two nodes that are full, and a gang that is larger than either and has become overdue.
fn overdue() -> Engine {
    let mut engine = on_q(vec![of("eu", "one", 2), of("eu", "two", 2)]);
    for id in 1..=4 {
        submit(&mut engine, job(id, "q", 1, 8));
    }
    run_all(&mut engine);
    submit(&mut engine, wide(5, "q", 3));
    assert_eq!(plan(&mut engine), []);
    engine.apply(Event::Time(Time(37 * 3_600_000))).unwrap();
    assert_eq!(plan(&mut engine), []);
    engine
}

/// On which clusters room is kept for a job.
fn kept_for(engine: &Engine, id: u64) -> Vec<String> {
    let JobState::Waiting { promised: Some(promised), .. } = engine.job(JobId(id)).unwrap().state else { return Vec::new() };
    std::iter::once(promised.cluster).chain(promised.further.into_iter().map(|(cluster, _)| cluster)).collect()
}

#[test]
fn room_is_kept_over_a_region_for_what_no_cluster_could_hold() {
    let mut engine = overdue();
    assert_eq!(kept_for(&engine, 5), ["one", "two"]);
    folds(&engine);
    let now = engine.now();
    submit(&mut engine, JobSpec { kind: "new".to_owned(), submitted_at: now, ..job(6, "q", 1, 8) });
    for id in [1, 3] {
        ended(&mut engine, id, RunEnd::Finished);
        assert_eq!(plan(&mut engine), [], "what becomes free is kept for the gang");
    }
    // Its clusters are told anew, with their nodes in another order.
    for name in ["one", "two"] {
        let mut turned = of("eu", name, 2);
        turned.nodes.reverse();
        engine.apply(Event::Cluster(turned)).unwrap();
    }
    folds(&engine);
    let mut other = Engine::restore(engine.rows(), engine.now()).unwrap();
    for engine in [&mut engine, &mut other] {
        ended(engine, 2, RunEnd::Finished);
        let placements = plan(engine);
        assert_eq!(parts(&placements[0]), [("one", 2), ("two", 1)], "all of it has come");
        assert_eq!(engine.usage("q").unwrap().get(GPU), 32, "and the fourth node is still in use");
        assert_eq!(kept_for(engine, 5), [""; 0]);
    }
    assert_eq!(other.rows(), engine.rows());
}

#[test]
fn what_is_kept_over_a_region_goes_with_its_gang_or_its_region() {
    let mut engine = overdue();
    for id in [1, 3] {
        ended(&mut engine, id, RunEnd::Finished);
    }
    let mut without = engine.clone();
    without.apply(Event::Withdrawn(JobId(5))).unwrap();
    submit(&mut without, job(6, "q", 1, 8));
    submit(&mut without, job(7, "q", 1, 8));
    assert_eq!(plan(&mut without).len(), 2, "both nodes are everybody's again");
    folds(&without);
    engine.apply(Event::Cluster(of("us", "two", 2))).unwrap();
    ended(&mut engine, 2, RunEnd::Finished);
    assert_eq!(plan(&mut engine), [], "its parts would be in two regions");
    assert_eq!(kept_for(&engine, 5), [""; 0]);
    assert_eq!((free(&engine, "one"), free(&engine, "two")), (16, 8));
    // As soon as they are in one again it begins.
    engine.apply(Event::Cluster(of("eu", "two", 2))).unwrap();
    assert_eq!(parts(&plan(&mut engine)[0]), [("one", 2), ("two", 1)]);
    // What has not come when it should have is reserved anew.
    let mut engine = overdue();
    engine.apply(Event::Time(Time(60 * 3_600_000))).unwrap();
    assert_eq!(plan(&mut engine), []);
    assert_eq!(kept_for(&engine, 5), ["one", "two"]);
    folds(&engine);
}

#[test]
fn rows_that_no_engine_wrote_are_refused() {
    let mut engine = on_q(vec![of("eu", "one", 2), of("eu", "two", 2)]);
    submit(&mut engine, wide(1, "q", 3));
    assert_eq!(plan(&mut engine).len(), 1);
    let refused = |change: &dyn Fn(&mut JobState, &mut Span)| {
        let mut rows = engine.rows();
        let row = &mut rows.jobs[0];
        change(&mut row.state, &mut row.spec.gang.span);
        Engine::restore(rows, engine.now()).map(drop).unwrap_err().to_string()
    };
    let not_said = refused(&|_, span| *span = Span::Cluster);
    assert_eq!(not_said, "jobs[1].elsewhere: is of a gang on one cluster");
    let twice = refused(&|state, _| match state {
        JobState::Placed { elsewhere, .. } => elsewhere[0].cluster = "one".to_owned(),
        JobState::Waiting { .. } | JobState::Suspended => panic!("it runs"),
    });
    assert_eq!(twice, r#"jobs[1].elsewhere: cluster "one" is there twice"#);
}
