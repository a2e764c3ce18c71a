//! One replica decides; the lease saves work, its epoch fences what a late one writes.

use muster_kit::{
    Result, Tx,
    lease::{self, Lease},
};
use sqlx::PgPool;
use std::sync::Arc;
use std::time::Duration;

/// The lease's name.
const NAME: &str = "rollout";
/// How long a dead leader holds the others up.
const LENGTH: Duration = Duration::from_secs(5);

/// This replica's claim to decide, shared by its reconcilers.
#[derive(Debug, Clone)]
pub struct Leader(Arc<Lease>);

impl Leader {
    /// A claim; nothing is taken yet.
    pub fn new(pool: PgPool) -> Self {
        Self(Arc::new(Lease::new(pool, NAME, LENGTH)))
    }

    /// The epoch while this replica leads.
    pub async fn epoch(&self) -> Result<Option<u64>> {
        self.0.acquire().await
    }
}

/// Holds the epoch for the rest of a transaction.
pub async fn check(tx: &mut Tx, epoch: u64) -> Result<()> {
    lease::check(tx, NAME, epoch).await
}
