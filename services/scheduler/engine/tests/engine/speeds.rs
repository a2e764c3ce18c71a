//! GPU models of unequal speed: where a job goes that says how fast it is, and what it has done there.

use crate::world::{cluster, engine, job, placed, plan, queue, submit};
use muster_scheduler_engine::{
    Budget, BudgetLimit, BudgetUnit, Engine, Epoch, Event, JobId, JobSpec, Prefers, QueueSpec, RunEnd, TierOpens, Time, check,
};

const HOUR_MS: i64 = 3_600_000;

/// A job of one GPU, with its speeds in thousandths.
fn fast_on(id: u64, speeds: &[(&str, u32)]) -> JobSpec {
    let mut job = job(id, "q", 1, 1);
    job.gang.speeds = speeds.iter().map(|(model, speed)| ((*model).to_owned(), *speed)).collect();
    job
}

/// A node of each of three models, at 300, 200 and 100 for a GPU-hour.
fn three_models(prefers: Option<Prefers>) -> Engine {
    let clusters = vec![cluster("v", 1, "V100", 300), cluster("p", 1, "P100", 200), cluster("k", 1, "K80", 100)];
    engine(clusters, vec![QueueSpec { prefers, ..queue("q", 1) }])
}

fn goes_to(mut engine: Engine, job: JobSpec) -> String {
    submit(&mut engine, job);
    placed(&plan(&mut engine))[0].1.to_owned()
}

#[test]
fn the_cheapest_place_is_where_a_unit_of_work_costs_least() {
    let cheapest = |speeds: &[(&str, u32)]| goes_to(three_models(None), fast_on(1, speeds));
    assert_eq!(cheapest(&[]), "k", "100 an hour");
    assert_eq!(cheapest(&[("V100", 1_000), ("P100", 900), ("K80", 250)]), "p", "222 for an hour's work, not 300 or 400");
    assert_eq!(cheapest(&[("V100", 4_000), ("P100", 1_000), ("K80", 250)]), "v", "75 for an hour's work");
}

#[test]
fn where_all_are_alike_the_fastest_place_is_the_fastest_model() {
    let speeds = [("V100", 1_000), ("P100", 700), ("K80", 200)];
    let engine = || three_models(Some(Prefers::Fastest));
    assert_eq!(goes_to(engine(), fast_on(1, &speeds)), "v", "alone it is what is typical");
    let mut engine = engine();
    (10..30).for_each(|id| submit(&mut engine, fast_on(id, &speeds)));
    let decisions = plan(&mut engine);
    let places: Vec<&str> = placed(&decisions).iter().map(|(_, cluster)| *cluster).collect();
    assert_eq!(places, [["v"; 8], ["p"; 8]].concat().into_iter().chain(["k"; 4]).collect::<Vec<_>>());
}

#[test]
fn in_a_mixed_pool_each_model_gets_the_jobs_that_gain_most_from_it() {
    let mut engine = three_models(Some(Prefers::Fastest));
    for id in 0..8 {
        submit(&mut engine, fast_on(id, &[("V100", 1_000), ("P100", 600), ("K80", 150)]));
        submit(&mut engine, fast_on(100 + id, &[("V100", 1_000), ("P100", 2_200), ("K80", 1_400)]));
    }
    let decisions = plan(&mut engine);
    let of = |id: u64| placed(&decisions).into_iter().find(|(placed, _)| *placed == id).map(|(_, cluster)| cluster.to_owned());
    assert!((0..8).all(|id| of(id).as_deref() == Some("v")), "they are seven times as fast there as on a K80");
    // The others are fastest on a P100, but on a K80 they are further ahead of what is typical; none takes a V100.
    assert!((100..108).all(|id| of(id).as_deref() == Some("k")), "{decisions:?}");
}

#[test]
fn a_queue_prefers_what_the_one_above_it_says() {
    let clusters = vec![cluster("fast", 1, "V100", 300), cluster("slow", 1, "K80", 100)];
    let tree = |prefers: Option<Prefers>, own: Option<Prefers>| {
        let below = QueueSpec { parent: Some("lab".to_owned()), prefers: own, ..queue("q", 1) };
        let mut engine = engine(clusters.clone(), vec![QueueSpec { prefers, ..queue("lab", 1) }, below]);
        // Others for which the K80 is typically no worse.
        let mut other = fast_on(1, &[("V100", 1_000), ("K80", 1_000)]);
        other.queue = "q".to_owned();
        engine.apply(Event::Submitted { job: other, suspended: true }).unwrap();
        goes_to(engine, fast_on(2, &[("V100", 1_000), ("K80", 500)]))
    };
    assert_eq!(tree(Some(Prefers::Fastest), None), "fast");
    assert_eq!(tree(Some(Prefers::Fastest), Some(Prefers::Cheapest)), "slow");
    assert_eq!(tree(None, None), "slow");
}

/// Where a job of ten hours of work has got to that ran for an hour on a model, and an engine restored from the rows.
fn after_an_hour_on(model: &str) -> (Engine, Engine) {
    let mut engine = engine(vec![cluster("one", 1, model, 1)], vec![queue("q", 1)]);
    let mut job = fast_on(1, &[("K80", 250), ("V100", 2_000)]);
    job.gang.restart_ms = Some(1_000);
    submit(&mut engine, job);
    plan(&mut engine);
    engine.apply(Event::Started { job: JobId(1), epoch: Epoch(1), at: Time(0) }).unwrap();
    engine.apply(Event::Time(Time(HOUR_MS))).unwrap();
    let restored = Engine::restore(engine.rows(), engine.now()).unwrap();
    (engine, restored)
}

#[test]
fn what_a_run_has_done_is_its_time_times_its_speed_also_after_a_restart() {
    for (model, done_ms) in [("K80", HOUR_MS / 4), ("V100", 2 * HOUR_MS), ("P100", HOUR_MS)] {
        let (engine, restored) = after_an_hour_on(model);
        for mut engine in [engine, restored] {
            let end = RunEnd::Retry { not_before: Time(HOUR_MS) };
            engine.apply(Event::Ended { job: JobId(1), epoch: Epoch(1), end }).unwrap();
            assert_eq!(engine.job(JobId(1)).unwrap().attained_ms, done_ms, "{model}");
        }
    }
}

#[test]
fn a_slow_place_counts_more_in_a_budget_of_gpu_hours() {
    // An hour is assumed; on a K80 it takes four.
    let hours = |hours: i64| Budget { unit: BudgetUnit::GpuMs, amount: hours * HOUR_MS, limit: BudgetLimit::Hard };
    let places = |budget: Budget| {
        let spec = QueueSpec { budgets: vec![budget], ..queue("q", 1) };
        let mut engine = engine(vec![cluster("slow", 1, "K80", 1)], vec![spec]);
        engine.apply(Event::Counted { queue: "q".to_owned(), counted: vec![0] }).unwrap();
        submit(&mut engine, fast_on(1, &[("K80", 250)]));
        placed(&plan(&mut engine)).len()
    };
    assert_eq!((places(hours(3)), places(hours(4))), (0, 1));
}

#[test]
fn a_speed_that_is_none_is_refused() {
    for speed in [0, 1_000_001] {
        let refused = check(&fast_on(1, &[("V100", speed)]).gang).unwrap_err();
        assert_eq!(refused.field, "speeds[V100]");
    }
    assert_eq!(check(&fast_on(1, &[("V100", 1), ("K80", 1_000_000)]).gang), Ok(()));
}

#[test]
fn tiers_come_before_speed() {
    let clusters = vec![cluster("own", 1, "K80", 100), cluster("cloud", 1, "V100", 10)];
    let tiers = vec![
        crate::world::tier(&["own"], TierOpens::WhenFull),
        crate::world::tier(&["cloud"], TierOpens::AfterWaitingMs(HOUR_MS)),
    ];
    let engine = engine(clusters, vec![QueueSpec { tiers, prefers: Some(Prefers::Fastest), ..queue("q", 1) }]);
    assert_eq!(goes_to(engine, fast_on(1, &[("V100", 8_000), ("K80", 100)])), "own");
}
