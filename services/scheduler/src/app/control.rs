//! Changing a job: cancel, suspend, resume, priority, delete. A run that is told to stop stays charged until its cluster
//! confirms that it is gone; only one that no cluster was told of ends at once.

use jiff::Timestamp;
use muster_core::name::JobName;
use muster_kit::idempotency::{Begun, Pending};
use muster_kit::{Caller, Error, Result, Role, Tx, audit, db, event, telemetry};
use prost::Message;

use super::batch::Batch;
use super::{App, JobView, Once};
use crate::domain::desired::run_item;
use crate::domain::job::{JobState, StopReason};
use crate::domain::record::{Job, Run};
use crate::store;
use crate::store::inbox::Subject;

/// A change of one job that a caller asks for.
#[derive(Clone, Copy, Debug)]
pub enum Order<'a> {
    /// End it; a finished one stays as it is.
    Cancel,
    /// Take it out of the queue's order and stop its run.
    Suspend,
    /// Put a suspended one back at its original time; one that is not suspended stays as it is.
    Resume,
    /// Change its priority while it is not placed.
    Prioritise {
        /// Must be current, if set.
        etag: &'a str,
        /// The new priority.
        priority: i32,
    },
}

impl App {
    /// Deletes a finished job and its runs.
    ///
    /// # Errors
    /// A job that isn't there, is not finished, or was changed since the etag.
    pub async fn delete_job<Q: Message, R: Message + Default>(
        &self,
        once: Once<'_, Q>,
        name: &JobName,
        etag: &str,
        response: R,
    ) -> Result<R> {
        once.caller.require(Role::Operator)?;
        let mut tx = db::begin(&self.pool).await?;
        let pending = match once.begin(&mut tx).await? {
            Begun::Repeated(response) => return Ok(response),
            Begun::Fresh(pending) => pending,
        };
        let job = locked(&mut tx, name).await?;
        db::check_etag(etag, job.version)?;
        if !job.state.is_finished() || job.charged {
            let why = if job.charged { "its cluster has not confirmed the end of its run yet" } else { "cancel it first" };
            return Err(Error::precondition("JOB_UNFINISHED", format!("{name} is not over: {why}")));
        }
        // Its runs' rows go with it: what their clusters still hold of them is found only by looking at everything.
        let clusters = store::run::clusters(&mut tx, job.id).await?;
        store::desired::touch_whole(&mut tx, &clusters).await?;
        audit::record(&mut tx, once.caller, once.method, &name.to_string()).await?;
        let run = store::run::get(&mut tx, job.id, job.epoch).await?;
        let charges: Vec<_> = store::cost::of_jobs(&mut *tx, &[job.id]).await?.into_iter().map(|(_, _, charge)| charge).collect();
        store::job::delete(&mut tx, job.id).await?;
        pending.finish(&mut tx, &response).await?;
        let deleted = crate::events::job_deleted(&job, run.as_ref(), &charges, self.now());
        event::append_all(&mut tx, &[deleted.caused_by(telemetry::current_traceparent())?]).await?;
        tx.commit().await?;
        self.tell.now();
        Ok(response)
    }

    /// Carries an order out.
    ///
    /// # Errors
    /// A job that isn't there, is finished or placed where that forbids it, or was changed since the etag.
    pub async fn order<Q: Message, R: Message + Default>(
        &self,
        once: Once<'_, Q>,
        name: &JobName,
        order: Order<'_>,
        respond: impl FnOnce(&JobView) -> R,
    ) -> Result<R> {
        once.caller.require(Role::Operator)?;
        let mut tx = db::begin(&self.pool).await?;
        let pending: Pending = match once.begin(&mut tx).await? {
            Begun::Repeated(response) => return Ok(response),
            Begun::Fresh(pending) => pending,
        };
        let mut job = locked(&mut tx, name).await?;
        let mut run = if job.epoch > 0 { store::run::get(&mut tx, job.id, job.epoch).await? } else { None };
        let mut batch = Batch::default();
        let changed = self.carry_out(&mut tx, &mut batch, &mut job, run.as_mut(), order, once.caller).await?;
        if changed {
            batch.job(&job, run.as_ref());
            batch.look_at(Subject::Job(job.id));
            audit::record(&mut tx, once.caller, once.method, &name.to_string()).await?;
            batch.write(&mut tx, &*self.clock).await?;
            job.version += 1;
        }
        let charges = store::cost::of_jobs(&mut *tx, &[job.id]).await?.into_iter().map(|(_, _, charge)| charge).collect();
        let manifest = Some(store::job::manifest(&self.pool, &job.manifest_digest).await?);
        let response = respond(&JobView { job, run, charges, manifest });
        pending.finish(&mut tx, &response).await?;
        tx.commit().await?;
        self.decide.now();
        self.tell.now();
        Ok(response)
    }

    /// `true` if anything is to be stored.
    async fn carry_out(
        &self,
        tx: &mut Tx,
        batch: &mut Batch,
        job: &mut Job,
        run: Option<&mut Run>,
        order: Order<'_>,
        caller: &Caller,
    ) -> Result<bool> {
        let now = self.now();
        match order {
            Order::Cancel => {
                if job.state.is_finished() {
                    return Ok(false);
                }
                stop_current(tx, batch, job, run, StopReason::Cancel, now).await?;
                job.go(JobState::Cancelled, format!("cancelled by {caller}"), now);
                Ok(true)
            }
            Order::Suspend => {
                unfinished(job)?;
                if job.state == JobState::Suspended {
                    return Ok(false);
                }
                stop_current(tx, batch, job, run, StopReason::Suspend, now).await?;
                job.not_before = None;
                job.go(JobState::Suspended, format!("suspended by {caller}"), now);
                Ok(true)
            }
            Order::Resume => {
                unfinished(job)?;
                if job.state != JobState::Suspended {
                    return Ok(false);
                }
                job.go(JobState::Queued, format!("resumed by {caller}"), now);
                Ok(true)
            }
            Order::Prioritise { etag, priority } => {
                db::check_etag(etag, job.version)?;
                unfinished(job)?;
                if job.charged {
                    let why = format!("{} is placed; its priority has no effect any more", job.resource());
                    return Err(Error::precondition("JOB_PLACED", why));
                }
                let changed = job.priority != priority;
                job.priority = priority;
                Ok(changed)
            }
        }
    }
}

async fn locked(tx: &mut Tx, name: &JobName) -> Result<Job> {
    store::job::lock(tx, name.namespace(), name.job()).await?.ok_or_else(|| Error::not_found(name))
}

fn unfinished(job: &Job) -> Result<()> {
    if job.state.is_finished() {
        return Err(Error::precondition("JOB_FINISHED", format!("{} is over: {}", job.resource(), job.state)));
    }
    Ok(())
}

async fn stop_current(
    tx: &mut Tx,
    batch: &mut Batch,
    job: &mut Job,
    run: Option<&mut Run>,
    why: StopReason,
    now: Timestamp,
) -> Result<()> {
    let Some(run) = run.filter(|_| job.charged) else { return Ok(()) };
    let item = item_of(job, run);
    let told = store::desired::told(tx, &[item]).await?;
    stop(batch, job, run, why, !told.is_empty(), now);
    Ok(())
}

/// Where a run is held: its cluster and its item there.
#[must_use]
pub fn item_of(job: &Job, run: &Run) -> (String, String) {
    (run.cluster.clone(), run_item(&job.namespace, &job.name, run.epoch))
}

/// Tells a run to stop. The job keeps its charge, unless no cluster was `told` of the run: [`store::desired::told`] says so,
/// and locks the writer of desired state out, so that it is certain.
pub fn stop(batch: &mut Batch, job: &mut Job, run: &mut Run, why: StopReason, told: bool, now: Timestamp) {
    run.stopping = Some(why);
    run.wanted = false;
    batch.touch(&run.cluster);
    if told || run.removed_generation.is_some() {
        batch.run(run);
    } else {
        end(batch, job, run, stopped_state(why), "ended before its cluster was told", now);
    }
}

/// The state of a run that was stopped.
#[must_use]
pub fn stopped_state(why: StopReason) -> JobState {
    match why {
        StopReason::Cancel | StopReason::Move | StopReason::Interrupt => JobState::Cancelled,
        StopReason::Suspend => JobState::Suspended,
        StopReason::Refuse => JobState::Refused,
    }
}

/// A run is over: it is charged no more, its cost is final.
pub fn end(batch: &mut Batch, job: &mut Job, run: &mut Run, state: JobState, reason: &str, finish: Timestamp) {
    run.state = state;
    reason.clone_into(&mut run.reason);
    run.finished_at = Some(finish);
    job.charged = false;
    if let Some(start) = run.started_at {
        batch.begin_charge(job, run, start);
        batch.end_charge(run, start, finish.max(start));
    }
    batch.run(run);
    batch.look_at(Subject::Job(job.id));
}
