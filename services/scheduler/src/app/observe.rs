//! What clusters say of our items. An observation counts only for the generation it names, and for the current run.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use muster_core::name::JobName;
use muster_kit::{Result, Tx, db, lease, telemetry};

use super::App;
use super::batch::Batch;
use super::control::{end, stopped_state};
use super::decide::LEASE;
use crate::domain::backoff::wait_ms;
use crate::domain::job::{self, JobState, RunPhase, Step};
use crate::domain::record::{Job, Run, parse_run};
use crate::store;
use crate::store::inbox::Subject;

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
        self.observe_all(leader_epoch, std::slice::from_ref(seen)).await
    }

    /// Takes observations in, in the order in which they came, in one transaction.
    ///
    /// # Errors
    /// Another replica leads by now, or the database is away.
    pub async fn observe_all(&self, leader_epoch: u64, seen: &[Observed]) -> Result<()> {
        let seen: Vec<(JobName, u32, &Observed)> =
            seen.iter().filter_map(|seen| parse_item(&seen.item).map(|(name, epoch)| (name, epoch, seen))).collect();
        if seen.is_empty() {
            return Ok(());
        }
        let mut tx = db::begin(&self.pool).await?;
        lease::check(&mut tx, LEASE, leader_epoch).await?;
        let mut facts = Facts::load(&mut tx, &seen).await?;
        let mut batch = Batch::default();
        for (name, epoch, seen) in seen {
            let Some((job, run)) = facts.current(&name, epoch) else { continue };
            let Some(phase) = phase(&facts.generations, &run, seen) else { continue };
            let span = tracing::info_span!("observe run", job.name = %name, run.epoch = epoch, cluster.name = seen.cluster);
            telemetry::continue_trace(&span, &seen.traceparent);
            if !run.leaving.is_empty() {
                // Where a pod came and went between two inventories these are alike: nobody tells of the cluster again.
                batch.look_at(Subject::Cluster(run.cluster.clone()));
            }
            span.in_scope(|| self.advance(&mut batch, &mut facts, (job, run), phase, seen));
        }
        if !batch.is_empty() {
            let (decide, tell) = (batch.wakes_the_leader(), batch.touches_clusters());
            batch.write(&mut tx, &*self.clock).await?;
            tx.commit().await?;
            if decide {
                self.decide.now();
            }
            if tell {
                self.tell.now();
            }
        }
        Ok(())
    }

    /// Puts what the phase makes of a job into the batch.
    fn advance(&self, batch: &mut Batch, facts: &mut Facts, (mut job, mut run): (Job, Run), phase: RunPhase, seen: &Observed) {
        if self.step(batch, &mut job, &mut run, phase, seen) {
            batch.job(&job, Some(&run));
            facts.runs.insert((job.id, run.epoch), run);
            facts.jobs.insert((job.namespace.clone(), job.name.clone()), job);
        }
    }

    /// What the phase makes of the job; `true` if anything is to be stored.
    fn step(&self, batch: &mut Batch, job: &mut Job, run: &mut Run, phase: RunPhase, seen: &Observed) -> bool {
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
                batch.begin_charge(job, run, start);
            }
            batch.look_at(Subject::Job(job.id));
        }
        let finish = seen.finish.unwrap_or(seen_at).max(run.started_at.unwrap_or(run.placed_at));
        let reason = match seen.exit_code {
            Some(code) if seen.reason.is_empty() => format!("exit code {code}"),
            Some(code) => format!("{} (exit code {code})", seen.reason),
            None => seen.reason.clone(),
        };
        match job::step(job.state, run.stopping.is_some(), phase, job.retries < job.max_retries) {
            Step::Stay => {
                reason.clone_into(&mut run.reason);
                if run.stopping.is_none() {
                    job.reason = reason;
                }
                if before == (run.pods.clone(), run.started_at, run.reason.clone(), job.reason.clone(), run.state) {
                    return false;
                }
                batch.run(run);
            }
            Step::Goes(state) => {
                run.state = state;
                reason.clone_into(&mut run.reason);
                batch.run(run);
                job.go(state, reason, now);
            }
            Step::Ends(state) => {
                end(batch, job, run, state, &reason, finish);
                job.go(state, reason, now);
                job.finished_at = Some(finish);
            }
            Step::Retries => {
                job.retries += 1;
                let wait = wait_ms(job.retries, self.settings.retry_base_ms, self.settings.retry_most_ms);
                job.not_before = Some(now + SignedDuration::from_millis(wait));
                end(batch, job, run, JobState::Failed, &reason, finish);
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
                end(batch, job, run, state, &reason, finish);
            }
            Step::Requeues => {
                run.wanted = false;
                batch.touch(&run.cluster);
                end(batch, job, run, JobState::Failed, &reason, finish);
                let words = if reason.is_empty() { "its object is gone from the cluster".to_owned() } else { reason };
                job.go(JobState::Queued, format!("run {} stopped: {words}; it is started anew", run.epoch), now);
            }
        }
        true
    }
}

/// What is known of the jobs that observations are about; changed as they are taken in.
struct Facts {
    jobs: BTreeMap<(String, String), Job>,
    runs: BTreeMap<(i64, u32), Run>,
    generations: BTreeMap<(String, String), (Option<i64>, i64)>,
}

impl Facts {
    async fn load(tx: &mut Tx, seen: &[(JobName, u32, &Observed)]) -> Result<Self> {
        let names: Vec<(String, String)> =
            seen.iter().map(|(name, _, _)| (name.namespace().to_owned(), name.job().to_owned())).collect();
        let jobs = store::job::lock_named(tx, &names).await?;
        let runs = store::run::charged(tx, &jobs).await?.into_values().map(|run| ((run.job_id, run.epoch), run)).collect();
        let items: Vec<(String, String)> = seen.iter().map(|(_, _, seen)| (seen.cluster.clone(), seen.item.clone())).collect();
        let generations = store::desired::generations(tx, &items).await?;
        Ok(Self {
            jobs: jobs.into_iter().map(|job| ((job.namespace.clone(), job.name.clone()), job)).collect(),
            runs,
            generations,
        })
    }

    /// The job and its run, while this is the run that counts.
    fn current(&self, name: &JobName, epoch: u32) -> Option<(Job, Run)> {
        let job = self.jobs.get(&(name.namespace().to_owned(), name.job().to_owned()))?;
        let run = self.runs.get(&(job.id, epoch))?;
        (job.charged && job.epoch == epoch).then(|| (job.clone(), run.clone()))
    }
}

/// The run that an item is.
fn parse_item(item: &str) -> Option<(JobName, u32)> {
    let mut parts = item.strip_prefix("jobs/")?.split('/');
    let (namespace, job, epoch) = (parts.next()?, parts.next()?, parts.next()?);
    parse_run(&format!("namespaces/{namespace}/jobs/{job}/runs/{epoch}"))
}

/// The run's phase, if the observation is of the generation that is desired now.
fn phase(generations: &BTreeMap<(String, String), (Option<i64>, i64)>, run: &Run, seen: &Observed) -> Option<RunPhase> {
    let (incarnation, n) = seen.generation;
    if !run.wanted {
        // Only the removal counts from now on: what was seen before it may still change.
        let removed = run.removed_generation == Some(n) && seen.phase == ItemPhase::Gone;
        return removed.then_some(RunPhase::Stopped);
    }
    let (known_incarnation, generation) = *generations.get(&(seen.cluster.clone(), seen.item.clone()))?;
    if generation != n || known_incarnation.is_some_and(|known| incarnation < known.cast_unsigned()) {
        return None;
    }
    Some(match seen.phase {
        ItemPhase::Pending => RunPhase::Pending,
        ItemPhase::There => seen.run_phase.unwrap_or(RunPhase::Pending),
        // Its cluster refused another size of an object that is there: the run goes on as it was.
        ItemPhase::Refused if run.started_at.is_some() && (run.sized.is_some() || !run.leaving.is_empty()) => {
            seen.run_phase.unwrap_or(RunPhase::Running)
        }
        ItemPhase::Refused => RunPhase::Failed,
        ItemPhase::Gone => RunPhase::Stopped,
    })
}
