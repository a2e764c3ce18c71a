//! `/metrics`, `/healthz` and `/readyz`. Labels come from fixed sets, never from names or ids.

use crate::health::Health;
use axum::{Json, Router, http::StatusCode, response::IntoResponse, routing::get};
use prometheus::{Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, TextEncoder};
use std::sync::LazyLock;

/// RPCs answered, by method and gRPC code.
pub static RPCS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register(IntCounterVec::new(Opts::new("muster_rpc_total", "RPCs answered"), &["method", "code"]).expect("a legal metric"))
});

/// Seconds to answer, by method.
pub static RPC_SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let buckets = prometheus::exponential_buckets(0.001, 2.0, 14).expect("legal buckets");
    let options = HistogramOpts::new("muster_rpc_duration_seconds", "Seconds to answer an RPC").buckets(buckets);
    register(HistogramVec::new(options, &["method"]).expect("a legal metric"))
});

/// Ticks of reconcilers, by reconciler and outcome.
pub static TICKS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let options = Opts::new("muster_reconcile_ticks_total", "Passes of a reconciler");
    register(IntCounterVec::new(options, &["reconciler", "outcome"]).expect("a legal metric"))
});

/// Rows of the event log not yet published, and the age of the snapshot's horizon in transactions.
pub static EVENT_LOG: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let options = Opts::new("muster_event_log", "Unpublished rows of the event log, and the lag of its horizon in transactions");
    register(IntGaugeVec::new(options, &["what"]).expect("a legal metric"))
});

fn register<M: prometheus::core::Collector + Clone + 'static>(metric: M) -> M {
    prometheus::default_registry().register(Box::new(metric.clone())).expect("each metric is registered once");
    metric
}

/// The HTTP side of a service.
pub fn router(health: Health) -> Router {
    let ready = health.clone();
    Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || async move {
                let status = if ready.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                (status, Json(ready.parts()))
            }),
        )
        .with_state(())
}

async fn scrape() -> impl IntoResponse {
    let mut text = Vec::new();
    match TextEncoder::new().encode(&prometheus::gather(), &mut text) {
        Ok(()) => (StatusCode::OK, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into_bytes()),
    }
}
