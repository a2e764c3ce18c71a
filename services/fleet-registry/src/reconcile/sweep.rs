//! Forgets what nobody needs: bundles that no item names, questions whose asker is gone, verdicts of
//! items that are.

use crate::{
    app::App,
    store::{bundle, question, verdict},
};
use async_trait::async_trait;
use muster_kit::{Result, reconcile::Reconciler};

/// The reconciler.
pub struct Sweep(pub App);

#[async_trait]
impl Reconciler for Sweep {
    fn name(&self) -> &'static str {
        "sweep"
    }

    async fn tick(&self) -> Result<()> {
        bundle::trim(&self.0.pool).await?;
        question::trim(&self.0.pool).await?;
        verdict::trim(&self.0.pool).await?;
        Ok(())
    }
}
