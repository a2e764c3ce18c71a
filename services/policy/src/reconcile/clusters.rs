//! Clusters, as the registry tells them: which can be given something, and which run Kyverno.

use super::Leader;
use crate::{
    app::App,
    peers::{ClusterEvent, Registry},
    store,
};
use futures::StreamExt;
use muster_kit::{Error, Result, db, reconcile::backoff};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Keeps our projection of the clusters.
pub struct Clusters {
    /// The use cases.
    pub app: App,
    /// Who leads.
    pub leader: Arc<Leader>,
    /// The registry.
    pub registry: Arc<dyn Registry>,
}

impl Clusters {
    /// Follows for the life of the process, whenever we lead.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut failures = 0;
        loop {
            let epoch = tokio::select! {
                () = shutdown.cancelled() => return,
                epoch = self.leader.elected() => epoch,
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.leader.deposed(epoch) => failures = 0,
                outcome = self.follow(epoch) => {
                    failures += 1;
                    if let Err(error) = outcome {
                        tracing::debug!(error = %error, "the watch of clusters ended; it is taken up again");
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(backoff(failures)) => {}
            }
        }
    }

    /// Follows one watch until it ends.
    pub async fn follow(&self, epoch: u64) -> Result<()> {
        let mut events = self.registry.watch_clusters().await?;
        let mut listed = Some(Vec::new());
        while let Some(event) = events.next().await {
            let mut tx = db::begin(&self.app.pool).await?;
            Leader::check(&mut tx, epoch).await?;
            let changed = match event? {
                ClusterEvent::Known(member) => {
                    if let Some(listed) = &mut listed {
                        listed.push(member.cluster.clone());
                    }
                    store::projection::keep(&mut tx, &member).await?
                }
                ClusterEvent::Gone(cluster) => {
                    store::projection::forget(&mut tx, &cluster).await?;
                    true
                }
                ClusterEvent::Synced => {
                    for cluster in store::projection::known_besides(&mut tx, &listed.take().unwrap_or_default()).await? {
                        store::projection::forget(&mut tx, &cluster).await?;
                    }
                    true
                }
            };
            tx.commit().await?;
            if changed {
                self.app.distribute.now();
            }
        }
        Err(Error::unavailable("PEER_AWAY", "the registry ended the watch of clusters"))
    }
}
