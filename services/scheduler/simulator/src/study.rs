//! A workload under every policy, and the report: what `muster simulate` prints.

use std::fmt::Write;

use crate::baseline::{self, Backfill};
use crate::fault::Fault;
use crate::figures::{Figures, Outcome};
use crate::play;
use crate::workload::{GPUS_PER_NODE, Job, Workload};

/// Gangs of at least so many GPUs are reported by themselves.
const LARGE_GPUS: u32 = 16;

/// The engine's row.
const MUSTER: &str = "muster";

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
}

/// Plays a workload under every policy; `progress` is told the name of each before it is played.
///
/// # Errors
/// A load that is none, or a gang that is larger than the pool, by its line.
pub fn study(workload: &Workload, terms: Terms, progress: &mut dyn FnMut(&'static str)) -> Result<Study, Fault> {
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
    for (policy, backfill) in [("silo FIFO", Backfill::None), ("silo EASY, true durations", Backfill::Easy)] {
        progress(policy);
        rows.push(row(workload, policy, &in_silos(workload, &silos, backfill)));
    }
    for (policy, backfill) in
        [("pool FIFO", Backfill::None), ("pool EASY, true durations", Backfill::Easy), ("pool greedy", Backfill::Greedy)]
    {
        progress(policy);
        rows.push(row(workload, policy, &baseline::play(workload, nodes, backfill)));
    }
    progress(MUSTER);
    rows.push(row(workload, MUSTER, &played(workload, nodes, &silos)?));
    let jobs = |queue| workload.jobs.iter().filter(|job| job.queue == queue).count();
    Ok(Study {
        queues: workload.queues.clone(),
        silos: silos.iter().enumerate().map(|(queue, nodes)| (jobs(queue), *nodes)).collect(),
        bound_s: workload.bound_ms() / 1e3,
        rows,
    })
}

fn played(workload: &Workload, nodes: u32, weights: &[u32]) -> Result<Outcome, Fault> {
    play::play(workload, nodes, weights).map_err(|refused| Fault {
        file: workload.file.clone(),
        line: None,
        field: refused.field,
        why: format!("the engine refuses it: {}", refused.why),
    })
}

/// How few GPUs the pool needs for waits as long as those of silos under EASY with true durations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EqualWait {
    /// GPUs of all silos.
    pub silo_gpus: u64,
    /// The mean wait there.
    pub silo_wait_s: f64,
    /// GPUs of the smallest pool whose mean wait is no longer.
    pub gpus: u64,
    /// The mean wait there.
    pub wait_s: f64,
}

/// Searches for the smallest pool with the silos' mean wait, by halving.
///
/// # Errors
/// What the engine refuses.
pub fn equal_wait(workload: &Workload, load: f64) -> Result<EqualWait, Fault> {
    let silos = workload.silos(load);
    let silo = Figures::of(workload, &in_silos(workload, &silos, Backfill::Easy), |_| true);
    let all: u32 = silos.iter().sum();
    let mut too_few = workload.jobs.iter().map(Job::nodes).max().unwrap_or(1) - 1;
    let mut enough = (all, Figures::of(workload, &played(workload, all, &silos)?, |_| true).mean_wait_s);
    while too_few + 1 < enough.0 {
        let nodes = too_few.midpoint(enough.0);
        let wait_s = Figures::of(workload, &played(workload, nodes, &silos)?, |_| true).mean_wait_s;
        if wait_s <= silo.mean_wait_s {
            enough = (nodes, wait_s);
        } else {
            too_few = nodes;
        }
    }
    let gpus = |nodes: u32| u64::from(nodes) * u64::from(GPUS_PER_NODE);
    Ok(EqualWait { silo_gpus: gpus(all), silo_wait_s: silo.mean_wait_s, gpus: gpus(enough.0), wait_s: enough.1 })
}

/// Each queue on a cluster of its own.
fn in_silos(workload: &Workload, silos: &[u32], backfill: Backfill) -> Outcome {
    let mut all = Outcome::new(workload, silos.iter().sum());
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

impl Study {
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
        let _ = writeln!(
            out,
            "Means in seconds; completion is from submission to end, waiting is completion − duration, large are gangs of\n{LARGE_GPUS} GPUs and more. EASY is told true durations; muster is not. The second table has mean completions per queue."
        );
        out
    }
}
