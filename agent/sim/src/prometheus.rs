//! The Prometheus HTTP API: instant and range queries over the cluster's series, with the answers and errors of the
//! original; and the same series as an exporter has them, for a Prometheus that is no simulation.

use crate::{
    api::Query,
    cluster::Inner,
    promql::{self, Evaluation, QueryError, Range, Value},
    traffic::series::Labels,
};
use axum::{
    Json, Router,
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc};

/// Points of one series in a range query, as in Prometheus.
const MOST_POINTS: i64 = 11_000;

/// The routes of one cluster.
pub fn router(cluster: Arc<Inner>) -> Router {
    Router::new()
        .route("/api/v1/query", get(instant).post(instant))
        .route("/api/v1/query_range", get(range).post(range))
        .route("/metrics", get(exported))
        .route("/-/healthy", get(|| async { "Prometheus Server is Healthy.\n" }))
        .route("/-/ready", get(|| async { "Prometheus Server is Ready.\n" }))
        .with_state(cluster)
}

/// What a Prometheus of somebody's own scrapes: the newest value of every series that has not ended.
async fn exported(State(cluster): State<Arc<Inner>>) -> Response {
    let state = cluster.lock();
    let metrics = &state.traffic.metrics;
    let mut text = String::new();
    for name in metrics.names() {
        for series in metrics.named(name).filter(|series| series.ended.is_none()) {
            let Some((_, value)) = series.samples.back() else { continue };
            let labels: Vec<String> =
                series.labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
            text.push_str(&format!("{name}{{{}}} {}\n", labels.join(","), number(*value)));
        }
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// A label's value in the text format.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn refuse(error: &QueryError) -> Response {
    let (code, kind) = match error {
        QueryError::Parse(_) => (StatusCode::BAD_REQUEST, "bad_data"),
        QueryError::Execution(_) => (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
    };
    (code, Json(json!({"status": "error", "errorType": kind, "error": error.to_string()}))).into_response()
}

/// Parameters come in the query or, of a POST, in the body as a form.
fn parameters(query: Option<String>, body: &str) -> Query {
    let query = query.unwrap_or_default();
    Query::parse(&[query.as_str(), body].join("&"))
}

fn wrong(name: &str, text: &str) -> QueryError {
    QueryError::Parse(format!("invalid parameter {name:?}: cannot parse {text:?}"))
}

/// Seconds since the epoch or RFC 3339, as milliseconds.
fn time(parameters: &Query, name: &str) -> Result<Option<i64>, QueryError> {
    let Some(text) = parameters.get(name) else { return Ok(None) };
    if let Some(seconds) = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite()) {
        return Ok(Some((seconds * 1000.0) as i64));
    }
    text.parse::<jiff::Timestamp>().map(|at| Some(at.as_millisecond())).map_err(|_| wrong(name, text))
}

/// A number of seconds or a duration like `1m30s`, as milliseconds.
fn step(text: &str) -> Result<i64, QueryError> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Ok((seconds * 1000.0) as i64);
    }
    let length = promql_parser::util::parse_duration(text).map_err(|_| wrong("step", text))?;
    i64::try_from(length.as_millis()).map_err(|_| wrong("step", text))
}

async fn instant(State(cluster): State<Arc<Inner>>, RawQuery(query): RawQuery, body: String) -> Response {
    let parameters = parameters(query, &body);
    let answer = || -> Result<serde_json::Value, QueryError> {
        let text = parameters.get("query").unwrap_or("");
        let expression = promql::parse(text)?;
        let at = time(&parameters, "time")?.unwrap_or_else(|| jiff::Timestamp::now().as_millisecond());
        let state = cluster.lock();
        let evaluation = Evaluation { metrics: &state.traffic.metrics, time: at, start: at, end: at };
        Ok(shown(evaluation.value(&expression)?, at))
    };
    match answer() {
        Ok(data) => Json(json!({"status": "success", "data": data})).into_response(),
        Err(error) => refuse(&error),
    }
}

async fn range(State(cluster): State<Arc<Inner>>, RawQuery(query): RawQuery, body: String) -> Response {
    let parameters = parameters(query, &body);
    let answer = || -> Result<serde_json::Value, QueryError> {
        let needed = |name: &str| time(&parameters, name)?.ok_or_else(|| wrong(name, ""));
        let (start, end) = (needed("start")?, needed("end")?);
        let step = step(parameters.get("step").unwrap_or(""))?;
        if end < start {
            return Err(QueryError::Parse("invalid parameter \"end\": end timestamp must not be before start time".to_owned()));
        }
        if step <= 0 {
            return Err(QueryError::Parse("invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer".to_owned()));
        }
        if (end - start) / step > MOST_POINTS {
            return Err(QueryError::Parse(
                "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)"
                    .to_owned(),
            ));
        }
        let expression = promql::parse(parameters.get("query").unwrap_or(""))?;
        let state = cluster.lock();
        let mut found: BTreeMap<Labels, Vec<(i64, f64)>> = BTreeMap::new();
        let mut at = start;
        while at <= end {
            let evaluation = Evaluation { metrics: &state.traffic.metrics, time: at, start, end };
            match evaluation.value(&expression)? {
                Value::Scalar(number) => found.entry(Labels::new()).or_default().push((at, number)),
                Value::Vector(samples) => {
                    samples.into_iter().for_each(|sample| found.entry(sample.labels).or_default().push((at, sample.value)));
                }
                Value::Matrix(_) | Value::Text(_) => {
                    return Err(QueryError::Parse(
                        "invalid parameter \"query\": invalid expression type for range query, must be Scalar or instant Vector"
                            .to_owned(),
                    ));
                }
            }
            at += step;
        }
        let ranges: Vec<Range> = found.into_iter().map(|(labels, samples)| Range { labels, samples }).collect();
        Ok(shown(Value::Matrix(ranges), end))
    };
    match answer() {
        Ok(data) => Json(json!({"status": "success", "data": data})).into_response(),
        Err(error) => refuse(&error),
    }
}

/// A number as Prometheus writes it: text, so that NaN and the infinities have a form.
fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        value.to_string()
    }
}

fn point(at: i64, value: f64) -> serde_json::Value {
    json!([at as f64 / 1000.0, number(value)])
}

fn shown(value: Value, at: i64) -> serde_json::Value {
    match value {
        Value::Scalar(value) => json!({"resultType": "scalar", "result": point(at, value)}),
        Value::Text(text) => json!({"resultType": "string", "result": [at as f64 / 1000.0, text]}),
        Value::Vector(samples) => {
            let samples: Vec<serde_json::Value> =
                samples.iter().map(|sample| json!({"metric": sample.labels, "value": point(at, sample.value)})).collect();
            json!({"resultType": "vector", "result": samples})
        }
        Value::Matrix(ranges) => {
            let ranges: Vec<serde_json::Value> = ranges
                .iter()
                .map(|range| {
                    let points: Vec<serde_json::Value> = range.samples.iter().map(|(at, value)| point(*at, *value)).collect();
                    json!({"metric": range.labels, "values": points})
                })
                .collect();
            json!({"resultType": "matrix", "result": ranges})
        }
    }
}
