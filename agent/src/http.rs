//! `/metrics`, `/healthz` and `/readyz` of the agent. Ready is an agent that can read its cluster's API; a hub that is
//! away is shown and does not make it unready, because it goes on healing.

use crate::{domain::observation::Phase, reconcile::Reconciler};
use anyhow::Context;
use axum::{Json, Router, http::StatusCode, routing::get};
use muster_kit::{health::Health, metrics};
use prometheus::{IntGauge, IntGaugeVec, Opts};
use std::{net::SocketAddr, sync::LazyLock, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The part of `/readyz` that tells of the cluster's API server.
pub const CLUSTER_PART: &str = "cluster";
/// Between two looks at the figures.
const EVERY: Duration = Duration::from_secs(2);

static ITEMS: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let gauge = IntGaugeVec::new(Opts::new("muster_agent_items", "Items held, by phase"), &["phase"]).expect("a legal metric");
    prometheus::default_registry().register(Box::new(gauge.clone())).expect("registered once");
    gauge
});

static UNACKNOWLEDGED: LazyLock<IntGauge> = LazyLock::new(|| {
    let gauge =
        IntGauge::new("muster_agent_observations_queued", "Observations the hub has not stored yet").expect("a legal metric");
    prometheus::default_registry().register(Box::new(gauge.clone())).expect("registered once");
    gauge
});

static LEASE: LazyLock<IntGauge> = LazyLock::new(|| {
    let gauge = IntGauge::new("muster_agent_lease_seconds", "How long the cluster session lasts yet").expect("a legal metric");
    prometheus::default_registry().register(Box::new(gauge.clone())).expect("registered once");
    gauge
});

/// Serves until `stop`.
pub async fn serve(address: SocketAddr, reconciler: Reconciler, health: Health, stop: CancellationToken) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("http_address: listening on {address}"))?;
    tokio::spawn(measure(reconciler, stop.clone()));
    axum::serve(listener, router(health)).with_graceful_shutdown(stop.cancelled_owned()).await.context("the HTTP server")
}

fn router(health: Health) -> Router {
    let ready = health.clone();
    let readyz = get(move || async move {
        let parts = ready.parts();
        let well = parts.iter().any(|part| part.part == CLUSTER_PART && part.problem.is_none());
        (if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(parts))
    });
    Router::new().route("/readyz", readyz).fallback_service(metrics::router(health))
}

async fn measure(reconciler: Reconciler, stop: CancellationToken) {
    let phases = [
        ("pending", Phase::Pending),
        ("applying", Phase::Applying),
        ("applied", Phase::Applied),
        ("healthy", Phase::Healthy),
        ("degraded", Phase::Degraded),
        ("drifted", Phase::Drifted),
        ("failed", Phase::Failed),
    ];
    loop {
        for (name, phase) in phases {
            ITEMS.with_label_values(&[name]).set(i64::try_from(reconciler.count(phase)).unwrap_or(i64::MAX));
        }
        let queued = reconciler.ledger.unacknowledged(0, usize::MAX).len();
        UNACKNOWLEDGED.set(i64::try_from(queued).unwrap_or(i64::MAX));
        LEASE.set(i64::try_from(reconciler.lease.remaining().as_secs()).unwrap_or(i64::MAX));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
