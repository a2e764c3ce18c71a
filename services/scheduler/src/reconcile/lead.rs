//! Takes or renews the leader's lease, and decides while it holds it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

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
    /// When the lease was last renewed, and in which epoch. It is not written at every pass.
    renewed: Mutex<Option<(Instant, u64)>>,
}

impl Lead {
    /// A replica that leads whenever no other does.
    #[must_use]
    pub fn new(app: App) -> Self {
        let length = Duration::from_millis(app.settings.lease_ms);
        Self { lease: Lease::new(app.pool.clone(), LEASE, length), app, renewed: Mutex::new(None) }
    }

    /// Gives the lease up, so that a standby need not wait for it to run out.
    ///
    /// # Errors
    /// The database is away.
    pub async fn release(&self) -> Result<()> {
        self.step_down();
        self.lease.release().await
    }

    fn step_down(&self) {
        *self.renewed.lock().expect("no holder of this lock panics") = None;
        self.app.leadership.set(None);
    }

    /// The epoch while this replica leads. A renewal holds for a quarter of the lease: three may fail before it runs out.
    async fn epoch(&self) -> Result<Option<u64>> {
        let asked = Instant::now();
        let renewed = *self.renewed.lock().expect("no holder of this lock panics");
        if let Some((at, epoch)) = renewed
            && asked.duration_since(at) < Duration::from_millis(self.app.settings.lease_ms / 4)
        {
            return Ok(Some(epoch));
        }
        let epoch = self.lease.acquire().await?;
        *self.renewed.lock().expect("no holder of this lock panics") = epoch.map(|epoch| (asked, epoch));
        Ok(epoch)
    }
}

#[async_trait]
impl Reconciler for Lead {
    fn name(&self) -> &'static str {
        "lead"
    }

    async fn tick(&self) -> Result<()> {
        let epoch = self.epoch().await.inspect_err(|_| self.step_down())?;
        self.app.leadership.set(epoch);
        let Some(epoch) = epoch else { return Ok(()) };
        match self.app.decide_all(epoch).await {
            Ok(placed) if placed > 0 => {
                tracing::info!(placed, "gangs were placed");
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == Kind::Conflict && error.reason() == "NOT_LEADER" => {
                self.step_down();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
