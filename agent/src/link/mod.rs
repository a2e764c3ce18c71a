//! The link to the hub: the only part of the agent that knows the wire.
//!
//! The agent dials, says what it holds, is told what differs, and from then on both sides talk until the stream ends.
//! Whatever happens to the stream, nothing is lost: what was told is in the ledger, what was seen waits there until the
//! hub has stored it, and the next Hello compares.

mod answer;
mod channel;
mod convert;
mod enrol;
mod fetch;
mod measure;
mod outbox;
mod session;
mod verdicts;

pub use channel::HubAddress;
pub use enrol::{EnrolError, enrol};
pub use verdicts::Telling;

use crate::{
    inventory::Feed,
    ledger::{Ledger, LedgerError},
    metrics::Prometheus,
    reconcile::Reconciler,
};
use jiff::{SignedDuration, Timestamp};
use muster_kit::health::Health;
use rand::Rng;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// First wait before dialling again; doubled up to [`LONGEST_BACKOFF`], with jitter, so that ten thousand agents do not
/// come back in the same second.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// An edge that was cut off is back within this time of its network.
const LONGEST_BACKOFF: Duration = Duration::from_secs(15);
/// The part of `/readyz` and of the log that tells of the link.
pub const HEALTH_PART: &str = "hub";

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The hub cannot be reached or hung up.
    #[error("{0}")]
    Hub(String),
    /// What the hub sent cannot be read.
    #[error("the hub sent {0}")]
    Malformed(String),
    /// The disk refused.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl From<tonic::Status> for LinkError {
    fn from(status: tonic::Status) -> Self {
        Self::Hub(format!("{:?}: {}", status.code(), status.message()))
    }
}

/// How a session ended otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The process ends.
    Shutdown,
    /// With a certificate taken anew the next session begins at once.
    Renewed,
    /// The cluster has left the fleet.
    Left,
}

/// What the link works with.
#[derive(Clone)]
pub struct Link {
    /// Where the hub is and whom to trust.
    pub hub: HubAddress,
    /// What is applied.
    pub reconciler: Reconciler,
    /// The newest inventory.
    pub inventory: Feed,
    /// The cluster's own Prometheus.
    pub prometheus: Prometheus,
    /// UID of the `kube-system` namespace.
    pub cluster_uid: String,
    /// Where the link says how it is.
    pub health: Health,
    /// The hub's clock minus this machine's, as last seen.
    pub(crate) hub_clock: Arc<Mutex<SignedDuration>>,
}

impl Link {
    /// A link that has not dialled yet.
    pub fn new(
        hub: HubAddress,
        reconciler: Reconciler,
        inventory: Feed,
        prometheus: Prometheus,
        cluster_uid: String,
        health: Health,
    ) -> Self {
        Self { hub, reconciler, inventory, prometheus, cluster_uid, health, hub_clock: Arc::default() }
    }

    fn ledger(&self) -> &Ledger {
        &self.reconciler.ledger
    }

    fn note_hub_clock(&self, clock: Timestamp) {
        *self.hub_clock.lock().unwrap_or_else(PoisonError::into_inner) = clock.duration_since(Timestamp::now());
    }

    /// Holds the link until the process ends; `true` where the cluster has left the fleet.
    pub async fn run(self, stop: CancellationToken) -> bool {
        let mut backoff = FIRST_BACKOFF;
        loop {
            let greeted = Arc::new(std::sync::atomic::AtomicBool::new(false));
            let ended = tokio::select! {
                () = stop.cancelled() => Ok(Ended::Shutdown),
                ended = session::run(&self, greeted.clone(), stop.clone()) => ended,
            };
            match ended {
                Ok(Ended::Shutdown) => return false,
                Ok(Ended::Left) => return true,
                Ok(Ended::Renewed) => backoff = FIRST_BACKOFF,
                Err(error) => {
                    self.health.report(HEALTH_PART, Some(error.to_string()));
                    if greeted.load(std::sync::atomic::Ordering::Relaxed) {
                        backoff = FIRST_BACKOFF;
                    }
                    let wait = backoff.mul_f64(rand::rng().random_range(0.5..1.0));
                    backoff = (backoff * 2).min(LONGEST_BACKOFF);
                    tracing::debug!(wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), "dialling again");
                    tokio::select! {
                        () = stop.cancelled() => return false,
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
        }
    }
}
