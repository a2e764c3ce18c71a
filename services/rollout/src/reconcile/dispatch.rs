//! Tells the registry what is wished of clusters: bundles first, then one change a cluster, numbered by us.

use super::leader::{self, Leader};
use crate::app::App;
use crate::crash;
use crate::peers::{Applied, ClusterWish};
use crate::store::desired;
use async_trait::async_trait;
use muster_kit::{Result, db, error::Kind, health::Health, reconcile::Reconciler};
use std::collections::BTreeMap;

/// Times a stale number is adopted and tried again within one pass.
const ATTEMPTS: usize = 3;

/// Tells the registry.
pub struct DispatchReconciler {
    /// The use cases.
    pub app: App,
    /// Who decides.
    pub leader: Leader,
    /// Our database's life: after a restore the lease counts from the past, and the registry refuses an older epoch.
    pub incarnation: u64,
    /// Where the registry's absence shows.
    pub health: Health,
}

#[async_trait]
impl Reconciler for DispatchReconciler {
    fn name(&self) -> &'static str {
        "dispatch"
    }

    async fn tick(&self) -> Result<()> {
        let Some(epoch) = self.leader.epoch().await? else { return Ok(()) };
        for _ in 0..ATTEMPTS {
            let outcome = self.pass(epoch).await;
            self.health.report("registry", outcome.as_ref().err().map(ToString::to_string));
            match outcome? {
                Passed::Done => return Ok(()),
                Passed::Adopted => {}
            }
        }
        Ok(())
    }
}

enum Passed {
    /// The registry has everything that was wished.
    Done,
    /// Numbers were adopted; try again.
    Adopted,
}

impl DispatchReconciler {
    async fn pass(&self, epoch: u64) -> Result<Passed> {
        let open = desired::open(&self.app.pool).await?;
        if open.is_empty() {
            return Ok(Passed::Done);
        }
        self.upload(&open).await?;
        let generations = desired::generations(&self.app.pool).await?;
        let mut by_cluster: BTreeMap<String, Vec<desired::Item>> = BTreeMap::new();
        for item in open {
            by_cluster.entry(item.cluster.clone()).or_default().push(item);
        }
        let changes: Vec<ClusterWish> = by_cluster
            .into_iter()
            .map(|(cluster, items)| {
                let base = generations.get(&cluster).copied().unwrap_or(0);
                ClusterWish { cluster, base, generation: base + 1, items }
            })
            .collect();
        crash::TELLING.reached();
        let applied = match self.app.registry.apply_desired(self.incarnation << 32 | epoch, &changes).await {
            Ok(applied) => applied,
            Err(error) if error.kind() == Kind::Precondition => {
                let digests: Vec<String> =
                    changes.iter().flat_map(|change| &change.items).map(|item| item.wish.bundle_digest.clone()).collect();
                desired::mark_uploaded(&self.app.pool, &digests, false).await?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        crash::APPLIED.reached();
        self.record(epoch, &changes, &applied).await
    }

    async fn upload(&self, open: &[desired::Item]) -> Result<()> {
        let mut digests: Vec<String> =
            open.iter().filter(|item| !item.wish.tombstone).map(|item| item.wish.bundle_digest.clone()).collect();
        digests.sort();
        digests.dedup();
        let bundles = desired::not_uploaded(&self.app.pool, &digests).await?;
        if bundles.is_empty() {
            return Ok(());
        }
        self.app.registry.put_bundles(bundles).await?;
        desired::mark_uploaded(&self.app.pool, &digests, true).await
    }

    async fn record(&self, epoch: u64, changes: &[ClusterWish], applied: &[Applied]) -> Result<Passed> {
        let now = self.app.clock.now();
        let mut adopted = false;
        let mut tx = db::begin(&self.app.pool).await?;
        leader::check(&mut tx, epoch).await?;
        for (change, applied) in changes.iter().zip(applied) {
            match applied {
                Applied::Taken { incarnation } => {
                    let taken: Vec<(String, i64)> = change.items.iter().map(|item| (item.item.clone(), item.revision)).collect();
                    desired::pushed(&mut tx, &change.cluster, &taken, *incarnation, change.generation, now).await?;
                }
                Applied::Stale { current } => {
                    // The registry's number is the truth: after a restore, or a crash between call and record.
                    tracing::warn!(
                        cluster.name = change.cluster,
                        base = change.base,
                        current,
                        "our number was stale; the registry's is adopted"
                    );
                    desired::remember_generation(&mut tx, &change.cluster, *current).await?;
                    adopted = true;
                }
                // Not enrolled yet: told as soon as it is.
                Applied::UnknownCluster => {}
            }
        }
        tx.commit().await?;
        if applied.iter().any(|applied| matches!(applied, Applied::Taken { .. })) {
            self.app.wakes.advance.now();
        }
        if adopted {
            return Ok(Passed::Adopted);
        }
        Ok(Passed::Done)
    }
}
