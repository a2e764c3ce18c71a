//! Guarantees, borrowing, taking back, and priorities: whose runs make room for whom, and how few.

use crate::world::{amounts, cluster, engine, job, plan, queue, submit};
use muster_scheduler_engine::{
    Cause, ClusterSpec, ClusterState, Decision, Engine, Event, JobId, JobSpec, QueueSpec, RunEnd, Time,
};

const HOUR_MS: i64 = 3_600_000;

fn gpus(engine: &Engine, queue: &str) -> i64 {
    engine.usage(queue).expect("a known queue").get(crate::world::GPU)
}

/// Places everything that waits and starts it now.
fn run_all(engine: &mut Engine) -> usize {
    let now = engine.now();
    let placements = plan(engine);
    for placement in &placements {
        engine.apply(Event::Started { job: placement.job, epoch: placement.epoch, at: now }).unwrap();
    }
    placements.len()
}

fn tell(engine: &mut Engine, at_ms: i64) {
    engine.apply(Event::Time(Time(at_ms))).unwrap();
}

/// Ends the runs that the plan says have to make room, and plans again; gives who they were, for what.
fn make_room(engine: &mut Engine) -> Vec<(u64, Cause)> {
    let mut ended = Vec::new();
    loop {
        let decisions = engine.plan();
        if decisions.is_empty() {
            return ended;
        }
        for decision in decisions {
            match decision {
                Decision::Interrupt(interruption) => {
                    ended.push((interruption.job.0, interruption.cause));
                    let end = RunEnd::Retry { not_before: Time(0) };
                    engine.apply(Event::Ended { job: interruption.job, epoch: interruption.epoch, end }).unwrap();
                }
                Decision::Place(placement) => {
                    let at = engine.now();
                    engine.apply(Event::Started { job: placement.job, epoch: placement.epoch, at }).unwrap();
                }
                Decision::Resize(resize) => panic!("no gang here is elastic: {resize:?}"),
            }
        }
    }
}

fn guaranteed(name: &str, gpus: i64) -> QueueSpec {
    QueueSpec { guarantee: amounts(0, 0, gpus), ..queue(name, 1) }
}

#[test]
fn what_was_borrowed_is_taken_back_by_share_and_no_more() {
    let mut engine = engine(vec![cluster("idc", 4, "V100", 1)], vec![queue("a", 1), queue("b", 1)]);
    for id in 0..64 {
        submit(&mut engine, job(id, "a", 1, 1));
    }
    assert_eq!(run_all(&mut engine), 32);
    for id in 100..164 {
        submit(&mut engine, job(id, "b", 1, 1));
    }
    assert!(engine.plan().is_empty(), "what one waits for briefly is not taken from others");
    assert_eq!(engine.next_timer(), Some(Time(100 + 4 * HOUR_MS)), "the engine asks to be woken when the first has waited long");
    tell(&mut engine, 5 * HOUR_MS);
    let ended = make_room(&mut engine);
    assert_eq!((gpus(&engine, "a"), gpus(&engine, "b"), ended.len()), (16, 16, 16));
    assert!(ended.iter().all(|(_, cause)| *cause == Cause::Share));
}

#[test]
fn a_queue_that_is_not_reclaimable_keeps_what_it_has() {
    let keeps = QueueSpec { reclaimable: false, ..queue("a", 1) };
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1)], vec![keeps, queue("b", 1)]);
    for id in 0..8 {
        submit(&mut engine, job(id, "a", 1, 1));
    }
    run_all(&mut engine);
    submit(&mut engine, job(100, "b", 1, 1));
    tell(&mut engine, 5 * HOUR_MS);
    assert!(engine.plan().is_empty());
}

#[test]
fn a_guarantee_is_given_before_anything_is_divided() {
    let mut engine = engine(vec![cluster("idc", 4, "V100", 1)], vec![guaranteed("a", 24), queue("b", 1), queue("c", 1)]);
    for id in 0..120 {
        submit(&mut engine, job(id, ["a", "b", "c"][id as usize % 3], 1, 1));
    }
    run_all(&mut engine);
    // 24 are guaranteed; of the other 8 each gets a third, as far as that goes.
    assert_eq!((gpus(&engine, "a"), gpus(&engine, "b"), gpus(&engine, "c")), (26, 3, 3));
}

#[test]
fn a_guarantee_that_was_lent_comes_back_whole() {
    let mut engine = engine(vec![cluster("idc", 4, "V100", 1)], vec![guaranteed("a", 16), queue("b", 100)]);
    for id in 0..64 {
        submit(&mut engine, job(id, "b", 1, 1));
    }
    assert_eq!(run_all(&mut engine), 32, "what a does not use is lent");
    submit(&mut engine, job(100, "a", 2, 8));
    tell(&mut engine, HOUR_MS);
    let ended = make_room(&mut engine);
    assert_eq!((gpus(&engine, "a"), gpus(&engine, "b"), ended.len()), (16, 16, 16));
    submit(&mut engine, job(101, "a", 1, 8));
    assert!(make_room(&mut engine).is_empty(), "beyond its guarantee a is as any other, and b has a hundred times its weight");
}

#[test]
fn inside_a_queue_the_lower_priority_makes_room_the_youngest_first() {
    let mut engine = engine(vec![cluster("idc", 2, "V100", 1)], vec![queue("a", 1)]);
    let ranked = |id, priority, gpus| JobSpec { priority, ..job(id, "a", 1, gpus) };
    for (id, priority) in [(1, 0), (2, 5), (3, 0), (4, 0)] {
        submit(&mut engine, ranked(id, priority, 4));
        assert_eq!(run_all(&mut engine), 1);
        let later = engine.now().0 + HOUR_MS;
        tell(&mut engine, later);
    }
    submit(&mut engine, ranked(5, 3, 4));
    assert_eq!(make_room(&mut engine), [(4, Cause::Priority)]);
    submit(&mut engine, ranked(6, 3, 8));
    let mut ended = make_room(&mut engine);
    ended.sort_unstable_by_key(|(id, _)| *id);
    // Jobs 1 and 2 share a node, 3 and 5 the other: 5 is of the same priority and stays, 2 is of a higher one and stays.
    assert_eq!(ended, [], "no node can be freed of lower priorities only");
    let later = engine.now().0 + HOUR_MS;
    tell(&mut engine, later);
    submit(&mut engine, ranked(7, 9, 8));
    let ended: Vec<u64> = make_room(&mut engine).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ended, [3, 5, 1], "two make room for it and no more; then the better one of them for itself");
    let state = engine.job(JobId(4)).expect("a victim waits on").spec.submitted_at;
    assert_eq!(state, Time(4), "at its original time");
}

#[test]
fn a_priority_counts_inside_a_full_capability_too() {
    let capped = QueueSpec { capability: amounts(0, 0, 8).into(), ..queue("a", 1) };
    let mut engine = engine(vec![cluster("idc", 4, "V100", 1)], vec![capped]);
    for id in 1..=2 {
        submit(&mut engine, job(id, "a", 1, 4));
    }
    run_all(&mut engine);
    tell(&mut engine, HOUR_MS);
    submit(&mut engine, JobSpec { priority: 1, ..job(3, "a", 1, 4) });
    assert_eq!(make_room(&mut engine).len(), 1);
    assert_eq!(gpus(&engine, "a"), 8);
    assert!(matches!(engine.job(JobId(3)).unwrap().state, muster_scheduler_engine::JobState::Placed { .. }));
}

#[test]
fn children_take_back_from_each_other_inside_what_their_parent_has() {
    let below = |name: &str, weight| QueueSpec { parent: Some("lab".to_owned()), ..queue(name, weight) };
    let mut engine =
        engine(vec![cluster("idc", 4, "V100", 1)], vec![queue("lab", 1), below("x", 1), below("y", 3), queue("z", 1)]);
    for id in 0..64 {
        submit(&mut engine, job(id, if id < 32 { "x" } else { "z" }, 1, 1));
    }
    run_all(&mut engine);
    assert_eq!((gpus(&engine, "x"), gpus(&engine, "z")), (16, 16));
    for id in 100..132 {
        submit(&mut engine, job(id, "y", 1, 1));
    }
    tell(&mut engine, 5 * HOUR_MS);
    make_room(&mut engine);
    assert_eq!((gpus(&engine, "x"), gpus(&engine, "y"), gpus(&engine, "z")), (4, 12, 16));
}

#[test]
fn a_least_run_time_is_kept() {
    let slow = QueueSpec { min_runtime_ms: 8 * HOUR_MS, ..queue("a", 1) };
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1)], vec![slow, queue("b", 1)]);
    for id in 1..=2 {
        submit(&mut engine, job(id, "a", 1, 4));
    }
    assert_eq!(run_all(&mut engine), 2);
    submit(&mut engine, job(3, "b", 1, 4));
    tell(&mut engine, 8 * HOUR_MS - 1);
    assert!(engine.plan().is_empty());
    tell(&mut engine, 8 * HOUR_MS + 2);
    assert_eq!(make_room(&mut engine), [(2, Cause::Share)]);
}

#[test]
fn a_gang_is_not_taken_back_if_its_queue_would_have_less_than_the_other() {
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1)], vec![queue("a", 1), queue("b", 1)]);
    submit(&mut engine, job(1, "a", 2, 4));
    assert_eq!(run_all(&mut engine), 1);
    submit(&mut engine, job(3, "b", 1, 4));
    tell(&mut engine, 5 * HOUR_MS);
    assert!(engine.plan().is_empty());
}

#[test]
fn a_cluster_that_comes_back_makes_room_for_what_came_meanwhile() {
    let idc = cluster("idc", 1, "V100", 1);
    let mut engine = engine(vec![idc.clone()], vec![queue("one", 1)]);
    submit(&mut engine, job(1, "one", 1, 8));
    assert_eq!(run_all(&mut engine), 1);
    tell(&mut engine, HOUR_MS);
    engine.apply(Event::Cluster(ClusterSpec { state: ClusterState::Lost, ..idc.clone() })).unwrap();
    submit(&mut engine, JobSpec { priority: 1, submitted_at: Time(HOUR_MS), ..job(2, "one", 1, 8) });
    assert!(make_room(&mut engine).is_empty(), "nobody knows what happens there");
    engine.apply(Event::Cluster(idc)).unwrap();
    assert_eq!(make_room(&mut engine), [(1, Cause::Priority)]);
}
