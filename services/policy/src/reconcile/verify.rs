//! Whether the registry remembers what we told it: after a restore of its database, or of ours, it does not.
//!
//! Where the numbers differ we take the registry's and tell the cluster anew, above it.

use super::Leader;
use crate::{app::App, peers::Registry, store};
use async_trait::async_trait;
use muster_kit::{Result, db, reconcile::Reconciler};
use std::sync::Arc;

/// Compares numbers with the registry.
pub struct Verify {
    /// The use cases.
    pub app: App,
    /// Who leads.
    pub leader: Arc<Leader>,
    /// The registry.
    pub registry: Arc<dyn Registry>,
}

#[async_trait]
impl Reconciler for Verify {
    fn name(&self) -> &'static str {
        "verify"
    }

    async fn tick(&self) -> Result<()> {
        let Some(epoch) = self.leader.epoch() else { return Ok(()) };
        let remembered = self.registry.generations().await?;
        let told = store::distribution::all(&self.app.pool).await?;
        let mut tx = db::begin(&self.app.pool).await?;
        Leader::check(&mut tx, epoch).await?;
        let mut differs = false;
        for (cluster, told) in told {
            let generation = remembered.get(&cluster).copied().unwrap_or_default().cast_signed();
            if generation == told.generation {
                continue;
            }
            // A change that was told a moment ago looks the same; telling it again is recognised as a repetition.
            tracing::info!(cluster.name = cluster, ours = told.generation, theirs = generation, "the numbers differ");
            store::distribution::forget_content(&mut tx, &cluster, generation).await?;
            differs = true;
        }
        tx.commit().await?;
        if differs {
            self.app.distribute.now();
        }
        Ok(())
    }
}
