//! A simulated cluster, a ledger in a temporary folder and an engine between them.

use kube::Client;
use muster_agent::{
    cluster::Cluster,
    domain::{
        item::{Desired, ItemKey, Options},
        observation::{Observation, Phase},
    },
    lease::{Lease, SystemBootClock},
    ledger::Ledger,
    reconcile::{Engine, Reconciler, Settings},
};
use muster_core::{bundle, version::Version};
use muster_simcluster::{ClusterConfig, CrdPreset, ImageRule, SimCluster};
use muster_testkit::eventually;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Everything of one test.
pub struct World {
    pub sim: SimCluster,
    pub ledger: Ledger,
    pub reconciler: Reconciler,
    stop: DropGuard,
    engine: JoinHandle<()>,
    directory: tempfile::TempDir,
}

pub fn images(rules: Value) -> Vec<ImageRule> {
    serde_json::from_value(rules).expect("legal rules")
}

fn settings() -> Settings {
    Settings {
        drain: Duration::from_millis(200),
        resync: Duration::from_secs(2),
        retry: Duration::from_millis(50),
        retry_limit: Duration::from_millis(200),
        ..Settings::default()
    }
}

pub fn healing() -> Options {
    Options { self_heal: true, prune: true, ..Options::default() }
}

impl World {
    pub async fn start(rules: Value) -> Self {
        let mut config = ClusterConfig::named("edge-01");
        config.crds = vec![CrdPreset::Istio, CrdPreset::Volcano];
        config.nodes = vec![serde_json::from_value(json!({"count": 2, "gpus": 8, "gpuModel": "V100"})).expect("a node group")];
        let sim = SimCluster::start(config, images(rules), None).expect("the cluster starts");
        let directory = tempfile::tempdir().expect("a directory");
        let (ledger, reconciler, stop, engine) = run(&sim, directory.path());
        Self { sim, ledger, reconciler, stop: stop.drop_guard(), engine, directory }
    }

    /// Ends the agent in the middle of whatever it does, as SIGKILL would, and starts another on the same ledger.
    pub async fn crash(self) -> Self {
        let Self { sim, ledger, reconciler, stop, engine, directory } = self;
        engine.abort();
        // Aborted is what it was told to be.
        _ = engine.await;
        drop((stop, reconciler, ledger));
        let path = directory.path().to_owned();
        // A write to the disk that was under way ends first, as the kernel would end it.
        eventually("the ledger is free", async || Ledger::open(&path).ok()).await;
        let (ledger, reconciler, stop, engine) = run(&sim, directory.path());
        Self { sim, ledger, reconciler, stop: stop.drop_guard(), engine, directory }
    }

    /// Ends the agent in order and starts another on the same ledger.
    pub async fn restart(self) -> Self {
        let Self { sim, ledger, reconciler, stop, engine, directory } = self;
        drop(stop);
        engine.await.expect("the engine ends");
        drop(reconciler);
        drop(ledger);
        // The watchers hold the ledger no longer than their next event.
        let (ledger, reconciler, stop, engine) = run(&sim, directory.path());
        Self { sim, ledger, reconciler, stop: stop.drop_guard(), engine, directory }
    }

    /// Tells the agent what to hold, as the hub would.
    pub async fn desire(&self, key: &ItemKey, n: u64, manifests: &[Value], options: Options) {
        let (digest, packed) = bundle::encode(manifests).expect("small");
        self.ledger.put_bundle(digest.clone(), packed).await.expect("stored");
        let desired = Desired { key: key.clone(), generation: Version::new(1, n), bundle: Some(digest), options };
        self.ledger.update(move |state| state.take(vec![desired])).await.expect("taken");
        self.reconciler.dirty.mark(key.clone());
    }

    pub async fn withdraw(&self, key: &ItemKey, n: u64) {
        let desired = Desired { key: key.clone(), generation: Version::new(1, n), bundle: None, options: Options::default() };
        self.ledger.update(move |state| state.take(vec![desired])).await.expect("taken");
        self.reconciler.dirty.mark(key.clone());
    }

    /// The observations of an item so far, oldest first.
    pub fn said(&self, key: &ItemKey) -> Vec<Observation> {
        let all = self.ledger.unacknowledged(0, usize::MAX);
        all.into_iter().map(|queued| queued.observation).filter(|observation| observation.key == *key).collect()
    }

    pub fn last(&self, key: &ItemKey) -> Option<Observation> {
        self.said(key).pop()
    }

    /// Waits until the last word on an item is a phase at a generation.
    pub async fn until(&self, key: &ItemKey, n: u64, phase: Phase) -> Observation {
        let what = format!("{key} is {phase:?} at {n}");
        let last = || self.last(key).filter(|seen| seen.generation == Version::new(1, n) && seen.phase == phase);
        let waited = tokio::time::timeout(Duration::from_secs(20), eventually(&what, async || last())).await;
        waited.unwrap_or_else(|_| panic!("{what}; it said {:#?}", self.said(key)))
    }

    /// Writes as somebody at the cluster would.
    pub async fn edit(&self, api_version: &str, kind: &str, namespace: &str, name: &str, patch: Value) {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let object = muster_agent::domain::object::ObjectRef {
            group: group.into(),
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        };
        self.by_hand().merge(version, &object, &patch, "kubectl-edit").await.expect("edited");
    }

    /// The cluster as somebody else sees it.
    pub fn by_hand(&self) -> Cluster {
        Cluster::new(Client::new(self.sim.service(), "default"))
    }

    pub fn object(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.sim.object(resource, namespace, name)
    }

    /// Writes of the agent that the API server has answered so far, dry runs too.
    pub fn requests(&self) -> usize {
        let lines = self.sim.audit_lines(0, 100_000).expect("the log is read");
        lines.iter().filter(|line| line.contains("\"fieldManager\":\"muster-")).count()
    }

    /// The writes of the agent so far: (verb, resource, name), dry runs and refusals apart.
    pub fn writes(&self, manager: &str) -> Vec<(String, String, String)> {
        let lines = self.sim.audit_lines(0, 100_000).expect("the log is read");
        let entries = lines.iter().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
        let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        entries
            .filter(|entry| entry["dryRun"] != true && entry["code"].as_u64().is_some_and(|code| code < 300))
            .filter(|entry| text(entry, "fieldManager") == manager || (text(entry, "verb") == "delete" && manager.is_empty()))
            .map(|entry| (text(&entry, "verb"), text(&entry, "resource"), text(&entry, "name")))
            .collect()
    }
}

fn run(sim: &SimCluster, directory: &std::path::Path) -> (Ledger, Reconciler, CancellationToken, JoinHandle<()>) {
    let ledger = Ledger::open(directory).expect("the ledger opens");
    let cluster = Cluster::new(Client::new(sim.service(), "default"));
    let lease = Lease::new(Arc::new(SystemBootClock), ledger.state().lease.as_ref());
    let stop = CancellationToken::new();
    let reconciler = Reconciler::new(cluster, ledger.clone(), lease, settings(), stop.clone());
    let engine = tokio::spawn(Engine::new(reconciler.clone()).run(stop.clone()));
    (ledger, reconciler, stop, engine)
}

pub fn app() -> ItemKey {
    ItemKey::new("rollout", "applications/ml/resnet50")
}

pub fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "ml"}, "data": {"key": value}})
}

pub fn service() -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "resnet50", "namespace": "ml"},
        "spec": {"selector": {"app": "resnet50"}, "ports": [{"port": 80, "targetPort": 8080}]}})
}

/// A copy of the model server.
pub fn copy(version: &str, image: &str) -> Value {
    let labels = json!({"app": "resnet50", "version": version});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": format!("resnet50-{version}"), "namespace": "ml"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels}, "spec": {"containers": [{"name": "serve", "image": image}]}}}})
}

pub fn rule(versions: &[&str]) -> Value {
    let subsets: Vec<_> = versions.iter().map(|version| json!({"name": version, "labels": {"version": version}})).collect();
    json!({"apiVersion": "networking.istio.io/v1beta1", "kind": "DestinationRule", "metadata": {"name": "resnet50", "namespace": "ml"},
        "spec": {"host": "resnet50", "subsets": subsets}})
}

pub fn route(weights: &[(&str, u32)]) -> Value {
    let route: Vec<_> = weights
        .iter()
        .map(|(subset, weight)| json!({"destination": {"host": "resnet50", "subset": subset}, "weight": weight}))
        .collect();
    json!({"apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService", "metadata": {"name": "resnet50", "namespace": "ml"},
        "spec": {"hosts": ["resnet50.ml.svc.cluster.local"], "http": [{"route": route}]}})
}
