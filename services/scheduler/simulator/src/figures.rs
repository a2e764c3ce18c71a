//! What came of a play: when every job was finished, and the figures people compare.

use crate::workload::Workload;

/// When the jobs of a workload were finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Per job, in the workload's order; −1 while it isn't finished.
    pub finished_ms: Vec<i64>,
    /// GPUs there were (or what the workload counts), but for those of a dear cluster.
    pub gpus: u64,
    /// What runs cost, in millionths of the currency of the prices, each at the price of its decision.
    pub cost_micros: i64,
    /// Per job what its runs cost.
    pub job_cost_micros: Vec<i64>,
    /// Gangs placed, repetitions included.
    pub decisions: u64,
    /// Gangs taken from their nodes before they were done.
    pub preemptions: u64,
    /// GPU-time spent on starting again after a preemption.
    pub restart_gpu_ms: i64,
    /// GPU-time on the dear cluster, if there was one, starting again included.
    pub dear_gpu_ms: i64,
    /// GPUs that were in use there at a time, at most.
    pub most_dear_gpus: u64,
    /// Workers that ran there at a time, at most.
    pub most_dear_workers: u32,
}

impl Outcome {
    pub(crate) fn new(workload: &Workload, gpus: u64) -> Self {
        Self {
            finished_ms: vec![-1; workload.jobs.len()],
            gpus,
            cost_micros: 0,
            job_cost_micros: vec![0; workload.jobs.len()],
            decisions: 0,
            preemptions: 0,
            restart_gpu_ms: 0,
            dear_gpu_ms: 0,
            most_dear_gpus: 0,
            most_dear_workers: 0,
        }
    }

    pub(crate) fn finished(&mut self, job: usize, at: i64) {
        self.finished_ms[job] = at;
    }
}

/// Means and percentiles over some jobs of an outcome, in seconds. Waiting is completion − duration, restarts included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Jobs counted.
    pub jobs: usize,
    /// Mean of finish − submission.
    pub mean_completion_s: f64,
    /// Mean of finish − submission − duration.
    pub mean_wait_s: f64,
    /// 99 of 100 waited no longer.
    pub p99_wait_s: f64,
    /// The longest wait.
    pub most_wait_s: f64,
}

impl Figures {
    /// For programs.
    #[must_use]
    pub fn value(&self) -> serde_json::Value {
        let Self { jobs, mean_completion_s, mean_wait_s, p99_wait_s, most_wait_s } = self;
        serde_json::json!({
            "jobs": jobs,
            "meanCompletionSeconds": mean_completion_s,
            "meanWaitSeconds": mean_wait_s,
            "p99WaitSeconds": p99_wait_s,
            "mostWaitSeconds": most_wait_s,
        })
    }

    /// The figures of the jobs that `counts` says yes to; zeros if there are none.
    #[must_use]
    pub fn of(workload: &Workload, outcome: &Outcome, mut counts: impl FnMut(&crate::Job) -> bool) -> Self {
        let mut waits: Vec<i64> = Vec::new();
        let mut completions = 0.0;
        for (job, finished) in workload.jobs.iter().zip(&outcome.finished_ms).filter(|(job, _)| counts(job)) {
            let completion = finished - job.submitted_ms;
            completions += completion as f64;
            waits.push(completion - job.duration_ms);
        }
        waits.sort_unstable();
        let jobs = waits.len();
        if jobs == 0 {
            return Self { jobs, mean_completion_s: 0.0, mean_wait_s: 0.0, p99_wait_s: 0.0, most_wait_s: 0.0 };
        }
        let seconds = |milliseconds: i64| milliseconds as f64 / 1e3;
        // Nearest rank.
        let p99 = waits[(0.99 * jobs as f64).ceil() as usize - 1];
        Self {
            jobs,
            mean_completion_s: completions / 1e3 / jobs as f64,
            mean_wait_s: waits.iter().map(|wait| *wait as f64).sum::<f64>() / 1e3 / jobs as f64,
            p99_wait_s: seconds(p99),
            most_wait_s: seconds(waits[jobs - 1]),
        }
    }
}
