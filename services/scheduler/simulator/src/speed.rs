//! How fast the engine decides, in process: operations are counted by the engine, time by the caller's clock.

use std::time::Duration;

use muster_scheduler_engine::{Decision, Engine, Epoch, Event, JobId, JobSpec, Refused, RunEnd, Time};

use crate::play::{cluster, gang, group, queue};
use crate::workload::GPUS_PER_NODE;

/// What some decisions took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Gangs placed.
    pub decisions: u64,
    /// Entries looked at and fits tried, by the engine's own count.
    pub operations: u64,
    /// Time for facts and plans together.
    pub took: Duration,
}

impl Speed {
    /// Decisions a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.decisions as f64 / self.took.as_secs_f64()
    }

    /// Microseconds a decision.
    #[must_use]
    pub fn micros_each(&self) -> f64 {
        self.took.as_secs_f64() * 1e6 / self.decisions as f64
    }

    /// Operations a decision.
    #[must_use]
    pub fn operations_each(&self) -> f64 {
        self.operations as f64 / self.decisions as f64
    }
}

/// A monotonic clock: the time since some fixed instant. This crate has none of its own.
pub type Clock<'a> = &'a dyn Fn() -> Duration;

/// One-GPU jobs that are all there are placed on nodes that are all free: submission and decision are both timed.
///
/// # Errors
/// What the engine refuses.
pub fn fill(jobs: u64, nodes: u32, clock: Clock<'_>) -> Result<Speed, Refused> {
    let mut engine = engine_of(nodes)?;
    let work: Vec<JobSpec> = (0..jobs).map(|id| job(id, 1)).collect();
    measure(&mut engine, clock, |engine| {
        for job in work {
            engine.apply(Event::Submitted { job, suspended: false })?;
        }
        Ok(engine.plan().len())
    })
}

/// A full cluster with jobs of four sizes waiting; runs end one after another, and each end lets others start.
///
/// # Errors
/// What the engine refuses.
pub fn steady(waiting: u64, nodes: u32, ends: u64, clock: Clock<'_>) -> Result<Speed, Refused> {
    let mut engine = engine_of(nodes)?;
    let full = u64::from(nodes) * u64::from(GPUS_PER_NODE) / 3;
    for id in 0..full + waiting {
        engine.apply(Event::Submitted { job: job(id, [1, 2, 4, 8][id as usize % 4]), suspended: false })?;
    }
    let mut running: std::collections::VecDeque<(JobId, Epoch)> = placed(engine.plan()).into();
    measure(&mut engine, clock, |engine| {
        let mut decisions = 0;
        for ended in 0..ends {
            let Some((job, epoch)) = running.pop_front() else { break };
            engine.apply(Event::Time(Time(ended.cast_signed())))?;
            engine.apply(Event::Ended { job, epoch, end: RunEnd::Finished })?;
            let new = placed(engine.plan());
            decisions += new.len();
            running.extend(new);
        }
        Ok(decisions)
    })
}

/// A job that fits is submitted behind so many equal ones that don't.
///
/// # Errors
/// What the engine refuses.
pub fn behind_blocked(blocked: u64, clock: Clock<'_>) -> Result<Speed, Refused> {
    let mut engine = engine_of(4)?;
    for id in 0..5 {
        engine.apply(Event::Submitted { job: job(id, if id < 3 { 8 } else { 2 }), suspended: false })?;
    }
    engine.plan();
    for id in 5..5 + blocked {
        engine.apply(Event::Submitted { job: job(id, 8), suspended: false })?;
    }
    engine.plan();
    let last = job(5 + blocked, 4);
    measure(&mut engine, clock, |engine| {
        engine.apply(Event::Submitted { job: last, suspended: false })?;
        Ok(engine.plan().len())
    })
}

/// A full cluster of one-GPU runs, and a gang that has a right to the place of some of them: by its priority in their queue, or by
/// the share of its own. Gives what the plan took that decides it.
///
/// # Errors
/// What the engine refuses.
pub fn make_room(nodes: u32, workers: u32, gpus_each: u32, by: Right, clock: Clock<'_>) -> Result<Speed, Refused> {
    let mut engine = engine_of(nodes)?;
    engine.apply(Event::Queue(queue("other", 1)))?;
    let runs = u64::from(nodes * GPUS_PER_NODE);
    for id in 0..runs {
        engine.apply(Event::Submitted { job: job(id, 1), suspended: false })?;
    }
    for (job, epoch) in placed(engine.plan()) {
        engine.apply(Event::Started { job, epoch, at: Time(0) })?;
    }
    // Long enough for a gang that was submitted at 0 to stand on its share.
    engine.apply(Event::Time(Time(5 * 3_600_000)))?;
    engine.plan();
    let mut large = job(runs, 1);
    large.gang = gang(vec![group("worker", workers, gpus_each)], None);
    match by {
        Right::Priority => large.priority = 1,
        Right::Share => "other".clone_into(&mut large.queue),
    }
    measure(&mut engine, clock, |engine| {
        engine.apply(Event::Submitted { job: large, suspended: false })?;
        Ok(engine.plan().len())
    })
}

/// By what a gang takes the place of runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Its priority.
    Priority,
    /// Its queue's share.
    Share,
}

fn measure(
    engine: &mut Engine,
    clock: Clock<'_>,
    work: impl FnOnce(&mut Engine) -> Result<usize, Refused>,
) -> Result<Speed, Refused> {
    let (before, began) = (engine.stats(), clock());
    let decisions = work(engine)? as u64;
    let (after, ended) = (engine.stats(), clock());
    let operations = after.entries_visited + after.fits_tried - before.entries_visited - before.fits_tried;
    Ok(Speed { decisions, operations, took: ended.saturating_sub(began) })
}

fn placed(decisions: Vec<Decision>) -> Vec<(JobId, Epoch)> {
    let placements = decisions.into_iter().filter_map(|decision| match decision {
        Decision::Place(placement) => Some((placement.job, placement.epoch)),
        Decision::Interrupt(_) | Decision::Resize(_) => None,
    });
    placements.collect()
}

fn engine_of(nodes: u32) -> Result<Engine, Refused> {
    let mut engine = Engine::new();
    engine.apply(Event::Cluster(cluster("pool", nodes)))?;
    engine.apply(Event::Queue(queue("bench", 1)))?;
    Ok(engine)
}

fn job(id: u64, gpus: u32) -> JobSpec {
    JobSpec {
        id: JobId(id),
        queue: "bench".to_owned(),
        priority: 0,
        kind: String::new(),
        submitted_at: Time(0),
        deadline: None,
        gang: gang(vec![group("worker", 1, gpus)], None),
    }
}
