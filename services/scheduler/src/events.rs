//! Events out: every change of a job goes to the log, and from there to Kafka and to watchers; and that a queue's budget is spent. Nothing comes in from
//! Kafka; the projection of clusters is fed by the registry's own watch.

use jiff::Timestamp;
use muster_kit::event::{self, Prepared};
use muster_kit::{Result, telemetry};
use muster_proto::scheduler::v1 as wire;

use crate::app::budgets::BudgetView;
use crate::domain::cost::Charge;
use crate::domain::job::JobState;
use crate::domain::parts::Parts;
use crate::domain::record::Job;
use crate::grpc::convert;

/// Topic of everything that happens to jobs, and to queues for their sake.
pub const TOPIC: &str = "muster.jobs";

/// What is told of a job; its cause is still to be said.
pub struct NewEvent {
    kind: &'static str,
    job: String,
    version: i64,
    deleted: bool,
    state: wire::Job,
}

impl NewEvent {
    /// Ready to be written, with what caused it as a `traceparent`.
    ///
    /// # Errors
    /// None that is known: every job is JSON.
    pub fn caused_by(&self, traceparent: String) -> Result<Prepared> {
        let Self { kind, job, version, deleted, state } = self;
        let event = event::NewEvent { topic: TOPIC, kind, aggregate: job, version: *version, deleted: *deleted, state };
        event.caused_by(traceparent)
    }
}

/// A queue's budget is spent.
///
/// # Errors
/// None that is known: every budget is JSON.
pub fn budget_reached(queue: &str, number: u32, view: &BudgetView, now: Timestamp) -> Result<Prepared> {
    let aggregate = format!("queues/{queue}");
    let state =
        wire::BudgetReached { queue: aggregate.clone(), number: number.saturating_add(1), budget: Some(convert::budget(view)) };
    let (kind, version) = ("queue.budget_reached", now.as_millisecond());
    let event = event::NewEvent { topic: TOPIC, kind, aggregate: &aggregate, version, deleted: false, state: &state };
    event.caused_by(telemetry::current_traceparent())
}

/// A job's new state; `run` is its latest.
#[must_use]
pub fn job_changed(job: &Job, run: Option<&Parts>, charges: &[Charge], now: Timestamp) -> NewEvent {
    let state = convert::job(job, run, charges.iter(), None, now);
    NewEvent { kind: kind(job.state), job: job.resource(), version: job.version, deleted: false, state }
}

/// A new job.
#[must_use]
pub fn job_submitted(job: &Job, now: Timestamp) -> NewEvent {
    NewEvent { kind: "job.submitted", ..job_changed(job, None, &[], now) }
}

/// A job that is no more.
#[must_use]
pub fn job_deleted(job: &Job, run: Option<&Parts>, charges: &[Charge], now: Timestamp) -> NewEvent {
    NewEvent { kind: "job.deleted", version: job.version + 1, deleted: true, ..job_changed(job, run, charges, now) }
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
