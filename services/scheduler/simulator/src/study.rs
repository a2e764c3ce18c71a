//! A workload under every policy, and the report: what `muster simulate` prints.

use std::fmt::Write;

use muster_scheduler_engine::Refused;
use serde_json::{Value, json};

use crate::baseline::{self, Backfill};
use crate::fault::Fault;
use crate::figures::{Figures, Outcome};
use crate::play::{self, Fleet};
use crate::plot::{Plot, plots};
use crate::scenario::Progress;
use crate::workload::{GPUS_PER_NODE, Job, Workload};

/// Gangs of at least so many GPUs are reported by themselves.
const LARGE_GPUS: u32 = 16;

/// The row of what each queue would have by itself.
pub(crate) const SILO_EASY: &str = "silo EASY, true durations";
/// The engine's row.
pub(crate) const MUSTER: &str = "muster";

/// What is studied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Mean demand ÷ size of a silo. Above 0, at most 1.
    pub load: f64,
    /// Nodes of the pool; without it as many as all silos together.
    pub nodes: Option<u32>,
}

/// A policy with what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its name.
    pub policy: &'static str,
    /// GPUs it had.
    pub gpus: u64,
    /// Over all jobs.
    pub all: Figures,
    /// Over gangs of 16 GPUs and more.
    pub large: Figures,
    /// Mean completion per queue, in the workload's order.
    pub queues_s: Vec<f64>,
    /// Gangs taken from their nodes before they were done.
    pub preemptions: u64,
    /// Part of GPU-time from the first submission to the last end that did work.
    pub utilisation: f64,
}

/// A workload under every policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Study {
    /// Names of the queues.
    pub queues: Vec<String>,
    /// Jobs and silo nodes per queue.
    pub silos: Vec<(usize, u32)>,
    /// Mean duration, below which no mean completion can be.
    pub bound_s: f64,
    /// The baselines, and Muster's engine last.
    pub rows: Vec<Row>,
    /// What the engine's play looked like.
    pub plots: Vec<Plot>,
}

/// Plays a workload under every policy; `progress` is told of each before it is played.
///
/// # Errors
/// A load that is none, or a gang that is larger than the pool, by its line.
pub fn study(workload: &Workload, terms: Terms, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Study, Fault> {
    let fault = |line, field: &str, why| Fault { file: workload.file.clone(), line, field: field.to_owned(), why };
    if !(terms.load > 0.0 && terms.load <= 1.0) {
        return Err(fault(None, "load", format!("{} is not above 0 and at most 1", terms.load)));
    }
    let silos = workload.silos(terms.load);
    let nodes = terms.nodes.unwrap_or_else(|| silos.iter().sum());
    if let Some(job) = workload.jobs.iter().find(|job| job.nodes() > nodes) {
        let why = format!("a gang of {} GPUs is larger than the cluster of {nodes} × {GPUS_PER_NODE}", job.gpus);
        return Err(fault(Some(job.line), "num_gpus", why));
    }
    let mut rows = Vec::new();
    for (policy, backfill) in [("silo FIFO", Backfill::None), (SILO_EASY, Backfill::Easy)] {
        progress(Progress { policy, done: None });
        rows.push(row(workload, policy, &in_silos(workload, &silos, backfill)));
    }
    for (policy, backfill) in
        [("pool FIFO", Backfill::None), ("pool EASY, true durations", Backfill::Easy), ("pool greedy", Backfill::Greedy)]
    {
        progress(Progress { policy, done: None });
        rows.push(row(workload, policy, &baseline::play(workload, nodes, backfill)));
    }
    let stage = Fleet { own: nodes, dear: None }.stage(workload, &silos);
    let mut tell = |done| progress(Progress { policy: MUSTER, done: Some((done, workload.jobs.len())) });
    tell(0);
    let (outcome, timeline) = play::play_recorded(workload, &stage, &mut tell).map_err(|refused| refusal(workload, refused))?;
    rows.push(row(workload, MUSTER, &outcome));
    let jobs = |queue| workload.jobs.iter().filter(|job| job.queue == queue).count();
    Ok(Study {
        queues: workload.queues.clone(),
        silos: silos.iter().enumerate().map(|(queue, nodes)| (jobs(queue), *nodes)).collect(),
        bound_s: workload.bound_ms() / 1e3,
        rows,
        plots: plots(workload, &stage, &timeline),
    })
}

pub(crate) fn refusal(workload: &Workload, refused: Refused) -> Fault {
    let why = format!("the engine refuses it: {}", refused.why);
    Fault { file: workload.file.clone(), line: None, field: refused.field, why }
}

/// How few GPUs the pool needs for waits as long as those of silos under EASY with true durations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EqualWait {
    /// GPUs of all silos.
    pub silo_gpus: u64,
    /// The mean wait there.
    pub silo_wait_s: f64,
    /// GPUs of the smallest pool whose mean wait is no longer. Not less than half of the silos' is tried.
    pub gpus: u64,
    /// The mean wait there.
    pub wait_s: f64,
}

/// What one play of the search has shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tried {
    /// Nodes of the pool.
    pub nodes: u32,
    /// The mean wait, if it is no longer than the silos'.
    pub wait_s: Option<f64>,
}

/// Searches for the smallest pool with the silos' mean wait: a tenth fewer nodes each time until they are too few, then by halving.
/// A play ends as soon as it is certain that the waits are longer. `progress` is told of each.
///
/// # Errors
/// What the engine refuses.
pub fn equal_wait(workload: &Workload, load: f64, progress: &mut dyn FnMut(Tried)) -> Result<EqualWait, Fault> {
    let silos = workload.silos(load);
    let silo = Figures::of(workload, &in_silos(workload, &silos, Backfill::Easy), |_| true);
    let all: u32 = silos.iter().sum();
    let most_wait_ms = (silo.mean_wait_s * 1e3 * workload.jobs.len() as f64).ceil() as i64;
    let mut wait_s = |nodes| -> Result<Option<f64>, Fault> {
        let outcome = play::play_while(workload, nodes, &silos, most_wait_ms).map_err(|refused| refusal(workload, refused))?;
        let wait_s = outcome.map(|outcome| Figures::of(workload, &outcome, |_| true).mean_wait_s);
        let wait_s = wait_s.filter(|wait_s| *wait_s <= silo.mean_wait_s);
        progress(Tried { nodes, wait_s });
        Ok(wait_s)
    };
    let mut enough = (all, wait_s(all)?.unwrap_or(f64::INFINITY));
    // No pool is smaller than the largest gang, and none with less than half of the nodes is tried: it is overloaded for weeks, and a
    // play takes minutes.
    let least = workload.jobs.iter().map(Job::nodes).max().unwrap_or(1).max(all.div_ceil(2));
    let mut too_few = None;
    while too_few.unwrap_or(least - 1) + 1 < enough.0 {
        let nodes = match too_few {
            Some(too_few) => enough.0.midpoint(too_few),
            None => (enough.0 - (enough.0 / 10).max(1)).max(least),
        };
        match wait_s(nodes)? {
            Some(wait_s) => enough = (nodes, wait_s),
            None => too_few = Some(nodes),
        }
    }
    let gpus = |nodes: u32| u64::from(nodes) * u64::from(GPUS_PER_NODE);
    Ok(EqualWait { silo_gpus: gpus(all), silo_wait_s: silo.mean_wait_s, gpus: gpus(enough.0), wait_s: enough.1 })
}

/// Each queue on a cluster of its own under EASY backfill, which is told true durations.
#[must_use]
pub fn silo_easy(workload: &Workload, silos: &[u32]) -> Outcome {
    in_silos(workload, silos, Backfill::Easy)
}

/// Each queue on a cluster of its own.
fn in_silos(workload: &Workload, silos: &[u32], backfill: Backfill) -> Outcome {
    let mut all = Outcome::new(workload, silos.iter().map(|nodes| u64::from(*nodes * GPUS_PER_NODE)).sum());
    for (queue, nodes) in silos.iter().enumerate() {
        let own = baseline::play(&workload.of_queue(queue), *nodes, backfill);
        let places = workload.jobs.iter().enumerate().filter(|(_, job)| job.queue == queue).map(|(place, _)| place);
        for (place, finished) in places.zip(own.finished_ms) {
            all.finished_ms[place] = finished;
        }
        all.decisions += own.decisions;
    }
    all
}

fn row(workload: &Workload, policy: &'static str, outcome: &Outcome) -> Row {
    let mean = |queue| Figures::of(workload, outcome, |job: &Job| job.queue == queue).mean_completion_s;
    let began = workload.jobs.first().map_or(0, |job| job.submitted_ms);
    let ended = outcome.finished_ms.iter().copied().max().unwrap_or(began);
    let work: f64 = workload.jobs.iter().map(|job| job.duration_ms as f64 * f64::from(job.gpus)).sum();
    Row {
        policy,
        gpus: outcome.gpus,
        all: Figures::of(workload, outcome, |_| true),
        large: Figures::of(workload, outcome, |job| job.gpus >= LARGE_GPUS),
        queues_s: (0..workload.queues.len()).map(mean).collect(),
        preemptions: outcome.preemptions,
        utilisation: work / ((ended - began).max(1) as f64 * outcome.gpus as f64),
    }
}

/// The queue that fares worst against another outcome, with how much longer its mean completion is, as a part of that.
#[must_use]
pub fn worst_off(workload: &Workload, outcome: &Outcome, before: &Outcome) -> Option<(usize, f64)> {
    let mean = |outcome: &Outcome, queue| Figures::of(workload, outcome, |job: &Job| job.queue == queue).mean_completion_s;
    let means: Vec<(f64, f64)> = (0..workload.queues.len()).map(|queue| (mean(outcome, queue), mean(before, queue))).collect();
    worst(means.into_iter())
}

fn worst(means: impl Iterator<Item = (f64, f64)>) -> Option<(usize, f64)> {
    let worse =
        means.enumerate().filter(|(_, (_, before))| *before > 0.0).map(|(queue, (now, before))| (queue, now / before - 1.0));
    worse.max_by(|(_, left), (_, right)| left.total_cmp(right))
}

impl Study {
    /// The queue that fares worst with the engine against EASY in its own silo, with how much longer its mean completion is, as a
    /// part of that.
    #[must_use]
    pub fn worst_off(&self) -> Option<(usize, f64)> {
        let of = |policy: &str| self.rows.iter().find(|row| row.policy == policy).map(|row| &row.queues_s);
        worst(of(MUSTER)?.iter().copied().zip(of(SILO_EASY)?.iter().copied()))
    }

    /// The report for programs.
    #[must_use]
    pub fn value(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let queues = self.queues.iter().cloned().zip(row.queues_s.iter().map(|mean| json!(mean)));
            json!({
                "policy": row.policy,
                "gpus": row.gpus,
                "all": row.all.value(),
                "large": row.large.value(),
                "meanCompletionSecondsByQueue": queues.collect::<serde_json::Map<String, Value>>(),
                "preemptions": row.preemptions,
                "utilisation": row.utilisation,
            })
        });
        json!({ "boundSeconds": self.bound_s, "policies": rows.collect::<Vec<Value>>() })
    }

    /// The report for people.
    #[must_use]
    pub fn report(&self) -> String {
        let mut out = String::new();
        let jobs: usize = self.silos.iter().map(|(jobs, _)| jobs).sum();
        let _ = writeln!(out, "{jobs} jobs of {} queues; mean duration, the bound: {:.0} s", self.queues.len(), self.bound_s);
        let _ = writeln!(out);
        let _ = writeln!(
            out,
            "{:<26} {:>6} {:>11} {:>10} {:>10} {:>10} {:>11} {:>11} {:>8} {:>9}",
            "POLICY", "GPUS", "COMPLETION", "WAIT", "P99 WAIT", "MAX WAIT", "LARGE WAIT", "LARGE MAX", "IN USE", "PREEMPTED"
        );
        for row in &self.rows {
            let _ = writeln!(
                out,
                "{:<26} {:>6} {:>9.0} s {:>8.0} s {:>8.0} s {:>8.0} s {:>9.0} s {:>9.0} s {:>6.1} % {:>9}",
                row.policy,
                row.gpus,
                row.all.mean_completion_s,
                row.all.mean_wait_s,
                row.all.p99_wait_s,
                row.all.most_wait_s,
                row.large.mean_wait_s,
                row.large.most_wait_s,
                row.utilisation * 100.0,
                row.preemptions
            );
        }
        let _ = writeln!(out);
        let _ = write!(out, "{:<12} {:>7} {:>6}", "QUEUE", "JOBS", "NODES");
        for row in &self.rows {
            let _ = write!(out, " {:>26}", row.policy);
        }
        let _ = writeln!(out);
        for (queue, name) in self.queues.iter().enumerate() {
            let (jobs, nodes) = self.silos[queue];
            let _ = write!(out, "{name:<12} {jobs:>7} {nodes:>6}");
            for row in &self.rows {
                let _ = write!(out, " {:>24.0} s", row.queues_s[queue]);
            }
            let _ = writeln!(out);
        }
        let _ = writeln!(out);
        if let Some((queue, worse)) = self.worst_off() {
            let name = &self.queues[queue];
            let _ = writeln!(out, "Against EASY in its own silo {name} fares worst: {:+.1} %.", worse * 100.0);
        }
        let _ = writeln!(
            out,
            "Means in seconds; completion is from submission to end, waiting is completion − duration, large are gangs of\n{LARGE_GPUS} GPUs and more. EASY is told true durations; muster is not. The second table has mean completions per queue."
        );
        out
    }
}
