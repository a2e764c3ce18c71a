//! Nothing starves: what has waited for a day and a half gets its room, by an interruption or by a reservation, and keeps it.

use crate::world::{cluster, engine, job, placed, plan, queue, submit};
use muster_scheduler_engine::{Cause, Decision, Engine, Epoch, Event, JobId, JobSpec, JobState, RunEnd, Time};

const HOUR_MS: i64 = 3_600_000;
/// How long a gang waits at most before room is made for it.
const PATIENCE_MS: i64 = 36 * HOUR_MS;

fn at(mut spec: JobSpec, at_ms: i64) -> JobSpec {
    spec.submitted_at = Time(at_ms);
    spec
}

fn tell(engine: &mut Engine, at_ms: i64) {
    engine.apply(Event::Time(Time(at_ms))).unwrap();
}

fn begin(engine: &mut Engine, id: u64, at_ms: i64) {
    engine.apply(Event::Started { job: JobId(id), epoch: Epoch(1), at: Time(at_ms) }).unwrap();
}

fn finish(engine: &mut Engine, id: u64, at_ms: i64) {
    tell(engine, at_ms);
    engine.apply(Event::Ended { job: JobId(id), epoch: Epoch(1), end: RunEnd::Finished }).unwrap();
}

/// Two nodes with two half-node runs each, which are never interrupted, and a gang of two whole nodes that waits.
fn blocked_gang() -> Engine {
    let mut engine = engine(vec![cluster("idc", 2, "V100", 1)], vec![queue("one", 1)]);
    for id in 1..=4 {
        submit(&mut engine, at(job(id, "one", 1, 4), 0));
    }
    assert_eq!(plan(&mut engine).len(), 4);
    for id in 1..=4 {
        begin(&mut engine, id, 0);
    }
    submit(&mut engine, at(job(10, "one", 2, 8), HOUR_MS));
    assert!(plan(&mut engine).is_empty());
    engine
}

#[test]
fn small_jobs_pass_a_blocked_gang_for_a_day_and_a_half_and_no_longer() {
    let mut engine = blocked_gang();
    submit(&mut engine, at(job(11, "one", 1, 4), 2 * HOUR_MS));
    finish(&mut engine, 1, 3 * HOUR_MS);
    assert_eq!(placed(&plan(&mut engine)), [(11, "idc")]);
    assert!(engine.next_timer().is_some_and(|at| at <= Time(HOUR_MS + PATIENCE_MS)), "the engine asks to be woken for it");
    tell(&mut engine, HOUR_MS + PATIENCE_MS);
    assert!(plan(&mut engine).is_empty());
    submit(&mut engine, JobSpec { kind: "new".to_owned(), ..at(job(12, "one", 1, 4), HOUR_MS + PATIENCE_MS) });
    finish(&mut engine, 11, HOUR_MS + PATIENCE_MS);
    assert!(plan(&mut engine).is_empty(), "what becomes free is kept for the gang");
    for id in 2..=3 {
        finish(&mut engine, id, HOUR_MS + PATIENCE_MS);
        assert!(plan(&mut engine).is_empty());
    }
    finish(&mut engine, 4, HOUR_MS + PATIENCE_MS);
    assert_eq!(placed(&plan(&mut engine)), [(10, "idc")]);
}

#[test]
fn a_gang_that_will_be_done_in_time_runs_in_reserved_room() {
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1)], vec![queue("one", 1)]);
    let kind = |id, kind: &str, gpus, at_ms| JobSpec { kind: kind.to_owned(), ..at(job(id, "one", 1, gpus), at_ms) };
    for (first, name, lasts_ms) in [(100, "minute", 60_000), (200, "days", 6 * 24 * HOUR_MS)] {
        for id in first..first + 20 {
            let now = engine.now().0;
            submit(&mut engine, kind(id, name, 4, now));
            assert_eq!(plan(&mut engine).len(), 1);
            begin(&mut engine, id, now);
            finish(&mut engine, id, now + lasts_ms);
        }
    }
    let now = engine.now().0;
    submit(&mut engine, kind(1, "days", 4, now));
    submit(&mut engine, kind(2, "days", 4, now));
    assert_eq!(plan(&mut engine).len(), 2);
    begin(&mut engine, 1, now);
    begin(&mut engine, 2, now);
    submit(&mut engine, kind(3, "whole", 8, now));
    tell(&mut engine, now + PATIENCE_MS);
    assert!(plan(&mut engine).is_empty());
    // Half of what is reserved becomes free days before the other half is expected.
    finish(&mut engine, 1, now + PATIENCE_MS + 1);
    assert!(plan(&mut engine).is_empty());
    submit(&mut engine, kind(4, "days", 4, now + PATIENCE_MS + 1));
    assert!(plan(&mut engine).is_empty(), "it would last longer than that");
    submit(&mut engine, kind(5, "minute", 4, now + PATIENCE_MS + 1));
    assert_eq!(placed(&plan(&mut engine)), [(5, "idc")]);
    finish(&mut engine, 2, now + PATIENCE_MS + 2);
    assert!(plan(&mut engine).is_empty());
    finish(&mut engine, 5, now + PATIENCE_MS + 60_002);
    assert_eq!(placed(&plan(&mut engine)), [(3, "idc")]);
}

#[test]
fn runs_that_allow_it_make_room_at_once_and_only_for_one_gang_of_a_queue() {
    let mut engine = engine(vec![cluster("idc", 2, "V100", 1)], vec![queue("one", 1)]);
    let patient = |id, at_ms| {
        let mut spec = at(job(id, "one", 1, 8), at_ms);
        spec.gang.restart_ms = Some(30_000);
        spec
    };
    for id in 1..=2 {
        submit(&mut engine, patient(id, 0));
    }
    assert_eq!(plan(&mut engine).len(), 2);
    for id in 1..=2 {
        begin(&mut engine, id, 0);
    }
    for id in 3..=4 {
        submit(&mut engine, patient(id, 1));
    }
    tell(&mut engine, 1 + PATIENCE_MS);
    let decided = engine.plan();
    let [Decision::Interrupt(interruption)] = decided.as_slice() else { panic!("{decided:?}") };
    assert_eq!((interruption.in_favour_of, interruption.cause), (JobId(3), Cause::Overdue));
    assert!(engine.plan().is_empty());
    let ended = interruption.job;
    engine.apply(Event::Ended { job: ended, epoch: Epoch(1), end: RunEnd::Retry { not_before: Time(0) } }).unwrap();
    let first = engine.plan();
    let [Decision::Place(placement), ..] = first.as_slice() else { panic!("{first:?}") };
    assert_eq!(placement.job, JobId(3));
}

#[test]
fn a_reservation_survives_a_restart_and_goes_with_its_gang() {
    let mut engine = blocked_gang();
    tell(&mut engine, HOUR_MS + PATIENCE_MS);
    engine.plan();
    let JobState::Waiting { promised: Some(promised), .. } = engine.job(JobId(10)).unwrap().state else {
        panic!("room is kept for it")
    };
    assert_eq!((promised.cluster.as_str(), promised.slots.len()), ("idc", 2));
    let mut other = Engine::restore(engine.rows(), engine.now()).unwrap();
    assert_eq!(other.audit(), engine.audit());
    for engine in [&mut engine, &mut other] {
        finish(engine, 1, HOUR_MS + PATIENCE_MS);
        assert!(engine.plan().is_empty());
        submit(engine, at(job(12, "one", 1, 4), HOUR_MS + PATIENCE_MS));
        assert!(engine.plan().is_empty());
        engine.apply(Event::Withdrawn(JobId(10))).unwrap();
        assert_eq!(placed(&plan(engine)), [(12, "idc")]);
    }
    assert_eq!(other.rows(), engine.rows());
}
