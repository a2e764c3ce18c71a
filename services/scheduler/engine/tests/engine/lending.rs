//! What queues lend each other and what they may borrow, and that what was lent comes back.

use std::collections::BTreeMap;

use crate::world::{GPU, amounts, cluster, engine, job, plan, queue, submit};
use muster_scheduler_engine::{Amounts, Decision, Engine, Event, Hold, JobId, QueueSpec, RunEnd, Time};

const HOUR_MS: i64 = 3_600_000;

fn gpus(engine: &Engine, queue: &str) -> i64 {
    engine.usage(queue).expect("a known queue").get(GPU)
}

fn limit(gpus: i64) -> BTreeMap<String, i64> {
    BTreeMap::from([(GPU.to_owned(), gpus)])
}

fn guaranteed(name: &str, gpus: i64) -> QueueSpec {
    QueueSpec { guarantee: Amounts::new().with(GPU, gpus), ..queue(name, 1) }
}

fn lends(name: &str, gpus: i64, most: i64) -> QueueSpec {
    QueueSpec { lending_limit: limit(most), ..guaranteed(name, gpus) }
}

fn below(parent: &str, spec: QueueSpec) -> QueueSpec {
    QueueSpec { parent: Some(parent.to_owned()), ..spec }
}

fn submit_ones(engine: &mut Engine, queue: &str, ids: std::ops::Range<u64>) {
    for id in ids {
        submit(engine, job(id, queue, 1, 1));
    }
}

/// Places and starts whatever can be, and ends what has to make room for it; gives how many runs ended.
fn settle(engine: &mut Engine) -> usize {
    let mut ended = 0;
    loop {
        let decisions = engine.plan();
        if decisions.is_empty() {
            return ended;
        }
        for decision in decisions {
            let event = match decision {
                Decision::Place(placement) => Event::Started { job: placement.job, epoch: placement.epoch, at: engine.now() },
                Decision::Interrupt(interruption) => {
                    ended += 1;
                    let end = RunEnd::Retry { not_before: Time(0) };
                    Event::Ended { job: interruption.job, epoch: interruption.epoch, end }
                }
                Decision::Resize(resize) => panic!("no gang here is elastic: {resize:?}"),
            };
            engine.apply(event).expect("what was decided can happen");
        }
    }
}

fn later(engine: &mut Engine) {
    let at = Time(engine.now().0 + HOUR_MS);
    engine.apply(Event::Time(at)).expect("time can be told");
}

fn hold_of(engine: &Engine, job: u64) -> String {
    let explanation = engine.explain(JobId(job)).expect("a job that waits");
    explanation.holds.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn a_queue_lends_no_more_than_its_limit_and_gets_it_back() {
    let mut engine = engine(vec![cluster("idc", 4, "V100", 1)], vec![lends("a", 16, 4), queue("b", 100)]);
    submit_ones(&mut engine, "b", 0..64);
    settle(&mut engine);
    assert_eq!(gpus(&engine, "b"), 20, "16 that are nobody's and 4 that a lends");
    assert_eq!(
        hold_of(&engine, 63),
        "\"a\" lend no more nvidia.com/gpu: of 32 in all clusters 20 are used and 12 kept, 1 are asked"
    );
    later(&mut engine);
    submit(&mut engine, job(100, "a", 12, 1));
    assert_eq!(settle(&mut engine), 0, "nobody has to make room for what was never lent");
    submit(&mut engine, job(101, "a", 4, 1));
    assert_eq!(settle(&mut engine), 4);
    assert_eq!((gpus(&engine, "a"), gpus(&engine, "b")), (16, 16));
}

#[test]
fn a_queue_borrows_no_more_than_its_limit() {
    let mut engine = engine(
        vec![cluster("idc", 4, "V100", 1)],
        vec![guaranteed("a", 16), QueueSpec { borrowing_limit: limit(3), ..guaranteed("b", 8) }],
    );
    submit_ones(&mut engine, "b", 0..20);
    settle(&mut engine);
    assert_eq!(gpus(&engine, "b"), 11);
    assert_eq!(
        hold_of(&engine, 19),
        "borrowing limit of queue \"b\" exceeded by 1 nvidia.com/gpu: 11 used + 1 asked > 8 guaranteed + 3 borrowed at most"
    );
    let never = QueueSpec { borrowing_limit: limit(0), ..guaranteed("b", 8) };
    engine.apply(Event::Queue(QueueSpec { capability: amounts(0, 0, 32).into(), ..never })).unwrap();
    for id in 0..4 {
        engine.apply(Event::Ended { job: JobId(id), epoch: muster_scheduler_engine::Epoch(1), end: RunEnd::Finished }).unwrap();
    }
    settle(&mut engine);
    assert_eq!(gpus(&engine, "b"), 8, "the lesser of borrowing and capability counts");
}

#[test]
fn what_a_queue_uses_itself_it_does_not_keep_besides() {
    let mut engine = engine(vec![cluster("idc", 4, "V100", 1)], vec![lends("a", 16, 0), queue("b", 1)]);
    submit_ones(&mut engine, "a", 0..10);
    submit_ones(&mut engine, "b", 100..140);
    settle(&mut engine);
    assert_eq!((gpus(&engine, "a"), gpus(&engine, "b")), (10, 16));
    submit(&mut engine, job(50, "a", 8, 1));
    assert_eq!(settle(&mut engine), 0);
    assert_eq!(gpus(&engine, "a"), 10, "6 of the 8 are its own and 2 would be borrowed, where nothing is left");
    assert!(matches!(&engine.explain(JobId(50)).unwrap().holds[..], [Hold::Room { .. }, ..] | [Hold::Lending { .. }, ..]));
    submit(&mut engine, job(51, "a", 6, 1));
    settle(&mut engine);
    assert_eq!(gpus(&engine, "a"), 16);
}

#[test]
fn members_lend_to_each_other_inside_what_their_cohort_has() {
    // A cohort of 24 in a fleet of 64: x keeps 6 of its 8, y lends everything.
    let cohort = QueueSpec { capability: amounts(0, 0, 24).into(), ..guaranteed("cohort", 24) };
    let queues = vec![cohort, below("cohort", lends("x", 8, 2)), below("cohort", guaranteed("y", 16)), queue("z", 1)];
    let mut engine = engine(vec![cluster("idc", 8, "V100", 1)], queues);
    submit_ones(&mut engine, "y", 0..64);
    settle(&mut engine);
    assert_eq!(gpus(&engine, "y"), 18, "16 of its own and 2 that x lends");
    let holds = engine.explain(JobId(63)).unwrap().holds;
    let keepers = holds.iter().find_map(|hold| match hold {
        Hold::Lending { queue, keepers, used, kept, .. } => Some((queue.clone(), keepers.clone(), *used, *kept)),
        _ => None,
    });
    assert_eq!(keepers, Some((Some("cohort".to_owned()), ["x".to_owned()].into(), 18, 6)));
    later(&mut engine);
    submit_ones(&mut engine, "x", 100..108);
    assert_eq!(settle(&mut engine), 2, "the clusters have room; what was lent inside the cohort comes back all the same");
    assert_eq!((gpus(&engine, "x"), gpus(&engine, "y"), gpus(&engine, "cohort")), (8, 16, 24));
}

#[test]
fn what_ends_of_a_lender_counts_only_beyond_what_it_keeps() {
    // b's one gang is 8 beyond its guarantee, and 16 of its 24 are kept for b however it ends: half of what a needs. It has borrowed most.
    let queues = vec![guaranteed("a", 16), lends("b", 16, 0), queue("c", 100)];
    let mut engine = engine(vec![cluster("idc", 5, "V100", 1)], queues);
    submit(&mut engine, job(1, "b", 3, 8));
    settle(&mut engine);
    submit_ones(&mut engine, "c", 10..26);
    settle(&mut engine);
    assert_eq!((gpus(&engine, "b"), gpus(&engine, "c")), (24, 16));
    later(&mut engine);
    submit(&mut engine, job(2, "a", 2, 8));
    assert_eq!(settle(&mut engine), 9, "three nodes become free of b's, and eight of c's runs give what b does not lend");
    assert_eq!((gpus(&engine, "a"), gpus(&engine, "b"), gpus(&engine, "c")), (16, 0, 8));
}

#[test]
fn a_guarantee_is_honoured_inside_a_full_capability_while_clusters_have_room() {
    let lab = QueueSpec { capability: amounts(0, 0, 16).into(), ..queue("lab", 1) };
    let queues = vec![lab, below("lab", guaranteed("x", 8)), below("lab", queue("y", 1))];
    let mut engine = engine(vec![cluster("idc", 8, "V100", 1)], queues);
    submit_ones(&mut engine, "y", 0..32);
    settle(&mut engine);
    assert_eq!(gpus(&engine, "y"), 16);
    later(&mut engine);
    submit_ones(&mut engine, "x", 100..108);
    assert_eq!(settle(&mut engine), 8);
    assert_eq!((gpus(&engine, "x"), gpus(&engine, "y")), (8, 8));
}

#[test]
fn other_limits_more_clusters_and_a_queue_that_goes_are_noticed() {
    let mut engine = engine(vec![cluster("idc", 4, "V100", 1)], vec![lends("a", 16, 0), queue("b", 1)]);
    submit_ones(&mut engine, "b", 0..60);
    settle(&mut engine);
    assert_eq!(gpus(&engine, "b"), 16);
    engine.apply(Event::Queue(lends("a", 16, 5))).unwrap();
    settle(&mut engine);
    assert_eq!(gpus(&engine, "b"), 21, "more is lent");
    engine.apply(Event::Cluster(cluster("more", 1, "V100", 1))).unwrap();
    settle(&mut engine);
    assert_eq!(gpus(&engine, "b"), 29, "there is more");
    engine.apply(Event::QueueGone("a".to_owned())).unwrap();
    settle(&mut engine);
    assert_eq!(gpus(&engine, "b"), 40, "nobody keeps anything");
    let refused = engine.apply(Event::Queue(QueueSpec { lending_limit: limit(-1), ..queue("c", 1) })).unwrap_err();
    assert_eq!(refused.field, "lending_limit[nvidia.com/gpu]");
    let refused = engine.apply(Event::Queue(QueueSpec { borrowing_limit: limit(-1), ..queue("c", 1) })).unwrap_err();
    assert_eq!(refused.field, "borrowing_limit[nvidia.com/gpu]");
    assert!(plan(&mut engine).is_empty());
}
