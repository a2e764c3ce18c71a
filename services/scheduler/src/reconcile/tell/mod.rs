//! Tells clusters what they should hold: takes the verdict at dispatch, composes the object, numbers a change per cluster,
//! sends it until it is answered. Each step is a row before it is a call, so that a crash between the two repeats the call.

mod clear;
mod number;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use muster_kit::error::Kind;
use muster_kit::health::Health;
use muster_kit::reconcile::Reconciler;
use muster_kit::{Result, db, lease};

use crate::app::App;
use crate::app::decide::LEASE;
use crate::crash;
use crate::peers::{Answer, Registry};
use crate::store;
use crate::store::desired::change::Pending;

/// Finished runs taken out of their clusters, and bundles dropped, in one pass.
const SWEEP: i64 = 500;
/// How often that is done: what it removes was over an hour ago.
const SWEEP_EVERY: SignedDuration = SignedDuration::from_secs(10);

/// Passes of one tick: after these the loop looks whether it is to end.
const PASSES: usize = 100;

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
        for _ in 0..PASSES {
            // While some runs get their verdicts, those that have theirs are told.
            let (cleared, told) = tokio::join!(clear::clear(&self.app, epoch), self.tell(epoch));
            let away = cleared.as_ref().err().filter(|error| error.kind() == Kind::Unavailable).map(ToString::to_string);
            self.health.report("policy", away);
            match (cleared, told) {
                (Ok(false), Ok(false)) => return Ok(()),
                (Ok(_), Ok(_)) => {}
                // Those that did get their verdict are told all the same.
                (Err(error), _) => return Err(self.tell(epoch).await.err().unwrap_or(error)),
                (_, Err(error)) => return Err(error),
            }
        }
        self.app.tell.now();
        Ok(())
    }
}

impl Tell {
    /// Numbers what is new, and sends what is not answered; false where there was nothing.
    async fn tell(&self, epoch: u64) -> Result<bool> {
        let changes = number::changes(&self.app, epoch).await?;
        if changes.is_empty() {
            return Ok(false);
        }
        let digests: BTreeSet<String> =
            changes.iter().flat_map(|change| change.upserts.values().map(|item| item.bundle_digest.clone())).collect();
        let digests: Vec<String> = digests.into_iter().collect();
        let sent = async {
            self.registry.put_bundles(store::bundle::some(&self.app.pool, &digests).await?).await?;
            crash::TELLING.reached();
            self.registry.apply(self.incarnation << 32 | epoch, &changes).await
        };
        let answers = sent.await.inspect_err(|error| self.health.report("registry", Some(error.to_string())))?;
        crash::APPLIED.reached();
        self.health.report("registry", None);
        self.take_answers(epoch, &changes, &answers).await?;
        Ok(true)
    }

    async fn take_answers(&self, epoch: u64, changes: &[Pending], answers: &[Answer]) -> Result<()> {
        // What the registry has is asked before the transaction is opened.
        let mut registrys = BTreeMap::new();
        for (change, _) in changes.iter().zip(answers).filter(|(_, answer)| **answer == Answer::Stale) {
            registrys.insert(&change.cluster, self.registry.told(&change.cluster).await?);
        }
        let mut tx = db::begin(&self.app.pool).await?;
        lease::check(&mut tx, LEASE, epoch).await?;
        for (change, answer) in changes.iter().zip(answers) {
            match (answer, registrys.get(&change.cluster)) {
                (Answer::Applied(incarnation), _) => store::desired::change::applied(&mut tx, change, *incarnation).await?,
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
        let clusters = store::run::retire(&mut tx, before, SWEEP).await?;
        store::desired::touch(&mut tx, &clusters).await?;
        store::bundle::sweep(&mut tx, SWEEP).await?;
        tx.commit().await?;
        *self.swept_at.lock().expect("no holder of this lock panics") = Some(now);
        Ok(())
    }
}
