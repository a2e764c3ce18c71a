//! The verdict at dispatch: of every run that is placed and not yet cleared, taken of the very object that its cluster is to make. What
//! is allowed is numbered by the transaction that writes it down. Of a run in several clusters none is told before all parts are allowed.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::manifest::parse_one;
use muster_core::{Manifest, bundle};
use muster_kit::error::Kind;
use muster_kit::{Error, Result, db, lease, telemetry};
use muster_scheduler_engine::{Span, Topology, TopologyMode};
use serde_json::Value;

use super::number;
use crate::app::App;
use crate::app::batch::Batch;
use crate::app::control::{Item, items_of, stop};
use crate::app::decide::LEASE;
use crate::domain::cluster::ClusterFacts;
use crate::domain::compose::{Domains, PartMarks, RunMarks, compose, resized};
use crate::domain::job::{JobState, StopReason};
use crate::domain::parts::Parts;
use crate::domain::record::{Job, Run};
use crate::peers::{Question, Verdict};
use crate::store;
use crate::store::desired::change::Pending;

/// Runs cleared in one pass.
const RUNS: i64 = 500;

/// A run whose objects are composed.
struct Composed {
    job: i64,
    epoch: u32,
    /// With how many workers, of an elastic job.
    workers: Option<u32>,
    /// Of each part, in their order.
    objects: Vec<Object>,
}

/// What a cluster is to make.
struct Object {
    value: Value,
    traceparent: String,
}

/// What is to be done about a run.
enum Outcome {
    /// Every part is allowed.
    Allowed { revision: String },
    /// Some part is not.
    Refused { why: String },
    /// Some part can't be judged now.
    Away(Error),
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
    let (composed, questions): (Vec<Composed>, Vec<Vec<Question>>) = composed(app, &runs).await?.into_iter().unzip();
    let mut verdicts = app.policy.evaluate(questions.into_iter().flatten().collect()).await.into_iter();
    let outcomes = composed.into_iter().map(|composed| {
        let of_run: Vec<_> = verdicts.by_ref().take(composed.objects.len()).collect();
        (composed, outcome(of_run))
    });
    write(app, epoch, incarnation, outcomes.collect()).await
}

/// What the verdicts of a run's parts come to: it goes everywhere, or nowhere.
fn outcome(verdicts: Vec<Result<Verdict>>) -> Outcome {
    let (mut revision, mut away) = (String::new(), None);
    for verdict in verdicts {
        match verdict {
            Ok(verdict) if verdict.allowed => revision = verdict.revision,
            Ok(verdict) => return Outcome::Refused { why: verdict.summary() },
            Err(error) => away = Some(error),
        }
    }
    away.map_or(Outcome::Allowed { revision }, Outcome::Away)
}

/// The objects of the runs, and what is asked of each.
async fn composed(app: &App, runs: &[Parts]) -> Result<Vec<(Composed, Vec<Question>)>> {
    let jobs = store::job::rows(&app.pool, &runs.iter().map(|run| run.first().job_id).collect::<Vec<_>>()).await?;
    let digests: BTreeSet<String> = jobs.values().map(|job| job.manifest_digest.clone()).collect();
    let manifests = store::job::manifests(&app.pool, &digests.into_iter().collect::<Vec<_>>()).await?;
    let manifests: BTreeMap<&str, Manifest> = manifests
        .iter()
        .map(|(digest, text)| Ok((digest.as_str(), parse_one(text).map_err(Error::internal)?)))
        .collect::<Result<_>>()?;
    let resizing: BTreeSet<&String> =
        runs.iter().map(Parts::first).filter(|run| run.resizing).filter_map(|run| run.bundle_digest.as_ref()).collect();
    let told: BTreeMap<String, Vec<u8>> =
        store::bundle::some(&app.pool, &resizing.into_iter().cloned().collect::<Vec<_>>()).await?.into_iter().collect();
    let admission = app.admissions.now().await?;
    let parts = runs.iter().flat_map(Parts::iter);
    let flavors: BTreeSet<(&str, &str)> = parts.map(|part| (part.cluster.as_str(), part.flavor.as_str())).collect();
    let must_be_named: BTreeSet<(&str, &str)> = flavors
        .into_iter()
        .filter(|(cluster, flavor)| admission.cluster(cluster).is_some_and(|facts| is_chosen_by_label(facts, flavor)))
        .collect();
    // A job that was deleted since takes its runs along.
    let known = runs.iter().filter_map(|run| {
        let job = jobs.get(&run.first().job_id)?;
        Some((run, job, manifests.get(job.manifest_digest.as_str())?))
    });
    let ask = |run: &Parts, number: usize, job: &Job, manifest: &Manifest| {
        let part = run.part(number);
        if let Some(digest) = &part.bundle_digest {
            let content = told.get(digest).ok_or_else(|| Error::internal(anyhow::anyhow!("bundle {digest} of a run is gone")))?;
            return question_of_size(part, job, digest, content);
        }
        let is_named = must_be_named.contains(&(part.cluster.as_str(), part.flavor.as_str()));
        let domains =
            job.gang.topology.as_ref().and_then(|Topology { level, mode }| {
                Some((*mode, admission.cluster(&part.cluster)?.domains_of(level, &part.slots)))
            });
        let plans = run.iter().map(|part| part.slots.as_slice());
        let marks = (job.gang.span == Span::Region).then(|| PartMarks::of(&job.gang, plans, number));
        let require_model = is_named.then_some(part.flavor.as_str());
        question(part, job, &manifest.value, (require_model, domains.as_ref()), marks.as_ref())
    };
    let of_run = |(run, job, manifest): (&Parts, &Job, &Manifest)| {
        let asked = (0..run.iter().len()).map(|number| ask(run, number, job, manifest)).collect::<Result<Vec<_>>>()?;
        let (objects, questions) = asked.into_iter().unzip();
        let Run { job_id, epoch, .. } = *run.first();
        Ok((Composed { job: job_id, epoch, workers: job.gang.size_of(&run.first().staying()), objects }, questions))
    };
    known.map(of_run).collect()
}

fn question(
    run: &Run,
    job: &Job,
    manifest: &Value,
    (require_model, domains): (Option<&str>, Option<&(TopologyMode, Domains)>),
    part: Option<&PartMarks>,
) -> Result<(Object, Question)> {
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
        part,
    };
    let object = compose(manifest, &marks).map_err(Error::internal)?;
    Ok(ask(run, job, object, traceparent))
}

/// The object that the cluster has, with as many workers as the run is to have: nothing else of it may change.
fn question_of_size(run: &Run, job: &Job, digest: &str, content: &[u8]) -> Result<(Object, Question)> {
    let span = tracing::info_span!("resize run", run.epoch = run.epoch, cluster.name = run.cluster);
    telemetry::continue_trace(&span, &run.traceparent);
    let digest = digest.parse().map_err(Error::internal)?;
    let objects = bundle::decode(&digest, content).map_err(Error::internal)?;
    let object = objects.first().ok_or_else(|| Error::internal(anyhow::anyhow!("a run's bundle is empty")))?;
    let workers = job.gang.size_of(&run.staying()).unwrap_or(0);
    let object = resized(object, &job.gang, workers).map_err(Error::internal)?;
    Ok(ask(run, job, object, telemetry::traceparent_of(&span)))
}

fn ask(run: &Run, job: &Job, value: Value, traceparent: String) -> (Object, Question) {
    let question =
        Question { manifest: value.to_string(), clusters: vec![run.cluster.clone()], namespace: job.namespace.clone() };
    (Object { value, traceparent }, question)
}

/// Writes the verdicts down, of the runs that still wait for theirs, and what the clusters are to be told.
async fn write(app: &App, epoch: u64, incarnation: Option<u64>, outcomes: Vec<(Composed, Outcome)>) -> Result<Cleared> {
    let now = app.now();
    let mut tx = db::begin(&app.pool).await?;
    lease::check(&mut tx, LEASE, epoch).await?;
    let mut jobs = store::job::lock_rows(&mut tx, &outcomes.iter().map(|(of, _)| of.job).collect::<Vec<_>>()).await?;
    let keys: Vec<(i64, u32)> = outcomes.iter().map(|(of, _)| (of.job, of.epoch)).collect();
    let mut runs = store::run::some(&mut tx, &keys).await?;
    runs.retain(|_, run| run.iter().all(|part| part.wanted && (part.bundle_digest.is_none() || part.resizing)));
    // All that will be locked of them at once, in name order as everybody does.
    let mut clusters: BTreeSet<String> = number::clusters(&mut *tx).await?.into_iter().collect();
    clusters.extend(runs.values().flat_map(Parts::iter).map(|part| part.cluster.clone()));
    let clusters: Vec<String> = clusters.into_iter().collect();
    store::desired::touch(&mut tx, &clusters).await?;
    let items = runs.iter().filter_map(|((job, _), run)| Some(items_of(jobs.get(job)?, run))).flatten();
    let items: Vec<Item> = items.collect();
    let told = store::desired::told(&mut tx, &items).await?;
    let mut batch = Batch::default();
    let mut bundles = Vec::new();
    let mut away = None;
    for (composed, outcome) in outcomes {
        let Some(job) = jobs.get_mut(&composed.job) else { continue };
        let Some(run) = runs.get_mut(&(composed.job, composed.epoch)) else { continue };
        if job.gang.size_of(&run.first().staying()) != composed.workers {
            // Its size was changed once more since: the next pass asks about that.
            continue;
        }
        match outcome {
            Outcome::Allowed { revision } => bundles.extend(allow(&mut batch, job, run, composed, revision)?),
            Outcome::Refused { why } => {
                stop(&mut batch, job, run, StopReason::Refuse, &told, now);
                job.go(JobState::Refused, format!("its verdict turned after it was accepted: {why}"), now);
                batch.job(job, Some(run));
            }
            Outcome::Away(error) => {
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

/// The clusters of the run may be told; gives its bundles.
fn allow(
    batch: &mut Batch,
    job: &mut Job,
    run: &mut Parts,
    composed: Composed,
    revision: String,
) -> Result<Vec<(String, Vec<u8>)>> {
    let mut bundles = Vec::with_capacity(composed.objects.len());
    for (part, Object { value, traceparent }) in run.iter_mut().zip(composed.objects) {
        let (digest, content) = bundle::encode(&[value]).map_err(Error::internal)?;
        let digest = digest.as_str().to_owned();
        part.bundle_digest = Some(digest.clone());
        part.resizing = false;
        part.traceparent = traceparent;
        batch.run(part);
        batch.touch(&part.cluster);
        bundles.push((digest, content));
    }
    if job.policy_revision != revision {
        job.policy_revision = revision;
        batch.quietly(job);
    }
    Ok(bundles)
}

/// The run waits for its verdict, and its job says so.
fn wait(batch: &mut Batch, job: &mut Job, run: &Parts, error: &Error) {
    let clusters = run.clusters();
    let reason = format!("placed on {clusters}; not started while its policy verdict can't be taken: the policy service is away");
    if error.kind() == Kind::Unavailable && job.reason != reason && !run.first().resizing {
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
