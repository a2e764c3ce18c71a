//! Jobs with the queues they wait in, and how large each queue's own cluster (its *silo*) would be.

use std::path::PathBuf;

/// GPUs of a node. All nodes of a simulated cluster are equal.
pub const GPUS_PER_NODE: u32 = 8;

/// A job of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Line of the file it stands in, from 1.
    pub line: u64,
    /// Index into [`Workload::queues`].
    pub queue: usize,
    /// Milliseconds since the Unix epoch.
    pub submitted_ms: i64,
    /// How long it runs when nothing interrupts it. The engine is never told.
    pub duration_ms: i64,
    /// At least 1.
    pub gpus: u32,
}

impl Job {
    /// GPUs per worker: whole nodes, and a remainder on one more.
    pub fn workers(&self) -> impl Iterator<Item = u32> {
        let rest = self.gpus % GPUS_PER_NODE;
        let whole = (0..self.gpus / GPUS_PER_NODE).map(|_| GPUS_PER_NODE);
        whole.chain((rest > 0).then_some(rest))
    }

    /// Nodes it needs at least.
    #[must_use]
    pub fn nodes(&self) -> u32 {
        self.gpus.div_ceil(GPUS_PER_NODE)
    }

    /// What a run pays when it goes on after it was preempted: 7 s with one GPU, 30 s up to a node, 60 s beyond. These are the
    /// costs of the Helios simulator (Hu et al., *Characterization and Prediction of Deep Learning Workloads*, SC 2021).
    #[must_use]
    pub fn restart_ms(&self) -> i64 {
        match self.gpus {
            0 | 1 => 7_000,
            2..=GPUS_PER_NODE => 30_000,
            _ => 60_000,
        }
    }
}

/// Jobs in the order of submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The file the jobs were read from, for messages.
    pub file: PathBuf,
    /// Names of the queues.
    pub queues: Vec<String>,
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

    /// Mean duration: no policy can complete jobs faster on the mean.
    #[must_use]
    pub fn bound_ms(&self) -> f64 {
        self.jobs.iter().map(|job| job.duration_ms as f64).sum::<f64>() / self.jobs.len() as f64
    }
}
