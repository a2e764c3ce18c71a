//! Changing a job: cancel, suspend, resume, priority, delete. A run that is told to stop stays charged until its cluster
//! confirms that it is gone; only one that no cluster was told of ends at once.

use std::collections::BTreeSet;

use jiff::Timestamp;
use muster_core::name::JobName;
use muster_kit::idempotency::{Begun, Pending};
use muster_kit::{Caller, Error, Result, Role, Tx, audit, db, event, telemetry};
use prost::Message;

use super::batch::Batch;
use super::{App, JobView, Once};
use crate::domain::desired::run_item;
use crate::domain::job::{JobState, StopReason};
use crate::domain::parts::Parts;
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
        run: Option<&mut Parts>,
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
    run: Option<&mut Parts>,
    why: StopReason,
    now: Timestamp,
) -> Result<()> {
    let Some(run) = run.filter(|_| job.charged) else { return Ok(()) };
    let told = store::desired::told(tx, &items_of(job, run)).await?;
    stop(batch, job, run, why, &told, now);
    Ok(())
}

/// Where a run is held, or a part of it: a cluster, and its item there.
pub type Item = (String, String);

/// Where a run is held.
#[must_use]
pub fn items_of(job: &Job, run: &Parts) -> Vec<Item> {
    run.iter().map(|part| item_of(job, part)).collect()
}

fn item_of(job: &Job, part: &Run) -> Item {
    (part.cluster.clone(), run_item(&job.namespace, &job.name, part.epoch))
}

/// Tells all parts of a run to stop that go on. The job keeps its charge, unless no cluster was `told` of any: [`store::desired::told`]
/// says so, and locks the writer of desired state out, so that it is certain.
pub fn stop(batch: &mut Batch, job: &mut Job, run: &mut Parts, why: StopReason, told: &BTreeSet<Item>, now: Timestamp) {
    for number in run.going_on() {
        let part = run.part_mut(number);
        part.stopping = Some(why);
        part.wanted = false;
        batch.touch(&part.cluster);
        if told.contains(&item_of(job, part)) || part.removed_generation.is_some() {
            batch.run(part);
        } else {
            end(batch, job, run, number, stopped_state(why), "ended before its cluster was told", now);
        }
    }
}

/// The state of a run that was stopped.
#[must_use]
pub fn stopped_state(why: StopReason) -> JobState {
    match why {
        StopReason::Cancel | StopReason::Move | StopReason::Interrupt | StopReason::Broken => JobState::Cancelled,
        StopReason::Suspend => JobState::Suspended,
        StopReason::Refuse => JobState::Refused,
    }
}

/// A part of a run is over, and its cost is final. With the last one the run is over: the job is charged no more.
pub fn end(batch: &mut Batch, job: &mut Job, run: &mut Parts, number: usize, state: JobState, reason: &str, finish: Timestamp) {
    let part = run.part_mut(number);
    part.state = state;
    reason.clone_into(&mut part.reason);
    part.finished_at = Some(finish);
    if let Some(start) = part.started_at {
        batch.begin_charge(job, part, start);
        batch.end_charge(part, start, finish.max(start));
    }
    batch.run(part);
    batch.look_at(Subject::Job(job.id));
    job.charged = run.finished_at().is_none();
}
