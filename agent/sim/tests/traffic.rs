//! Simulated requests and what is asked of them in PromQL.

mod support;

use http_body_util::BodyExt as _;
use muster_simcluster::SimCluster;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::{apply, cluster, deployment, object};
use tower::ServiceExt as _;

async fn ask(cluster: &SimCluster, path: &str) -> (u16, Value) {
    let request = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
    let response = cluster.prometheus().oneshot(request).await.unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap())
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

async fn query(cluster: &SimCluster, text: &str) -> Value {
    let (code, answer) = ask(cluster, &format!("/api/v1/query?query={}", encoded(text))).await;
    assert_eq!(code, 200, "{text}: {answer}");
    answer["data"]["result"].clone()
}

/// The single value of a query; `None` where it has no sample.
async fn number(cluster: &SimCluster, text: &str) -> Option<f64> {
    query(cluster, text).await.as_array()?.first()?["value"][1].as_str()?.parse().ok()
}

/// Waits until the value of a query satisfies a condition.
async fn until(cluster: &SimCluster, text: &str, holds: impl Fn(f64) -> bool) -> f64 {
    let started = Instant::now();
    loop {
        let found = number(cluster, text).await;
        if let Some(value) = found.filter(|value| holds(*value)) {
            return value;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{text} stays {found:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn service(cluster: &SimCluster) {
    apply(
        cluster,
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
        }),
    )
    .await;
}

async fn version(cluster: &SimCluster, version: &str) {
    let mut body = deployment(&format!("web-{version}"), 2, &format!("registry.example.com/web:{version}"), 0);
    let labels = json!({"app": "web", "version": version});
    body["spec"]["selector"]["matchLabels"] = labels.clone();
    body["spec"]["template"]["metadata"]["labels"] = labels;
    apply(cluster, body).await;
    object(cluster, "deployments.apps", &format!("web-{version}"), |found| found["status"]["availableReplicas"] == 2).await;
}

async fn weights(cluster: &SimCluster, weights: &[(&str, u32)]) {
    let subset = |version: &str| json!({"name": version, "labels": {"version": version}});
    let route = |(version, weight): &(&str, u32)| json!({"destination": {"host": "web", "subset": version}, "weight": weight});
    let subsets: Vec<Value> = weights.iter().map(|(version, _)| subset(version)).collect();
    let routes: Vec<Value> = weights.iter().map(route).collect();
    apply(
        cluster,
        json!({
            "apiVersion": "networking.istio.io/v1beta1", "kind": "DestinationRule", "metadata": {"name": "web"},
            "spec": {"host": "web", "subsets": subsets},
        }),
    )
    .await;
    apply(
        cluster,
        json!({
            "apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService", "metadata": {"name": "web"},
            "spec": {"hosts": ["web.default.svc.cluster.local"], "http": [{"route": routes}]},
        }),
    )
    .await;
}

#[tokio::test]
async fn requests_follow_the_live_weights() {
    let cluster = cluster(1, json!([{"match": "*/web:v2", "errorRate": 0.5, "latencyMs": 400}]));
    // A tenth of it is soon enough to judge a share by.
    cluster.set_requests_per_second(2_000.0);
    version(&cluster, "v1").await;
    version(&cluster, "v2").await;
    weights(&cluster, &[("v1", 90), ("v2", 10)]).await;
    service(&cluster).await;
    until(&cluster, "sum(requests_total)", |total| total > 2_000.0).await;
    let share = "sum(requests_total{version=\"v2\"}) / sum(requests_total)";
    let found = number(&cluster, share).await.unwrap();
    assert!((0.08..=0.12).contains(&found), "{found}");
    // Enough that a share of one half lies within a tenth of it: four standard deviations.
    until(&cluster, "sum(requests_total{version=\"v2\"})", |total| total > 400.0).await;
    let errors = number(&cluster, "sum(requests_total{version=\"v2\",code=~\"5..\"}) / sum(requests_total{version=\"v2\"})")
        .await
        .unwrap();
    assert!((0.4..=0.6).contains(&errors), "{errors}");
    let slow = "histogram_quantile(0.5, sum by (le) (rate(request_duration_seconds_bucket{version=\"v2\"}[1m])))";
    let quick = slow.replace("v2", "v1");
    let (slow, quick) = (number(&cluster, slow).await.unwrap(), number(&cluster, &quick).await.unwrap());
    assert!((0.25..=0.5).contains(&slow) && quick < 0.05, "{slow} {quick}");
    weights(&cluster, &[("v1", 0), ("v2", 100)]).await;
    let before = number(&cluster, "sum(requests_total{version=\"v1\"})").await.unwrap();
    let served = number(&cluster, "sum(requests_total{version=\"v2\"})").await.unwrap();
    until(&cluster, "sum(requests_total{version=\"v2\"})", |total| total > served + 2_000.0).await;
    let after = number(&cluster, "sum(requests_total{version=\"v1\"})").await.unwrap();
    assert!(after - before <= 100.0, "requests go on to a version without weight: {before} {after}");
}

#[tokio::test]
async fn a_route_without_ready_pods_is_a_503_of_no_version() {
    let cluster = cluster(1, json!([]));
    version(&cluster, "v1").await;
    service(&cluster).await;
    until(&cluster, "sum(requests_total{code=\"200\"})", |total| total > 10.0).await;
    weights(&cluster, &[("v1", 50), ("v3", 50)]).await;
    until(&cluster, "sum(requests_total{code=\"503\",version=\"\",app=\"web\"})", |total| total > 20.0).await;
}

#[tokio::test]
async fn without_a_version_label_the_tag_is_the_version() {
    let cluster = cluster(1, json!([]));
    apply(&cluster, deployment("web", 1, "registry.example.com:5000/ml/web:v7", 0)).await;
    service(&cluster).await;
    until(&cluster, "sum by (version) (requests_total{version=\"v7\"})", |total| total > 10.0).await;
    let rate = until(&cluster, "sum(rate(requests_total{service=\"web\"}[2s]))", |rate| rate > 120.0).await;
    assert!(rate < 300.0, "{rate} of 200 requests a second");
}

#[tokio::test]
async fn series_of_a_pod_end_with_it() {
    let cluster = cluster(1, json!([]));
    version(&cluster, "v1").await;
    service(&cluster).await;
    until(&cluster, "count(requests_total{version=\"v1\"})", |count| count == 2.0).await;
    let pod = cluster.objects("pods", "default")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    cluster.kill_pod("default", &pod).unwrap();
    let gone = format!("absent(requests_total{{pod={pod:?}}})");
    until(&cluster, &gone, |value| value == 1.0).await;
    let remembered = format!("count_over_time(requests_total{{pod={pod:?}}}[1m])");
    assert!(number(&cluster, &remembered).await.unwrap() > 0.0, "a range still has what was");
}

#[tokio::test]
async fn promql_answers_and_refuses_as_prometheus_does() {
    let cluster = cluster(1, json!([]));
    for (text, expected) in [
        ("vector(1) + 1", "2"),
        ("sum(nothing) or vector(0)", "0"),
        ("vector(3) > bool 2", "1"),
        ("absent(nothing{a=\"b\"})", "1"),
        ("-vector(2) ^ 2", "-4"),
        ("clamp_max(vector(7), 5)", "5"),
        ("vector(scalar(vector(4)) * 2)", "8"),
        ("quantile(0.5, vector(3))", "3"),
        ("count(DCGM_FI_DEV_GPU_UTIL{modelName=\"V100\"} == 0)", "8"),
    ] {
        let started = Instant::now();
        let found = loop {
            let found = query(&cluster, text).await;
            if !found[0].is_null() || started.elapsed() > Duration::from_secs(10) {
                break found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(found[0]["value"][1], expected, "{text}: {found}");
    }
    assert_eq!(query(&cluster, "vector(1) > 2").await, json!([]));
    assert_eq!(query(&cluster, "nothing").await, json!([]));
    for (text, code, kind) in [
        ("sum(", 400, "bad_data"),
        ("rate(nothing)", 400, "bad_data"),
        ("label_join(nothing, \"a\", \"b\", \"c\")", 422, "execution"),
        ("max_over_time(nothing[5m:1m])", 422, "execution"),
    ] {
        let (found, answer) = ask(&cluster, &format!("/api/v1/query?query={}", encoded(text))).await;
        assert_eq!((found, answer["errorType"].as_str()), (code, Some(kind)), "{text}: {answer}");
        assert_eq!(answer["status"], "error");
    }
    let (code, answer) = ask(&cluster, "/api/v1/query_range?query=vector(1)&start=1000&end=1010&step=5s").await;
    assert_eq!((code, answer["data"]["result"][0]["values"].as_array().map(Vec::len)), (200, Some(3)), "{answer}");
    let (code, _) = ask(&cluster, "/api/v1/query_range?query=vector(1)&start=1000&end=10&step=5s").await;
    assert_eq!(code, 400);
}
