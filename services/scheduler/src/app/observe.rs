//! What clusters say of our items. An observation counts only for the generation it names, and for the current run.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use muster_core::name::JobName;
use muster_kit::{Result, Tx, db, lease, telemetry};

use super::App;
use super::batch::Batch;
use super::control::{Item, end, items_of, stop, stopped_state};
use super::decide::LEASE;
use crate::domain::backoff::wait_ms;
use crate::domain::job::{self, JobState, RunPhase, Step, StopReason};
use crate::domain::parts::Parts;
use crate::domain::record::{GrowthRefused, Job, Run, parse_run};
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
            let Some((job, run, number)) = facts.current(&name, epoch, &seen.cluster) else { continue };
            let part = run.part(number);
            let Some(phase) = phase(&facts.generations, part, seen) else { continue };
            let span = tracing::info_span!("observe run", job.name = %name, run.epoch = epoch, cluster.name = seen.cluster);
            telemetry::continue_trace(&span, &seen.traceparent);
            if !part.leaving.is_empty() {
                // Where a pod came and went between two inventories these are alike: nobody tells of the cluster again.
                batch.look_at(Subject::Cluster(part.cluster.clone()));
            }
            span.in_scope(|| self.advance(&mut batch, &mut facts, (job, run, number), phase, seen));
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
    fn advance(
        &self,
        batch: &mut Batch,
        facts: &mut Facts,
        (mut job, mut run, number): (Job, Parts, usize),
        phase: RunPhase,
        seen: &Observed,
    ) {
        if self.step(batch, &mut job, (&mut run, number), (phase, seen), &facts.told) {
            batch.job(&job, Some(&run));
            facts.runs.insert((job.id, job.epoch), run);
            facts.jobs.insert((job.namespace.clone(), job.name.clone()), job);
        }
    }

    /// What the phase of a part makes of the job; `true` if anything is to be stored.
    fn step(
        &self,
        batch: &mut Batch,
        job: &mut Job,
        (run, number): (&mut Parts, usize),
        (phase, seen): (RunPhase, &Observed),
        told: &BTreeSet<Item>,
    ) -> bool {
        let now = self.now();
        let seen_at = seen.at.unwrap_or(now);
        let others = run.others(number);
        let part = run.part_mut(number);
        let before = noted(part, job);
        if !seen.pods.is_empty() {
            part.pods.clone_from(&seen.pods);
        }
        if let Some(workers) = refused_growth(part, seen) {
            part.refused = Some(GrowthRefused { at: now, workers: Some(workers) });
            batch.look_at(Subject::Job(job.id));
        } else if seen.phase == ItemPhase::There && !part.resizing {
            part.grown_from = None;
        }
        let began = match phase {
            RunPhase::Running => seen.start.or(part.started_at).or(Some(seen_at)),
            RunPhase::Pending => part.started_at,
            // A run that was never seen running is charged only where its object says when it began.
            RunPhase::Succeeded | RunPhase::Failed | RunPhase::Stopped => seen.start.or(part.started_at),
        };
        if began != part.started_at {
            part.started_at = began;
            if let Some(start) = began {
                batch.begin_charge(job, part, start);
            }
            job.started_at = run.started_at();
            batch.look_at(Subject::Job(job.id));
        }
        let part = run.part_mut(number);
        let finish = seen.finish.unwrap_or(seen_at).max(part.started_at.unwrap_or(part.placed_at));
        let reason = match seen.exit_code {
            Some(code) if seen.reason.is_empty() => format!("exit code {code}"),
            Some(code) => format!("{} (exit code {code})", seen.reason),
            None => seen.reason.clone(),
        };
        match job::step(job.state, part.stopping.is_some(), phase, others, job.retries < job.max_retries) {
            Step::Stay => {
                part.reason = reason;
                say(job, run);
                if before == noted(run.part(number), job) {
                    return false;
                }
                batch.run(run.part(number));
            }
            Step::Goes(state) => {
                part.state = state;
                part.reason = reason;
                batch.run(part);
                job.go(state, run.reason(), now);
            }
            Step::PartGoes(state) => {
                part.state = state;
                part.reason = reason;
                say(job, run);
                if before == noted(run.part(number), job) {
                    return false;
                }
                batch.run(run.part(number));
            }
            Step::PartEnds(state) => {
                end(batch, job, run, number, state, &reason, finish);
                say(job, run);
            }
            Step::Ends(state) => {
                end(batch, job, run, number, state, &reason, finish);
                let words = if state == JobState::Succeeded { run.reason() } else { run.said_by(run.part(number), &reason) };
                stop(batch, job, run, StopReason::Broken, told, now);
                job.go(state, words, now);
                job.finished_at = run.finished_at().or(Some(finish));
            }
            Step::Retries => {
                job.retries += 1;
                let wait = wait_ms(job.retries, self.settings.retry_base_ms, self.settings.retry_most_ms);
                job.not_before = Some(now + SignedDuration::from_millis(wait));
                end(batch, job, run, number, JobState::Failed, &reason, finish);
                let words = format!(
                    "run {} failed: {}; retry {} of {} in {} s",
                    job.epoch,
                    run.said_by(run.part(number), &reason),
                    job.retries,
                    job.max_retries,
                    wait / 1_000
                );
                stop(batch, job, run, StopReason::Broken, told, now);
                job.go(JobState::Queued, words, now);
            }
            Step::Stops => {
                let state = part.stopping.map_or(JobState::Cancelled, stopped_state);
                end(batch, job, run, number, state, &reason, finish);
            }
            Step::Requeues => {
                part.wanted = false;
                batch.touch(&part.cluster);
                end(batch, job, run, number, JobState::Failed, &reason, finish);
                let words = if reason.is_empty() { "its object is gone from the cluster".to_owned() } else { reason };
                let words = run.said_by(run.part(number), &words);
                stop(batch, job, run, StopReason::Broken, told, now);
                job.go(JobState::Queued, format!("run {} stopped: {words}; it is started anew", job.epoch), now);
            }
        }
        true
    }
}

/// What an observation may change of a part and its job without changing where they stand.
fn noted(part: &Run, job: &Job) -> (Run, String) {
    (part.clone(), job.reason.clone())
}

/// How many workers of its elastic group a run has, where its cluster refuses to have more and that is not known yet.
fn refused_growth(run: &Run, seen: &Observed) -> Option<u32> {
    let is_news = run.refused.is_none_or(|refused| refused.workers.is_none());
    run.grown_from.filter(|_| seen.phase == ItemPhase::Refused && run.leaving.is_empty() && run.stopping.is_none() && is_news)
}

/// A job says what its clusters say, unless it has a reason of its own to be where it is.
fn say(job: &mut Job, run: &Parts) {
    if !run.is_stopping() && job.state != JobState::Lost {
        job.reason = run.reason();
    }
}

/// What is known of the jobs that observations are about; changed as they are taken in.
struct Facts {
    jobs: BTreeMap<(String, String), Job>,
    runs: BTreeMap<(i64, u32), Parts>,
    generations: BTreeMap<Item, (Option<i64>, i64)>,
    /// Items of runs in several clusters that may have to end for what is seen, of which their clusters were told.
    told: BTreeSet<Item>,
}

impl Facts {
    async fn load(tx: &mut Tx, seen: &[(JobName, u32, &Observed)]) -> Result<Self> {
        let names: Vec<(String, String)> =
            seen.iter().map(|(name, _, _)| (name.namespace().to_owned(), name.job().to_owned())).collect();
        let jobs = store::job::lock_named(tx, &names).await?;
        let mut runs = store::run::charged(tx, &jobs).await?;
        let items: Vec<Item> = seen.iter().map(|(_, _, seen)| (seen.cluster.clone(), seen.item.clone())).collect();
        let generations = store::desired::generations(tx, &items).await?;
        let told = told(tx, seen, jobs.iter().filter_map(|job| Some((job, runs.get(&job.id)?)))).await?;
        let runs = jobs.iter().filter_map(|job| Some(((job.id, job.epoch), runs.remove(&job.id)?))).collect();
        let jobs = jobs.into_iter().map(|job| ((job.namespace.clone(), job.name.clone()), job)).collect();
        Ok(Self { jobs, runs, generations, told })
    }

    /// The job, its run and which part of that is in the cluster, while this is the run that counts and the part goes on.
    fn current(&self, name: &JobName, epoch: u32, cluster: &str) -> Option<(Job, Parts, usize)> {
        let job = self.jobs.get(&(name.namespace().to_owned(), name.job().to_owned()))?;
        let run = self.runs.get(&(job.id, epoch)).filter(|_| job.charged && job.epoch == epoch)?;
        let number = run.number_in(cluster).filter(|number| run.part(*number).finished_at.is_none())?;
        Some((job.clone(), run.clone(), number))
    }
}

/// Which items of runs in several clusters these were told of, where a part of the run is seen to be over: then the others are to end.
/// Locks all clusters at once that the transaction may touch, in name order.
async fn told<'a>(
    tx: &mut Tx,
    seen: &[(JobName, u32, &Observed)],
    runs: impl Iterator<Item = (&'a Job, &'a Parts)>,
) -> Result<BTreeSet<Item>> {
    let is_over = |job: &Job| {
        seen.iter().any(|(name, _, seen)| {
            let of_job = name.namespace() == job.namespace && name.job() == job.name;
            let goes_on = seen.phase == ItemPhase::Pending
                || seen.phase == ItemPhase::There && matches!(seen.run_phase, None | Some(RunPhase::Pending | RunPhase::Running));
            of_job && !goes_on
        })
    };
    let ending = runs.filter(|(job, run)| run.spans() && !run.is_stopping() && is_over(job));
    let items: Vec<Item> = ending.flat_map(|(job, run)| items_of(job, run)).collect();
    if items.is_empty() {
        return Ok(BTreeSet::new());
    }
    let clusters = items.iter().map(|(cluster, _)| cluster).chain(seen.iter().map(|(_, _, seen)| &seen.cluster));
    store::desired::touch(tx, &clusters.cloned().collect::<Vec<_>>()).await?;
    store::desired::told(tx, &items).await
}

/// The run that an item is.
fn parse_item(item: &str) -> Option<(JobName, u32)> {
    let mut parts = item.strip_prefix("jobs/")?.split('/');
    let (namespace, job, epoch) = (parts.next()?, parts.next()?, parts.next()?);
    parse_run(&format!("namespaces/{namespace}/jobs/{job}/runs/{epoch}"))
}

/// The phase of a run or of its part in a cluster, if the observation is of the generation that is desired now.
fn phase(generations: &BTreeMap<Item, (Option<i64>, i64)>, run: &Run, seen: &Observed) -> Option<RunPhase> {
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
