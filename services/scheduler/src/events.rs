//! Events out: every change of a job goes to the log, and from there to Kafka and to watchers. Nothing comes in from
//! Kafka; the projection of clusters is fed by the registry's own watch.

use muster_kit::event::{self, NewEvent};
use muster_kit::{Clock, Result, Tx};

use crate::domain::job::JobState;
use crate::domain::record::Job;
use crate::grpc::convert;
use crate::store;

/// Topic of everything that happens to jobs.
pub const TOPIC: &str = "muster.jobs";

/// Appends a job's new state to the log; the last thing a transaction does to the job.
pub async fn job_changed(tx: &mut Tx, clock: &dyn Clock, job: &Job, run: Option<&crate::domain::record::Run>) -> Result<()> {
    append(tx, clock, job, run, kind(job.state), job.version, false).await
}

/// A new job.
pub async fn job_submitted(tx: &mut Tx, clock: &dyn Clock, job: &Job) -> Result<()> {
    append(tx, clock, job, None, "job.submitted", job.version, false).await
}

/// A job that is no more.
pub async fn job_deleted(tx: &mut Tx, clock: &dyn Clock, job: &Job) -> Result<()> {
    append(tx, clock, job, None, "job.deleted", job.version + 1, true).await
}

async fn append(
    tx: &mut Tx,
    clock: &dyn Clock,
    job: &Job,
    run: Option<&crate::domain::record::Run>,
    kind: &'static str,
    version: i64,
    deleted: bool,
) -> Result<()> {
    let charges = store::cost::of_jobs(&mut **tx, &[job.id]).await?;
    let loaded;
    let run = match run {
        Some(run) => Some(run),
        None if job.epoch > 0 => {
            loaded = store::run::get(tx, job.id, job.epoch).await?;
            loaded.as_ref()
        }
        None => None,
    };
    let state = convert::job(job, run, charges.iter().map(|(_, _, charge)| charge), None, clock.now());
    event::append(tx, NewEvent { topic: TOPIC, kind, aggregate: &job.resource(), version, deleted, state: &state }).await
}

fn kind(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "job.queued",
        JobState::Placed => "job.placed",
        JobState::Running => "job.running",
        JobState::Succeeded => "job.succeeded",
        JobState::Failed => "job.failed",
        JobState::Cancelled => "job.cancelled",
        JobState::Refused => "job.refused",
        JobState::Lost => "job.lost",
        JobState::Suspended => "job.suspended",
    }
}
