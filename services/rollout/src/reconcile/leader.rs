//! One replica decides; the lease saves work, its epoch fences what a late one writes.

use muster_kit::{
    Result, Tx,
    lease::{self, Lease},
};
use sqlx::PgPool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The lease's name.
const NAME: &str = "rollout";
/// How long a dead leader holds the others up.
const LENGTH: Duration = Duration::from_secs(5);
/// An answer is good for so long: five loops that ask at every pass would write the row twenty times a second.
const REMEMBERED: Duration = Duration::from_secs(1);

/// When it was asked, and the epoch if we led then.
type Answer = (Instant, Option<u64>);

/// This replica's claim to decide, shared by its reconcilers.
#[derive(Debug, Clone)]
pub struct Leader {
    lease: Arc<Lease>,
    last: Arc<Mutex<Option<Answer>>>,
}

impl Leader {
    /// A claim; nothing is taken yet.
    pub fn new(pool: PgPool) -> Self {
        Self { lease: Arc::new(Lease::new(pool, NAME, LENGTH)), last: Arc::default() }
    }

    /// The epoch while this replica leads.
    pub async fn epoch(&self) -> Result<Option<u64>> {
        let asked = Instant::now();
        let last = *self.last.lock().expect("nothing panics while it is held");
        if let Some((at, epoch)) = last
            && asked.duration_since(at) < REMEMBERED
        {
            return Ok(epoch);
        }
        let epoch = self.lease.acquire().await?;
        *self.last.lock().expect("nothing panics while it is held") = Some((asked, epoch));
        Ok(epoch)
    }
}

/// Holds the epoch for the rest of a transaction.
pub async fn check(tx: &mut Tx, epoch: u64) -> Result<()> {
    lease::check(tx, NAME, epoch).await
}
