//! Short gangs take the place of long runs that allow it, and what was learned decides who is short.

use crate::world::{cluster, engine, job, placed, plan, queue, submit};
use muster_scheduler_engine::{Cause, Decision, Engine, Epoch, Event, Interruption, JobId, JobSpec, RunEnd, Time};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// A job of a kind that may be interrupted for 30 s.
fn patient(id: u64, queue: &str, kind: &str, gpus: i64) -> JobSpec {
    let mut job = job(id, queue, 1, gpus);
    job.kind = kind.to_owned();
    job.gang.restart_ms = Some(30_000);
    job
}

fn begin(engine: &mut Engine, id: u64, epoch: u32, at_ms: i64) {
    engine.apply(Event::Started { job: JobId(id), epoch: Epoch(epoch), at: Time(at_ms) }).expect("a placed job");
}

fn end(engine: &mut Engine, id: u64, epoch: u32, at_ms: i64, end: RunEnd) {
    engine.apply(Event::Time(Time(at_ms))).unwrap();
    engine.apply(Event::Ended { job: JobId(id), epoch: Epoch(epoch), end }).expect("a placed job");
}

/// Teaches that jobs of the kind last so long.
fn teach(engine: &mut Engine, from_id: u64, queue: &str, kind: &str, gpus: i64, lasts_ms: i64) {
    for id in from_id..from_id + 20 {
        let now = engine.now().0;
        let mut job = patient(id, queue, kind, gpus);
        job.submitted_at = Time(now);
        submit(engine, job);
        assert_eq!(plan(engine).len(), 1);
        begin(engine, id, 1, now);
        end(engine, id, 1, now + lasts_ms, RunEnd::Finished);
    }
}

/// One node; 'long' jobs of 8 GPUs take 10 hours, 'short' ones 2 minutes. A long one has run for an hour.
fn a_long_run() -> (Engine, i64) {
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1)], vec![queue("one", 1), queue("two", 1)]);
    teach(&mut engine, 100, "one", "long", 8, 10 * HOUR_MS);
    teach(&mut engine, 200, "two", "short", 8, 2 * MINUTE_MS);
    let now = engine.now().0;
    let mut long = patient(300, "one", "long", 8);
    long.submitted_at = Time(now);
    submit(&mut engine, long);
    assert_eq!(placed(&plan(&mut engine)), [(300, "idc")]);
    begin(&mut engine, 300, 1, now);
    (engine, now)
}

fn short(id: u64, at_ms: i64) -> JobSpec {
    JobSpec { submitted_at: Time(at_ms), ..patient(id, "two", "short", 8) }
}

#[test]
fn a_short_gang_takes_the_place_of_a_long_run_and_gives_it_back() {
    let (mut engine, began) = a_long_run();
    let now = began + HOUR_MS;
    submit(&mut engine, short(301, now));
    let interruption = Interruption { job: JobId(300), epoch: Epoch(1), in_favour_of: JobId(301), cause: Cause::Sooner };
    assert_eq!(engine.plan(), [Decision::Interrupt(interruption)]);
    assert!(engine.plan().is_empty(), "it is decided once");
    end(&mut engine, 300, 1, now, RunEnd::Retry { not_before: Time(now) });
    assert_eq!(placed(&plan(&mut engine)), [(301, "idc")]);
    begin(&mut engine, 301, 1, now);
    end(&mut engine, 301, 1, now + 2 * MINUTE_MS, RunEnd::Finished);
    let again = plan(&mut engine);
    assert_eq!((placed(&again), again[0].epoch), (vec![(300, "idc")], Epoch(2)));
}

#[test]
fn what_does_not_allow_it_is_never_interrupted() {
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1)], vec![queue("one", 1), queue("two", 1)]);
    teach(&mut engine, 200, "two", "short", 8, 2 * MINUTE_MS);
    submit(&mut engine, job(300, "one", 1, 8));
    assert_eq!(plan(&mut engine).len(), 1);
    let began = engine.now().0;
    begin(&mut engine, 300, 1, began);
    submit(&mut engine, short(301, began + 100 * HOUR_MS));
    assert!(engine.plan().is_empty());
}

#[test]
fn a_run_is_left_alone_for_its_first_minute_and_then_it_is_looked_at_again() {
    let (mut engine, began) = a_long_run();
    submit(&mut engine, short(301, began + 1_000));
    assert!(engine.plan().is_empty());
    assert_eq!(engine.next_timer(), Some(Time(began + MINUTE_MS)));
    engine.apply(Event::Time(Time(began + MINUTE_MS))).unwrap();
    assert_eq!(engine.plan().len(), 1);
}

#[test]
fn a_gang_as_long_as_the_run_waits() {
    let (mut engine, began) = a_long_run();
    submit(&mut engine, JobSpec { submitted_at: Time(began + HOUR_MS), ..patient(301, "one", "long", 8) });
    assert!(engine.plan().is_empty());
}

#[test]
fn only_the_runs_in_the_way_are_interrupted() {
    let mut engine = engine(vec![cluster("idc", 3, "V100", 1)], vec![queue("one", 1), queue("two", 1)]);
    teach(&mut engine, 100, "one", "long", 8, 10 * HOUR_MS);
    teach(&mut engine, 200, "two", "short", 8, 2 * MINUTE_MS);
    let began = engine.now().0;
    for id in 300..303 {
        submit(&mut engine, JobSpec { submitted_at: Time(began), ..patient(id, "one", "long", 8) });
    }
    assert_eq!(plan(&mut engine).len(), 3);
    for id in 300..303 {
        begin(&mut engine, id, 1, began);
    }
    submit(&mut engine, short(400, began + HOUR_MS));
    assert_eq!(engine.plan().len(), 1, "one node is enough");
}

#[test]
fn a_lower_priority_never_interrupts_a_higher_one() {
    let (mut engine, began) = a_long_run();
    submit(&mut engine, JobSpec { priority: -1, ..short(301, began + HOUR_MS) });
    assert!(engine.plan().is_empty());
}

#[test]
fn a_job_that_is_withdrawn_meanwhile_leaves_the_place_to_others() {
    let (mut engine, began) = a_long_run();
    let now = began + HOUR_MS;
    submit(&mut engine, short(301, now));
    assert_eq!(engine.plan().len(), 1);
    engine.apply(Event::Withdrawn(JobId(301))).unwrap();
    end(&mut engine, 300, 1, now, RunEnd::Retry { not_before: Time(now) });
    assert_eq!(placed(&plan(&mut engine)), [(300, "idc")]);
}

#[test]
fn inside_a_queue_the_shorter_goes_first_unless_it_came_much_later() {
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1)], vec![queue("one", 1)]);
    teach(&mut engine, 100, "one", "long", 8, 10 * HOUR_MS);
    teach(&mut engine, 200, "one", "short", 8, 2 * MINUTE_MS);
    let now = engine.now().0;
    let at = |id, kind, at_ms| JobSpec { submitted_at: Time(at_ms), ..patient(id, "one", kind, 8) };
    submit(&mut engine, JobSpec { priority: 1, ..at(300, "other", now) });
    assert_eq!(plan(&mut engine).len(), 1);
    submit(&mut engine, at(301, "long", now));
    submit(&mut engine, at(302, "short", now + HOUR_MS));
    // Later than the long one by more than its expected 80 GPU-hours.
    submit(&mut engine, at(303, "short", now + 300 * HOUR_MS));
    let mut order = Vec::new();
    let mut running = 300;
    for _ in 0..3 {
        let now = engine.now().0;
        end(&mut engine, running, 1, now, RunEnd::Finished);
        running = plan(&mut engine)[0].job.0;
        order.push(running);
    }
    assert_eq!(order, [302, 301, 303]);
}

#[test]
fn an_engine_that_was_restored_keeps_what_was_learned_promised_and_listed() {
    let (mut engine, began) = a_long_run();
    let now = began + HOUR_MS;
    engine.apply(Event::Time(Time(now))).unwrap();
    engine.plan();
    let restored = |engine: &Engine| Engine::restore(engine.rows(), engine.now()).expect("rows that an engine wrote");
    let mut other = restored(&engine);
    for engine in [&mut engine, &mut other] {
        submit(engine, short(301, now));
    }
    assert_eq!(engine.plan(), other.plan());
    assert_eq!(engine.rows(), other.rows());
    let mut other = restored(&engine);
    for engine in [&mut engine, &mut other] {
        end(engine, 300, 1, now, RunEnd::Retry { not_before: Time(now) });
    }
    assert_eq!(plan(&mut engine), plan(&mut other));
    assert_eq!(engine.rows(), other.rows());
}
