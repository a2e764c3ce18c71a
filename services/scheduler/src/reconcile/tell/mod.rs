//! Tells clusters what they should hold: takes the verdict at dispatch, composes the object, numbers a change per cluster,
//! sends it until it is answered. A change is a row before it is a call, so that a crash between the two repeats the call.

mod clear;
mod number;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use muster_kit::health::Health;
use muster_kit::reconcile::Reconciler;
use muster_kit::{Result, db, lease};

use clear::Cleared;

use crate::app::App;
use crate::app::decide::LEASE;
use crate::crash;
use crate::peers::{Answer, Registry};
use crate::store;
use crate::store::desired::change::Pending;

/// Finished runs taken out of their clusters in one pass.
const RETIRED: i64 = 500;
/// Bundles and manifests looked at in one pass, each: it takes as long however many there are.
const SWEPT: i64 = 2_000;
/// How often that is done: what it removes was over an hour ago.
const SWEEP_EVERY: SignedDuration = SignedDuration::from_secs(10);

/// Passes of one tick: after these the loop looks whether it is to end.
const PASSES: usize = 100;

/// How far what nothing names any more was looked for.
#[derive(Clone, Default)]
struct Swept {
    at: Option<Timestamp>,
    bundle: String,
    manifest: String,
}

/// The writer of desired state.
pub struct Tell {
    app: App,
    registry: Arc<dyn Registry>,
    /// Our database's life: after a restore the lease counts from the past, and the registry refuses an older epoch.
    incarnation: u64,
    health: Health,
    swept: Mutex<Swept>,
    /// The registry's incarnation as it answered last.
    registrys: Mutex<Option<u64>>,
}

impl Tell {
    /// A writer that works while this replica leads.
    #[must_use]
    pub fn new(app: App, registry: Arc<dyn Registry>, incarnation: u64, health: Health) -> Self {
        Self { app, registry, incarnation, health, swept: Mutex::default(), registrys: Mutex::new(None) }
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
        for _ in 0..PASSES {
            let Cleared { any, changes, bundles, away } = clear::clear(&self.app, epoch, self.registrys()).await?;
            self.health.report("policy", away.as_ref().map(ToString::to_string));
            let told = self.tell(epoch, changes, bundles).await?;
            match away {
                // Those that did get their verdict are told all the same.
                Some(error) => return Err(error),
                None if !any && !told => return Ok(()),
                None => {}
            }
        }
        self.app.tell.now();
        Ok(())
    }
}

impl Tell {
    fn registrys(&self) -> Option<u64> {
        *self.registrys.lock().expect("no holder of this lock panics")
    }

    /// Sends changes, or those that are not answered and what else there is to tell; false where there was nothing.
    async fn tell(&self, epoch: u64, mut changes: Vec<Pending>, mut bundles: BTreeMap<String, Vec<u8>>) -> Result<bool> {
        if changes.is_empty() {
            changes = self.number(epoch).await?;
        }
        if changes.is_empty() {
            return Ok(false);
        }
        let named = changes.iter().flat_map(|change| change.upserts.values().map(|item| &item.bundle_digest));
        let named: BTreeSet<&String> = named.collect();
        bundles.retain(|digest, _| named.contains(digest));
        let missing: Vec<String> = named.into_iter().filter(|digest| !bundles.contains_key(*digest)).cloned().collect();
        bundles.extend(store::bundle::some(&self.app.pool, &missing).await?);
        crash::TELLING.reached();
        let sent = self.registry.apply(self.incarnation << 32 | epoch, bundles.into_iter().collect(), &changes).await;
        let answers = sent.inspect_err(|error| self.health.report("registry", Some(error.to_string())))?;
        crash::APPLIED.reached();
        self.health.report("registry", None);
        self.take_answers(epoch, &changes, &answers).await?;
        Ok(true)
    }

    /// What there is to tell without any new verdict.
    async fn number(&self, epoch: u64) -> Result<Vec<Pending>> {
        let clusters = number::clusters(&self.app.pool).await?;
        if clusters.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = db::begin(&self.app.pool).await?;
        lease::check(&mut tx, LEASE, epoch).await?;
        let changes = number::changes(&mut tx, clusters, self.registrys()).await?;
        tx.commit().await?;
        Ok(changes)
    }

    async fn take_answers(&self, epoch: u64, changes: &[Pending], answers: &[Answer]) -> Result<()> {
        // What the registry has is asked before the transaction is opened.
        let mut registrys = BTreeMap::new();
        for (change, _) in changes.iter().zip(answers).filter(|(_, answer)| **answer == Answer::Stale) {
            registrys.insert(&change.cluster, self.registry.told(&change.cluster).await?);
        }
        let mut tx = db::begin(&self.app.pool).await?;
        lease::check(&mut tx, LEASE, epoch).await?;
        if answers.iter().all(|answer| matches!(answer, Answer::Applied(_))) {
            // Should a crash undo this, the changes are sent once more, and answered as repetitions.
            db::commit_lazily(&mut tx).await?;
        }
        let mut applied = Vec::with_capacity(changes.len());
        for (change, answer) in changes.iter().zip(answers) {
            match (answer, registrys.get(&change.cluster)) {
                (Answer::Applied(incarnation), _) => applied.push((change, *incarnation)),
                (Answer::Stale, Some(told)) => {
                    tracing::warn!(
                        cluster.name = change.cluster,
                        generation = told.generation,
                        "the registry remembers another change: its word is taken"
                    );
                    store::desired::change::adopt(&mut tx, &change.cluster, told).await?;
                }
                (Answer::Stale, None) => {}
                (Answer::UnknownCluster, _) => {
                    tracing::warn!(cluster.name = change.cluster, "the registry does not know this cluster");
                    store::desired::forget(&mut tx, &change.cluster).await?;
                }
            }
        }
        store::desired::change::applied(&mut tx, &applied).await?;
        tx.commit().await?;
        if let Some((_, incarnation)) = applied.last() {
            *self.registrys.lock().expect("no holder of this lock panics") = Some(*incarnation);
        }
        Ok(())
    }

    /// Takes the objects of runs that ended long ago out of their clusters, and drops what nothing names any more.
    async fn retire(&self, epoch: u64) -> Result<()> {
        let now = self.app.now();
        let Swept { at, bundle, manifest } = self.swept.lock().expect("no holder of this lock panics").clone();
        if at.is_some_and(|last| now < last + SWEEP_EVERY) {
            return Ok(());
        }
        let before = now - SignedDuration::from_millis(self.app.settings.keep_finished_ms);
        let mut tx = db::begin(&self.app.pool).await?;
        lease::check(&mut tx, LEASE, epoch).await?;
        let clusters = store::run::retire(&mut tx, before, RETIRED).await?;
        store::desired::touch(&mut tx, &clusters).await?;
        let bundle = store::bundle::sweep(&mut tx, &bundle, SWEPT).await?;
        let manifest = store::bundle::sweep_manifests(&mut tx, &manifest, SWEPT).await?;
        tx.commit().await?;
        // While there are more runs to retire the next pass goes on.
        let at = (clusters.len() < RETIRED as usize).then_some(now);
        *self.swept.lock().expect("no holder of this lock panics") = Swept { at, bundle, manifest };
        Ok(())
    }
}
