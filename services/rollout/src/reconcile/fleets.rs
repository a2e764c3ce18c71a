//! Keeps the projection of fleets, by asking the registry again and again: fleets change seldom.

use crate::app::App;
use crate::store::cluster;
use async_trait::async_trait;
use muster_kit::{Result, db, health::Health, reconcile::Reconciler};

/// Asks for fleets.
pub struct FleetReconciler {
    /// The use cases.
    pub app: App,
    /// Where the registry's absence shows.
    pub health: Health,
}

#[async_trait]
impl Reconciler for FleetReconciler {
    fn name(&self) -> &'static str {
        "fleets"
    }

    async fn tick(&self) -> Result<()> {
        let listed = self.app.registry.list_fleets().await;
        self.health.report("registry-fleets", listed.as_ref().err().map(ToString::to_string));
        let listed = listed?;
        if cluster::fleets(&self.app.pool).await? == listed {
            return Ok(());
        }
        let mut tx = db::begin(&self.app.pool).await?;
        cluster::replace_fleets(&mut tx, &listed).await?;
        tx.commit().await?;
        self.app.wakes.decide.now();
        Ok(())
    }
}
