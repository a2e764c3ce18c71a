//! Forgets what nobody needs any more, now and then, so that tables stay bounded.

use super::leader::Leader;
use crate::app::App;
use crate::store::tidy;
use async_trait::async_trait;
use muster_kit::{Result, reconcile::Reconciler};

/// Forgets.
pub struct TidyReconciler {
    /// The use cases.
    pub app: App,
    /// Who decides.
    pub leader: Leader,
}

#[async_trait]
impl Reconciler for TidyReconciler {
    fn name(&self) -> &'static str {
        "tidy"
    }

    async fn tick(&self) -> Result<()> {
        if self.leader.epoch().await?.is_none() {
            return Ok(());
        }
        let releases = tidy::releases(&self.app.pool).await?;
        let bundles = tidy::bundles(&self.app.pool).await?;
        if releases + bundles > 0 {
            tracing::info!(releases, bundles, "what nobody needs is forgotten");
        }
        Ok(())
    }
}
