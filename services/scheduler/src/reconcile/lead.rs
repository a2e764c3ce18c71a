//! Takes or renews the leader's lease, and decides while it holds it.

use std::time::Duration;

use async_trait::async_trait;
use muster_kit::lease::Lease;
use muster_kit::reconcile::Reconciler;
use muster_kit::{Result, error::Kind};

use crate::app::App;
use crate::app::decide::LEASE;

/// The leader, or a standby.
pub struct Lead {
    app: App,
    lease: Lease,
}

impl Lead {
    /// A replica that leads whenever no other does.
    #[must_use]
    pub fn new(app: App) -> Self {
        let length = Duration::from_millis(app.settings.lease_ms);
        Self { lease: Lease::new(app.pool.clone(), LEASE, length), app }
    }

    /// Gives the lease up, so that a standby need not wait for it to run out.
    ///
    /// # Errors
    /// The database is away.
    pub async fn release(&self) -> Result<()> {
        self.app.leadership.set(None);
        self.lease.release().await
    }
}

#[async_trait]
impl Reconciler for Lead {
    fn name(&self) -> &'static str {
        "lead"
    }

    async fn tick(&self) -> Result<()> {
        let epoch = self.lease.acquire().await.inspect_err(|_| self.app.leadership.set(None))?;
        self.app.leadership.set(epoch);
        let Some(epoch) = epoch else { return Ok(()) };
        match self.app.decide_all(epoch).await {
            Ok(placed) if placed > 0 => {
                tracing::info!(placed, "gangs were placed");
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == Kind::Conflict && error.reason() == "NOT_LEADER" => {
                self.app.leadership.set(None);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
