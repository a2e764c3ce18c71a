//! What would start if capacity, prices or queues were others: two copies of the engine play on, one of them with the changes.

use std::collections::BTreeSet;

use jiff::Timestamp;
use muster_core::Manifest;
use muster_kit::{Error, Result, db};
use muster_scheduler_engine::{Forecast, JobId, JobState};

use super::App;
use super::forecast::{FARTHEST_MS, ForeseenStart, MEDIAN, play};
use super::mind::Mind;
use crate::domain::cluster::{ClusterFacts, NodeFacts, Price};
use crate::domain::queue::{QueueDefinition, specs};
use crate::error::in_field;

/// Changes of one question.
pub const MOST_CHANGES: usize = 64;
/// Nodes more or fewer by one change.
pub const MOST_NODES: i32 = 10_000;

/// Something that would be otherwise.
#[derive(Clone, Debug)]
pub enum Change {
    /// More nodes, or fewer.
    Nodes {
        /// The cluster's identifier.
        cluster: String,
        /// GPU model; empty without GPUs.
        flavor: String,
        /// How many more; negative: fewer.
        count: i32,
    },
    /// Another price.
    Price {
        /// The cluster's identifier.
        cluster: String,
        /// GPU model.
        flavor: String,
        /// Millionths per GPU-hour.
        micros_per_gpu_hour: i64,
    },
    /// A queue that is made or changed.
    Queue(Manifest),
}

/// What is foreseen of all waiting jobs.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Jobs that wait now.
    pub waiting: u32,
    /// Those that start.
    pub started: u32,
    /// How long those wait from now on the mean, in seconds.
    pub mean_wait_seconds: f64,
    /// What their runs cost.
    pub cost_micros: i64,
    /// Jobs that are interrupted.
    pub interrupted: u32,
    /// How far it was looked.
    pub until: Timestamp,
}

/// A job whose start would be another.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangedStart {
    /// Its resource name.
    pub job: String,
    /// Its queue.
    pub queue: String,
    /// As things are.
    pub today: Option<ForeseenStart>,
    /// With the changes.
    pub then: Option<ForeseenStart>,
}

/// The whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// As things are.
    pub today: Outcome,
    /// With the changes.
    pub then: Outcome,
    /// Jobs whose start is another, by the earlier of the two times.
    pub jobs: Vec<ChangedStart>,
    /// How many there are.
    pub changed: usize,
}

impl App {
    /// Answers what the changes would change.
    ///
    /// # Errors
    /// The change at fault by its place, too many jobs, or the database away.
    pub async fn what_if(&self, changes: Vec<Change>, horizon_ms: i64, most_jobs: usize) -> Result<Answer> {
        let now = self.now();
        let today = self.fork().await?;
        let mut then = today.clone();
        for (at, change) in changes.into_iter().enumerate() {
            then.change(&format!("changes[{at}]"), change)?;
        }
        let mut tx = db::begin(&self.pool).await?;
        then.counting.now();
        then.count_budgets_when_due(&mut tx, now).await?;
        tx.rollback().await?;
        let rows = today.engine.rows().jobs;
        let waits = |state: &JobState| matches!(state, JobState::Waiting { .. });
        let waiting: Vec<JobId> = rows.into_iter().filter(|row| waits(&row.state)).map(|row| row.spec.id).collect();
        let names = self.names(&waiting).await?;
        let horizon_ms = horizon_ms.min(FARTHEST_MS);
        let (today, then) = (play(today.engine, horizon_ms, MEDIAN).await?, play(then.engine, horizon_ms, MEDIAN).await?);
        let start = |forecast: &Forecast, job: &JobId| Some(ForeseenStart::new(forecast.starts.get(job)?));
        let mut jobs = Vec::new();
        for (id, named) in &names {
            let (today, then) = (start(&today, id), start(&then, id));
            let place = |start: &Option<ForeseenStart>| {
                start.as_ref().map(|start| {
                    (start.time, (start.cluster.clone(), start.further.clone()), start.flavor.clone(), start.cost_micros)
                })
            };
            if place(&today) != place(&then) {
                jobs.push(ChangedStart { job: named.resource.clone(), queue: named.queue.clone(), today, then });
            }
        }
        let earlier = |job: &ChangedStart| job.today.iter().chain(&job.then).map(|start| start.time).min();
        jobs.sort_by(|left, right| (earlier(left), &left.job).cmp(&(earlier(right), &right.job)));
        let changed = jobs.len();
        jobs.truncate(most_jobs);
        let outcome = |forecast: &Forecast| {
            let starts: Vec<ForeseenStart> = waiting.iter().filter_map(|job| start(forecast, job)).collect();
            let waited_ms = |start: &ForeseenStart| (start.time.as_millisecond() - now.as_millisecond()).max(0) as f64;
            let many = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            Outcome {
                waiting: many(waiting.len()),
                started: many(starts.len()),
                mean_wait_seconds: starts.iter().map(waited_ms).sum::<f64>() / 1_000.0 / starts.len().max(1) as f64,
                cost_micros: starts.iter().fold(0, |sum: i64, start| sum.saturating_add(start.cost_micros)),
                interrupted: many(forecast.interrupted.len()),
                until: Timestamp::from_millisecond(forecast.until.0).unwrap_or(Timestamp::MAX),
            }
        };
        Ok(Answer { today: outcome(&today), then: outcome(&then), jobs, changed })
    }
}

impl Mind {
    fn change(&mut self, path: &str, change: Change) -> Result<()> {
        match change {
            Change::Nodes { cluster, flavor, count } => {
                let facts = self.cluster_in(path, "nodes", &cluster)?;
                change_nodes(facts, &flavor, count).map_err(|why| Error::invalid(format!("{path}.nodes"), why))?;
                self.tell_cluster(&cluster)
            }
            Change::Price { cluster, flavor, micros_per_gpu_hour } => {
                let facts = self.cluster_in(path, "price", &cluster)?;
                let price = facts.prices.entry(flavor).or_insert_with(Price::default);
                price.micros_per_gpu_hour = micros_per_gpu_hour;
                self.tell_cluster(&cluster)
            }
            Change::Queue(manifest) => {
                let field = format!("{path}.queue_manifest");
                let definition = QueueDefinition::read(&manifest).map_err(|fault| in_field(&field, fault))?;
                let name = definition.name.clone();
                self.definitions.insert(name.clone(), definition);
                self.tell_queues();
                // A queue that the engine does not take stays as it was, which would make the answer wrong.
                let facts: Vec<ClusterFacts> = self.clusters.values().cloned().collect();
                let wanted = specs(&self.definitions, &facts).remove(&name).expect("it was just defined");
                match self.engine.rows().queues.into_iter().find(|queue| queue.name == name) {
                    Some(queue) if queue == wanted => Ok(()),
                    Some(_) | None => Err(Error::invalid(field, "its parent is missing, or has jobs of its own")),
                }
            }
        }
    }

    fn cluster_in(&mut self, path: &str, field: &str, cluster: &str) -> Result<&mut ClusterFacts> {
        let missing = || Error::invalid(format!("{path}.{field}.cluster"), format!("clusters/{cluster} is not known here"));
        self.clusters.get_mut(cluster).ok_or_else(missing)
    }
}

/// Adds nodes as the first one of the model, with nothing on them; or takes those away that have the fewest of our runs.
fn change_nodes(facts: &mut ClusterFacts, flavor: &str, count: i32) -> Result<(), String> {
    let of_flavor = |node: &&NodeFacts| node.flavor == flavor;
    if count > 0 {
        let Some(first) = facts.nodes.iter().find(of_flavor).cloned() else {
            return Err(format!("there is no node with flavor {flavor:?} in {} that others could be like", facts.name));
        };
        let taken: BTreeSet<String> = facts.nodes.iter().map(|node| node.name.clone()).collect();
        let names = (0..).map(|number| format!("what-if-{number}")).filter(|name| !taken.contains(name));
        let added = names.take(count.unsigned_abs() as usize).map(|name| NodeFacts {
            name,
            used_by_others: Default::default(),
            used_by_run: Default::default(),
            schedulable: true,
            ..first.clone()
        });
        facts.nodes.extend(added.collect::<Vec<_>>());
        return Ok(());
    }
    let mut there: Vec<(usize, usize)> = facts
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| node.flavor == flavor)
        .map(|(at, node)| (node.used_by_run.len(), at))
        .collect();
    let fewer = count.unsigned_abs() as usize;
    if there.len() < fewer {
        return Err(format!("{} has {} nodes with flavor {flavor:?}", facts.name, there.len()));
    }
    there.sort_unstable();
    let gone: BTreeSet<usize> = there.into_iter().take(fewer).map(|(_, at)| at).collect();
    let mut at = 0;
    facts.nodes.retain(|_| {
        at += 1;
        !gone.contains(&(at - 1))
    });
    Ok(())
}
