//! Takes every open release as far as it goes: verdict, steps, measurements.

use super::advance::{Advanced, advance};
use super::leader::Leader;
use super::{measure, verdict};
use crate::app::App;
use crate::store::release::{self, ReleaseRow};
use async_trait::async_trait;
use futures::FutureExt as _;
use muster_kit::{Result, error::Kind, reconcile::Reconciler};

/// Turns of one release in one pass: a verdict, a measurement, and what follows from each.
const MAX_TURNS: usize = 8;

/// Takes releases further.
pub struct ReleaseReconciler {
    /// The use cases.
    pub app: App,
    /// Who decides.
    pub leader: Leader,
}

#[async_trait]
impl Reconciler for ReleaseReconciler {
    fn name(&self) -> &'static str {
        "releases"
    }

    async fn tick(&self) -> Result<()> {
        let Some(epoch) = self.leader.epoch().await? else { return Ok(()) };
        let open = release::open(&self.app.pool).await?;
        // Side by side, so that one cluster's slow metrics do not hold another application's release up.
        let mut passes = Vec::with_capacity(open.len());
        for row in &open {
            passes.push(self.take(epoch, row).boxed());
        }
        let passes = futures::future::join_all(passes).await;
        passes.into_iter().find(|outcome| outcome.as_ref().is_err_and(|error| error.kind() != Kind::Conflict)).unwrap_or(Ok(()))
    }
}

impl ReleaseReconciler {
    async fn take(&self, epoch: u64, row: &ReleaseRow) -> Result<()> {
        let mut judged_by: Option<String> = None;
        for _ in 0..MAX_TURNS {
            let waits = advance(&self.app, epoch, &row.name, judged_by.as_deref()).await?;
            let now = release::get(&mut *self.app.pool.acquire().await?, &row.name).await?;
            let Some(now) = now else { return Ok(()) };
            match waits {
                Advanced::Waits => return Ok(()),
                Advanced::NeedsVerdict => {
                    judged_by = verdict::judge(&self.app, epoch, &now).await?;
                    if judged_by.is_none() {
                        return Ok(());
                    }
                }
                Advanced::NeedsMeasurement => measure::measure(&self.app, epoch, &now).await?,
            }
        }
        Ok(())
    }
}
