//! What is done to a cluster from outside, and what it tells of itself.

mod support;

use futures::{StreamExt as _, TryStreamExt as _};
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api,
    api::{ListParams, PostParams, WatchEvent, WatchParams},
    runtime::{WatchStreamExt as _, reflector, watcher},
};
use muster_simcluster::{ClusterConfig, SimCluster};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::{apply, client, cluster, deployment, eventually, object};
use tower::{Service as _, ServiceExt as _};

async fn control(cluster: &SimCluster, method: &str, path: &str, body: Value) -> (u16, String) {
    let request = http::Request::builder().method(method).uri(path).header("content-type", "application/json");
    let response = cluster.control().oneshot(request.body(axum::body::Body::from(body.to_string())).unwrap()).await.unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn a_paused_api_answers_503_and_comes_back() {
    let cluster = cluster(1, json!([]));
    let namespaces: Api<Namespace> = Api::all(client(&cluster));
    assert_eq!(control(&cluster, "PUT", "/faults", json!({"paused": true})).await.0, 204);
    let Err(kube::Error::Api(status)) = namespaces.get("default").await else { panic!("not refused") };
    assert_eq!((status.code, status.reason.as_str()), (503, "ServiceUnavailable"));
    assert_eq!(control(&cluster, "PUT", "/faults", json!({"paused": false})).await.0, 204);
    namespaces.get("default").await.unwrap();
    assert_eq!(control(&cluster, "PUT", "/faults", json!({"unknown": 1})).await.0, 422);
}

#[tokio::test]
async fn cut_connections_end_watches() {
    let cluster = cluster(1, json!([]));
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&cluster));
    let mut watch = maps.watch(&WatchParams::default().timeout(200), "0").await.unwrap().boxed();
    cluster.faults().cut_connections();
    // What was on its way may still come; then the stream ends with an error.
    let ended = async { while watch.try_next().await.is_ok_and(|event| event.is_some()) {} };
    tokio::time::timeout(std::time::Duration::from_secs(10), ended).await.unwrap();
}

#[tokio::test]
async fn after_a_compaction_an_old_watch_is_expired() {
    let cluster = cluster(1, json!([]));
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&cluster));
    let version = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    maps.create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap()).await.unwrap();
    assert_eq!(control(&cluster, "POST", "/compact", json!({})).await.0, 204);
    let mut watch = maps.watch(&WatchParams::default().timeout(10), &version).await.unwrap().boxed();
    let Some(WatchEvent::Error(status)) = watch.try_next().await.unwrap() else { panic!("not expired") };
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
}

#[tokio::test]
async fn a_version_from_the_future_is_refused() {
    let cluster = cluster(1, json!([]));
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&cluster));
    let future = ListParams { resource_version: Some("99999999".to_owned()), ..ListParams::default() };
    let Err(kube::Error::Api(status)) = maps.list(&future).await else { panic!("not refused") };
    assert_eq!((status.code, status.reason.as_str()), (504, "Timeout"));
}

#[tokio::test]
async fn a_clock_that_is_off_shows_in_the_date() {
    let cluster = cluster(1, json!([]));
    control(&cluster, "PUT", "/faults", json!({"clockOffsetMs": 3_600_000})).await;
    let request = http::Request::get("/version").body(axum::body::Body::empty()).unwrap();
    let response = cluster.service().call(request).await.unwrap();
    let date = response.headers()["date"].to_str().unwrap();
    let shown = jiff::fmt::rfc2822::parse(date).unwrap().timestamp().as_second();
    let offset = shown - jiff::Timestamp::now().as_second();
    assert!((3_590..=3_610).contains(&offset), "{date}");
}

#[tokio::test]
async fn every_change_is_in_the_audit_log() {
    let cluster = cluster(2, json!([]));
    let start: Value = serde_json::from_str(&control(&cluster, "GET", "/summary", json!({})).await.1).unwrap();
    let start = start["resourceVersion"].as_u64().unwrap();
    apply(&cluster, deployment("web", 3, "web:v1", 1)).await;
    object(&cluster, "deployments.apps", "web", |found| found["status"]["availableReplicas"] == 3).await;
    let namespaces: Api<Namespace> = Api::all(client(&cluster));
    namespaces
        .create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": "short"}})).unwrap())
        .await
        .unwrap();
    namespaces.delete("short", &Default::default()).await.unwrap();
    eventually("the namespace to go", || cluster.object("namespaces", "", "short").is_none().then_some(())).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&cluster));
    let refused = serde_json::from_value(json!({"metadata": {"name": "NOT"}})).unwrap();
    maps.create(&PostParams::default(), &refused).await.unwrap_err();
    let (code, log) = control(&cluster, "GET", "/audit", json!({})).await;
    assert_eq!(code, 200);
    let entries: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let numbers: Vec<u64> = entries.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=entries.len() as u64).collect::<Vec<_>>());
    let logged: BTreeSet<u64> = entries
        .iter()
        .filter_map(|entry| entry["object"]["metadata"]["resourceVersion"].as_str()?.parse().ok())
        .filter(|version| *version > start)
        .collect();
    let newest = *logged.last().unwrap();
    // A removal by the last finalizer is one write and two versions: of the object without it, and of its absence.
    let missing: Vec<u64> =
        (start + 1..=newest).filter(|version| !logged.contains(version) && !logged.contains(&(version - 1))).collect();
    assert_eq!(missing, Vec::<u64>::new());
    let bad = entries.iter().find(|entry| entry["code"] == 422).unwrap();
    assert!(bad["message"].as_str().unwrap().contains("metadata.name") && bad["object"].is_null(), "{bad}");
    let applied = entries.iter().find(|entry| entry["verb"] == "apply").unwrap();
    assert_eq!((applied["fieldManager"].as_str(), applied["resource"].as_str()), (Some("test"), Some("deployments.apps")));
    let later = control(&cluster, "GET", "/audit?after=5&limit=2", json!({})).await.1;
    let later: Vec<u64> =
        later.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap()).collect();
    assert_eq!(later, [6, 7]);
}

#[tokio::test]
async fn the_identity_of_a_cluster_outlives_it() {
    let start = || SimCluster::start(ClusterConfig::named("edge-01"), Vec::new(), None).unwrap();
    let first = start();
    let uid = first.uid();
    first.stop().await;
    assert_eq!(start().uid(), uid);
    let mut other = ClusterConfig::named("edge-02");
    assert_ne!(SimCluster::start(other.clone(), Vec::new(), None).unwrap().uid(), uid);
    other.uid = Some("11111111-2222-4333-8444-555555555555".to_owned());
    assert_eq!(SimCluster::start(other, Vec::new(), None).unwrap().uid(), "11111111-2222-4333-8444-555555555555");
}

#[tokio::test]
async fn a_wrong_configuration_names_its_field() {
    for (text, field) in [
        ("clusters: [{name: UPPER}]", "clusters[0].name"),
        ("clusters: [{name: a}, {name: a}]", "clusters[1].name"),
        ("clusters: [{name: a, version: one}]", "clusters[0].version"),
        ("clusters: [{name: a, nodes: [{count: 1, cpu: much}]}]", "clusters[0].nodes[0].cpu"),
        ("clusters: []\nimages: [{match: a, errorRate: 2}]", "images[0].errorRate"),
    ] {
        assert_eq!(muster_simcluster::SimConfig::parse(text).unwrap_err().field, field, "{text}");
    }
    let unknown = muster_simcluster::SimConfig::parse("clusters: [{name: a, nodez: []}]").unwrap_err();
    assert!(unknown.problem.contains("nodez"), "{unknown}");
}

#[tokio::test]
async fn a_hundred_clusters_run_in_one_process() {
    let clusters: Vec<SimCluster> = (0..100)
        .map(|index| {
            let mut config = ClusterConfig::named(&format!("edge-{index}"));
            config.nodes = serde_json::from_value(json!([{"count": 1, "gpus": 1, "gpuModel": "A10"}])).unwrap();
            SimCluster::start(config, Vec::new(), None).unwrap()
        })
        .collect();
    for cluster in &clusters {
        apply(cluster, deployment("web", 1, "web:v1", 1)).await;
    }
    for cluster in &clusters {
        object(cluster, "deployments.apps", "web", |found| found["status"]["availableReplicas"] == 1).await;
    }
    let identities: BTreeSet<String> = clusters.iter().map(SimCluster::uid).collect();
    assert_eq!(identities.len(), 100);
}

#[tokio::test]
async fn an_ordinary_watcher_survives_what_happens_to_its_server() {
    let cluster = cluster(1, json!([]));
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&cluster));
    let make = async |name: &str| {
        let body = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        maps.create(&PostParams::default(), &body).await.unwrap();
    };
    make("first").await;
    for settings in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let (reader, writer) = reflector::store();
        let stream = reflector(writer, watcher(maps.clone(), settings)).default_backoff();
        let reading = tokio::spawn(stream.for_each(|_| std::future::ready(())));
        let knows = |name: &str| reader.state().iter().any(|map| map.metadata.name.as_deref() == Some(name));
        eventually("the first list", || knows("first").then_some(())).await;
        make("second").await;
        eventually("a change", || knows("second").then_some(())).await;
        // While the watch is down something changes, and the history that would have told it is gone.
        cluster.faults().pause(true);
        cluster.faults().cut_connections();
        cluster.faults().pause(false);
        maps.delete("second", &Default::default()).await.unwrap();
        cluster.compact();
        eventually("the removal it did not see", || (!knows("second")).then_some(())).await;
        reading.abort();
    }
}
