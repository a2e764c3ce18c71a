//! What is foreseen is what happens, if runs last as long as it is thought and nothing else is submitted.

use crate::world::{cluster, engine, job, placed, plan, queue, submit};
use muster_scheduler_engine::{Event, JobId, Outlook, RunEnd, Start, Time};

const HOUR_MS: i64 = 3_600_000;
const OUTLOOK: Outlook = Outlook { horizon_ms: 24 * HOUR_MS, most_steps: 1_000, permille: 500 };

#[test]
fn jobs_start_when_those_before_them_are_over_and_the_engine_is_as_before() {
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1)], vec![queue("a", 1)]);
    for id in 1..=4 {
        submit(&mut engine, job(id, "a", 1, 8));
    }
    let first = plan(&mut engine);
    assert_eq!(placed(&first), [(1, "idc")]);
    let before = engine.rows();
    let forecast = engine.clone().forecast(OUTLOOK);
    assert_eq!(engine.rows(), before);
    // An hour is assumed of the first; then it has taught that they last from 51 to 68 minutes.
    let seen: Vec<(u64, bool, (u32, u32))> =
        forecast.starts.iter().map(|(id, Start { learned, ends, .. })| (id.0, *learned, *ends)).collect();
    assert_eq!(seen, [(2, true, (1, 0)), (3, true, (2, 1)), (4, true, (3, 2))]);
    let base = engine.now().0;
    let at = |id: u64| forecast.starts[&JobId(id)].at.0;
    assert_eq!(at(2) - base, HOUR_MS);

    // It happens like that.
    let (mut began, mut now) = (base, at(2));
    let mut running = first[0].clone();
    for id in 2..=4 {
        engine.apply(Event::Started { job: running.job, epoch: running.epoch, at: Time(began) }).expect("it was placed");
        engine.apply(Event::Time(Time(now))).expect("time");
        engine.apply(Event::Ended { job: running.job, epoch: running.epoch, end: RunEnd::Finished }).expect("it ran");
        let next = plan(&mut engine);
        assert_eq!(placed(&next), [(id, "idc")]);
        assert_eq!(now, at(id));
        began = now;
        now += forecast.starts[&JobId(id)].lasts_ms;
        running = next[0].clone();
    }
}

#[test]
fn it_is_not_looked_farther_than_was_asked() {
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1)], vec![queue("a", 1)]);
    for id in 1..=4 {
        submit(&mut engine, job(id, "a", 1, 8));
    }
    let started = |outlook: Outlook| engine.clone().forecast(outlook).starts.len();
    assert_eq!(started(Outlook { horizon_ms: 0, ..OUTLOOK }), 1);
    assert_eq!(started(Outlook { horizon_ms: HOUR_MS, ..OUTLOOK }), 2);
    assert_eq!(started(Outlook { most_steps: 2, ..OUTLOOK }), 2);
}
