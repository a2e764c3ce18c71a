//! What a serving cluster holds, as a whole, while its users' routes carry one version after the other.
//!
//! The one thing to know: git holds one Deployment, a VirtualService that gives subset `v2` 90 and `v3` 10, and a
//! DestinationRule of these two. The snapshots are read from the cluster's API; the order in between from its audit log.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use muster_core::bundle::canonical;
use muster_integration_tests::audit::AuditLog;
use muster_integration_tests::cluster_api::is_rolled_out;
use muster_integration_tests::patience::look;
use muster_integration_tests::repository::Repository;
use muster_integration_tests::{Platform, Setup, eventually};
use muster_proto::rollout::v1 as rollout;
use rollout::release::State;
use serde_json::{Value, json};

use crate::common;

const CLUSTER: &str = "serve-online";
const IMAGE: &str = "registry.example.com/vision/detector";
const APPLICATION: &str = "namespaces/platform/applications/detector";
const ROUTES: &str = "virtualservices.networking.istio.io";
/// What the documents are made of, in the order of the snapshots.
const COLLECTIONS: [&str; 7] = [
    "/api/v1/namespaces/vision/configmaps",
    "/api/v1/namespaces/vision/services",
    "/apis/apps/v1/namespaces/vision/deployments",
    "/apis/policy/v1/namespaces/vision/poddisruptionbudgets",
    "/apis/autoscaling/v2/namespaces/vision/horizontalpodautoscalers",
    "/apis/networking.istio.io/v1beta1/namespaces/vision/destinationrules",
    "/apis/networking.istio.io/v1beta1/namespaces/vision/virtualservices",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_users_routes_through_a_release() -> Result<()> {
    let story = Story::begin().await?;

    story.promote(1).await?;
    story.serves(&[("v2", 100), ("v3", 0)], &["v2"]).await?;
    insta::assert_snapshot!("1_the_first_deployment", story.objects().await?);

    story.commit("v3").await?;
    story.serves(&[("v2", 90), ("v3", 10)], &["v2", "v3"]).await?;
    insta::assert_snapshot!("2_ten_percent", story.objects().await?);

    story.promote(2).await?;
    story.serves(&[("v2", 0), ("v3", 100)], &["v2", "v3"]).await?;
    insta::assert_snapshot!("3_all_of_it", story.objects().await?);

    story.promote(3).await?;
    story.serves(&[("v2", 0), ("v3", 100)], &["v3"]).await?;
    insta::assert_snapshot!("4_the_old_copy_is_removed", story.objects().await?);

    let back = rollout::RollbackApplicationRequest { name: APPLICATION.to_owned(), ..Default::default() };
    story.platform.clients()?.releases().rollback_application(back).await?;
    story.serves(&[("v2", 100), ("v3", 0)], &["v2"]).await?;
    insta::assert_snapshot!("5_a_rollback_after_the_removal", story.objects().await?);

    // The revert of v3 is in git by itself; the fourth version comes on top of it.
    eventually("the revert is in git", async || {
        let log = story.repository.log().await?;
        Ok(look(log[0].title.starts_with("Revert "), (), || format!("{:?}", log[0].title)))
    })
    .await?;
    story.commit("v4").await?;
    story.serves(&[("v2", 90), ("v3", 0), ("v4", 10)], &["v2", "v4"]).await?;
    insta::assert_snapshot!("6_a_fourth_version", story.objects().await?);

    let pods_of_v2 = pods_made(&story.audit()?, "v2")?;
    let newest = story.newest().await?;
    let abort = rollout::AbortReleaseRequest { name: newest.name, ..Default::default() };
    story.platform.clients()?.releases().abort_release(abort).await?;
    story.serves(&[("v2", 100), ("v3", 0)], &["v2"]).await?;
    insta::assert_snapshot!("7_a_rollback_before_the_removal", story.objects().await?);
    assert_eq!(pods_made(&story.audit()?, "v2")?, pods_of_v2, "going back to a copy that runs makes no pod");

    weights_always_lead_to_ready_pods(&story.audit()?)
}

struct Story {
    platform: Platform,
    repository: Repository,
}

impl Story {
    async fn begin() -> Result<Self> {
        let mut platform = Platform::start(Setup::for_tests(
            env!("CARGO_BIN_EXE_leash"),
            json!({
                "clusters": [{
                    "name": CLUSTER,
                    "nodes": [{"count": 2, "gpuModel": "A10", "gpus": 4, "cpu": "64", "memory": "256Gi"}],
                    "crds": ["istio"],
                }],
                "images": [{"match": format!("{IMAGE}:*"), "readyAfterMs": 200}],
            }),
        )?)
        .await?;
        common::join(&mut platform, CLUSTER, false).await?;
        let repository = Repository::create(&platform.folder().join("git"), &tree()).await?;
        let folder = platform.folder().join("documents");
        std::fs::create_dir(&folder)?;
        std::fs::write(folder.join("fleet.yaml"), FLEET)?;
        std::fs::write(folder.join("repository.yaml"), REPOSITORY.replace("URL", &repository.url()))?;
        std::fs::write(folder.join("application.yaml"), FLEET_APPLICATION)?;
        let folder = folder.to_str().context("the folder's name")?;
        platform.muster().succeed(&["apply", "-f", folder]).await?;
        Ok(Self { platform, repository })
    }

    /// Commits a version, as a person would.
    async fn commit(&self, version: &str) -> Result<()> {
        self.repository.commit(&format!("Serve {version}"), &model(version)).await?;
        let fetch = rollout::FetchGitRepositoryRequest { name: "namespaces/platform/gitRepositories/vision".to_owned() };
        self.platform.clients()?.repositories().fetch_git_repository(fetch).await?;
        Ok(())
    }

    async fn newest(&self) -> Result<rollout::Release> {
        let request = rollout::ListReleasesRequest { parent: APPLICATION.to_owned(), page_size: 1, ..Default::default() };
        let listed = self.platform.clients()?.releases().list_releases(request).await?.into_inner();
        listed.releases.into_iter().next().context("no release yet")
    }

    /// Ends the soak that the newest release is in, which would be an hour. `times` is how often that was done so far.
    async fn promote(&self, times: u32) -> Result<()> {
        let release = eventually(&format!("a release soaks, for the {times}. time"), async || {
            let release = self.newest().await?;
            let soaks = release.state() == State::Progressing && release.reason.contains("soaks");
            Ok(look(soaks, release.clone(), || format!("{:?}: {}", release.state(), release.reason)))
        })
        .await?;
        let promote = rollout::PromoteReleaseRequest { name: release.name, ..Default::default() };
        self.platform.clients()?.releases().promote_release(promote).await?;
        Ok(())
    }

    /// Waits until the routes have these weights, and ready copies of exactly these versions run, each with its ConfigMap.
    async fn serves(&self, weights: &[(&str, i64)], versions: &[&str]) -> Result<()> {
        let wanted: Vec<(String, i64)> = weights.iter().map(|(subset, weight)| ((*subset).to_owned(), *weight)).collect();
        eventually(&format!("{CLUSTER} serves {weights:?} with copies of {versions:?}"), async || {
            let api = &self.platform.cluster(CLUSTER)?.api;
            let route = api.list(COLLECTIONS[6]).await?.into_iter().next().context("no routes yet")?;
            let deployments = api.list(COLLECTIONS[2]).await?;
            let copies: BTreeSet<&str> = deployments
                .iter()
                .filter_map(|copy| copy["spec"]["template"]["metadata"]["labels"]["version"].as_str())
                .collect();
            let maps = api.list(COLLECTIONS[0]).await?;
            let maps = maps.iter().filter(|map| map["metadata"]["labels"]["muster.dev/owner"] == "rollout").count();
            let pods = api.list("/api/v1/namespaces/vision/pods").await?;
            let running: BTreeSet<&str> = pods.iter().filter_map(|pod| pod["metadata"]["labels"]["version"].as_str()).collect();
            let expected: BTreeSet<&str> = versions.iter().copied().collect();
            let settled = deployments.iter().all(is_rolled_out) && self.is_at_rest().await?;
            let runs = copies == expected && running == expected && maps == expected.len();
            let is = self::weights(&route) == wanted && runs && settled;
            Ok(look(is, (), || format!("{:?}, copies {copies:?}, pods {running:?}, {maps} ConfigMaps", self::weights(&route))))
        })
        .await
    }

    /// Whether the application's targets are what the present release wants of them now.
    async fn is_at_rest(&self) -> Result<bool> {
        let release = self.newest().await?;
        Ok(match release.state() {
            State::Progressing => release.reason.contains("soaks"),
            State::Completed | State::Failed => true,
            _ => false,
        })
    }

    fn audit(&self) -> Result<AuditLog> {
        Ok(self.platform.cluster(CLUSTER)?.audit.clone())
    }

    /// Every object that the documents are made of, without what differs from run to run.
    async fn objects(&self) -> Result<String> {
        let api = &self.platform.cluster(CLUSTER)?.api;
        let mut text = String::new();
        for collection in COLLECTIONS {
            let mut objects = api.list(collection).await?;
            objects.sort_by_key(|object| object["metadata"]["name"].as_str().unwrap_or_default().to_owned());
            for mut object in objects {
                settle(&mut object);
                let kind = collection.rsplit('/').next().unwrap_or_default();
                // In the order of the alphabet: a server may keep fields in any.
                let sorted: Value = serde_json::from_slice(&canonical(&object))?;
                text.push_str(&format!("--- {kind}\n{}\n", serde_json::to_string_pretty(&sorted)?));
            }
        }
        Ok(text)
    }
}

/// Leaves out what the API server and its controllers write, and what caused it.
fn settle(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else { return };
    fields.remove("status");
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        for volatile in ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"] {
            metadata.remove(volatile);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove("muster.dev/traceparent");
        }
    }
}

/// Subset and weight of every destination of a VirtualService's first rule.
fn weights(route: &Value) -> Vec<(String, i64)> {
    let destinations = route["spec"]["http"][0]["route"].as_array();
    destinations
        .into_iter()
        .flatten()
        .map(|one| (one["destination"]["subset"].as_str().unwrap_or_default().to_owned(), one["weight"].as_i64().unwrap_or(100)))
        .collect()
}

/// Pods of a version that were ever made.
fn pods_made(audit: &AuditLog, version: &str) -> Result<usize> {
    let made = |write: &&muster_integration_tests::audit::Write| {
        write.resource == "pods"
            && write.verb == "create"
            && write.subresource.is_empty()
            && write.label("version") == Some(version)
    };
    Ok(audit.writes()?.iter().filter(made).count())
}

/// At every write of the routes: weights total 100, and a subset that has some selects ready pods, as many as the copy wants.
fn weights_always_lead_to_ready_pods(audit: &AuditLog) -> Result<()> {
    let mut pods: BTreeMap<String, (Value, bool)> = BTreeMap::new();
    let mut subsets: BTreeMap<String, Value> = BTreeMap::new();
    let mut routed = 0;
    for write in audit.writes()? {
        let Some(object) = &write.object else { continue };
        if write.resource == "pods" && write.removed {
            pods.remove(&write.name);
        } else if write.resource == "pods" {
            pods.insert(write.name.clone(), (object["metadata"]["labels"].clone(), is_ready(object)));
        } else if write.resource.starts_with("destinationrules.") {
            for subset in object["spec"]["subsets"].as_array().into_iter().flatten() {
                subsets.insert(subset["name"].as_str().unwrap_or_default().to_owned(), subset["labels"].clone());
            }
        } else if write.resource == ROUTES && !write.removed {
            let weights = weights(object);
            assert_eq!(weights.iter().map(|(_, weight)| weight).sum::<i64>(), 100, "{weights:?}");
            for (subset, _) in weights.iter().filter(|(_, weight)| *weight > 0) {
                let wanted = subsets[subset].as_object().context("labels of a subset")?;
                let ready =
                    pods.values().filter(|(labels, ready)| *ready && wanted.iter().all(|(key, value)| &labels[key] == value));
                assert_eq!(ready.count(), 2, "{subset} has weight at write {} of {weights:?}", write.seq);
            }
            routed += 1;
        }
    }
    assert!(routed >= 6, "the routes were written {routed} times only");
    Ok(())
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    pod["metadata"]["deletionTimestamp"].is_null()
        && conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

const FLEET: &str = "apiVersion: fleet.kurator.dev/v1alpha1
kind: Fleet
metadata: { name: serving, namespace: platform }
spec:
  clusters:
    - name: serve-online
";

const REPOSITORY: &str = "apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: { name: vision, namespace: platform }
spec:
  interval: 1h
  url: URL
  ref: { branch: main }
";

const FLEET_APPLICATION: &str = "apiVersion: fleet.kurator.dev/v1alpha1
kind: FleetApplication
metadata: { name: detector, namespace: platform }
spec:
  fleetRef: { name: serving }
  gitRepositoryRef: { name: vision }
  targets:
    - cluster: serve-online
      path: ./serving/detector/overlays/serve-online
  syncPolicy:
    automated: { prune: true, selfHeal: true }
  rollout:
    waves:
      - clusters: [serve-online]
        weights: [10, 100]
    minSuccessTime: 1h
    keepStableFor: 1s
";

/// A version of the model, with the files that name it.
fn model(version: &str) -> Vec<(String, String)> {
    let digit = version.trim_start_matches('v').repeat(64);
    let component = format!(
        "apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
configMapGenerator:
  - name: detector-model
    files: [version.yaml, artifact-uri.txt]
images:
  - name: {IMAGE}
    newTag: {version}
"
    );
    [
        ("models/detector/version.yaml", format!("version: {version}\ndigest: sha256:{digit}\n")),
        ("models/detector/artifact-uri.txt", format!("s3://models/detector/{version}/model.onnx\n")),
        ("models/detector/kustomization.yaml", component),
    ]
    .map(|(path, text)| (path.to_owned(), text))
    .to_vec()
}

fn tree() -> Vec<(String, String)> {
    let mut tree = model("v2");
    let serving = [
        (
            "serving/detector/base/kustomization.yaml",
            "namespace: vision\nresources: [deployment.yaml, service.yaml]\ncomponents: [../../../models/detector]\n".to_owned(),
        ),
        (
            "serving/detector/base/deployment.yaml",
            format!(
                "apiVersion: apps/v1
kind: Deployment
metadata: {{ name: detector }}
spec:
  replicas: 2
  selector: {{ matchLabels: {{ app: detector }} }}
  template:
    metadata: {{ labels: {{ app: detector }} }}
    spec:
      containers:
        - name: server
          image: {IMAGE}
          ports: [{{ name: http, containerPort: 8080 }}]
          env:
            - name: MODEL_URI
              valueFrom: {{ configMapKeyRef: {{ name: detector-model, key: artifact-uri.txt }} }}
          resources:
            requests: {{ nvidia.com/gpu: \"1\", cpu: \"4\", memory: 16Gi }}
            limits: {{ nvidia.com/gpu: \"1\", cpu: \"4\", memory: 16Gi }}
"
            ),
        ),
        (
            "serving/detector/base/service.yaml",
            "apiVersion: v1
kind: Service
metadata: { name: detector }
spec:
  selector: { app: detector }
  ports: [{ name: http, port: 80, targetPort: http }]
"
            .to_owned(),
        ),
        (
            "serving/detector/overlays/serve-online/kustomization.yaml",
            "resources: [../../base, virtualservice.yaml, destinationrule.yaml]\n".to_owned(),
        ),
        (
            "serving/detector/overlays/serve-online/destinationrule.yaml",
            "apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: { name: detector, namespace: vision }
spec:
  host: detector
  subsets:
    - name: v2
      labels: { version: v2 }
    - name: v3
      labels: { version: v3 }
"
            .to_owned(),
        ),
        (
            "serving/detector/overlays/serve-online/virtualservice.yaml",
            "apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: { name: detector, namespace: vision }
spec:
  hosts: [detector.vision.svc.cluster.local]
  http:
    - route:
        - destination: { host: detector, subset: v2 }
          weight: 90
        - destination: { host: detector, subset: v3 }
          weight: 10
"
            .to_owned(),
        ),
    ];
    tree.extend(serving.map(|(path, text)| (path.to_owned(), text)));
    tree
}
