//! Runs go on in a better place that has become idle, if what remains of them is worth their restart.

use std::collections::BTreeMap;

use crate::world::{cluster, engine, job, placed, plan, queue, submit, tier};
use muster_scheduler_engine::{
    Budget, BudgetLimit, BudgetUnit, Cause, ClusterSpec, ClusterState, Dataset, Decision, Elastic, Engine, Epoch, Event,
    Interruption, JobId, JobSpec, Prefers, QueueSpec, RunEnd, TierOpens, Time,
};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

fn patient(id: u64, gpus: i64) -> JobSpec {
    let mut job = job(id, "one", 1, gpus);
    job.gang.restart_ms = Some(MINUTE_MS);
    job
}

fn tell(engine: &mut Engine, at_ms: i64) {
    engine.apply(Event::Time(Time(at_ms))).unwrap();
}

fn begin(engine: &mut Engine, id: u64, at_ms: i64) {
    engine.apply(Event::Started { job: JobId(id), epoch: Epoch(1), at: Time(at_ms) }).unwrap();
}

fn end(engine: &mut Engine, id: u64, at_ms: i64, end: RunEnd) {
    tell(engine, at_ms);
    engine.apply(Event::Ended { job: JobId(id), epoch: Epoch(1), end }).unwrap();
}

fn goes_on(id: u64) -> Decision {
    let job = JobId(id);
    Decision::Interrupt(Interruption { job, epoch: Epoch(1), in_favour_of: job, cause: Cause::Better })
}

/// A node of V100s for 1, `idc`, and one of A100s for 9, `cloud`.
fn two_nodes(queue: QueueSpec) -> Engine {
    engine(vec![cluster("idc", 1, "V100", 1), cluster("cloud", 1, "A100", 9)], vec![queue])
}

/// Job 1 gets the better node, and job 2, which may be interrupted, the other one; both run since 0.
fn both_run(mut engine: Engine, better: &str, other: &str) -> Engine {
    submit(&mut engine, job(1, "one", 1, 8));
    submit(&mut engine, patient(2, 8));
    assert_eq!(placed(&plan(&mut engine)), [(1, better), (2, other)]);
    begin(&mut engine, 1, 0);
    begin(&mut engine, 2, 0);
    engine
}

fn beside_a_full_cluster(queue: QueueSpec) -> Engine {
    both_run(two_nodes(queue), "idc", "cloud")
}

#[test]
fn a_run_goes_on_where_it_is_cheaper_once_that_is_idle() {
    let mut engine = beside_a_full_cluster(queue("one", 1));
    tell(&mut engine, HOUR_MS);
    assert!(engine.plan().is_empty(), "there is no room yet");
    end(&mut engine, 1, HOUR_MS, RunEnd::Finished);
    assert_eq!(engine.plan(), [goes_on(2)]);
    assert!(engine.plan().is_empty(), "it is decided once");
    // What comes meanwhile does not get its place.
    submit(&mut engine, job(3, "one", 1, 1));
    assert!(engine.plan().is_empty());
    end(&mut engine, 2, HOUR_MS + 1, RunEnd::Retry { not_before: Time(0) });
    assert_eq!(placed(&plan(&mut engine)), [(2, "idc"), (3, "cloud")]);
}

#[test]
fn it_survives_a_restart_of_the_engine_in_between() {
    let mut engine = beside_a_full_cluster(queue("one", 1));
    end(&mut engine, 1, HOUR_MS, RunEnd::Finished);
    let mut before = Engine::restore(engine.rows(), engine.now()).unwrap();
    assert_eq!(before.plan(), engine.plan());
    let mut after = Engine::restore(engine.rows(), engine.now()).unwrap();
    assert_eq!((after.audit(), after.rows()), (engine.audit(), engine.rows()));
    assert!(after.plan().is_empty());
    end(&mut after, 2, HOUR_MS + 1, RunEnd::Retry { not_before: Time(0) });
    assert_eq!(placed(&plan(&mut after)), [(2, "idc")]);
}

#[test]
fn who_waits_goes_first() {
    let mut engine = beside_a_full_cluster(queue("one", 1));
    submit(&mut engine, job(3, "one", 1, 8));
    assert!(plan(&mut engine).is_empty());
    end(&mut engine, 1, HOUR_MS, RunEnd::Finished);
    assert_eq!(placed(&plan(&mut engine)), [(3, "idc")]);
    assert!(engine.plan().is_empty());
}

#[test]
fn it_stays_for_less_than_its_restart_is_worth() {
    let mut engine = beside_a_full_cluster(queue("one", 1));
    // What has run for a minute is expected to take not much more: no four minutes, which is what the restart must be worth.
    end(&mut engine, 1, MINUTE_MS, RunEnd::Finished);
    assert!(engine.plan().is_empty());
    // Later more is expected of it, and the engine asks to be woken for that.
    while let Some(at) = engine.next_timer().filter(|at| *at < Time(HOUR_MS)) {
        tell(&mut engine, at.0);
        if !engine.plan().is_empty() {
            assert!(at > Time(2 * MINUTE_MS), "at {at:?}");
            return;
        }
    }
    panic!("it never moved");
}

#[test]
fn it_is_left_alone_for_its_queues_least_run_time() {
    let spec = QueueSpec { min_runtime_ms: 2 * HOUR_MS, ..queue("one", 1) };
    let mut engine = beside_a_full_cluster(spec);
    end(&mut engine, 1, HOUR_MS, RunEnd::Finished);
    assert!(engine.plan().is_empty());
    assert!(engine.next_timer().is_some_and(|at| at <= Time(2 * HOUR_MS)));
    tell(&mut engine, 2 * HOUR_MS);
    assert_eq!(engine.plan(), [goes_on(2)]);
}

#[test]
fn a_run_that_says_no_restart_cost_never_moves() {
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1), cluster("cloud", 1, "A100", 9)], vec![queue("one", 1)]);
    submit(&mut engine, job(1, "one", 1, 8));
    submit(&mut engine, job(2, "one", 1, 8));
    plan(&mut engine);
    begin(&mut engine, 1, 0);
    begin(&mut engine, 2, 0);
    end(&mut engine, 1, 100 * HOUR_MS, RunEnd::Finished);
    assert!(engine.plan().is_empty());
}

#[test]
fn a_run_that_ends_by_itself_leaves_both_places() {
    for how in [RunEnd::Finished, RunEnd::Suspended, RunEnd::Retry { not_before: Time(9 * HOUR_MS) }] {
        let mut engine = beside_a_full_cluster(queue("one", 1));
        end(&mut engine, 1, HOUR_MS, RunEnd::Finished);
        assert_eq!(engine.plan(), [goes_on(2)]);
        end(&mut engine, 2, HOUR_MS + 1, how);
        submit(&mut engine, job(3, "one", 1, 8));
        submit(&mut engine, job(4, "one", 1, 8));
        assert_eq!(placed(&plan(&mut engine)), [(3, "idc"), (4, "cloud")], "{how:?}");
    }
}

#[test]
fn nothing_leaves_a_cluster_that_is_not_heard_of_or_takes_nothing_new() {
    for state in [ClusterState::Cordoned, ClusterState::Suspect, ClusterState::Lost, ClusterState::Absent] {
        let mut engine = beside_a_full_cluster(queue("one", 1));
        let there = ClusterSpec { state, ..cluster("cloud", 1, "A100", 9) };
        engine.apply(Event::Cluster(there)).unwrap();
        end(&mut engine, 1, HOUR_MS, RunEnd::Finished);
        assert!(engine.plan().is_empty(), "{state:?}");
    }
}

#[test]
fn an_earlier_tier_is_better_whatever_it_costs() {
    let tiers = vec![tier(&["cloud"], TierOpens::WhenFull), tier(&["idc"], TierOpens::WhenFull)];
    let mut engine = both_run(two_nodes(QueueSpec { tiers, ..queue("one", 1) }), "cloud", "idc");
    end(&mut engine, 1, HOUR_MS, RunEnd::Finished);
    assert_eq!(engine.plan(), [goes_on(2)]);
}

#[test]
fn a_tier_that_a_longer_wait_would_close_again_stays_open_to_a_run_that_moves_to_it() {
    let waits = TierOpens::AfterWaitingForWork { permille: 1_000 };
    let tiers = vec![tier(&["none"], TierOpens::WhenFull), tier(&["idc", "cloud"], waits)];
    let spec = QueueSpec { tiers, ..queue("one", 1) };
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1), cluster("cloud", 1, "A100", 9)], vec![spec]);
    submit(&mut engine, job(1, "one", 1, 8));
    submit(&mut engine, patient(2, 8));
    let since = 9 * HOUR_MS;
    tell(&mut engine, since);
    assert_eq!(placed(&plan(&mut engine)), [(1, "idc"), (2, "cloud")]);
    begin(&mut engine, 1, since);
    begin(&mut engine, 2, since);
    // More is expected of it now than it had waited for.
    end(&mut engine, 1, since + 20 * HOUR_MS, RunEnd::Finished);
    assert_eq!(engine.plan(), [goes_on(2)]);
    end(&mut engine, 2, since + 20 * HOUR_MS, RunEnd::Retry { not_before: Time(0) });
    assert_eq!(placed(&plan(&mut engine)), [(2, "idc")]);
}

#[test]
fn what_a_queue_prefers_decides_what_is_saved() {
    let speeds = BTreeMap::from([("V100".to_owned(), 500), ("A100".to_owned(), 1_000)]);
    for (prefers, price, moves) in [
        // Half as fast for a ninth of the price: two ninths of the money.
        (Prefers::Cheapest, 1_000_000, true),
        // Less is saved than four restarts cost.
        (Prefers::Cheapest, 4_490_000, false),
        // Half of the time is saved.
        (Prefers::Fastest, 1_000_000, true),
    ] {
        let clusters = vec![cluster("idc", 1, "V100", price), cluster("cloud", 1, "A100", 9_000_000)];
        let mut engine = engine(clusters, vec![QueueSpec { prefers: Some(prefers), ..queue("one", 1) }]);
        let fast = |mut job: JobSpec| {
            job.gang.speeds.clone_from(&speeds);
            job
        };
        submit(&mut engine, fast(job(1, "one", 1, 8)));
        submit(&mut engine, fast(patient(2, 8)));
        let first = placed(&plan(&mut engine))[0].1.to_owned();
        begin(&mut engine, 1, 0);
        begin(&mut engine, 2, 0);
        assert_eq!(first, if prefers == Prefers::Fastest { "cloud" } else { "idc" });
        end(&mut engine, 1, HOUR_MS, RunEnd::Finished);
        let expected = if moves { vec![goes_on(2)] } else { Vec::new() };
        assert_eq!(engine.plan(), expected, "{prefers:?} at {price}");
    }
}

#[test]
fn nothing_moves_that_a_hard_budget_would_then_hold_back() {
    let budget = |amount| Budget { unit: BudgetUnit::GpuMs, amount, limit: BudgetLimit::Hard };
    let mut engine = beside_a_full_cluster(QueueSpec { budgets: vec![budget(24 * HOUR_MS)], ..queue("one", 1) });
    let counted = |gpu_ms| Event::Counted { queue: "one".to_owned(), counted: vec![gpu_ms] };
    engine.apply(counted(24 * HOUR_MS)).unwrap();
    end(&mut engine, 1, HOUR_MS, RunEnd::Finished);
    assert!(engine.plan().is_empty(), "once it had ended, it could not go on");
    engine.apply(counted(12 * HOUR_MS)).unwrap();
    assert_eq!(engine.plan(), [goes_on(2)]);
}

#[test]
fn of_several_runs_those_move_that_take_longest() {
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1), cluster("cloud", 2, "A100", 9)], vec![queue("one", 1)]);
    submit(&mut engine, job(1, "one", 1, 8));
    plan(&mut engine);
    for id in 2..=5 {
        submit(&mut engine, patient(id, 4));
    }
    assert_eq!(plan(&mut engine).len(), 4);
    begin(&mut engine, 1, 0);
    for (id, at_ms) in [(2, 3 * HOUR_MS), (3, 0), (4, HOUR_MS), (5, 2 * HOUR_MS)] {
        begin(&mut engine, id, at_ms);
    }
    end(&mut engine, 1, 4 * HOUR_MS, RunEnd::Finished);
    assert_eq!(engine.plan(), [goes_on(3), goes_on(4)]);
    assert!(engine.plan().is_empty());
}

#[test]
fn what_electricity_emits_now_counts_for_an_hour() {
    let emits = |milligrams: i64, mut cluster: ClusterSpec| {
        cluster.emissions = BTreeMap::from([("V100".to_owned(), milligrams)]);
        cluster
    };
    let spec = QueueSpec { prefers: Some(Prefers::Greenest), ..queue("one", 1) };
    let (north, south) = (cluster("north", 1, "V100", 1), cluster("south", 1, "V100", 1));
    let mut engine = engine(vec![emits(100, north.clone()), emits(200, south.clone())], vec![spec]);
    submit(&mut engine, patient(1, 8));
    assert_eq!(placed(&plan(&mut engine)), [(1, "north")]);
    begin(&mut engine, 1, 0);
    tell(&mut engine, 100 * HOUR_MS);
    assert!(engine.plan().is_empty());
    // A hundred hours are expected still, of which one counts: a twentieth of it is no four restarts of a minute.
    engine.apply(Event::Cluster(emits(105, north.clone()))).unwrap();
    engine.apply(Event::Cluster(emits(100, south.clone()))).unwrap();
    assert!(engine.plan().is_empty());
    engine.apply(Event::Cluster(emits(110, north))).unwrap();
    assert_eq!(engine.plan(), [goes_on(1)]);
}

#[test]
fn a_cluster_that_is_listed_first_is_better_whatever_it_costs() {
    let tiers = vec![tier(&["cloud", "idc"], TierOpens::WhenFull)];
    let spec = QueueSpec { tiers, prefers: Some(Prefers::Listed), ..queue("one", 1) };
    let mut engine = both_run(two_nodes(spec), "cloud", "idc");
    end(&mut engine, 1, HOUR_MS, RunEnd::Finished);
    assert_eq!(engine.plan(), [goes_on(2)]);
}

#[test]
fn an_elastic_gang_stays_where_it_is() {
    let mut engine = two_nodes(queue("one", 1));
    submit(&mut engine, job(1, "one", 1, 8));
    plan(&mut engine);
    let mut elastic = JobSpec { gang: job(2, "one", 8, 1).gang, ..patient(2, 8) };
    elastic.gang.restart_ms = Some(MINUTE_MS);
    elastic.gang.elastic = Some(Elastic { group: 0, least: 2 });
    elastic.gang.min_available = 2;
    submit(&mut engine, elastic);
    assert_eq!(placed(&plan(&mut engine)), [(2, "cloud")]);
    begin(&mut engine, 1, 0);
    begin(&mut engine, 2, 0);
    end(&mut engine, 1, HOUR_MS, RunEnd::Finished);
    assert!(engine.plan().is_empty());
}

#[test]
fn what_moving_its_dataset_costs_must_be_saved_too() {
    for (gib, expected) in [(1, vec![goes_on(2)]), (10_000, Vec::new())] {
        // A GPU-hour costs 1 in the south and 9 in the north, where the data is; a GiB from there costs 0.01.
        let in_region = |region: &str, cluster| ClusterSpec { region: region.to_owned(), ..cluster };
        let mut south = in_region("south", cluster("idc", 1, "V100", 1_000_000));
        south.egress.insert("north".to_owned(), 10_000);
        let north = in_region("north", cluster("cloud", 1, "A100", 9_000_000));
        let mut engine = engine(vec![south, north], vec![queue("one", 1)]);
        submit(&mut engine, job(1, "one", 1, 8));
        assert_eq!(placed(&plan(&mut engine)), [(1, "idc")]);
        let mut reads = patient(2, 8);
        reads.gang.dataset = Some(Dataset { region: "north".to_owned(), bytes: gib * Dataset::GIB });
        submit(&mut engine, reads);
        assert_eq!(placed(&plan(&mut engine)), [(2, "cloud")]);
        begin(&mut engine, 1, 0);
        begin(&mut engine, 2, 0);
        end(&mut engine, 1, HOUR_MS, RunEnd::Finished);
        assert_eq!(engine.plan(), expected, "{gib} GiB");
    }
}
