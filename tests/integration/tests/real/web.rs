//! A web service with routes by version, as its team keeps it in git, and what a real cluster holds of it at every instant.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use kube::api::{ApiResource, DynamicObject, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use muster_integration_tests::main_job::scene::Scene;
use muster_integration_tests::main_job::simulation::TRAIN_CLOUD;
use muster_integration_tests::platform::Cluster;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::release;

/// The part of the application that the stories add: first a tenth of the requests, then all.
pub const ROLLOUT: &str = "  rollout:
    waves:
      - clusters: [train-cloud]
        weights: [10, 100]
    minSuccessTime: 2s
    progressDeadline: 60s
    keepStableFor: 1s
";

/// What git holds at a version: one Deployment, its Service, a rule of subsets and a route to the version.
pub fn manifests(name: &str, version: &str) -> Vec<Value> {
    let labels = json!({"app": name, "version": version});
    vec![
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "lab"},
            "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "lab"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "web", "image": format!("registry.example.com/lab/web:{version}")}]}}}}),
        json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": name, "namespace": "lab"},
            "spec": {"host": name, "subsets": [{"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}}]}}),
        json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": name, "namespace": "lab"},
            "spec": {"hosts": [name], "http": [{"route": [
                {"destination": {"host": name, "subset": "v1"}, "weight": 90},
                {"destination": {"host": name, "subset": "v2"}, "weight": 10}]}]}}),
    ]
}

/// Where the live route stands.
pub fn route(name: &str) -> String {
    format!("/apis/networking.istio.io/v1/namespaces/lab/virtualservices/{name}")
}

/// The first version, released.
pub async fn first(scene: &Scene, name: &str) -> Result<()> {
    let commit = release::commit(scene, name, &manifests(name, "v1")).await?;
    release::application(scene, name, TRAIN_CLOUD, ROLLOUT).await?;
    release::healthy_at(scene, name, &commit).await
}

/// Weights by subset, in the order of the route.
pub type Weights = Vec<(String, i64)>;

/// Weights of a live route.
pub fn weights(route: &Value) -> Weights {
    let entries = route["spec"]["http"][0]["route"].as_array().into_iter().flatten();
    let weight = |entry: &Value| entry["weight"].as_i64().unwrap_or(0);
    entries.map(|entry| (entry["destination"]["subset"].as_str().unwrap_or_default().to_owned(), weight(entry))).collect()
}

/// Somebody who watches a route in its cluster, from the moment it is made until it is dropped.
pub struct Watcher {
    seen: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Begins.
    pub async fn of(cluster: &Cluster, name: &str) -> Result<Self> {
        let kubeconfig = Kubeconfig::read_from(&cluster.kubeconfig)?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let kind = ApiResource {
            group: "networking.istio.io".to_owned(),
            version: "v1".to_owned(),
            api_version: "networking.istio.io/v1".to_owned(),
            kind: "VirtualService".to_owned(),
            plural: "virtualservices".to_owned(),
        };
        let routes: kube::Api<DynamicObject> = kube::Api::namespaced_with(kube::Client::try_from(config)?, "lab", &kind);
        let now = routes.get(name).await.context("the route")?;
        let from = now.metadata.resource_version.clone().context("its version")?;
        let seen = Arc::new(Mutex::new(vec![serde_json::to_value(now)?]));
        let params = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(290);
        let mut events = routes.watch(&params, &from).await?.boxed();
        let into = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Some(Ok(event)) = events.next().await {
                if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event
                    && let Ok(object) = serde_json::to_value(object)
                {
                    into.lock().unwrap_or_else(PoisonError::into_inner).push(object);
                }
            }
        });
        Ok(Self { seen, task })
    }

    /// The weights at every instant so far; the watch must not have ended.
    pub fn weights(&self) -> Result<Vec<Weights>> {
        ensure!(!self.task.is_finished(), "the watch has ended");
        Ok(self.seen.lock().unwrap_or_else(PoisonError::into_inner).iter().map(weights).collect())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Muster's own writes always total 100. What somebody else wrote in between is theirs.
pub fn all_total_100(seen: &[Weights], foreign: &[Weights]) -> Result<()> {
    for weights in seen.iter().filter(|weights| !foreign.contains(weights)) {
        let total: i64 = weights.iter().map(|(_, weight)| weight).sum();
        ensure!(total == 100, "the weights total {total}: {weights:?} in {seen:?}");
    }
    Ok(())
}
