//! Which replica leads. The epoch fences: it is checked in every transaction of a loop, and by the registry.

use async_trait::async_trait;
use muster_kit::{Result, Tx, lease, lease::Lease, reconcile::Reconciler};
use sqlx::PgPool;
use std::time::Duration;
use tokio::sync::watch;

const LEASE: &str = "policy";

/// Our part in the election.
pub struct Leader {
    lease: Lease,
    epoch: watch::Sender<Option<u64>>,
}

impl Leader {
    /// A candidate.
    pub fn new(pool: PgPool, length: Duration) -> Self {
        Self { lease: Lease::new(pool, LEASE, length), epoch: watch::Sender::new(None) }
    }

    /// Our epoch, while we lead.
    pub fn epoch(&self) -> Option<u64> {
        *self.epoch.borrow()
    }

    /// Waits until we lead; gives the epoch.
    pub async fn elected(&self) -> u64 {
        let mut epoch = self.epoch.subscribe();
        loop {
            if let Some(epoch) = *epoch.borrow_and_update() {
                return epoch;
            }
            // The sender lives as long as we do.
            epoch.changed().await.expect("the candidate outlives its subscribers");
        }
    }

    /// Waits until we no longer lead under this epoch.
    pub async fn deposed(&self, of: u64) {
        let mut epoch = self.epoch.subscribe();
        while *epoch.borrow_and_update() == Some(of) {
            epoch.changed().await.expect("the candidate outlives its subscribers");
        }
    }

    /// Holds the epoch for the rest of a transaction.
    pub async fn check(tx: &mut Tx, epoch: u64) -> Result<()> {
        lease::check(tx, LEASE, epoch).await
    }

    /// Gives the lead up at the end.
    pub async fn resign(&self) {
        self.epoch.send_replace(None);
        if let Err(error) = self.lease.release().await {
            tracing::debug!(error = %error, "the lease was not given up; it runs out by itself");
        }
    }
}

#[async_trait]
impl Reconciler for Leader {
    fn name(&self) -> &'static str {
        "leader"
    }

    async fn tick(&self) -> Result<()> {
        let acquired = self.lease.acquire().await;
        // Not to know whether we lead is not to lead.
        let epoch = acquired.as_ref().copied().unwrap_or(None);
        let changed = self.epoch.send_if_modified(|known| {
            let changed = *known != epoch;
            *known = epoch;
            changed
        });
        if changed {
            tracing::info!(leads = epoch.is_some(), epoch = epoch.unwrap_or_default(), "the lead has changed");
        }
        acquired.map(|_| ())
    }
}
