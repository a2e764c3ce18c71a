//! Sharing in rounds, blind to speeds: what clusters of unequal GPU models are compared with. In each round some jobs get a GPU
//! each, of whatever model: the models are dealt anew each time, so that on the mean nobody gets better ones than others. Whose turn
//! it is, is decided in two ways: all have equal parts of the time (the heterogeneity-agnostic max-min fairness of Narayanan et al.,
//! *Heterogeneity-Aware Cluster Scheduling Policies for Deep Learning Workloads*, OSDI 2020), or whoever has had least GPU-time is
//! next. Changing GPUs costs nothing here.

use crate::dice::Dice;
use crate::figures::Outcome;
use crate::play::Stage;
use crate::workload::{Unit, Workload};

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Who has waited longest for a turn: all get equal parts of the time.
    Equal,
    /// Who has had least GPU-time.
    LeastServed,
}

impl Turn {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Equal, Self::LeastServed];

    /// The row's name.
    #[must_use]
    pub fn policy(self) -> &'static str {
        match self {
            Self::Equal => "fair share, blind to speeds",
            Self::LeastServed => "LAS, blind to speeds",
        }
    }
}

/// Length of a round: six minutes, as in the paper.
const ROUND_MS: i64 = 360_000;
const HOUR_MS: f64 = 3.6e6;

/// A job that is not done.
struct Left {
    job: usize,
    /// Work in milliseconds at speed 1,000.
    work_ms: f64,
    /// When its turn is before that of others: its latest round, or how many it has had.
    order: u64,
}

/// A GPU: its model and its price for an hour in millionths.
struct Gpu<'a> {
    model: &'a str,
    micros: i64,
}

/// Plays jobs of one GPU each.
#[must_use]
pub fn play(workload: &Workload, stage: &Stage, turn: Turn, seed: u64) -> Outcome {
    debug_assert!(workload.jobs.iter().all(|job| job.gpus == 1), "jobs of one GPU are dealt");
    let mut outcome = Outcome::new(workload, stage.size(Unit::Gpus));
    let mut gpus = gpus(stage);
    let mut dice = Dice(seed);
    let (mut left, mut next, mut round) = (Vec::<Left>::new(), 0, 0);
    let mut now = workload.jobs.first().map_or(0, |job| job.submitted_ms);
    while next < workload.jobs.len() || !left.is_empty() {
        while let Some(job) = workload.jobs.get(next).filter(|job| job.submitted_ms <= now) {
            left.push(Left { job: next, work_ms: job.duration_ms as f64, order: 0 });
            next += 1;
        }
        left.sort_by_key(|left| (left.order, left.job));
        round += 1;
        for last in (1..gpus.len()).rev() {
            gpus.swap(last, dice.roll(last as u64 + 1) as usize);
        }
        for (left, gpu) in left.iter_mut().zip(&gpus) {
            let shape = workload.shape(&workload.jobs[left.job]);
            if !shape.gang.flavors.is_empty() && !shape.gang.flavors.contains(gpu.model) {
                continue;
            }
            let speed = shape.speeds.get(gpu.model).map_or(1.0, |permille| f64::from(*permille) / 1e3);
            let lasts_ms = (left.work_ms / speed).min(ROUND_MS as f64);
            left.work_ms -= lasts_ms * speed;
            left.order = match turn {
                Turn::Equal => round,
                Turn::LeastServed => left.order + 1,
            };
            let cost = (gpu.micros as f64 * lasts_ms / HOUR_MS).round() as i64;
            outcome.cost_micros += cost;
            outcome.job_cost_micros[left.job] += cost;
            outcome.decisions += 1;
            if left.work_ms < 1.0 {
                outcome.finished(left.job, now + lasts_ms.round() as i64);
            }
        }
        left.retain(|left| left.work_ms >= 1.0);
        now += ROUND_MS;
    }
    outcome
}

fn gpus(stage: &Stage) -> Vec<Gpu<'_>> {
    let mut gpus = Vec::new();
    for cluster in &stage.clusters {
        for node in &cluster.nodes {
            let micros = cluster.prices.get(&node.flavor).copied().unwrap_or(0);
            gpus.extend((0..node.allocatable.gpus()).map(|_| Gpu { model: &node.flavor, micros }));
        }
    }
    gpus
}
