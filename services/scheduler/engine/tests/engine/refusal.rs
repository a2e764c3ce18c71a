//! What its cluster refuses to have of a run that grew.

use crate::sizes::{HOUR_MS, MINUTE_MS, Told, end, gpus, leave, pool, size, step, tell};
use crate::world::{elastic, job, queue, submit};
use muster_scheduler_engine::{Engine, Event, JobId, Smaller, Time};

/// A gang of up to eight that grew from four when somebody else ended, three minutes after it began.
fn grown() -> Engine {
    let mut engine = pool(1, vec![queue("a", 1), queue("b", 1)]);
    submit(&mut engine, job(1, "b", 1, 4));
    step(&mut engine);
    submit(&mut engine, elastic(job(2, "a", 8, 1), 2));
    assert_eq!(step(&mut engine), [Told::Placed(2, 4)]);
    end(&mut engine, 1);
    tell(&mut engine, 3 * MINUTE_MS);
    assert_eq!(step(&mut engine), [Told::Grown(2, 8)]);
    engine
}

fn refuse(engine: &mut Engine, id: u64, workers: u32) {
    let epoch = engine.job(JobId(id)).expect("a known job").epoch;
    let at = engine.now();
    engine.apply(Event::GrowthRefused { job: JobId(id), epoch, workers, at }).unwrap();
}

#[test]
fn it_is_given_back_and_not_asked_for_again_within_an_hour() {
    let mut engine = grown();
    assert_eq!(gpus(&engine, "a"), 8);
    refuse(&mut engine, 2, 4);
    assert_eq!(step(&mut engine), [Told::Refused(2, 4)]);
    assert_eq!(gpus(&engine, "a"), 8, "charged until its pods are seen");
    assert_eq!(step(&mut engine), [], "the second plan is empty");
    leave(&mut engine, 2);
    assert_eq!(step(&mut engine), [Told::Shrunk(2, 4)]);
    assert_eq!(gpus(&engine, "a"), 4);
    let until = Time(3 * MINUTE_MS + HOUR_MS);
    assert_eq!(size(&engine, 2).why, Some(Smaller::Refused { until }));
    tell(&mut engine, until.0 - 1);
    assert_eq!(step(&mut engine), []);
    tell(&mut engine, until.0);
    assert_eq!(step(&mut engine), [Told::Grown(2, 8)], "the quota may be another by then");
}

#[test]
fn others_get_the_room_at_once() {
    let mut engine = grown();
    refuse(&mut engine, 2, 4);
    step(&mut engine);
    leave(&mut engine, 2);
    submit(&mut engine, job(3, "b", 1, 4));
    assert_eq!(step(&mut engine), [Told::Shrunk(2, 4), Told::Placed(3, 1)]);
}

#[test]
fn what_is_needed_at_least_is_not_given_back_and_neither_is_what_is_there() {
    let mut engine = grown();
    refuse(&mut engine, 2, 8);
    assert_eq!(step(&mut engine), [], "all are there");
    refuse(&mut engine, 2, 0);
    assert_eq!(step(&mut engine), [Told::Refused(2, 2)]);
    refuse(&mut engine, 2, 0);
    assert_eq!(step(&mut engine), [], "they are told once");
}

#[test]
fn it_is_refused_of_an_older_run_and_of_a_gang_of_one_size() {
    let mut engine = grown();
    let epoch = engine.job(JobId(2)).unwrap().epoch;
    let older = muster_scheduler_engine::Epoch(epoch.0 - 1);
    let refused = engine.apply(Event::GrowthRefused { job: JobId(2), epoch: older, workers: 4, at: Time(0) }).unwrap_err();
    assert_eq!(refused.field, "epoch");
    submit(&mut engine, job(3, "b", 1, 4));
    step(&mut engine);
    let epoch = engine.job(JobId(2)).unwrap().epoch;
    let unknown = engine.apply(Event::GrowthRefused { job: JobId(9), epoch, workers: 4, at: Time(0) }).unwrap_err();
    assert_eq!(unknown.field, "job");
}
