//! The control port: what tests read of a cluster and do to it, beside its API.

use crate::{cluster::SimCluster, config::NodeGroup, images::ImageRule, status::ApiError};
use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// The routes of one cluster.
pub fn router(cluster: SimCluster) -> Router {
    Router::new()
        .route("/audit", get(audit))
        .route("/images", get(images).put(set_images))
        .route("/faults", get(faults).put(set_faults))
        .route("/cut-connections", post(cut_connections))
        .route("/compact", post(compact))
        .route("/traffic", put(set_traffic))
        .route("/nodes", post(add_nodes))
        .route("/nodes/{name}", delete(remove_node))
        .route("/pods/{namespace}/{name}", delete(kill_pod))
        .route("/summary", get(summary))
        .with_state(cluster)
}

struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self(StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), error.message)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    /// Only entries with a higher number.
    #[serde(default)]
    after: u64,
    /// At most this many; all of them where it is absent.
    limit: Option<usize>,
}

/// Lines are read from the file and sent in pieces of this many, so that a long log is never in memory as a whole.
const PIECE: usize = 1_000;

async fn audit(State(cluster): State<SimCluster>, Query(range): Query<Range>) -> Response {
    let last = cluster.inner().lock().audit.last();
    let end = range.limit.map_or(last, |limit| last.min(range.after.saturating_add(limit as u64)));
    let pieces = futures::stream::unfold(range.after, move |after| {
        let cluster = cluster.clone();
        async move {
            if after >= end {
                return None;
            }
            let count = PIECE.min(usize::try_from(end - after).unwrap_or(PIECE));
            let read = tokio::task::spawn_blocking(move || cluster.audit_lines(after, count)).await;
            let lines = read.map_err(std::io::Error::other).and_then(|lines| lines);
            let piece = lines.map(|lines| lines.into_iter().map(|line| line + "\n").collect::<String>());
            Some((piece, after + count as u64))
        }
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(pieces)).into_response()
}

async fn images(State(cluster): State<SimCluster>) -> Json<Vec<ImageRule>> {
    Json(cluster.images())
}

async fn set_images(State(cluster): State<SimCluster>, Json(rules): Json<Vec<ImageRule>>) -> Result<StatusCode, Refused> {
    cluster.set_images(rules).map_err(|error| Refused(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    Ok(StatusCode::NO_CONTENT)
}

/// What is wrong with a cluster; a field that is absent stays as it is.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FaultSettings {
    paused: Option<bool>,
    clock_offset_ms: Option<i64>,
    latency_ms: Option<u64>,
}

async fn faults(State(cluster): State<SimCluster>) -> Json<Value> {
    let faults = cluster.faults();
    Json(json!({"paused": faults.is_paused(), "clockOffsetMs": faults.clock_offset_ms(), "latencyMs": faults.latency_ms()}))
}

async fn set_faults(State(cluster): State<SimCluster>, Json(settings): Json<FaultSettings>) -> StatusCode {
    let FaultSettings { paused, clock_offset_ms, latency_ms } = settings;
    let faults = cluster.faults();
    paused.into_iter().for_each(|paused| faults.pause(paused));
    clock_offset_ms.into_iter().for_each(|offset| faults.set_clock_offset_ms(offset));
    latency_ms.into_iter().for_each(|latency| faults.set_latency(Duration::from_millis(latency)));
    StatusCode::NO_CONTENT
}

async fn cut_connections(State(cluster): State<SimCluster>) -> StatusCode {
    cluster.faults().cut_connections();
    StatusCode::NO_CONTENT
}

async fn compact(State(cluster): State<SimCluster>) -> StatusCode {
    cluster.compact();
    StatusCode::NO_CONTENT
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TrafficSettings {
    requests_per_second: f64,
}

async fn set_traffic(State(cluster): State<SimCluster>, Json(settings): Json<TrafficSettings>) -> Result<StatusCode, Refused> {
    let rate = settings.requests_per_second;
    if !rate.is_finite() || rate < 0.0 {
        return Err(Refused(StatusCode::UNPROCESSABLE_ENTITY, "requestsPerSecond: is a number, not negative".to_owned()));
    }
    cluster.set_requests_per_second(rate);
    Ok(StatusCode::NO_CONTENT)
}

async fn add_nodes(State(cluster): State<SimCluster>, Json(group): Json<NodeGroup>) -> Result<Json<Vec<String>>, Refused> {
    Ok(Json(cluster.add_nodes(&group)?))
}

async fn remove_node(State(cluster): State<SimCluster>, Path(name): Path<String>) -> Result<StatusCode, Refused> {
    cluster.remove_node(&name)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn kill_pod(
    State(cluster): State<SimCluster>,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<StatusCode, Refused> {
    cluster.kill_pod(&namespace, &name)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn summary(State(cluster): State<SimCluster>) -> Json<Value> {
    let state = cluster.inner().lock();
    let counts: serde_json::Map<String, Value> =
        state.store.resources().iter().map(|resource| (resource.to_string(), json!(state.store.count(resource, "")))).collect();
    Json(json!({
        "name": state.config.name, "version": state.config.version, "resourceVersion": state.store.revision(),
        "auditEntries": state.audit.last(), "objects": counts,
    }))
}
