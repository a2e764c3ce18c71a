//! The verdict at dispatch: of every run that is placed and not yet cleared, taken of the very object that its cluster is to make.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use muster_core::bundle;
use muster_kit::error::Kind;
use muster_kit::{Error, Result, db, lease, telemetry};
use serde_json::Value;

use crate::app::App;
use crate::app::batch::Batch;
use crate::app::control::{item_of, stop};
use crate::app::decide::LEASE;
use crate::domain::cluster::{ClusterFacts, NodeFacts};
use crate::domain::compose::{RunMarks, compose};
use crate::domain::job::StopReason;
use crate::domain::record::{Job, Run};
use crate::peers::{Question, Verdict};
use crate::store;

/// Runs cleared in one pass.
const RUNS: i64 = 500;

/// A run whose object is composed.
struct Composed {
    job: i64,
    epoch: u32,
    object: Value,
    traceparent: String,
}

/// Takes the verdicts; false where no run waits for one. A run that can't be judged now holds no other up.
///
/// # Errors
/// Another replica leads by now, the database is away, or the policy service is; what is decided is written in all but the first
/// two cases.
pub async fn clear(app: &App, epoch: u64) -> Result<bool> {
    let runs = store::run::uncleared(&app.pool, RUNS).await?;
    if runs.is_empty() {
        return Ok(false);
    }
    let (composed, questions): (Vec<Composed>, Vec<Question>) = composed(app, &runs).await?.into_iter().unzip();
    let verdicts = app.policy.evaluate(questions).await;
    write(app, epoch, composed.into_iter().zip(verdicts).collect()).await?;
    Ok(true)
}

/// The objects of the runs, and what is asked of each.
async fn composed(app: &App, runs: &[Run]) -> Result<Vec<(Composed, Question)>> {
    let jobs = store::job::rows(&app.pool, &runs.iter().map(|run| run.job_id).collect::<Vec<_>>()).await?;
    let digests: BTreeSet<String> = jobs.values().map(|job| job.manifest_digest.clone()).collect();
    let manifests = store::job::manifests(&app.pool, &digests.into_iter().collect::<Vec<_>>()).await?;
    let clusters: BTreeSet<&str> = runs.iter().map(|run| run.cluster.as_str()).collect();
    let mut tx = db::begin(&app.pool).await?;
    let mut facts: BTreeMap<&str, Option<ClusterFacts>> = BTreeMap::new();
    for cluster in clusters {
        facts.insert(cluster, store::cluster::get(&mut tx, cluster).await?);
    }
    tx.rollback().await?;
    // A job that was deleted since takes its runs along.
    let known = runs.iter().filter_map(|run| {
        let job = jobs.get(&run.job_id)?;
        let manifest = manifests.get(&job.manifest_digest)?;
        Some((run, job, manifest, facts.get(run.cluster.as_str()).and_then(Option::as_ref)))
    });
    known.map(|(run, job, manifest, facts)| question(run, job, manifest, facts)).collect()
}

fn question(run: &Run, job: &Job, manifest: &str, facts: Option<&ClusterFacts>) -> Result<(Composed, Question)> {
    let span = tracing::info_span!("dispatch run", run.epoch = run.epoch, cluster.name = run.cluster);
    telemetry::continue_trace(&span, &run.traceparent);
    let traceparent = telemetry::traceparent_of(&span);
    let manifest = muster_core::manifest::parse_one(manifest).map_err(Error::internal)?;
    let marks = RunMarks {
        namespace: &job.namespace,
        job: &job.name,
        epoch: run.epoch,
        queue: &job.queue,
        traceparent: &traceparent,
        slots: &run.slots,
        require_model: facts.and_then(|facts| required_model(facts, run)),
    };
    let object = compose(&manifest.value, &marks).map_err(Error::internal)?;
    let question =
        Question { manifest: object.to_string(), clusters: vec![run.cluster.clone()], namespace: job.namespace.clone() };
    Ok((Composed { job: run.job_id, epoch: run.epoch, object, traceparent }, question))
}

/// Writes the verdicts down, of the runs that still wait for theirs.
async fn write(app: &App, epoch: u64, verdicts: Vec<(Composed, Result<Verdict>)>) -> Result<()> {
    let now = app.now();
    let mut tx = db::begin(&app.pool).await?;
    lease::check(&mut tx, LEASE, epoch).await?;
    let mut jobs = store::job::lock_rows(&mut tx, &verdicts.iter().map(|(of, _)| of.job).collect::<Vec<_>>()).await?;
    let keys: Vec<(i64, u32)> = verdicts.iter().map(|(of, _)| (of.job, of.epoch)).collect();
    let mut runs = store::run::some(&mut tx, &keys).await?;
    runs.retain(|_, run| run.wanted && run.bundle_digest.is_none());
    let items: Vec<_> = runs.values().filter_map(|run| Some(item_of(jobs.get(&run.job_id)?, run))).collect();
    let told = store::desired::told(&mut tx, &items).await?;
    let mut batch = Batch::default();
    let mut bundles = Vec::new();
    let mut away = None;
    for (composed, verdict) in verdicts {
        let Some(job) = jobs.get_mut(&composed.job) else { continue };
        let Some(run) = runs.get_mut(&(composed.job, composed.epoch)) else { continue };
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
    if !batch.tells() {
        // Nobody sees an allowed run before the change that names it is numbered, and that commit makes this one durable too.
        db::commit_lazily(&mut tx).await?;
    }
    store::bundle::put(&mut tx, bundles).await?;
    let ended = batch.wakes_the_leader();
    batch.write(&mut tx, &*app.clock).await?;
    tx.commit().await?;
    if ended {
        app.decide.now();
    }
    away.map_or(Ok(()), Err)
}

/// The run may be told; gives its bundle.
fn allow(batch: &mut Batch, job: &mut Job, run: &mut Run, composed: Composed, verdict: Verdict) -> Result<(String, Vec<u8>)> {
    let (digest, content) = bundle::encode(&[composed.object]).map_err(Error::internal)?;
    let digest = digest.as_str().to_owned();
    run.bundle_digest = Some(digest.clone());
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
    if error.kind() == Kind::Unavailable && job.reason != reason {
        job.reason = reason;
        batch.job(job, Some(run));
    }
}

/// The model pods must be bound to: where the cluster has several, and its nodes have the label to choose by.
fn required_model<'a>(facts: &ClusterFacts, run: &'a Run) -> Option<&'a str> {
    let models: BTreeSet<&str> =
        facts.nodes.iter().map(|node| node.flavor.as_str()).filter(|flavor| !flavor.is_empty()).collect();
    let chosen = |node: &&NodeFacts| node.flavor == run.flavor;
    let labelled = facts.nodes.iter().filter(chosen).all(|node| node.labelled_by_model);
    (models.len() > 1 && labelled && !run.flavor.is_empty()).then_some(run.flavor.as_str())
}
