//! Own nodes beside a dear cluster that is never full: what it costs not to wait, and what waiting saves.

use muster_scheduler_engine::TierOpens;

use crate::fault::Fault;
use crate::figures::Figures;
use crate::play::{self, Fleet};
use crate::study::refusal;
use crate::workload::{Job, Workload};

/// What came of one multiple.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// How long a job waits for own nodes, in thousandths of the work that is expected of it; 0: not at all.
    pub permille: u32,
    /// GPU-hours on the dear cluster, starting again included.
    pub dear_gpu_hours: f64,
    /// GPUs that were in use there at a time, at most.
    pub most_dear_gpus: u64,
    /// Of all jobs.
    pub all: Figures,
    /// Gangs taken from their nodes before they were done.
    pub preemptions: u64,
}

/// Plays a workload on so many own nodes and a dear cluster.
///
/// # Errors
/// What the engine refuses.
pub fn overflow(workload: &Workload, own: u32, weights: &[u32], permille: u32) -> Result<Point, Fault> {
    let opens = if permille == 0 { TierOpens::WhenFull } else { TierOpens::AfterWaitingForWork { permille } };
    let largest = workload.jobs.iter().map(Job::nodes).max().unwrap_or(1);
    let mut dear = own.saturating_mul(16).max(largest);
    loop {
        let outcome = play::play_on(workload, Fleet { own, dear: Some((dear, opens)) }, weights)
            .map_err(|refused| refusal(workload, refused))?;
        // No more nodes were in use than workers ran there: the largest gang would always have had room.
        if outcome.most_dear_workers + largest <= dear {
            return Ok(Point {
                permille,
                dear_gpu_hours: outcome.dear_gpu_ms as f64 / 3.6e6,
                most_dear_gpus: outcome.most_dear_gpus,
                all: Figures::of(workload, &outcome, |_| true),
                preemptions: outcome.preemptions,
            });
        }
        dear = dear.saturating_mul(2);
    }
}
