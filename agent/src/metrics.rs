//! PromQL instant queries to the cluster's own Prometheus. No data, a failure and a number are three different answers.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};

/// Samples of an answer, at most; a gate needs one.
const MAX_SAMPLES: usize = 1_000;
/// Bytes of an answer, at most.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of a query, at most.
const MAX_QUERY: usize = 16 * 1024;
/// A Prometheus that has not answered by then counts as away.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why there is no answer, which is never the same as no data.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MetricsError {
    /// The agent was not told of a Prometheus.
    #[error("no Prometheus is configured for this cluster")]
    NotConfigured,
    /// It does not answer.
    #[error("the cluster's Prometheus does not answer: {0}")]
    Unreachable(String),
    /// It refused the query; its own words.
    #[error("{0}")]
    Refused(String),
    /// It answered something that is no instant vector or scalar.
    #[error("the cluster's Prometheus answered {0}")]
    Unexpected(String),
}

/// One sample of an instant vector; a scalar has no labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The series' labels.
    pub labels: BTreeMap<String, String>,
    /// The value; may be NaN.
    pub value: f64,
}

/// The cluster's own Prometheus.
#[derive(Debug, Clone)]
pub struct Prometheus {
    client: reqwest::Client,
    query: Option<reqwest::Url>,
}

impl Prometheus {
    /// A Prometheus at a base URL, as in `http://prometheus.monitoring:9090`; none answers nothing.
    pub fn new(base: Option<&str>) -> anyhow::Result<Self> {
        use anyhow::Context;
        // Whoever comes first in the process sets it; it is the same one everywhere.
        rustls::crypto::ring::default_provider().install_default().ok();
        let query = base
            .map(|base| reqwest::Url::parse(&format!("{}/api/v1/query", base.trim_end_matches('/'))))
            .transpose()
            .context("prometheus_url")?;
        let client = reqwest::Client::builder().timeout(DEADLINE).build().context("an HTTP client for Prometheus")?;
        Ok(Self { client, query })
    }

    /// Evaluates an expression at a time, now if none is given. An empty list means no data.
    pub async fn query(&self, expression: &str, time: Option<Timestamp>) -> Result<Vec<Sample>, MetricsError> {
        let url = self.query.clone().ok_or(MetricsError::NotConfigured)?;
        if expression.len() > MAX_QUERY {
            return Err(MetricsError::Refused(format!("query: longer than {MAX_QUERY} bytes")));
        }
        let mut parameters = vec![("query", expression.to_owned())];
        if let Some(time) = time {
            parameters.push(("time", format!("{}.{:03}", time.as_second(), time.subsec_millisecond())));
        }
        let away = |error: reqwest::Error| MetricsError::Unreachable(error.without_url().to_string());
        let mut response = self.client.get(url).query(&parameters).send().await.map_err(away)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(away)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_BYTES {
                return Err(MetricsError::Refused(format!("the answer is larger than {MAX_BYTES} bytes")));
            }
        }
        read(&body).map_err(|error| match error {
            MetricsError::Unexpected(_) if !status.is_success() => MetricsError::Unreachable(status.to_string()),
            error => error,
        })
    }
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

fn read(body: &[u8]) -> Result<Vec<Sample>, MetricsError> {
    let answer: Answer = serde_json::from_slice(body).map_err(|_| MetricsError::Unexpected("something else".to_owned()))?;
    if answer.status != "success" {
        return Err(MetricsError::Refused(answer.error));
    }
    let data = answer.data.ok_or_else(|| MetricsError::Unexpected("no data field".to_owned()))?;
    let malformed = |_| MetricsError::Unexpected(format!("a malformed {}", data.result_type));
    match data.result_type.as_str() {
        "vector" => {
            let series: Vec<Series> = serde_json::from_value(data.result).map_err(malformed)?;
            if series.len() > MAX_SAMPLES {
                return Err(MetricsError::Refused(format!("the answer has more than {MAX_SAMPLES} series")));
            }
            series.into_iter().map(|series| Ok(Sample { labels: series.metric, value: number(&series.value.1)? })).collect()
        }
        "scalar" => {
            let (_, value): (f64, String) = serde_json::from_value(data.result).map_err(malformed)?;
            Ok(vec![Sample { labels: BTreeMap::new(), value: number(&value)? }])
        }
        other => Err(MetricsError::Unexpected(format!("a {other}; only an instant vector or a scalar can be judged"))),
    }
}

fn number(text: &str) -> Result<f64, MetricsError> {
    match text {
        "NaN" => Ok(f64::NAN),
        "+Inf" | "Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        text => text.parse().map_err(|_| MetricsError::Unexpected(format!("the value {text:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_no_data_and_an_error_are_three_answers() {
        let one =
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"version":"v3"},"value":[1.0,"0.97"]}]}}"#;
        let labels = BTreeMap::from([("version".to_owned(), "v3".to_owned())]);
        assert_eq!(read(one.as_bytes()), Ok(vec![Sample { labels, value: 0.97 }]));
        let none = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
        assert_eq!(read(none.as_bytes()), Ok(vec![]));
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1.0,"+Inf"]}}"#;
        assert_eq!(read(scalar.as_bytes()), Ok(vec![Sample { labels: BTreeMap::new(), value: f64::INFINITY }]));
        let refused = r#"{"status":"error","errorType":"bad_data","error":"parse error at char 3"}"#;
        assert_eq!(read(refused.as_bytes()), Err(MetricsError::Refused("parse error at char 3".to_owned())));
        assert!(matches!(read(b"<html>"), Err(MetricsError::Unexpected(_))));
        let matrix = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
        assert!(matches!(read(matrix.as_bytes()), Err(MetricsError::Unexpected(_))));
    }

    #[tokio::test]
    async fn a_prometheus_that_is_not_there_is_not_no_data() {
        let nowhere = Prometheus::new(Some("http://127.0.0.1:1")).expect("legal");
        assert!(matches!(nowhere.query("up", None).await, Err(MetricsError::Unreachable(_))));
        let none = Prometheus::new(None).expect("legal");
        assert_eq!(none.query("up", None).await, Err(MetricsError::NotConfigured));
    }
}
