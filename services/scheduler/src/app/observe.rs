//! What clusters say of our items. An observation counts only for the generation it names, and for the current run.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use muster_kit::{Result, Tx, db, lease, telemetry};
use tracing::Instrument;

use super::App;
use super::control::{end, stopped_state};
use super::decide::LEASE;
use crate::domain::backoff::wait_ms;
use crate::domain::job::{JobState, RunPhase, Step, step};
use crate::domain::record::{Job, Run, parse_run};
use crate::store;
use crate::store::inbox::{self, Subject};

/// An observation of one item.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// Where.
    pub cluster: String,
    /// Of which item.
    pub item: String,
    /// Of which generation: (incarnation, n).
    pub generation: (u64, i64),
    /// Where the item stands.
    pub phase: ItemPhase,
    /// Where its run stands, if it is one.
    pub run_phase: Option<RunPhase>,
    /// Why, for people.
    pub reason: String,
    /// When its pods began, by the object's status.
    pub start: Option<Timestamp>,
    /// When it ended, by the object's status.
    pub finish: Option<Timestamp>,
    /// When it was seen, by the cluster's clock; stands in for a time that the object's status does not have.
    pub at: Option<Timestamp>,
    /// Pods by phase.
    pub pods: BTreeMap<String, u32>,
    /// Exit code of the first pod that failed.
    pub exit_code: Option<i32>,
    /// Trace context of the agent's span.
    pub traceparent: String,
}

/// Where an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemPhase {
    /// Not there yet.
    Pending,
    /// There; its run says more.
    There,
    /// The cluster refused it.
    Refused,
    /// Not there any more.
    Gone,
}

impl App {
    /// Takes an observation in.
    ///
    /// # Errors
    /// Another replica leads by now, or the database is away.
    pub async fn observe(&self, leader_epoch: u64, seen: &Observed) -> Result<()> {
        let Some((name, epoch)) = seen.item.strip_prefix("jobs/").and_then(|rest| {
            let mut parts = rest.split('/');
            let (namespace, job, epoch) = (parts.next()?, parts.next()?, parts.next()?);
            parse_run(&format!("namespaces/{namespace}/jobs/{job}/runs/{epoch}"))
        }) else {
            return Ok(());
        };
        let span = tracing::info_span!("observe run", job.name = %name, run.epoch = epoch, cluster.name = seen.cluster);
        telemetry::continue_trace(&span, &seen.traceparent);
        async {
            let mut tx = db::begin(&self.pool).await?;
            lease::check(&mut tx, LEASE, leader_epoch).await?;
            let Some(mut job) = store::job::lock(&mut tx, name.namespace(), name.job()).await? else { return Ok(()) };
            if !job.charged || job.epoch != epoch {
                return Ok(());
            }
            let Some(mut run) = store::run::get(&mut tx, job.id, epoch).await? else { return Ok(()) };
            let Some(phase) = phase(&mut tx, &run, seen).await? else { return Ok(()) };
            if self.advance(&mut tx, &mut job, &mut run, phase, seen).await? {
                store::job::update(&mut tx, &mut job).await?;
                crate::events::job_changed(&mut tx, &*self.clock, &job, Some(&run)).await?;
                tx.commit().await?;
                self.decide.now();
                self.tell.now();
            }
            Ok(())
        }
        .instrument(span)
        .await
    }

    /// What the phase makes of the job; `true` if anything is to be stored.
    async fn advance(&self, tx: &mut Tx, job: &mut Job, run: &mut Run, phase: RunPhase, seen: &Observed) -> Result<bool> {
        let now = self.now();
        let seen_at = seen.at.unwrap_or(now);
        let before = (run.pods.clone(), run.started_at, run.reason.clone(), job.reason.clone(), run.state);
        if !seen.pods.is_empty() {
            run.pods.clone_from(&seen.pods);
        }
        let began = match phase {
            RunPhase::Running => seen.start.or(run.started_at).or(Some(seen_at)),
            RunPhase::Pending => run.started_at,
            // A run that was never seen running is charged only where its object says when it began.
            RunPhase::Succeeded | RunPhase::Failed | RunPhase::Stopped => seen.start.or(run.started_at),
        };
        if began != run.started_at {
            run.started_at = began;
            job.started_at = began;
            if let Some(start) = began {
                store::cost::begin(tx, job, run, start).await?;
            }
            inbox::put(tx, &Subject::Job(job.id)).await?;
        }
        let finish = seen.finish.unwrap_or(seen_at).max(run.started_at.unwrap_or(run.placed_at));
        let reason = match seen.exit_code {
            Some(code) if seen.reason.is_empty() => format!("exit code {code}"),
            Some(code) => format!("{} (exit code {code})", seen.reason),
            None => seen.reason.clone(),
        };
        match step(job.state, run.stopping.is_some(), phase, job.retries < job.max_retries) {
            Step::Stay => {
                reason.clone_into(&mut run.reason);
                if run.stopping.is_none() {
                    job.reason = reason;
                }
                if before == (run.pods.clone(), run.started_at, run.reason.clone(), job.reason.clone(), run.state) {
                    return Ok(false);
                }
                store::run::update(tx, run).await?;
            }
            Step::Goes(state) => {
                run.state = state;
                reason.clone_into(&mut run.reason);
                store::run::update(tx, run).await?;
                job.go(state, reason, now);
            }
            Step::Ends(state) => {
                end(tx, job, run, state, &reason, finish).await?;
                job.go(state, reason, now);
                job.finished_at = Some(finish);
            }
            Step::Retries => {
                job.retries += 1;
                let wait = wait_ms(job.retries, self.settings.retry_base_ms, self.settings.retry_most_ms);
                job.not_before = Some(now + SignedDuration::from_millis(wait));
                end(tx, job, run, JobState::Failed, &reason, finish).await?;
                let words = format!(
                    "run {} failed: {reason}; retry {} of {} in {} s",
                    run.epoch,
                    job.retries,
                    job.max_retries,
                    wait / 1_000
                );
                job.go(JobState::Queued, words, now);
            }
            Step::Stops => {
                let state = run.stopping.map_or(JobState::Cancelled, stopped_state);
                end(tx, job, run, state, &reason, finish).await?;
            }
            Step::Requeues => {
                run.wanted = false;
                store::desired::touch(tx, &run.cluster).await?;
                end(tx, job, run, JobState::Failed, &reason, finish).await?;
                let words = if reason.is_empty() { "its object is gone from the cluster".to_owned() } else { reason };
                job.go(JobState::Queued, format!("run {} stopped: {words}; it is started anew", run.epoch), now);
            }
        }
        Ok(true)
    }
}

/// The run's phase, if the observation is of the generation that is desired now.
async fn phase(tx: &mut Tx, run: &Run, seen: &Observed) -> Result<Option<RunPhase>> {
    let (incarnation, n) = seen.generation;
    if !run.wanted {
        // Only the removal counts from now on: what was seen before it may still change.
        let removed = run.removed_generation == Some(n) && seen.phase == ItemPhase::Gone;
        return Ok(removed.then_some(RunPhase::Stopped));
    }
    let Some((known_incarnation, generation)) = store::desired::generation(tx, &seen.cluster, &seen.item).await? else {
        return Ok(None);
    };
    if generation != n || known_incarnation.is_some_and(|known| incarnation < known.cast_unsigned()) {
        return Ok(None);
    }
    Ok(Some(match seen.phase {
        ItemPhase::Pending => RunPhase::Pending,
        ItemPhase::There => seen.run_phase.unwrap_or(RunPhase::Pending),
        ItemPhase::Refused => RunPhase::Failed,
        ItemPhase::Gone => RunPhase::Stopped,
    }))
}
