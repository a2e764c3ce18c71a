//! Follows the registry: its clusters become the projection, its observations become facts about runs. Only the leader
//! does, so that there is one writer; a new connection begins with everything that exists, which repairs whatever was missed.

use std::time::Duration;

use futures::StreamExt;
use muster_kit::health::Health;
use muster_kit::reconcile::backoff;
use muster_kit::{Error, Result, db, lease};
use muster_proto::registry::v1::watch_clusters_response::Type;
use muster_proto::registry::v1::{Cluster, WatchClustersResponse, WatchObservedResponse};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::app::decide::LEASE;
use crate::domain::cluster::Standing;
use crate::peers::registry::{RegistryClient, facts, observed};
use crate::store;
use crate::store::inbox::{self, Subject};

/// After this a connection is made anew, so that a List repairs what no event told.
const REPAIR: Duration = Duration::from_secs(180);

/// Observations taken in by one transaction.
const OBSERVATIONS: usize = 500;

/// What is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The registry's clusters.
    Clusters,
    /// The observations of our items.
    Observations,
}

impl What {
    /// Its name among the parts that health shows.
    #[must_use]
    pub const fn part(self) -> &'static str {
        match self {
            Self::Clusters => "registry-clusters",
            Self::Observations => "registry-observed",
        }
    }
}

/// Follows while this replica leads, until `shutdown`.
pub async fn follow(what: What, app: App, registry: RegistryClient, health: Health, shutdown: CancellationToken) {
    let mut failures = 0;
    loop {
        let epoch = tokio::select! {
            () = shutdown.cancelled() => return,
            epoch = app.leadership.gained() => epoch,
        };
        let outcome = tokio::select! {
            () = shutdown.cancelled() => return,
            () = app.leadership.lost(epoch) => Ok(()),
            () = tokio::time::sleep(REPAIR) => Ok(()),
            outcome = connection(what, &app, &registry, &health, epoch) => outcome,
        };
        match outcome {
            Ok(()) => failures = 0,
            Err(error) => {
                failures += 1;
                health.report(what.part(), Some(error.to_string()));
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(backoff(failures)) => {}
                }
            }
        }
    }
}

/// One connection, until it breaks.
async fn connection(what: What, app: &App, registry: &RegistryClient, health: &Health, epoch: u64) -> Result<()> {
    match what {
        What::Clusters => {
            let mut stream = registry.watch_clusters().await?;
            let mut listed = Some(Vec::new());
            loop {
                let message = stream.message().await.map_err(ended)?.ok_or_else(closed)?;
                health.report(what.part(), None);
                take(app, epoch, &mut listed, message).await?;
            }
        }
        What::Observations => {
            // What has come by the time that the last batch is written makes the next one.
            let mut stream = registry.watch_observed().await?.ready_chunks(OBSERVATIONS);
            loop {
                let messages = stream.next().await.ok_or_else(closed)?;
                let (mut seen, mut end) = (Vec::new(), Ok(()));
                for message in messages {
                    match message {
                        Ok(WatchObservedResponse { cluster, observation, .. }) => {
                            seen.extend(observation.and_then(|observation| observed(&cluster, observation)));
                        }
                        Err(status) => end = Err(ended(status)),
                    }
                }
                health.report(what.part(), None);
                app.observe_all(epoch, &seen).await?;
                end?;
            }
        }
    }
}

fn ended(status: tonic::Status) -> Error {
    muster_kit::peer::failed("fleet-registry", status)
}

fn closed() -> Error {
    Error::unavailable("PEER_AWAY", "the registry closed the watch")
}

/// Takes a message of the clusters' watch in. `listed` holds the names that exist until all of them were told.
pub async fn take(app: &App, epoch: u64, listed: &mut Option<Vec<String>>, message: WatchClustersResponse) -> Result<()> {
    match (message.r#type(), message.cluster) {
        (Type::Existing | Type::Changed, Some(cluster)) => {
            let name = put(app, epoch, cluster).await?;
            if let Some(listed) = listed {
                listed.push(name);
            }
        }
        (Type::Deleted, Some(cluster)) => {
            let (facts, _) = facts(cluster);
            let mut tx = db::begin(&app.pool).await?;
            lease::check(&mut tx, LEASE, epoch).await?;
            if store::cluster::remove(&mut tx, &facts.name).await? {
                inbox::put(&mut tx, &Subject::Cluster(facts.name)).await?;
            }
            tx.commit().await?;
        }
        (Type::Synced, _) => {
            if let Some(names) = listed.take() {
                let mut tx = db::begin(&app.pool).await?;
                lease::check(&mut tx, LEASE, epoch).await?;
                for gone in store::cluster::retain(&mut tx, &names).await? {
                    inbox::put(&mut tx, &Subject::Cluster(gone)).await?;
                }
                tx.commit().await?;
            }
        }
        (Type::Unspecified, _) | (Type::Existing | Type::Changed | Type::Deleted, None) => {
            tracing::warn!("the registry sent a message of a watch that says nothing");
        }
    }
    app.decide.now();
    Ok(())
}

/// Keeps a cluster in the projection; gives its name.
///
/// # Errors
/// Another replica leads by now, or the database is away.
pub async fn put(app: &App, epoch: u64, cluster: Cluster) -> Result<String> {
    let (facts, lease_expires) = facts(cluster);
    let mut tx = db::begin(&app.pool).await?;
    lease::check(&mut tx, LEASE, epoch).await?;
    if store::cluster::put(&mut tx, &facts, lease_expires).await? {
        inbox::put(&mut tx, &Subject::Cluster(facts.name.clone())).await?;
        if facts.standing != Standing::Absent {
            store::desired::remember(&mut tx, &facts.name).await?;
        }
    }
    tx.commit().await?;
    Ok(facts.name)
}
