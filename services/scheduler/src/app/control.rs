//! Changing a job: cancel, suspend, resume, priority, delete. A run that is told to stop stays charged until its cluster
//! confirms that it is gone; only one that no cluster was told of ends at once.

use jiff::Timestamp;
use muster_core::name::JobName;
use muster_kit::idempotency::{Begun, Pending};
use muster_kit::{Caller, Error, Result, Role, Tx, audit, db};
use prost::Message;

use super::{App, JobView, Once};
use crate::domain::desired::run_item;
use crate::domain::job::{JobState, StopReason};
use crate::domain::record::{Job, Run};
use crate::store;
use crate::store::inbox::{self, Subject};

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
        for cluster in store::run::clusters(&mut tx, job.id).await? {
            store::desired::touch(&mut tx, &cluster).await?;
        }
        audit::record(&mut tx, once.caller, once.method, &name.to_string()).await?;
        crate::events::job_deleted(&mut tx, &*self.clock, &job).await?;
        store::job::delete(&mut tx, job.id).await?;
        pending.finish(&mut tx, &response).await?;
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
        let changed = self.carry_out(&mut tx, &mut job, order, once.caller).await?;
        if changed {
            store::job::update(&mut tx, &mut job).await?;
            inbox::put(&mut tx, &Subject::Job(job.id)).await?;
            audit::record(&mut tx, once.caller, once.method, &name.to_string()).await?;
        }
        let run = if job.epoch > 0 { store::run::get(&mut tx, job.id, job.epoch).await? } else { None };
        let charges = store::cost::of_jobs(&mut *tx, &[job.id]).await?.into_iter().map(|(_, _, charge)| charge).collect();
        let manifest = Some(store::job::manifest(&self.pool, &job.manifest_digest).await?);
        let view = JobView { job, run, charges, manifest };
        let response = respond(&view);
        pending.finish(&mut tx, &response).await?;
        if changed {
            crate::events::job_changed(&mut tx, &*self.clock, &view.job, view.run.as_ref()).await?;
        }
        tx.commit().await?;
        self.decide.now();
        self.tell.now();
        Ok(response)
    }

    /// `true` if anything is to be stored.
    async fn carry_out(&self, tx: &mut Tx, job: &mut Job, order: Order<'_>, caller: &Caller) -> Result<bool> {
        let now = self.now();
        match order {
            Order::Cancel => {
                if job.state.is_finished() {
                    return Ok(false);
                }
                stop_current(tx, job, StopReason::Cancel, now).await?;
                job.go(JobState::Cancelled, format!("cancelled by {caller}"), now);
                Ok(true)
            }
            Order::Suspend => {
                unfinished(job)?;
                if job.state == JobState::Suspended {
                    return Ok(false);
                }
                stop_current(tx, job, StopReason::Suspend, now).await?;
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

async fn stop_current(tx: &mut Tx, job: &mut Job, why: StopReason, now: Timestamp) -> Result<()> {
    if !job.charged {
        return Ok(());
    }
    match store::run::get(tx, job.id, job.epoch).await? {
        Some(mut run) => stop(tx, job, &mut run, why, now).await,
        None => Ok(()),
    }
}

/// Tells a run to stop. The job keeps its charge, unless no cluster was told of the run.
///
/// # Errors
/// The database is away.
pub async fn stop(tx: &mut Tx, job: &mut Job, run: &mut Run, why: StopReason, now: Timestamp) -> Result<()> {
    // Locks out the writer of desired state, so that it is certain whether the cluster was told.
    store::desired::touch(tx, &run.cluster).await?;
    let told = store::desired::generation(tx, &run.cluster, &run_item(&job.namespace, &job.name, run.epoch)).await?.is_some();
    run.stopping = Some(why);
    run.wanted = false;
    if told || run.removed_generation.is_some() {
        return store::run::update(tx, run).await;
    }
    end(tx, job, run, stopped_state(why), "ended before its cluster was told", now).await
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
///
/// # Errors
/// The database is away.
pub async fn end(tx: &mut Tx, job: &mut Job, run: &mut Run, state: JobState, reason: &str, finish: Timestamp) -> Result<()> {
    run.state = state;
    reason.clone_into(&mut run.reason);
    run.finished_at = Some(finish);
    job.charged = false;
    if let Some(start) = run.started_at {
        store::cost::begin(tx, job, run, start).await?;
        store::cost::finish(tx, run, start, finish.max(start)).await?;
    }
    store::run::update(tx, run).await?;
    inbox::put(tx, &Subject::Job(job.id)).await
}
