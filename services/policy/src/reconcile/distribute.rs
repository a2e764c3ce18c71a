//! Every cluster is given the policies of its fleets, and no longer those it left.
//!
//! What a cluster should hold is a function of the catalog; what it was told last is a row with a number. Where they
//! differ it is told anew, under the next number. A repetition after a crash is recognised by number and digest.

use super::Leader;
use crate::{
    app::App,
    peers::{Applied, Outcome, Registry, ToApply},
    store,
};
use async_trait::async_trait;
use muster_core::bundle;
use muster_kit::{Error, Result, db, reconcile::Reconciler};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Clusters told in one call.
const BATCH: usize = 200;
/// Passes over what turned out stale before the rest waits for the next tick.
const MAX_ROUNDS: usize = 3;

/// Tells clusters what to hold.
pub struct Distribute {
    /// The use cases.
    pub app: App,
    /// Who leads.
    pub leader: Arc<Leader>,
    /// The registry.
    pub registry: Arc<dyn Registry>,
}

#[async_trait]
impl Reconciler for Distribute {
    fn name(&self) -> &'static str {
        "distribute"
    }

    async fn tick(&self) -> Result<()> {
        let Some(epoch) = self.leader.epoch() else { return Ok(()) };
        for _ in 0..MAX_ROUNDS {
            if !self.round(epoch).await? {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Distribute {
    /// Tells every cluster that differs; gives whether some were stale and are to be told again.
    async fn round(&self, epoch: u64) -> Result<bool> {
        // The registry fences by epoch once the next leader has written; until then we must know ourselves.
        let mut tx = db::begin(&self.app.pool).await?;
        Leader::check(&mut tx, epoch).await?;
        tx.commit().await?;
        let (planned, bundles) = self.plan().await?;
        let mut put = BTreeSet::new();
        let mut is_stale = false;
        for batch in planned.chunks(BATCH) {
            for digest in batch.iter().filter_map(|change| change.bundle.as_ref()) {
                if put.insert(digest.clone()) {
                    let content = bundles.get(digest).cloned().unwrap_or_default();
                    self.registry.put_bundle(digest, content).await?;
                }
            }
            let applied = self.registry.apply(epoch, batch.to_vec()).await?;
            is_stale |= self.record(epoch, batch, &applied).await?;
        }
        Ok(is_stale)
    }

    async fn plan(&self) -> Result<(Vec<ToApply>, BTreeMap<bundle::Digest, Vec<u8>>)> {
        let catalog = self.app.catalog().await?;
        let members = store::projection::all(&self.app.pool).await?;
        let told = store::distribution::all(&self.app.pool).await?;
        let mut planned = Vec::new();
        let mut bundles = BTreeMap::new();
        for member in members.into_iter().filter(|member| member.is_enrolled) {
            let Some(served) = &member.served else { continue };
            let content = catalog.for_cluster(&member.cluster, served);
            let known = told.get(&member.cluster);
            let is_empty = content.content.manifests.is_empty();
            if known.map_or(is_empty, |known| known.content_digest == content.digest) {
                continue;
            }
            let bundle = match content.bundle() {
                None => None,
                Some(Ok((name, packed))) => {
                    bundles.entry(name.clone()).or_insert_with(|| packed.clone());
                    Some(name.clone())
                }
                Some(Err(error)) => {
                    tracing::error!(cluster.name = member.cluster, error = %error, "its policies cannot be sent");
                    continue;
                }
            };
            let base = known.map_or(0, |known| known.generation.cast_unsigned());
            planned.push(ToApply { cluster: member.cluster, base_generation: base, generation: base + 1, content, bundle });
        }
        Ok((planned, bundles))
    }

    async fn record(&self, epoch: u64, batch: &[ToApply], applied: &[Applied]) -> Result<bool> {
        let by_cluster: HashMap<&str, &Applied> = applied.iter().map(|one| (one.cluster.as_str(), one)).collect();
        let mut is_stale = false;
        let mut tx = db::begin(&self.app.pool).await?;
        Leader::check(&mut tx, epoch).await?;
        for change in batch {
            let Some(applied) = by_cluster.get(change.cluster.as_str()) else {
                return Err(Error::internal(anyhow::anyhow!("the registry left {} out", change.cluster)));
            };
            let incarnation = applied.incarnation.cast_signed();
            match applied.outcome {
                Outcome::Written => {
                    let generation = change.generation.cast_signed();
                    let (cluster, digest) = (&change.cluster, &change.content.digest);
                    let (policies, forms) = (change.content.content.policies(), &change.content.content.forms);
                    store::distribution::write(&mut tx, cluster, generation, incarnation, digest, &policies, forms).await?;
                    tracing::info!(cluster.name = change.cluster, generation, policies = policies.len(), "told its policies");
                }
                // The registry remembers more than we do: go on above its number.
                Outcome::Stale => {
                    is_stale = true;
                    let generation = applied.current_generation.cast_signed();
                    store::distribution::write(&mut tx, &change.cluster, generation, incarnation, "", &[], &[]).await?;
                }
                Outcome::Unknown => tracing::debug!(cluster.name = change.cluster, "the registry does not know it (yet)"),
            }
        }
        tx.commit().await?;
        Ok(is_stale)
    }
}
