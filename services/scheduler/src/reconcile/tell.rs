//! Tells clusters what they should hold: takes the verdict at dispatch, composes the object, numbers a change per cluster,
//! sends it until it is answered. Each step is a row before it is a call, so that a crash between the two repeats the call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use muster_core::bundle;
use muster_kit::error::Kind;
use muster_kit::health::Health;
use muster_kit::reconcile::Reconciler;
use muster_kit::{Error, Result, Tx, db, lease, telemetry};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tracing::Instrument;

use crate::app::App;
use crate::app::control::stop;
use crate::app::decide::LEASE;
use crate::crash;
use crate::domain::cluster::ClusterFacts;
use crate::domain::compose::{RunMarks, compose};
use crate::domain::desired::{Change, Item, queue_item, run_item};
use crate::domain::job::{JobState, StopReason};
use crate::domain::queue::{QueueDefinition, VOLCANO_API};
use crate::domain::record::{Run, run_resource};
use crate::peers::{Answer, Registry};
use crate::store;
use crate::store::desired::Pending;

/// Runs cleared in one pass.
const RUNS: i64 = 200;
/// Clusters told in one pass; the registry takes as many in one call.
const CLUSTERS: i64 = 200;
/// Finished runs taken out of their clusters, and bundles dropped, in one pass.
const SWEEP: i64 = 500;
/// How often that is done: what it removes was over an hour ago.
const SWEEP_EVERY: SignedDuration = SignedDuration::from_secs(10);

/// The writer of desired state.
pub struct Tell {
    app: App,
    registry: Arc<dyn Registry>,
    /// Our database's life: after a restore the lease counts from the past, and the registry refuses an older epoch.
    incarnation: u64,
    health: Health,
    swept_at: Mutex<Option<Timestamp>>,
}

impl Tell {
    /// A writer that works while this replica leads.
    #[must_use]
    pub fn new(app: App, registry: Arc<dyn Registry>, incarnation: u64, health: Health) -> Self {
        Self { app, registry, incarnation, health, swept_at: Mutex::new(None) }
    }
}

#[async_trait]
impl Reconciler for Tell {
    fn name(&self) -> &'static str {
        "tell"
    }

    async fn tick(&self) -> Result<()> {
        let Some(epoch) = self.app.leadership.epoch() else { return Ok(()) };
        self.retire(epoch).await?;
        let cleared = self.clear(epoch).await;
        let told = self.tell(epoch).await;
        cleared.and(told)
    }
}

impl Tell {
    /// Takes the verdict of every run that is placed and not yet dispatched.
    async fn clear(&self, epoch: u64) -> Result<()> {
        let mut away = None;
        for run in store::run::uncleared(&self.app.pool, RUNS).await? {
            let span = tracing::info_span!("dispatch run", run.epoch = run.epoch, cluster.name = run.cluster);
            telemetry::continue_trace(&span, &run.traceparent);
            match self.clear_one(epoch, run).instrument(span).await {
                Ok(()) => {}
                // One run that can't be judged now holds no other up.
                Err(error) if matches!(error.kind(), Kind::Unavailable | Kind::Conflict) => away = Some(error),
                Err(error) => return Err(error),
            }
        }
        self.health.report("policy", away.as_ref().filter(|error| error.kind() == Kind::Unavailable).map(ToString::to_string));
        away.map_or(Ok(()), Err)
    }

    async fn clear_one(&self, epoch: u64, run: Run) -> Result<()> {
        let mut tx = db::begin(&self.app.pool).await?;
        let Some(job) = store::job::lock_row(&mut tx, run.job_id).await? else { return Ok(()) };
        let facts = store::cluster::get(&mut tx, &run.cluster).await?;
        tx.rollback().await?;
        let manifest = store::job::manifest(&self.app.pool, &job.manifest_digest).await?;
        let manifest = muster_core::manifest::parse_one(&manifest).map_err(Error::internal)?;
        let traceparent = telemetry::current_traceparent();
        let marks = RunMarks {
            namespace: &job.namespace,
            job: &job.name,
            epoch: run.epoch,
            queue: &job.queue,
            traceparent: &traceparent,
            slots: &run.slots,
            require_model: facts.as_ref().and_then(|facts| required_model(facts, &run)),
        };
        let composed = compose(&manifest.value, &marks).map_err(Error::internal)?;
        let verdict = self.app.policy.evaluate(composed.to_string(), vec![run.cluster.clone()], &job.namespace).await;
        let now = self.app.now();
        let mut tx = db::begin(&self.app.pool).await?;
        lease::check(&mut tx, LEASE, epoch).await?;
        let Some(mut job) = store::job::lock_row(&mut tx, run.job_id).await? else { return Ok(()) };
        let Some(mut run) = store::run::get(&mut tx, run.job_id, run.epoch).await? else { return Ok(()) };
        if !run.wanted || run.bundle_digest.is_some() {
            return Ok(());
        }
        let mut away = None;
        match verdict {
            Ok(verdict) if verdict.allowed => {
                let (digest, content) = bundle::encode(&[composed]).map_err(Error::internal)?;
                store::desired::touch(&mut tx, &run.cluster).await?;
                store::desired::put_bundle(&mut tx, digest.as_str(), &content).await?;
                run.bundle_digest = Some(digest.as_str().to_owned());
                run.traceparent = traceparent;
                store::run::update(&mut tx, &run).await?;
                job.policy_revision = verdict.revision;
                store::job::update(&mut tx, &mut job).await?;
            }
            Ok(verdict) => {
                stop(&mut tx, &mut job, &mut run, StopReason::Refuse, now).await?;
                job.go(JobState::Refused, format!("its verdict turned after it was accepted: {}", verdict.summary()), now);
                store::job::update(&mut tx, &mut job).await?;
                crate::events::job_changed(&mut tx, &*self.app.clock, &job, Some(&run)).await?;
            }
            Err(error) => {
                let reason = format!(
                    "placed on {}; not started while its policy verdict can't be taken: the policy service is away",
                    run.cluster
                );
                if error.kind() == Kind::Unavailable && job.reason != reason {
                    job.reason = reason;
                    store::job::update(&mut tx, &mut job).await?;
                    crate::events::job_changed(&mut tx, &*self.app.clock, &job, Some(&run)).await?;
                }
                away = Some(error);
            }
        }
        tx.commit().await?;
        self.app.decide.now();
        away.map_or(Ok(()), Err)
    }

    /// Numbers what is new, and sends what is not answered.
    async fn tell(&self, epoch: u64) -> Result<()> {
        let mut changes = Vec::new();
        for cluster in store::desired::to_tell(&self.app.pool, CLUSTERS).await? {
            changes.extend(self.next_change(epoch, &cluster).await?);
        }
        if changes.is_empty() {
            return Ok(());
        }
        let digests: BTreeSet<String> =
            changes.iter().flat_map(|change| change.upserts.values().map(|item| item.bundle_digest.clone())).collect();
        let digests: Vec<String> = digests.into_iter().collect();
        let sent = async {
            self.registry.put_bundles(store::desired::bundles(&self.app.pool, &digests).await?).await?;
            crash::TELLING.reached();
            self.registry.apply(self.incarnation << 32 | epoch, &changes).await
        };
        let answers = sent.await.inspect_err(|error| self.health.report("registry", Some(error.to_string())))?;
        crash::APPLIED.reached();
        self.health.report("registry", None);
        for (change, answer) in changes.iter().zip(answers) {
            self.take_answer(epoch, change, answer).await?;
        }
        Ok(())
    }

    /// The change a cluster is to be told: the one that is pending, else a new one if there is anything to tell.
    async fn next_change(&self, epoch: u64, cluster: &str) -> Result<Option<Pending>> {
        let mut tx = db::begin(&self.app.pool).await?;
        lease::check(&mut tx, LEASE, epoch).await?;
        if let Some(pending) = store::desired::pending(&mut tx, cluster).await? {
            return Ok(Some(pending));
        }
        let base = store::desired::lock(&mut tx, cluster).await?;
        let told = store::desired::items(&mut tx, cluster).await?;
        let wanted = wanted(&mut tx, cluster, &told).await?;
        let mut change = Change::between(&told, &wanted);
        // What is left is told next; a run that is told before its queue waits for it in the cluster.
        let more = change.cut();
        let pending = if change.is_empty() {
            None
        } else {
            Some(store::desired::number(&mut tx, cluster, base, &content_digest(&change), &change).await?)
        };
        if more {
            store::desired::touch(&mut tx, cluster).await?;
        }
        tx.commit().await?;
        Ok(pending)
    }

    async fn take_answer(&self, epoch: u64, change: &Pending, answer: Answer) -> Result<()> {
        // What the registry has is asked before the transaction is opened.
        let registrys = match answer {
            Answer::Stale => Some(self.registry.told(&change.cluster).await?),
            Answer::Applied(_) | Answer::UnknownCluster => None,
        };
        let mut tx = db::begin(&self.app.pool).await?;
        lease::check(&mut tx, LEASE, epoch).await?;
        match (answer, registrys) {
            (Answer::Applied(incarnation), _) => {
                store::desired::applied(&mut tx, &change.cluster, change.generation, incarnation).await?
            }
            (Answer::Stale, Some(told)) => {
                tracing::warn!(
                    cluster.name = change.cluster,
                    generation = told.generation,
                    "the registry remembers another change: its word is taken"
                );
                store::desired::adopt(&mut tx, &change.cluster, &told).await?;
            }
            (Answer::Stale, None) => {}
            (Answer::UnknownCluster, _) => {
                tracing::warn!(cluster.name = change.cluster, "the registry does not know this cluster");
                store::desired::forget(&mut tx, &change.cluster).await?;
            }
        }
        tx.commit().await?;
        Ok(())
    }

    /// Takes the objects of runs that ended long ago out of their clusters, and drops what nothing names any more.
    async fn retire(&self, epoch: u64) -> Result<()> {
        let now = self.app.now();
        if self.swept_at.lock().expect("no holder of this lock panics").is_some_and(|last| now < last + SWEEP_EVERY) {
            return Ok(());
        }
        let before = now - SignedDuration::from_millis(self.app.settings.keep_finished_ms);
        let mut tx = db::begin(&self.app.pool).await?;
        lease::check(&mut tx, LEASE, epoch).await?;
        let clusters: BTreeSet<String> = store::run::retire(&mut tx, before, SWEEP).await?.into_iter().collect();
        for cluster in clusters {
            store::desired::touch(&mut tx, &cluster).await?;
        }
        store::desired::sweep(&mut tx, SWEEP).await?;
        tx.commit().await?;
        *self.swept_at.lock().expect("no holder of this lock panics") = Some(now);
        Ok(())
    }
}

/// The model pods must be bound to: where the cluster has several, and its nodes have the label to choose by.
fn required_model<'a>(facts: &ClusterFacts, run: &'a Run) -> Option<&'a str> {
    let models: BTreeSet<&str> =
        facts.nodes.iter().map(|node| node.flavor.as_str()).filter(|flavor| !flavor.is_empty()).collect();
    let chosen = |node: &&crate::domain::cluster::NodeFacts| node.flavor == run.flavor;
    let labelled = facts.nodes.iter().filter(chosen).all(|node| node.labelled_by_model);
    (models.len() > 1 && labelled && !run.flavor.is_empty()).then_some(run.flavor.as_str())
}

/// What a cluster should hold: its allowed runs, and the Volcano queues that they, or runs before them, are in.
async fn wanted(tx: &mut Tx, cluster: &str, told: &BTreeMap<String, Item>) -> Result<BTreeMap<String, Item>> {
    let has_volcano = store::cluster::get(tx, cluster).await?.is_some_and(|facts| facts.apis.contains(VOLCANO_API));
    let mut wanted = BTreeMap::new();
    let mut queues: BTreeSet<String> =
        told.keys().filter_map(|name| name.strip_prefix("queues/")).map(ToOwned::to_owned).collect();
    for run in store::run::wanted(tx, cluster).await? {
        let volcano = has_volcano && run.kind == "volcano";
        if volcano {
            queues.insert(run.queue.clone());
        }
        let item = Item {
            bundle_digest: run.bundle_digest,
            traceparent: run.traceparent,
            run: Some((run_resource(&run.namespace, &run.job, run.epoch), run.movable)),
            after: if volcano { vec![queue_item(&run.queue)] } else { Vec::new() },
        };
        wanted.insert(run_item(&run.namespace, &run.job, run.epoch), item);
    }
    let manifests: BTreeMap<String, String> = store::queue::manifests(tx).await?.into_iter().collect();
    for queue in queues {
        let Some(manifest) = manifests.get(&queue) else {
            // The queue was deleted: runs that still name it do not wait for it.
            for item in wanted.values_mut() {
                item.after.retain(|after| *after != queue_item(&queue));
            }
            continue;
        };
        let parsed = muster_core::manifest::parse_one(manifest).map_err(Error::internal)?;
        let definition = QueueDefinition::read(&parsed).map_err(Error::internal)?;
        let (digest, content) = bundle::encode(&[definition.volcano_manifest()]).map_err(Error::internal)?;
        store::desired::put_bundle(tx, digest.as_str(), &content).await?;
        let item = Item { bundle_digest: digest.as_str().to_owned(), traceparent: String::new(), run: None, after: Vec::new() };
        wanted.insert(queue_item(&queue), item);
    }
    Ok(wanted)
}

/// Digest of a change's content, by which the registry tells a repetition from another change of the same number.
fn content_digest(change: &Change) -> String {
    let upserts: Vec<Value> =
        change.upserts.iter().map(|(name, item)| json!([name, item.bundle_digest, item.run, item.after])).collect();
    let content = bundle::canonical(&json!({"upserts": upserts, "deletes": change.deletes}));
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}
