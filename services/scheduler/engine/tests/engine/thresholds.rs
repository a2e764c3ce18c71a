//! Tiers that open while more than so much waits in a queue.

use crate::world::{cluster, engine, job, placed, plan, queue, submit, tier};
use muster_scheduler_engine::{
    Engine, Epoch, Event, Hold, JobId, JobSpec, QueueSpec, Reason, RunEnd, Threshold, TierOpens, Time,
};

const HOUR_MS: i64 = 3_600_000;

/// One own node of 8 GPUs, four of the cloud, and queue `train` below `lab`, whose second tier opens like that.
fn engine_that_opens(gpus: Option<i64>, jobs: Option<u64>) -> Engine {
    let tiers = vec![tier(&["own"], TierOpens::WhenFull), tier(&["cloud"], TierOpens::WhileWaiting { gpus, jobs })];
    let lab = QueueSpec { tiers, ..queue("lab", 1) };
    let below = |name| QueueSpec { parent: Some("lab".to_owned()), ..queue(name, 1) };
    engine(vec![cluster("own", 1, "V100", 1), cluster("cloud", 4, "A100", 9)], vec![lab, below("train"), below("serve")])
}

fn cloud_of(engine: &Engine, id: u64) -> (Reason, Vec<Hold>) {
    let explanation = engine.explain(JobId(id)).unwrap();
    let cloud = explanation.clusters.into_iter().find(|verdict| verdict.cluster == "cloud").unwrap();
    (cloud.reason, explanation.holds)
}

#[test]
fn a_tier_is_open_while_more_gpus_wait_than_its_threshold_and_no_longer() {
    let mut engine = engine_that_opens(Some(16), None);
    for id in 1..=3 {
        submit(&mut engine, job(id, "train", 1, 8));
    }
    assert_eq!(placed(&plan(&mut engine)), [(1, "own")], "8 and 16 GPUs wait then, which is no more than 16");
    submit(&mut engine, job(4, "train", 1, 4));
    // 20 wait: the first goes, and 12 are left.
    assert_eq!(placed(&plan(&mut engine)), [(2, "cloud")]);
    submit(&mut engine, job(5, "train", 1, 4));
    assert!(plan(&mut engine).is_empty(), "16 wait");
    submit(&mut engine, job(6, "train", 1, 1));
    assert_eq!(placed(&plan(&mut engine)), [(3, "cloud")]);
}

#[test]
fn what_waits_in_all_queues_below_the_one_with_the_tiers_counts() {
    let mut engine = engine_that_opens(Some(8), None);
    submit(&mut engine, job(1, "train", 1, 8));
    submit(&mut engine, job(2, "train", 1, 8));
    assert_eq!(placed(&plan(&mut engine)), [(1, "own")]);
    submit(&mut engine, job(3, "serve", 1, 2));
    // What has nothing is asked first.
    assert_eq!(placed(&plan(&mut engine)), [(3, "cloud")]);
    // Suspended, it does not wait; resumed, it does.
    submit(&mut engine, job(4, "serve", 1, 0));
    assert_eq!(placed(&plan(&mut engine)), [(4, "own")]);
    engine.apply(Event::Submitted { job: job(5, "serve", 1, 1), suspended: true }).unwrap();
    assert!(plan(&mut engine).is_empty());
    engine.apply(Event::Resumed(JobId(5))).unwrap();
    assert_eq!(placed(&plan(&mut engine)), [(5, "cloud")]);
}

#[test]
fn a_threshold_in_jobs_is_as_good_as_one_in_gpus() {
    let mut engine = engine_that_opens(Some(1_000), Some(2));
    for id in 1..=3 {
        submit(&mut engine, job(id, "train", 1, 8));
    }
    assert_eq!(placed(&plan(&mut engine)), [(1, "own")]);
    submit(&mut engine, job(4, "train", 1, 8));
    assert_eq!(placed(&plan(&mut engine)), [(2, "cloud")]);
    assert!(plan(&mut engine).is_empty());
}

#[test]
fn an_explanation_says_how_much_has_to_wait_and_how_much_does() {
    let mut engine = engine_that_opens(Some(64), Some(20));
    for id in 1..=6 {
        submit(&mut engine, job(id, "train", 1, 8));
    }
    plan(&mut engine);
    let threshold = Threshold { queue: "lab".to_owned(), gpus: Some((64, 40)), jobs: Some((20, 5)) };
    let (reason, holds) = cloud_of(&engine, 3);
    assert_eq!(reason, Reason::TooFewWait(threshold.clone()));
    assert!(holds.contains(&Hold::MoreWaiting { tier: 1, threshold }), "{holds:?}");
    assert_eq!(reason.to_string(), "its tier opens when more than 64 GPUs or 20 jobs wait in queue \"lab\"; 40 and 5 do");
}

#[test]
fn a_deadline_opens_it_whatever_waits() {
    let mut engine = engine_that_opens(Some(64), None);
    submit(&mut engine, job(1, "train", 1, 8));
    submit(&mut engine, JobSpec { deadline: Some(Time(3 * HOUR_MS)), ..job(2, "train", 1, 8) });
    assert_eq!(placed(&plan(&mut engine)), [(1, "own")]);
    let (_, holds) = cloud_of(&engine, 2);
    // Nothing is known of it: an hour before.
    assert!(holds.contains(&Hold::TierOpens { tier: 1, at: Time(2 * HOUR_MS) }), "{holds:?}");
    assert_eq!(engine.next_timer(), Some(Time(2 * HOUR_MS)));
    engine.apply(Event::Time(Time(2 * HOUR_MS - 1))).unwrap();
    assert!(plan(&mut engine).is_empty());
    engine.apply(Event::Time(Time(2 * HOUR_MS))).unwrap();
    assert_eq!(placed(&plan(&mut engine)), [(2, "cloud")]);
}

#[test]
fn a_change_of_the_tiers_counts_what_waits_already() {
    let mut engine = engine_that_opens(Some(64), None);
    for id in 1..=4 {
        submit(&mut engine, job(id, "train", 1, 8));
    }
    assert_eq!(plan(&mut engine).len(), 1);
    let tiers = |gpus| {
        vec![tier(&["own"], TierOpens::WhenFull), tier(&["cloud"], TierOpens::WhileWaiting { gpus: Some(gpus), jobs: None })]
    };
    engine.apply(Event::Queue(QueueSpec { tiers: tiers(16), ..queue("lab", 1) })).unwrap();
    assert_eq!(placed(&plan(&mut engine)), [(2, "cloud")]);
    // Below another queue it counts there no more.
    engine.apply(Event::Queue(QueueSpec { tiers: tiers(8), ..queue("other", 1) })).unwrap();
    engine.apply(Event::Queue(QueueSpec { parent: Some("other".to_owned()), ..queue("train", 1) })).unwrap();
    submit(&mut engine, job(5, "serve", 1, 8));
    assert_eq!(placed(&plan(&mut engine)), [(3, "cloud")]);
    let refused = QueueSpec { tiers: tiers(-1), ..queue("lab", 1) };
    assert_eq!(engine.apply(Event::Queue(refused)).unwrap_err().field, "tiers[1].opens");
}

#[test]
fn runs_make_room_in_a_tier_that_has_opened() {
    // Two queues that have nothing in common but the cloud; in `train` a run of low priority is there.
    let mut engine = engine_that_opens(Some(8), None);
    let low = JobSpec { priority: -1, ..job(2, "train", 4, 8) };
    submit(&mut engine, job(1, "train", 1, 8));
    submit(&mut engine, low);
    assert_eq!(placed(&plan(&mut engine)), [(1, "own"), (2, "cloud")]);
    engine.apply(Event::Started { job: JobId(2), epoch: Epoch(1), at: Time(10) }).unwrap();
    engine.apply(Event::Time(Time(HOUR_MS))).unwrap();
    submit(&mut engine, job(3, "train", 1, 8));
    assert!(engine.plan().is_empty(), "8 GPUs wait, and the cloud is not for them");
    // Somebody else's job opens the tier for both.
    submit(&mut engine, job(4, "serve", 1, 8));
    let decided = engine.plan();
    assert!(decided.iter().any(|decision| matches!(decision, muster_scheduler_engine::Decision::Interrupt(_))), "{decided:?}");
    let mut folded = Engine::restore(engine.rows(), engine.now()).unwrap();
    assert!(folded.plan().is_empty());
    engine.apply(Event::Withdrawn(JobId(4))).unwrap();
    assert!(engine.plan().is_empty());
    engine.apply(Event::Ended { job: JobId(2), epoch: Epoch(1), end: RunEnd::Retry { not_before: Time(2 * HOUR_MS) } }).unwrap();
    assert_eq!(placed(&plan(&mut engine)), [(3, "cloud")], "room that is kept stays kept, though less waits by now");
}

#[test]
fn a_tier_that_opens_and_closes_costs_the_same_however_many_wait() {
    let visited = |waiting: u64| {
        let mut engine = engine_that_opens(Some(i64::try_from(8 * waiting).unwrap()), None);
        for id in 1..=waiting + 1 {
            submit(&mut engine, JobSpec { submitted_at: Time(0), ..job(id, ["train", "serve"][id as usize % 2], 1, 8) });
        }
        assert_eq!(plan(&mut engine).len(), 1, "one is there, and no more wait than may");
        let before = engine.stats().entries_visited;
        for id in 1..=3 {
            submit(&mut engine, JobSpec { submitted_at: Time(0), ..job(1_000_000 + id, "train", 1, 8) });
            assert_eq!(plan(&mut engine).len(), 1, "one too many waits");
        }
        engine.stats().entries_visited - before
    };
    let (few, many) = (visited(100), visited(20_000));
    assert_eq!(few, many);
    assert!(many <= 60, "{many} entries for six changes");
}
