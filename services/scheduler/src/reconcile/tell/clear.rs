//! The verdict at dispatch: of every run that is placed and not yet cleared, taken of the very object that its cluster is to make. What
//! is allowed is numbered by the transaction that writes it down.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use muster_core::manifest::parse_one;
use muster_core::{Manifest, bundle};
use muster_kit::error::Kind;
use muster_kit::{Error, Result, db, lease, telemetry};
use muster_scheduler_engine::{Topology, TopologyMode};
use serde_json::Value;

use super::number;
use crate::app::App;
use crate::app::batch::Batch;
use crate::app::control::{item_of, stop};
use crate::app::decide::LEASE;
use crate::domain::cluster::ClusterFacts;
use crate::domain::compose::{Domains, RunMarks, compose, resized};
use crate::domain::job::StopReason;
use crate::domain::record::{Job, Run};
use crate::peers::{Question, Verdict};
use crate::store;
use crate::store::desired::change::Pending;

/// Runs cleared in one pass.
const RUNS: i64 = 500;

/// A run whose object is composed.
struct Composed {
    job: i64,
    epoch: u32,
    /// With how many workers, of an elastic job.
    workers: Option<u32>,
    object: Value,
    traceparent: String,
}

/// What clearing some runs came to.
#[derive(Default)]
pub struct Cleared {
    /// Whether any run waited for its verdict.
    pub any: bool,
    /// Everything that is to be told, in rows already.
    pub changes: Vec<Pending>,
    /// The bundles of the runs that were allowed, by digest.
    pub bundles: BTreeMap<String, Vec<u8>>,
    /// Why some run could not be judged now.
    pub away: Option<Error>,
}

/// Takes the verdicts, and numbers the changes. A run that can't be judged now holds no other up.
///
/// # Errors
/// Another replica leads by now, or the database is away.
pub async fn clear(app: &App, epoch: u64, incarnation: Option<u64>) -> Result<Cleared> {
    let runs = store::run::uncleared(&app.pool, RUNS).await?;
    if runs.is_empty() {
        return Ok(Cleared::default());
    }
    let (composed, questions): (Vec<Composed>, Vec<Question>) = composed(app, &runs).await?.into_iter().unzip();
    let verdicts = app.policy.evaluate(questions).await;
    write(app, epoch, incarnation, composed.into_iter().zip(verdicts).collect()).await
}

/// The objects of the runs, and what is asked of each.
async fn composed(app: &App, runs: &[Run]) -> Result<Vec<(Composed, Question)>> {
    let jobs = store::job::rows(&app.pool, &runs.iter().map(|run| run.job_id).collect::<Vec<_>>()).await?;
    let digests: BTreeSet<String> = jobs.values().map(|job| job.manifest_digest.clone()).collect();
    let manifests = store::job::manifests(&app.pool, &digests.into_iter().collect::<Vec<_>>()).await?;
    let manifests: BTreeMap<&str, Manifest> = manifests
        .iter()
        .map(|(digest, text)| Ok((digest.as_str(), parse_one(text).map_err(Error::internal)?)))
        .collect::<Result<_>>()?;
    let resizing: BTreeSet<&String> =
        runs.iter().filter(|run| run.resizing).filter_map(|run| run.bundle_digest.as_ref()).collect();
    let told: BTreeMap<String, Vec<u8>> =
        store::bundle::some(&app.pool, &resizing.into_iter().cloned().collect::<Vec<_>>()).await?.into_iter().collect();
    let admission = app.admissions.now().await?;
    let flavors: BTreeSet<(&str, &str)> = runs.iter().map(|run| (run.cluster.as_str(), run.flavor.as_str())).collect();
    let must_be_named: BTreeSet<(&str, &str)> = flavors
        .into_iter()
        .filter(|(cluster, flavor)| admission.cluster(cluster).is_some_and(|facts| is_chosen_by_label(facts, flavor)))
        .collect();
    // A job that was deleted since takes its runs along.
    let known = runs.iter().filter_map(|run| {
        let job = jobs.get(&run.job_id)?;
        Some((run, job, manifests.get(job.manifest_digest.as_str())?))
    });
    let question = |(run, job, manifest): (&Run, &Job, &Manifest)| {
        if let Some(digest) = &run.bundle_digest {
            let content = told.get(digest).ok_or_else(|| Error::internal(anyhow::anyhow!("bundle {digest} of a run is gone")))?;
            return question_of_size(run, job, digest, content);
        }
        let is_named = must_be_named.contains(&(run.cluster.as_str(), run.flavor.as_str()));
        let domains =
            job.gang.topology.as_ref().and_then(|Topology { level, mode }| {
                Some((*mode, admission.cluster(&run.cluster)?.domains_of(level, &run.slots)))
            });
        question(run, job, &manifest.value, is_named.then_some(run.flavor.as_str()), domains.as_ref())
    };
    known.map(question).collect()
}

fn question(
    run: &Run,
    job: &Job,
    manifest: &Value,
    require_model: Option<&str>,
    domains: Option<&(TopologyMode, Domains)>,
) -> Result<(Composed, Question)> {
    let span = tracing::info_span!("dispatch run", run.epoch = run.epoch, cluster.name = run.cluster);
    telemetry::continue_trace(&span, &run.traceparent);
    let traceparent = telemetry::traceparent_of(&span);
    let marks = RunMarks {
        namespace: &job.namespace,
        job: &job.name,
        epoch: run.epoch,
        queue: &job.queue,
        traceparent: &traceparent,
        slots: &run.slots,
        gang: &job.gang,
        require_model,
        domains: domains.map(|(mode, domains)| (*mode, domains)),
    };
    let object = compose(manifest, &marks).map_err(Error::internal)?;
    Ok(ask(run, job, object, traceparent))
}

/// The object that the cluster has, with as many workers as the run is to have: nothing else of it may change.
fn question_of_size(run: &Run, job: &Job, digest: &str, content: &[u8]) -> Result<(Composed, Question)> {
    let span = tracing::info_span!("resize run", run.epoch = run.epoch, cluster.name = run.cluster);
    telemetry::continue_trace(&span, &run.traceparent);
    let digest = digest.parse().map_err(Error::internal)?;
    let objects = bundle::decode(&digest, content).map_err(Error::internal)?;
    let object = objects.first().ok_or_else(|| Error::internal(anyhow::anyhow!("a run's bundle is empty")))?;
    let workers = job.gang.size_of(&run.staying()).unwrap_or(0);
    let object = resized(object, &job.gang, workers).map_err(Error::internal)?;
    Ok(ask(run, job, object, telemetry::traceparent_of(&span)))
}

fn ask(run: &Run, job: &Job, object: Value, traceparent: String) -> (Composed, Question) {
    let question =
        Question { manifest: object.to_string(), clusters: vec![run.cluster.clone()], namespace: job.namespace.clone() };
    let workers = job.gang.size_of(&run.staying());
    (Composed { job: run.job_id, epoch: run.epoch, workers, object, traceparent }, question)
}

/// Writes the verdicts down, of the runs that still wait for theirs, and what the clusters are to be told.
async fn write(app: &App, epoch: u64, incarnation: Option<u64>, verdicts: Vec<(Composed, Result<Verdict>)>) -> Result<Cleared> {
    let now = app.now();
    let mut tx = db::begin(&app.pool).await?;
    lease::check(&mut tx, LEASE, epoch).await?;
    let mut jobs = store::job::lock_rows(&mut tx, &verdicts.iter().map(|(of, _)| of.job).collect::<Vec<_>>()).await?;
    let keys: Vec<(i64, u32)> = verdicts.iter().map(|(of, _)| (of.job, of.epoch)).collect();
    let mut runs = store::run::some(&mut tx, &keys).await?;
    runs.retain(|_, run| run.wanted && (run.bundle_digest.is_none() || run.resizing));
    // All that will be locked of them at once, in name order as everybody does.
    let mut clusters: BTreeSet<String> = number::clusters(&mut *tx).await?.into_iter().collect();
    clusters.extend(runs.values().map(|run| run.cluster.clone()));
    let clusters: Vec<String> = clusters.into_iter().collect();
    store::desired::touch(&mut tx, &clusters).await?;
    let items: Vec<_> = runs.values().filter_map(|run| Some(item_of(jobs.get(&run.job_id)?, run))).collect();
    let told = store::desired::told(&mut tx, &items).await?;
    let mut batch = Batch::default();
    let mut bundles = Vec::new();
    let mut away = None;
    for (composed, verdict) in verdicts {
        let Some(job) = jobs.get_mut(&composed.job) else { continue };
        let Some(run) = runs.get_mut(&(composed.job, composed.epoch)) else { continue };
        if job.gang.size_of(&run.staying()) != composed.workers {
            // Its size was changed once more since: the next pass asks about that.
            continue;
        }
        match verdict {
            Ok(verdict) if verdict.allowed => bundles.push(allow(&mut batch, job, run, composed, verdict)?),
            Ok(verdict) => {
                let told = told.contains(&item_of(job, run));
                refuse(&mut batch, job, run, &verdict, told, now);
            }
            Err(error) => {
                wait(&mut batch, job, run, &error);
                away = Some(error);
            }
        }
    }
    store::bundle::put(&mut tx, &bundles).await?;
    let ended = batch.wakes_the_leader();
    batch.write(&mut tx, &*app.clock).await?;
    let changes = number::changes(&mut tx, clusters, incarnation).await?;
    tx.commit().await?;
    if ended {
        app.decide.now();
    }
    Ok(Cleared { any: true, changes, bundles: bundles.into_iter().collect(), away })
}

/// The run may be told; gives its bundle.
fn allow(batch: &mut Batch, job: &mut Job, run: &mut Run, composed: Composed, verdict: Verdict) -> Result<(String, Vec<u8>)> {
    let (digest, content) = bundle::encode(&[composed.object]).map_err(Error::internal)?;
    let digest = digest.as_str().to_owned();
    run.bundle_digest = Some(digest.clone());
    run.resizing = false;
    run.traceparent = composed.traceparent;
    batch.run(run);
    batch.touch(&run.cluster);
    if job.policy_revision != verdict.revision {
        job.policy_revision = verdict.revision;
        batch.quietly(job);
    }
    Ok((digest, content))
}

fn refuse(batch: &mut Batch, job: &mut Job, run: &mut Run, verdict: &Verdict, told: bool, now: Timestamp) {
    stop(batch, job, run, StopReason::Refuse, told, now);
    let reason = format!("its verdict turned after it was accepted: {}", verdict.summary());
    job.go(crate::domain::job::JobState::Refused, reason, now);
    batch.job(job, Some(run));
}

/// The run waits for its verdict, and its job says so.
fn wait(batch: &mut Batch, job: &mut Job, run: &Run, error: &Error) {
    let reason =
        format!("placed on {}; not started while its policy verdict can't be taken: the policy service is away", run.cluster);
    if error.kind() == Kind::Unavailable && job.reason != reason && !run.resizing {
        job.reason = reason;
        batch.job(job, Some(run));
    }
}

/// Whether pods must be bound to nodes of a model by its label: where the cluster has several models, and its nodes have the label to
/// choose by.
fn is_chosen_by_label(facts: &ClusterFacts, flavor: &str) -> bool {
    let models: BTreeSet<&str> =
        facts.nodes.iter().map(|node| node.flavor.as_str()).filter(|flavor| !flavor.is_empty()).collect();
    let labelled = facts.nodes.iter().filter(|node| node.flavor == flavor).all(|node| node.labelled_by_model);
    models.len() > 1 && labelled && !flavor.is_empty()
}
