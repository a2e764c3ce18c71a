//! Who gets what elastic gangs have beyond their least size.

use crate::sizes::{HOUR_MS, MINUTE_MS, Told, end, gpus, leave, pool, size, step, tell, what};
use crate::world::{GPU, amounts, elastic, job, queue, submit};
use muster_scheduler_engine::{
    BoundNode, Cause, Decision, Engine, Epoch, Event, JobId, JobSpec, Outlook, QueueSpec, RunEnd, Smaller, Time,
};

#[test]
fn what_is_beyond_its_least_size_is_given_to_whoever_waits_and_nothing_ends() {
    let mut engine = pool(1, vec![queue("a", 1), queue("b", 1)]);
    submit(&mut engine, elastic(job(1, "a", 8, 1), 2));
    assert_eq!(step(&mut engine), [Told::Placed(1, 8)]);
    submit(&mut engine, job(2, "b", 1, 3));
    assert_eq!(step(&mut engine), [Told::ToShrink(1, 5, Cause::Surplus)], "three workers are enough");
    assert_eq!(size(&engine, 1).why, Some(Smaller::Leaving { workers: 3 }));
    assert_eq!(gpus(&engine, "a"), 8, "it is charged for them until they have left");
    assert_eq!(step(&mut engine), [], "it is told once");
    leave(&mut engine, 1);
    assert_eq!(step(&mut engine), [Told::Shrunk(1, 5), Told::Placed(2, 1)]);
    assert_eq!((gpus(&engine, "a"), gpus(&engine, "b")), (5, 3));
    // The run goes on where it was, in its first run.
    assert_eq!(engine.job(JobId(1)).unwrap().epoch, Epoch(1));
    submit(&mut engine, job(3, "b", 1, 4));
    assert_eq!(step(&mut engine), [], "b would have more than a then");
    submit(&mut engine, job(4, "a", 1, 3));
    assert_eq!(step(&mut engine), [Told::ToShrink(1, 2, Cause::Surplus)], "in its own queue there is nothing to compare");
    leave(&mut engine, 1);
    assert_eq!(step(&mut engine), [Told::Shrunk(1, 2), Told::Placed(4, 1)]);
    submit(&mut engine, job(5, "a", 1, 1));
    assert_eq!(step(&mut engine), [], "it is never smaller than its least size");
}

#[test]
fn who_has_a_lower_priority_takes_nothing_in_its_queue_and_of_one_that_is_not_reclaimable_nobody() {
    let keeps = QueueSpec { reclaimable: false, ..queue("a", 1) };
    let mut engine = pool(1, vec![keeps, queue("b", 1)]);
    submit(&mut engine, JobSpec { priority: 1, ..elastic(job(1, "a", 8, 1), 2) });
    step(&mut engine);
    submit(&mut engine, job(2, "a", 1, 1));
    submit(&mut engine, job(3, "b", 1, 1));
    assert_eq!(step(&mut engine), []);
    submit(&mut engine, JobSpec { priority: 1, ..job(4, "a", 1, 1) });
    assert_eq!(step(&mut engine), [Told::ToShrink(1, 7, Cause::Surplus)]);
}

#[test]
fn inside_a_full_capability_a_queues_own_gangs_make_room_for_each_other() {
    let capped = QueueSpec { capability: amounts(0, 0, 8).into(), ..queue("a", 1) };
    let mut engine = pool(4, vec![capped, queue("b", 1)]);
    submit(&mut engine, elastic(job(1, "a", 8, 1), 2));
    submit(&mut engine, elastic(job(2, "b", 8, 1), 2));
    step(&mut engine);
    submit(&mut engine, job(3, "a", 1, 4));
    assert_eq!(step(&mut engine), [Told::ToShrink(1, 4, Cause::Surplus)], "what b gave would not help");
    leave(&mut engine, 1);
    assert_eq!(step(&mut engine), [Told::Shrunk(1, 4), Told::Placed(3, 1)]);
    assert_eq!(gpus(&engine, "a"), 8);
}

#[test]
fn the_youngest_gives_first_and_whole_nodes_become_free() {
    let mut engine = pool(3, vec![queue("a", 1), queue("b", 1)]);
    for id in 1..=2 {
        submit(&mut engine, elastic(job(id, "a", 12, 1), 4));
        step(&mut engine);
        let later = engine.now().0 + MINUTE_MS;
        tell(&mut engine, later);
    }
    assert_eq!(gpus(&engine, "a"), 24);
    submit(&mut engine, job(3, "b", 1, 8));
    let told = step(&mut engine);
    // Each has a whole node and half of the third.
    assert_eq!(told, [Told::ToShrink(2, 4, Cause::Surplus)]);
    leave(&mut engine, 2);
    assert_eq!(step(&mut engine), [Told::Shrunk(2, 4), Told::Placed(3, 1)]);
}

#[test]
fn a_higher_priority_takes_the_surplus_before_it_ends_a_gang() {
    let mut engine = pool(2, vec![queue("a", 1)]);
    submit(&mut engine, elastic(job(1, "a", 8, 1), 6));
    submit(&mut engine, job(2, "a", 1, 2));
    submit(&mut engine, job(3, "a", 1, 6));
    assert_eq!(step(&mut engine).len(), 3);
    tell(&mut engine, HOUR_MS);
    submit(&mut engine, JobSpec { priority: 1, ..job(4, "a", 1, 4) });
    let told = step(&mut engine);
    assert_eq!(told.len(), 1, "{told:?}");
    let whole = told.iter().filter(|told| matches!(told, Told::Ended(..))).count();
    assert_eq!(whole, 1, "two workers of one node are not enough, and the surplus is spared again: {told:?}");
    submit(&mut engine, JobSpec { priority: 1, ..job(5, "a", 1, 2) });
    let told = step(&mut engine);
    assert_eq!(told, [Told::ToShrink(1, 6, Cause::Surplus)], "here it is");
}

#[test]
fn a_gang_that_is_in_the_way_gives_its_surplus_or_ends_whole_and_never_both() {
    let mut engine = pool(1, vec![queue("a", 1)]);
    submit(&mut engine, elastic(job(1, "a", 8, 1), 4));
    step(&mut engine);
    tell(&mut engine, HOUR_MS);
    submit(&mut engine, JobSpec { priority: 1, ..job(2, "a", 1, 6) });
    assert_eq!(step(&mut engine), [Told::Ended(1, Cause::Priority)], "with four of its eight gone six don't fit yet");
    engine.apply(Event::Ended { job: JobId(1), epoch: Epoch(1), end: RunEnd::Retry { not_before: Time(0) } }).unwrap();
    assert_eq!(step(&mut engine), [Told::Placed(2, 1)]);
    assert_eq!(gpus(&engine, "a"), 6);
    end(&mut engine, 2);
    assert_eq!(step(&mut engine), [Told::Placed(1, 8)]);
}

#[test]
fn where_other_pods_leave_than_was_thought_the_gang_waits_for_room_like_any_other() {
    let mut engine = pool(2, vec![queue("a", 1), queue("b", 1)]);
    submit(&mut engine, elastic(job(1, "a", 16, 1), 8));
    assert_eq!(step(&mut engine), [Told::Placed(1, 16)]);
    submit(&mut engine, job(2, "b", 1, 8));
    assert_eq!(step(&mut engine), [Told::ToShrink(1, 8, Cause::Surplus)]);
    // The cluster ends half of the pods on each node.
    let each = amounts(4 * 4, 32 * 4, 4);
    let half = |node: &str| BoundNode { node: node.to_owned(), used: each.clone() };
    engine.apply(Event::Bound { job: JobId(1), epoch: Epoch(1), nodes: vec![half("node-0"), half("node-1")] }).unwrap();
    assert_eq!(step(&mut engine), [Told::Shrunk(1, 8)], "there is no node with eight free");
    assert!(engine.audit().free["idc"].values().all(|free| free.get(GPU) == 4), "{:?}", engine.audit().free);
    tell(&mut engine, 30 * MINUTE_MS);
    assert_eq!(step(&mut engine), [], "it would have to give back what it took now");
    submit(&mut engine, job(3, "b", 1, 4));
    assert_eq!(step(&mut engine), [Told::Placed(3, 1)], "nothing is kept for who can't use it");
    tell(&mut engine, 2 * HOUR_MS);
    assert_eq!(step(&mut engine), [Told::Grown(1, 12)], "but not for ever");
}

#[test]
fn surplus_is_taken_where_the_pods_were_seen() {
    let mut engine = pool(3, vec![queue("a", 1), queue("b", 2)]);
    submit(&mut engine, elastic(job(1, "a", 8, 1), 2));
    step(&mut engine);
    // The plan fills one node; the cluster has spread them.
    let each = |node: &str, workers: i64| BoundNode { node: node.to_owned(), used: amounts(4 * workers, 32 * workers, workers) };
    let nodes = vec![each("node-0", 2), each("node-1", 3), each("node-2", 3)];
    engine.apply(Event::Bound { job: JobId(1), epoch: Epoch(1), nodes }).unwrap();
    submit(&mut engine, job(2, "b", 1, 8));
    let decisions = engine.plan();
    let [Decision::Resize(resize)] = decisions.as_slice() else { panic!("{decisions:?}") };
    let left: Vec<(&str, u32)> = resize.slots.iter().map(|slot| (slot.node.as_str(), slot.workers)).collect();
    assert_eq!((resize.workers, left), (6, vec![("node-1", 3), ("node-2", 3)]));
}

#[test]
fn a_restored_engine_knows_who_is_leaving_and_for_whom() {
    let mut engine = pool(1, vec![queue("a", 1), queue("b", 1)]);
    submit(&mut engine, elastic(job(1, "a", 8, 1), 2));
    step(&mut engine);
    tell(&mut engine, HOUR_MS);
    submit(&mut engine, job(2, "b", 1, 4));
    assert_eq!(step(&mut engine), [Told::ToShrink(1, 4, Cause::Surplus)]);
    let mut other = Engine::restore(engine.rows(), engine.now()).expect("rows that an engine wrote");
    assert_eq!((other.audit(), other.rows()), (engine.audit(), engine.rows()));
    for engine in [&mut engine, &mut other] {
        leave(engine, 1);
    }
    // Also where it was seen and not yet taken in.
    let mut third = Engine::restore(engine.rows(), engine.now()).expect("rows that an engine wrote");
    let decided = engine.plan();
    assert_eq!(what(&decided), [Told::Shrunk(1, 4), Told::Placed(2, 1)]);
    assert_eq!((other.plan(), third.plan()), (decided.clone(), decided));
    assert_eq!((other.rows(), third.rows()), (engine.rows(), engine.rows()));
}

#[test]
fn a_run_that_ends_while_workers_leave_makes_room_all_the_same() {
    let mut engine = pool(1, vec![queue("a", 1), queue("b", 1)]);
    submit(&mut engine, elastic(job(1, "a", 8, 1), 2));
    step(&mut engine);
    submit(&mut engine, job(2, "b", 1, 4));
    assert_eq!(step(&mut engine), [Told::ToShrink(1, 4, Cause::Surplus)]);
    end(&mut engine, 1);
    assert_eq!(step(&mut engine), [Told::Placed(2, 1)]);
    assert_eq!((gpus(&engine, "a"), gpus(&engine, "b")), (0, 4));
}

#[test]
fn who_waited_for_it_may_be_withdrawn_and_it_grows_back() {
    let mut engine = pool(1, vec![queue("a", 1), queue("b", 1)]);
    submit(&mut engine, elastic(job(1, "a", 8, 1), 2));
    step(&mut engine);
    submit(&mut engine, job(2, "b", 1, 4));
    step(&mut engine);
    engine.apply(Event::Withdrawn(JobId(2))).unwrap();
    assert_eq!(step(&mut engine), []);
    leave(&mut engine, 1);
    assert_eq!(step(&mut engine), [Told::Shrunk(1, 4)], "it is left at that for a minute");
    let later = engine.now().0 + MINUTE_MS;
    tell(&mut engine, later);
    assert_eq!(step(&mut engine), [Told::Grown(1, 8)]);
}

#[test]
fn what_a_gang_gets_of_a_surplus_is_foreseen() {
    let mut engine = pool(1, vec![queue("a", 1), queue("b", 1)]);
    submit(&mut engine, elastic(job(1, "a", 8, 1), 2));
    step(&mut engine);
    tell(&mut engine, HOUR_MS);
    submit(&mut engine, job(2, "b", 1, 3));
    let starts = |engine: &Engine| {
        let forecast = engine.clone().forecast(Outlook { horizon_ms: 100 * HOUR_MS, most_steps: 100, permille: 500 });
        forecast.starts.get(&JobId(2)).map(|start| start.at)
    };
    assert_eq!(starts(&engine), Some(Time(HOUR_MS)), "as soon as they have left");
    assert_eq!(step(&mut engine), [Told::ToShrink(1, 5, Cause::Surplus)]);
    assert_eq!(starts(&engine), Some(Time(HOUR_MS)), "who was told to leave is taken to have left");
}
