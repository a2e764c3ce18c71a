//! The leader's engine and how it follows the tables. Everything here is *level-triggered*: a subject of the inbox says
//! what to look at, never what happened, so that what is told twice or late does no harm.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use muster_kit::{Error, Result, Tx};
use muster_scheduler_engine::{
    Engine, Epoch, Event, JobId, JobState as EngineState, PartRow, QueueSpec, Refused, Rows, RunEnd, histories,
};

use super::budgets::Counting;
use super::fold::{attained_ms, row};
use super::queues::read;
use crate::domain::cluster::{ClusterFacts, HourOfDay};
use crate::domain::job::JobState;
use crate::domain::parts::Parts;
use crate::domain::queue::{QueueDefinition, specs};
use crate::domain::record::{GrowthRefused, Job, engine_id, run_resource, time};
use crate::store;
use crate::store::inbox::Subject;

/// Jobs read at a time when the engine is rebuilt.
const BATCH: i64 = 1_000;
/// Ended jobs that a new leader learns from.
const LEARNED_FROM: i64 = 10_000;

/// The engine and what is needed to tell it what the tables say.
#[derive(Clone, Debug)]
pub struct Mind {
    /// The lease's epoch it was built under.
    pub epoch: u64,
    /// The engine.
    pub engine: Engine,
    /// Clusters of the projection.
    pub clusters: BTreeMap<String, ClusterFacts>,
    pub(super) definitions: BTreeMap<String, QueueDefinition>,
    /// Charged runs by cluster and resource name.
    charged: BTreeMap<String, BTreeMap<String, (JobId, Epoch)>>,
    /// Jobs whose queue does not exist.
    homeless: BTreeSet<i64>,
    pub(super) counting: Counting,
    /// Of which hour the emissions are that the engine was told.
    pub(super) hour: HourOfDay,
}

impl Mind {
    /// Builds the engine from the tables.
    ///
    /// # Errors
    /// Rows that no engine wrote, or the database away.
    pub async fn load(tx: &mut Tx, epoch: u64, now: Timestamp) -> Result<Self> {
        let clusters: BTreeMap<String, ClusterFacts> =
            store::cluster::all(tx).await?.into_iter().map(|facts| (facts.name.clone(), facts)).collect();
        let manifests = store::queue::manifests(tx).await?;
        let definitions: BTreeMap<String, QueueDefinition> =
            manifests.into_iter().map(|(name, manifest)| Ok((name, read(&manifest)?))).collect::<Result<_>>()?;
        let mut jobs = Vec::new();
        let mut after = 0;
        loop {
            let batch = store::job::for_engine(tx, after, BATCH).await?;
            let Some(last) = batch.last() else { break };
            after = last.id;
            let mut runs = store::run::charged(tx, &batch).await?;
            for job in batch {
                let attained_ms = attained_ms(tx, &job).await?;
                jobs.push((runs.remove(&job.id), attained_ms, job));
            }
        }
        let mut mind = Self {
            epoch,
            engine: Engine::new(),
            clusters,
            definitions,
            charged: BTreeMap::new(),
            homeless: BTreeSet::new(),
            counting: Counting::due(now),
            hour: HourOfDay::of(now),
        };
        let facts: Vec<ClusterFacts> = mind.clusters.values().cloned().collect();
        fold_queues(&mut mind.engine, &mind.definitions, &facts);
        let queues = mind.engine.rows().queues;
        let known: BTreeSet<&str> = queues.iter().map(|queue| queue.name.as_str()).collect();
        let mut rows = Vec::with_capacity(jobs.len());
        for (run, attained_ms, job) in jobs {
            if let Some(run) = &run {
                mind.charge(&job, run);
            }
            if known.contains(job.queue.as_str()) {
                rows.push(row(&job, run.as_ref(), attained_ms));
            } else {
                mind.homeless.insert(job.id);
            }
        }
        let specs = facts.iter().map(|facts| facts.spec(&mind.charged_in(&facts.name), mind.hour)).collect();
        let histories = histories(store::job::finished(tx, LEARNED_FROM).await?);
        let rows = Rows { clusters: specs, queues, jobs: rows, histories, ..Rows::default() };
        mind.engine = Engine::restore(rows, time(now)).map_err(out_of_step)?;
        let names: Vec<String> = mind.clusters.keys().cloned().collect();
        for name in names {
            mind.bind(&name);
        }
        mind.count_budgets_when_due(tx, now).await?;
        Ok(mind)
    }

    /// Whether something is to be done by now that nobody tells of: timers of the engine, budgets to be summed up, another hour's
    /// emissions.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        let rings = self.engine.next_timer().is_some_and(|at| at <= time(now));
        rings || self.counting.is_due(now) || self.hour != HourOfDay::of(now)
    }

    /// Looks at subjects of the inbox, in their order, and tells the engine what it finds.
    ///
    /// # Errors
    /// A row that can't follow from what the engine knows; it has to be built anew.
    pub async fn look_at(&mut self, tx: &mut Tx, subjects: &[Subject], now: Timestamp) -> Result<()> {
        let mut jobs = Vec::new();
        let mut queue = None;
        for subject in subjects {
            match subject {
                Subject::Cluster(_) => self.look(tx, subject, now).await?,
                // Whichever has changed, all are read.
                Subject::Queue(_) => queue = Some(subject),
                Subject::Job(id) => jobs.push(*id),
            }
        }
        if let Some(subject) = queue {
            self.look(tx, subject, now).await?;
        }
        self.look_at_jobs(tx, &jobs, now).await
    }

    /// Looks at one subject of the inbox and tells the engine what it finds.
    ///
    /// # Errors
    /// A row that can't follow from what the engine knows; it has to be built anew.
    pub async fn look(&mut self, tx: &mut Tx, subject: &Subject, now: Timestamp) -> Result<()> {
        match subject {
            Subject::Cluster(name) => {
                match store::cluster::get(tx, name).await? {
                    Some(facts) => {
                        let fleets = self.clusters.get(name).map(|known| known.fleets.clone());
                        let moved = fleets.as_ref() != Some(&facts.fleets);
                        self.clusters.insert(name.clone(), facts);
                        self.tell_cluster(name)?;
                        if moved {
                            self.tell_queues();
                        }
                    }
                    None => {
                        if self.clusters.remove(name).is_some() {
                            self.engine.apply(Event::ClusterGone(name.clone())).map_err(out_of_step)?;
                            self.tell_queues();
                        }
                    }
                }
                Ok(())
            }
            Subject::Queue(_) => {
                let manifests = store::queue::manifests(tx).await?;
                self.definitions =
                    manifests.into_iter().map(|(name, manifest)| Ok((name, read(&manifest)?))).collect::<Result<_>>()?;
                self.tell_queues();
                self.counting.now();
                let homeless: Vec<i64> = std::mem::take(&mut self.homeless).into_iter().collect();
                self.look_at_jobs(tx, &homeless, now).await
            }
            Subject::Job(id) => self.look_at_jobs(tx, &[*id], now).await,
        }
    }

    /// Looks at jobs in this order; two statements for each [`BATCH`] of them. Nothing is locked: whoever changes one of them
    /// meanwhile tells us to look again, and a decision locks what it changes.
    async fn look_at_jobs(&mut self, tx: &mut Tx, ids: &[i64], now: Timestamp) -> Result<()> {
        for ids in ids.chunks(BATCH as usize) {
            let mut jobs = store::job::rows(&mut **tx, ids).await?;
            let runs = store::run::charged(tx, jobs.values()).await?;
            for id in ids {
                match jobs.remove(id) {
                    Some(job) => self.tell_job(&job, runs.get(id), now)?,
                    None => self.forget(*id)?,
                }
            }
        }
        Ok(())
    }

    /// A job's row is gone: it was deleted after its last run had ended, which the engine may not have heard yet.
    fn forget(&mut self, id: i64) -> Result<()> {
        self.homeless.remove(&id);
        let job = engine_id(id);
        let event = match self.engine.job(job).map(|known| (known.epoch, known.state)) {
            None => return Ok(()),
            Some((epoch, EngineState::Placed { cluster, elsewhere, .. })) => {
                self.counting.run_ended();
                for cluster in clusters(cluster, elsewhere) {
                    if let Some(runs) = self.charged.get_mut(&cluster) {
                        runs.retain(|_, run| *run != (job, epoch));
                    }
                }
                Event::Ended { job, epoch, end: RunEnd::Finished }
            }
            Some(_) => Event::Withdrawn(job),
        };
        self.engine.apply(event).map_err(out_of_step)
    }

    /// Makes the engine know of a job what its row says.
    ///
    /// # Errors
    /// A row that can't follow from what the engine knows.
    pub fn tell_job(&mut self, job: &Job, run: Option<&Parts>, now: Timestamp) -> Result<()> {
        let id = engine_id(job.id);
        let known = self.engine.job(id);
        let event = match (run, known.map(|known| (known.epoch, known.state, known.spec))) {
            (Some(run), Some((epoch, EngineState::Placed { started_at, stopping, refused, .. }, _))) if epoch.0 == job.epoch => {
                if run.is_stopping() && !stopping {
                    self.engine.apply(Event::Stopping { job: id, epoch }).map_err(out_of_step)?;
                }
                if let Some(GrowthRefused { at, workers: Some(workers) }) = run.first().refused
                    && refused.is_none_or(|known| known.at < time(at))
                {
                    self.engine.apply(Event::GrowthRefused { job: id, epoch, workers, at: time(at) }).map_err(out_of_step)?;
                }
                match run.started_at() {
                    Some(at) if started_at.is_none() => Event::Started { job: id, epoch, at: time(at) },
                    Some(_) | None => return Ok(()),
                }
            }
            (Some(_), _) => {
                return Err(Error::internal(anyhow::anyhow!("job {} has a charged run that the engine did not place", job.id)));
            }
            (None, Some((epoch, EngineState::Placed { cluster, elsewhere, .. }, _))) => {
                let end = match job.state {
                    JobState::Succeeded | JobState::Failed | JobState::Cancelled | JobState::Refused => RunEnd::Finished,
                    JobState::Suspended => RunEnd::Suspended,
                    JobState::Queued | JobState::Placed | JobState::Running | JobState::Lost => {
                        RunEnd::Retry { not_before: time(job.not_before.unwrap_or(now)) }
                    }
                };
                self.engine.apply(Event::Ended { job: id, epoch, end }).map_err(out_of_step)?;
                self.counting.run_ended();
                for cluster in clusters(cluster, elsewhere) {
                    self.discharge(&cluster, job, epoch)?;
                }
                return Ok(());
            }
            (None, known) => match (job.state, known) {
                (JobState::Succeeded | JobState::Failed | JobState::Cancelled | JobState::Refused, None) => {
                    self.homeless.remove(&job.id);
                    return Ok(());
                }
                (JobState::Succeeded | JobState::Failed | JobState::Cancelled | JobState::Refused, Some(_)) => {
                    Event::Withdrawn(id)
                }
                (state @ (JobState::Suspended | JobState::Queued), None) => {
                    Event::Submitted { job: job.spec(), suspended: state == JobState::Suspended }
                }
                (JobState::Suspended, Some((_, EngineState::Suspended, _))) => return Ok(()),
                (JobState::Suspended, Some(_)) => Event::Suspended(id),
                (JobState::Queued, Some((_, EngineState::Suspended, _))) => Event::Resumed(id),
                (JobState::Queued, Some((_, _, spec))) if spec != job.spec() => {
                    self.engine.apply(Event::Withdrawn(id)).map_err(out_of_step)?;
                    Event::Submitted { job: job.spec(), suspended: false }
                }
                (JobState::Queued, Some(_)) => return Ok(()),
                (JobState::Placed | JobState::Running | JobState::Lost, _) => {
                    return Err(Error::internal(anyhow::anyhow!("job {} is {} without a charged run", job.id, job.state)));
                }
            },
        };
        match self.engine.apply(event) {
            Ok(()) => {
                self.homeless.remove(&job.id);
                Ok(())
            }
            // Its queue is not there yet, or has queues below it by now: it waits until that changes.
            Err(refused) if refused.field == "queue" => {
                self.homeless.insert(job.id);
                Ok(())
            }
            Err(refused) => Err(out_of_step(refused)),
        }
    }

    /// Writes down that a run is charged.
    pub fn charge(&mut self, job: &Job, run: &Parts) {
        for part in run.iter() {
            let runs = self.charged.entry(part.cluster.clone()).or_default();
            runs.insert(job.run_resource(), (engine_id(job.id), Epoch(part.epoch)));
        }
    }

    /// A run is charged no more in a cluster: what its pods still use is used by others until the inventory shows that they are gone.
    fn discharge(&mut self, cluster: &str, job: &Job, epoch: Epoch) -> Result<()> {
        let name = run_resource(&job.namespace, &job.name, epoch.0);
        if self.charged.get_mut(cluster).is_none_or(|runs| runs.remove(&name).is_none()) {
            return Ok(());
        }
        if self.clusters.get(cluster).is_some_and(|facts| facts.runs_seen().contains(name.as_str())) {
            self.tell_cluster(cluster)?;
        }
        Ok(())
    }

    fn charged_in(&self, cluster: &str) -> BTreeSet<String> {
        self.charged.get(cluster).map(|runs| runs.keys().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn tell_cluster(&mut self, name: &str) -> Result<()> {
        if let Some(facts) = self.clusters.get(name) {
            let spec = facts.spec(&self.charged_in(name), self.hour);
            self.engine.apply(Event::Cluster(spec)).map_err(out_of_step)?;
            self.bind(name);
        }
        Ok(())
    }

    /// Tells the engine where the pods of charged runs are.
    fn bind(&mut self, cluster: &str) {
        let (Some(facts), Some(runs)) = (self.clusters.get(cluster), self.charged.get(cluster)) else { return };
        for name in facts.runs_seen() {
            if let Some((job, epoch)) = runs.get(name).copied()
                && let Err(refused) =
                    self.engine.apply(Event::BoundOn { job, epoch, cluster: cluster.to_owned(), nodes: facts.bound(name) })
            {
                tracing::debug!(run.name = name, error = %refused, "a binding is of a run that the engine does not hold");
            }
        }
    }

    pub(super) fn tell_queues(&mut self) {
        let facts: Vec<ClusterFacts> = self.clusters.values().cloned().collect();
        fold_queues(&mut self.engine, &self.definitions, &facts);
    }
}

/// Makes the engine have the queues that are defined. One whose parent is not there, or whose place the engine refuses, is
/// held out (or stays as it was), and its jobs wait.
pub fn fold_queues(engine: &mut Engine, definitions: &BTreeMap<String, QueueDefinition>, clusters: &[ClusterFacts]) {
    let specs = specs(definitions, clusters);
    let mut done: BTreeSet<&str> = BTreeSet::new();
    loop {
        let ready = |queue: &&QueueSpec| {
            !done.contains(queue.name.as_str()) && queue.parent.as_deref().is_none_or(|parent| done.contains(parent))
        };
        let next: Vec<&QueueSpec> = specs.values().filter(ready).collect();
        if next.is_empty() {
            break;
        }
        for queue in next {
            done.insert(&queue.name);
            if let Err(refused) = engine.apply(Event::Queue(queue.clone())) {
                tracing::warn!(queue.name = queue.name, error = %refused, "a queue can't be taken into account");
            }
        }
    }
    // Children first: a queue with queues below it is not removed.
    let gone: Vec<String> =
        engine.rows().queues.into_iter().map(|queue| queue.name).filter(|name| !specs.contains_key(name)).collect();
    for _ in 0..muster_scheduler_engine::MAX_DEPTH {
        for name in &gone {
            if let Err(refused) = engine.apply(Event::QueueGone(name.clone())) {
                tracing::debug!(queue.name = name, error = %refused, "a queue is not removed yet");
            }
        }
    }
}

/// All clusters that a run is in, as the engine says it.
fn clusters(first: String, elsewhere: Vec<PartRow>) -> impl Iterator<Item = String> {
    std::iter::once(first).chain(elsewhere.into_iter().map(|part| part.cluster))
}

pub(super) fn out_of_step(refused: Refused) -> Error {
    Error::internal(anyhow::anyhow!("the engine and the tables are out of step: {refused}"))
}
