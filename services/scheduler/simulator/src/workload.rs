//! Jobs with the queues they wait in and the shapes they have, and how large each queue's own cluster (its *silo*) would be.

use std::collections::BTreeMap;
use std::path::PathBuf;

use muster_scheduler_engine::Gang;

/// GPUs of a node of a simulated cluster, where the workload does not bring its own.
pub const GPUS_PER_NODE: u32 = 8;

/// What jobs have in common that ask for the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// For reports: what people call such jobs.
    pub class: String,
    /// What the engine is told of owner and name pattern.
    pub kind: String,
    /// Higher goes first in its queue.
    pub priority: i32,
    /// What each asks for. Without a restart a job that is interrupted begins again.
    pub gang: Gang,
    /// How fast it is on a GPU model, in thousandths; 1,000 on models that are not named.
    pub speeds: BTreeMap<String, u32>,
    /// How long after its submission it should be done; `None`: whenever.
    pub deadline_ms: Option<i64>,
}

/// A job of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Line of the file it stands in, from 1.
    pub line: u64,
    /// Index into [`Workload::queues`].
    pub queue: usize,
    /// Index into [`Workload::shapes`].
    pub shape: usize,
    /// Milliseconds since the Unix epoch.
    pub submitted_ms: i64,
    /// How long it runs at speed 1,000 when nothing interrupts it. The engine is never told.
    pub duration_ms: i64,
    /// What it asks for in the workload's [`Unit`], at least 1.
    pub gpus: u32,
    /// Of these on one worker; what is left is one more.
    pub each: u32,
}

impl Job {
    /// What each worker gets.
    pub fn workers(&self) -> impl Iterator<Item = u32> {
        let rest = self.gpus % self.each;
        let each = self.each;
        (0..self.gpus / each).map(move |_| each).chain((rest > 0).then_some(rest))
    }

    /// Nodes of eight GPUs it needs at least.
    #[must_use]
    pub fn nodes(&self) -> u32 {
        self.gpus.div_ceil(GPUS_PER_NODE)
    }
}

/// What is counted of a workload's jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Whole GPUs.
    Gpus,
    /// Thousandths of a core, where nothing asks for GPUs.
    MilliCores,
}

impl Unit {
    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpus => "GPUs",
            Self::MilliCores => "cores",
        }
    }

    /// How many of it are one of what [`Unit::name`] says.
    #[must_use]
    pub fn per_one(self) -> i64 {
        match self {
            Self::Gpus => 1,
            Self::MilliCores => 1_000,
        }
    }
}

/// Jobs in the order of submission.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// The file the jobs were read from, for messages.
    pub file: PathBuf,
    /// Names of the queues.
    pub queues: Vec<String>,
    /// What jobs ask for.
    pub shapes: Vec<Shape>,
    /// What is counted.
    pub unit: Unit,
    /// By time of submission, then line.
    pub jobs: Vec<Job>,
    /// Length of the window in which they were submitted.
    pub window_ms: i64,
}

impl Workload {
    /// Nodes of each queue's silo: enough for its mean demand at this load, and for its largest gang.
    #[must_use]
    pub fn silos(&self, load: f64) -> Vec<u32> {
        let mut demand = vec![0.0; self.queues.len()];
        let mut largest = vec![0; self.queues.len()];
        for job in &self.jobs {
            demand[job.queue] += job.duration_ms as f64 * f64::from(job.gpus) / self.window_ms.max(1) as f64;
            largest[job.queue] = job.nodes().max(largest[job.queue]);
        }
        let nodes = |gpus: f64| (gpus / f64::from(GPUS_PER_NODE) / load).ceil() as u32;
        demand.into_iter().zip(largest).map(|(gpus, largest)| nodes(gpus).max(largest).max(1)).collect()
    }

    /// The same workload with the jobs of one queue only.
    #[must_use]
    pub fn of_queue(&self, queue: usize) -> Self {
        let jobs = self.jobs.iter().filter(|job| job.queue == queue).copied().collect();
        Self { jobs, ..self.clone() }
    }

    /// The same workload, of which nobody is told how fast its jobs are on which model.
    #[must_use]
    pub fn blind(&self) -> Self {
        let mut blind = self.clone();
        blind.shapes.iter_mut().for_each(|shape| shape.gang.speeds.clear());
        blind
    }

    /// The shape of a job.
    #[must_use]
    pub fn shape(&self, job: &Job) -> &Shape {
        &self.shapes[job.shape]
    }

    /// Mean duration: no policy can complete jobs faster on the mean.
    #[must_use]
    pub fn bound_ms(&self) -> f64 {
        self.jobs.iter().map(|job| job.duration_ms as f64).sum::<f64>() / self.jobs.len() as f64
    }
}
