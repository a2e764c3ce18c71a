//! Speeds that jobs don't say: learned from what their like lasted on which GPU model, used for the order of places, and explained.

use std::collections::BTreeMap;

use crate::world::{cluster, engine, job, placed, plan, queue, submit};
use muster_scheduler_engine::{
    By, Engine, Epoch, Event, JobId, JobSpec, ModelVerdict, Prefers, QueueSpec, RunEnd, SpeedFrom, Time, WorkPrice,
};

const HOUR_MS: i64 = 3_600_000;

fn of_kind(id: u64, kind: &str) -> JobSpec {
    JobSpec { kind: kind.to_owned(), ..job(id, "q", 1, 1) }
}

/// A V100 at 2 and a K80 at 1 for a GPU-hour.
fn two_models(prefers: Option<Prefers>) -> Engine {
    let clusters = vec![cluster("v", 1, "V100", 2_000_000), cluster("k", 1, "K80", 1_000_000)];
    engine(clusters, vec![QueueSpec { prefers, ..queue("q", 1) }])
}

/// A job runs on a model and is done after so long.
fn ran(engine: &mut Engine, spec: JobSpec, model: &str, lasted_ms: i64) {
    let id = spec.id;
    let mut spec = spec;
    spec.gang.flavors.insert(model.to_owned());
    submit(engine, spec);
    assert_eq!(plan(engine).len(), 1);
    let began = engine.now();
    engine.apply(Event::Started { job: id, epoch: Epoch(1), at: began }).unwrap();
    engine.apply(Event::Time(Time(began.0 + lasted_ms))).unwrap();
    engine.apply(Event::Ended { job: id, epoch: Epoch(1), end: RunEnd::Finished }).unwrap();
}

/// Jobs of kind `train-` have lasted an hour on a V100 and four on a K80, so often on each.
fn taught(engine: &mut Engine, often: u64) {
    for id in 0..often {
        ran(engine, of_kind(1_000 + id, "train-"), "V100", HOUR_MS);
        ran(engine, of_kind(2_000 + id, "train-"), "K80", 4 * HOUR_MS);
    }
}

fn goes_to(engine: &mut Engine, job: JobSpec) -> String {
    submit(engine, job);
    placed(&plan(engine))[0].1.to_owned()
}

#[test]
fn what_is_learned_of_speeds_orders_the_places_of_jobs_that_say_none() {
    let mut engine = two_models(None);
    taught(&mut engine, 2);
    assert_eq!(goes_to(&mut engine, of_kind(1, "train-")), "k", "two runs are too few: it is the cheaper hour");
    taught_more(&mut engine);
    assert_eq!(goes_to(&mut engine, of_kind(2, "train-")), "v", "an hour's work costs 4 on a K80 and 2 on a V100");
    assert_eq!(goes_to(&mut engine, of_kind(3, "other-")), "k", "of another kind nothing is known");
    let mut said = of_kind(4, "train-");
    said.gang.speeds.insert("K80".to_owned(), 900);
    assert_eq!(goes_to(&mut engine, said), "k", "who says it is believed");
}

fn taught_more(engine: &mut Engine) {
    ran(engine, of_kind(1_100, "train-"), "V100", HOUR_MS);
    ran(engine, of_kind(2_100, "train-"), "K80", 4 * HOUR_MS);
}

#[test]
fn the_fastest_place_knows_what_was_learned_too() {
    let mut engine = two_models(Some(Prefers::Fastest));
    assert_eq!(goes_to(&mut engine, of_kind(1, "train-")), "k", "nothing is known: it is the cheaper one");
    taught(&mut engine, 3);
    assert_eq!(goes_to(&mut engine, of_kind(2, "train-")), "v");
}

#[test]
fn jobs_that_say_their_speeds_teach_nothing_of_them() {
    let mut engine = two_models(None);
    for id in 0..3 {
        let mut said = of_kind(1_000 + id, "train-");
        said.gang.speeds.insert("K80".to_owned(), 250);
        ran(&mut engine, said, "V100", HOUR_MS);
        ran(&mut engine, of_kind(2_000 + id, "train-"), "K80", 4 * HOUR_MS);
    }
    let models = &engine.rows().histories[0].models;
    assert_eq!(models.keys().collect::<Vec<_>>(), ["K80"]);
}

#[test]
fn each_candidate_says_how_fast_the_job_is_there_and_why_the_first_comes_first() {
    let mut engine = two_models(None);
    taught(&mut engine, 3);
    submit(&mut engine, of_kind(1, "train-"));
    let explanation = engine.explain(JobId(1)).unwrap();
    let model = |flavor: &str, price, speed, known| ModelVerdict {
        flavor: flavor.to_owned(),
        price_micros: Some(price),
        speed,
        known,
        work_price_micros: Some(price * 1_000 / speed),
        work_emissions: None,
    };
    let learned = SpeedFrom::Learned { runs: 3 };
    let models: BTreeMap<&str, &[ModelVerdict]> =
        explanation.clusters.iter().map(|verdict| (verdict.cluster.as_str(), &verdict.models[..])).collect();
    // Of two models with equally many runs the first by name is the normal one.
    assert_eq!(models["v"], [model("V100", 2_000_000, 4_000, learned)]);
    assert_eq!(models["k"], [model("K80", 1_000_000, 1_000, learned)]);
    let preference = explanation.preference.expect("there are two models");
    let price = |gpu| WorkPrice { gpu: Some(gpu), moving: Some(0) };
    assert_eq!(preference.by, By::Price(price(500_000), price(1_000_000)));
    assert_eq!(
        preference.to_string(),
        "V100 on v comes before K80 on k: an hour's work costs 0.50 there, and costs 1.00 on the other"
    );
    submit(&mut engine, of_kind(2, "other-"));
    let explanation = engine.explain(JobId(2)).unwrap();
    let known: Vec<SpeedFrom> = explanation.clusters.iter().map(|verdict| verdict.models[0].known).collect();
    assert_eq!(known, [SpeedFrom::Assumed; 2]);
    assert_eq!(explanation.clusters.iter().map(|verdict| verdict.place).collect::<Vec<_>>(), [Some(0), Some(1)]);
}

#[test]
fn a_job_keeps_what_was_known_when_it_came_also_after_a_restart() {
    let mut engine = two_models(None);
    taught(&mut engine, 3);
    engine.apply(Event::Submitted { job: of_kind(1, "train-"), suspended: true }).unwrap();
    let known = engine.job(JobId(1)).unwrap().learned_speeds.expect("an engine says it");
    assert!(!known.is_empty());
    // Both models turn out to be about equally fast by and by; the job waits under what was known.
    for id in 0..40 {
        ran(&mut engine, JobSpec { priority: 9, ..of_kind(3_000 + id, "train-") }, "K80", HOUR_MS);
    }
    assert_eq!(engine.job(JobId(1)).unwrap().learned_speeds.as_ref(), Some(&known));
    let restored = Engine::restore(engine.rows(), engine.now()).unwrap();
    assert_eq!(restored.rows(), engine.rows());
    // One that is told nothing looks it up.
    let mut rows = engine.rows();
    rows.jobs.iter_mut().for_each(|row| row.learned_speeds = None);
    let looked_up = Engine::restore(rows, engine.now()).unwrap();
    let after = looked_up.job(JobId(1)).unwrap().learned_speeds;
    assert_ne!(after, Some(known));
}
