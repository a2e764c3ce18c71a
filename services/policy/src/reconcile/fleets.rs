//! Members of fleets, as the registry lists them.

use super::Leader;
use crate::{app::App, peers::Registry, store};
use async_trait::async_trait;
use muster_kit::{Result, db, health::Health, reconcile::Reconciler};
use std::sync::Arc;

/// Keeps our projection of the fleets.
pub struct Fleets {
    /// The use cases.
    pub app: App,
    /// Who leads.
    pub leader: Arc<Leader>,
    /// The registry.
    pub registry: Arc<dyn Registry>,
    /// Where we say whether it is there.
    pub health: Health,
}

#[async_trait]
impl Reconciler for Fleets {
    fn name(&self) -> &'static str {
        "fleets"
    }

    async fn tick(&self) -> Result<()> {
        let Some(epoch) = self.leader.epoch() else { return Ok(()) };
        let listed = self.registry.members().await;
        self.health.report("fleet-registry", listed.as_ref().err().map(ToString::to_string));
        let members = listed?;
        let mut tx = db::begin(&self.app.pool).await?;
        Leader::check(&mut tx, epoch).await?;
        if !store::projection::replace_members(&mut tx, &members).await? {
            return Ok(());
        }
        store::catalog::raise_revision(&mut tx).await?;
        tx.commit().await?;
        tracing::info!(members = members.len(), "the fleets have other members");
        self.app.distribute.now();
        Ok(())
    }
}
