//! GPU models of unequal speed: where a job goes that says how fast it is, and what it has done there.

use crate::world::{Dice, cluster, engine, job, placed, plan, queue, submit};
use muster_scheduler_engine::{
    Budget, BudgetLimit, BudgetUnit, ClusterSpec, Engine, Epoch, Event, JobId, JobSpec, Prefers, QueueSpec, RunEnd, TierOpens,
    Time, check,
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

/// A cluster of one node, at a price and with so many milligrams of CO2e for a GPU-hour.
fn emitting(name: &str, flavor: &str, price: i64, emissions: Option<i64>) -> ClusterSpec {
    let mut cluster = cluster(name, 1, flavor, price);
    cluster.emissions = emissions.map(|emissions| (flavor.to_owned(), emissions)).into_iter().collect();
    cluster
}

#[test]
fn the_greenest_place_is_where_a_unit_of_work_emits_least() {
    let world = |north: Option<i64>| {
        let clusters = vec![emitting("north", "A100", 900, north), emitting("south", "V100", 100, Some(120_000))];
        engine(clusters, vec![QueueSpec { prefers: Some(Prefers::Greenest), ..queue("q", 1) }])
    };
    assert_eq!(goes_to(world(Some(18_000)), fast_on(1, &[])), "north", "400 W at 45 g, and not 300 W at 400 g");
    assert_eq!(goes_to(world(Some(150_000)), fast_on(1, &[])), "south");
    assert_eq!(goes_to(world(Some(150_000)), fast_on(1, &[("A100", 2_000)])), "north", "75 g for an hour's work");
    assert_eq!(goes_to(world(Some(120_000)), fast_on(1, &[])), "south", "as green, and cheaper");
    assert_eq!(goes_to(world(None), fast_on(1, &[])), "south", "what nobody knows comes last");
    // It is the queue that asks for it, and Explain says why.
    let mut engine = world(Some(150_000));
    submit(&mut engine, fast_on(1, &[("A100", 2_000)]));
    let explanation = engine.explain(JobId(1)).unwrap();
    let preference = explanation.preference.unwrap().to_string();
    assert_eq!(
        preference,
        "A100 on north comes before V100 on south: an hour's work emits 75.0 g of CO2e there, and emits 120.0 g of CO2e on the other"
    );
    assert_eq!(explanation.clusters[0].models[0].work_emissions, Some(75_000));
    // At another hour the south is greener.
    engine.apply(Event::Cluster(emitting("south", "V100", 100, Some(60_000)))).unwrap();
    assert_eq!(placed(&plan(&mut engine)), [(1, "south")]);
    let negative = engine.apply(Event::Cluster(emitting("south", "V100", 100, Some(-1)))).unwrap_err();
    assert_eq!(negative.field, "emissions[V100]");
}

#[test]
fn a_slow_twin_finds_the_same_greenest_place() {
    let mut decided = [0, 0, 0];
    for seed in 0..400 {
        let mut dice = Dice(seed);
        let models = ["A100", "K80", "V100"];
        let few = |dice: &mut Dice| 1 + dice.roll(3) as i64;
        let speeds: Vec<(&str, u32)> = models.iter().map(|model| (*model, 500 * (1 + dice.roll(2) as u32))).collect();
        let clusters: Vec<ClusterSpec> = (0..5)
            .map(|number| {
                let emissions = (dice.roll(5) > 0).then(|| 1_000 * few(&mut dice));
                emitting(&format!("c{number}"), models[dice.roll(3) as usize], 1_000 * few(&mut dice), emissions)
            })
            .collect();
        let known = |cluster: &ClusterSpec| {
            let (model, price) = cluster.prices.iter().next().unwrap();
            let speed = i64::from(speeds.iter().find(|(its, _)| its == model).unwrap().1);
            let of_work = |amount: i64| amount * 1_000 / speed;
            let emissions = cluster.emissions.get(model).map_or(i64::MAX, |emissions| of_work(*emissions));
            (emissions, of_work(*price), -speed, cluster.name.clone())
        };
        let best = clusters.iter().map(known).min().unwrap();
        let ties = clusters.iter().map(known).filter(|(emissions, ..)| *emissions == best.0).count();
        decided[ties.min(3) - 1] += 1;
        let engine = engine(clusters, vec![QueueSpec { prefers: Some(Prefers::Greenest), ..queue("q", 1) }]);
        assert_eq!(goes_to(engine, fast_on(1, &speeds)), best.3, "seed {seed}");
    }
    assert!(decided.iter().all(|count| *count > 20), "by emissions, by price and by what is left: {decided:?}");
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
fn what_is_typical_now_counts_also_for_a_job_whose_speeds_nobody_knows() {
    let clusters = vec![cluster("k", 1, "K80", 100), cluster("v", 1, "V100", 300)];
    let mut engine = engine(clusters, vec![QueueSpec { prefers: Some(Prefers::Fastest), ..queue("q", 1) }]);
    (1..=3).for_each(|id| submit(&mut engine, job(id, "q", 1, 8)));
    assert_eq!(placed(&plan(&mut engine)), [(1, "k"), (2, "v")], "as fast everywhere as is typical, and k is the cheaper one");
    // Those who say it are slow on a V100: there the third is ahead of them.
    let slow = fast_on(4, &[("V100", 250)]);
    engine.apply(Event::Submitted { job: slow, suspended: true }).unwrap();
    for id in 1..=2 {
        engine.apply(Event::Ended { job: JobId(id), epoch: Epoch(1), end: RunEnd::Finished }).unwrap();
    }
    let mut restored = Engine::restore(engine.rows(), engine.now()).unwrap();
    assert_eq!(placed(&plan(&mut restored)), [(3, "v")]);
    assert_eq!(placed(&plan(&mut engine)), [(3, "v")], "as one decides who never heard what was typical before");
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
