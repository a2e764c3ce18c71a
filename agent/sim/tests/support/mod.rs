//! What the tests of the simulator share: a cluster, a client, and waiting for a condition.

use kube::{
    Client,
    api::{Api, ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use muster_simcluster::{ClusterConfig, CrdPreset, ImageRule, SimCluster};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A cluster of nodes of eight GPUs, everything in it quick.
pub fn cluster(nodes: u32, images: Value) -> SimCluster {
    let mut config = ClusterConfig::named("test");
    config.nodes =
        serde_json::from_value(json!([{"count": nodes, "prefix": "node", "gpus": 8, "gpuModel": "V100", "cpu": "64"}])).unwrap();
    config.crds = vec![CrdPreset::Volcano, CrdPreset::Istio];
    config.delays.start_ms = 10;
    config.delays.terminate_ms = 10;
    config.delays.restart_ms = 20;
    config.delays.job_run_ms = 100;
    config.delays.scrape_ms = 50;
    config.delays.cron_minute_ms = 1_000;
    config.requests_per_second = 200.0;
    let images: Vec<ImageRule> = serde_json::from_value(images).unwrap();
    SimCluster::start(config, images, None).unwrap()
}

/// An ordinary client of it.
pub fn client(cluster: &SimCluster) -> Client {
    Client::new(cluster.service(), "default")
}

/// Applies an object, whatever its kind.
pub async fn apply(cluster: &SimCluster, object: Value) -> Value {
    let (group, version) =
        object["apiVersion"].as_str().unwrap().split_once('/').unwrap_or(("", object["apiVersion"].as_str().unwrap()));
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap()));
    let api: Api<DynamicObject> = Api::default_namespaced_with(client(cluster), &kind);
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let applied = api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&object)).await.unwrap();
    serde_json::to_value(applied).unwrap()
}

/// Waits until `probe` answers something; the message of the panic is `what`.
pub async fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{what} did not come true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The object of a kind in `default`, once it satisfies a condition.
pub async fn object(cluster: &SimCluster, resource: &str, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let what = format!("the condition on {resource}/{name}");
    eventually(&what, || cluster.object(resource, "default", name).filter(|object| holds(object)).map(|object| (*object).clone()))
        .await
}

/// A Deployment of one container that asks for some GPUs.
pub fn deployment(name: &str, replicas: u32, image: &str, gpus: u32) -> Value {
    let resources = if gpus == 0 { json!({}) } else { json!({"limits": {"nvidia.com/gpu": gpus}}) };
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": image, "resources": resources}]},
            },
        },
    })
}
