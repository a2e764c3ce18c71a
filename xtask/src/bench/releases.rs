//! From a commit to health, from an event to the canary, from a rollback's decision to everywhere.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::Timestamp;
use muster_integration_tests::cluster_api::is_rolled_out;
use muster_integration_tests::patience::{Look, look};
use muster_integration_tests::repository::Repository;
use muster_integration_tests::{Platform, Setup, eventually_within};
use muster_proto::event::v1::TrainingComplete;
use muster_proto::rollout::v1 as rollout;
use serde_json::{Value, json};

use super::figure::{Figure, millis};
use super::{join, machine};
use crate::demo::layout;

/// What is released.
pub const IMAGE: &str = "registry.example.com/ml/resnet50-server";
/// What runs it in a cluster.
pub const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/ml/deployments/resnet50";
const APPLICATION: &str = "namespaces/default/applications/bench";
const WITHIN: Duration = Duration::from_secs(300);

/// The clusters.
pub fn names(size: u32) -> Vec<String> {
    (0..size).map(|number| format!("edge-{number:03}")).collect()
}

/// Edges of one node.
pub fn simulation(size: u32) -> Value {
    let clusters: Vec<Value> = names(size)
        .iter()
        .map(|name| json!({"name": name, "nodes": [{"count": 1, "gpuModel": "T4", "gpus": 2}], "requestsPerSecond": 1.0}))
        .collect();
    json!({"clusters": clusters})
}

pub async fn measure(setup: Setup, size: u32) -> Result<Vec<Figure>> {
    eprintln!("{size} clusters");
    let mut platform = Platform::start(setup).await?;
    let names = names(size);
    join(&mut platform, &names, "edge").await?;
    let repository = Repository::create(&platform.folder().join("git"), &tree("v1")).await?;
    apply(&platform, &repository, "").await?;
    serve(&platform, &names, "v1").await?;
    settled(&platform).await?;

    let began = Instant::now();
    repository.commit("v2 by hand", &layout::model_of(IMAGE, "v2")).await?;
    serve(&platform, &names, "v2").await?;
    let commit = began.elapsed();
    settled(&platform).await?;

    apply(&platform, &repository, &canary_first(&names[0])).await?;
    let asked = Timestamp::now();
    let event = TrainingComplete {
        model: "resnet50".to_owned(),
        version: "v3".to_owned(),
        digest: layout::digest("v3"),
        uri: layout::artifact("v3"),
        completed_at: Some(muster_proto::Timestamp { seconds: asked.as_second(), nanos: asked.subsec_nanosecond() }),
        image: "v3".to_owned(),
        ..Default::default()
    };
    let request = rollout::ReportTrainingCompleteRequest { event: Some(event), ..Default::default() };
    platform.clients()?.models().report_training_complete(request).await?;
    serve(&platform, &names, "v3").await?;
    let canary = told(&platform, &names[0], "v3", asked)?;
    settled(&platform).await?;

    let asked = Timestamp::now();
    let request = rollout::RollbackApplicationRequest { name: APPLICATION.to_owned(), ..Default::default() };
    platform.clients()?.releases().rollback_application(request).await?;
    serve(&platform, &names, "v2").await?;
    let mut back: f64 = 0.0;
    for name in &names {
        back = back.max(told(&platform, name, "v2", asked)?);
    }
    let mut figures = vec![
        millis(format!("commit pushed → healthy on {size} clusters"), commit.as_secs_f64()),
        millis(format!("training-complete event → canary applied, of {size} clusters"), canary),
        millis(format!("rollback asked → applied on {size} clusters"), back),
    ];
    figures.extend(machine::memory(&mut platform, &format!("{size} clusters"))?);
    Ok(figures)
}

/// Applies the application with this `rollout` block, and what it needs.
pub async fn apply(platform: &Platform, repository: &Repository, rollout: &str) -> Result<()> {
    let folder = platform.folder().join("documents");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("all.yaml"), documents(&repository.url()) + &application(rollout))?;
    platform.muster().succeed(&["apply", "-f", folder.to_str().context("a readable name")?]).await?;
    Ok(())
}

/// Seconds from `since` until a cluster was told to run a version.
fn told(platform: &Platform, cluster: &str, version: &str, since: Timestamp) -> Result<f64> {
    let image = format!("{IMAGE}:{version}");
    let writes = platform.cluster(cluster)?.audit.writes()?;
    let write = writes
        .iter()
        .filter(|write| write.time >= since && write.resource == "deployments.apps" && write.subresource.is_empty())
        .find(|write| {
            let image_there = write.object.as_ref().and_then(|object| object.pointer("/spec/template/spec/containers/0/image"));
            image_there.is_some_and(|there| there == &json!(image))
        })
        .with_context(|| format!("{cluster} was not told of {version}"))?;
    Ok(write.time.duration_since(since).as_secs_f64())
}

/// Returns when every cluster has rolled a version out.
pub async fn serve(platform: &Platform, names: &[String], version: &str) -> Result<()> {
    let image = json!(format!("{IMAGE}:{version}"));
    for name in names {
        let api = &platform.cluster(name)?.api;
        eventually_within(WITHIN, &format!("{name} serves {version}"), async || {
            let Some(found) = api.find(DEPLOYMENT).await? else {
                return Ok(Look::NotYet("no Deployment".to_owned()));
            };
            let right = found.pointer("/spec/template/spec/containers/0/image") == Some(&image);
            Ok(look(right && is_rolled_out(&found), (), || found["status"].to_string()))
        })
        .await?;
    }
    Ok(())
}

/// Returns when no release is on its way.
pub async fn settled(platform: &Platform) -> Result<()> {
    eventually_within(WITHIN, "the release is complete", async || {
        let request = rollout::ListReleasesRequest { parent: APPLICATION.to_owned(), ..Default::default() };
        let releases = platform.clients()?.releases().list_releases(request).await?.into_inner().releases;
        let newest = releases.first().context("a release")?;
        Ok(look(newest.state() == rollout::release::State::Completed, (), || format!("{:?} {}", newest.state(), newest.reason)))
    })
    .await
}

/// The repository's files.
pub fn tree(version: &str) -> Vec<(String, String)> {
    let mut files = layout::model_of(IMAGE, version);
    files.extend(layout::base_of(IMAGE));
    files.push((
        "serving/resnet50/overlays/edge/kustomization.yaml".to_owned(),
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n  - ../../base\nreplicas:\n  - name: resnet50\n    count: 1\n".to_owned(),
    ));
    files
}

fn documents(url: &str) -> String {
    format!(
        "apiVersion: muster.dev/v1
kind: Fleet
metadata: {{name: edges}}
spec:
  selector:
    matchLabels: {{tier: edge}}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {{name: bench}}
spec:
  interval: 1s
  url: {url}
  ref: {{branch: main}}
---
apiVersion: muster.dev/v1
kind: Model
metadata: {{name: resnet50}}
spec:
  gitRepositoryRef: {{name: bench, namespace: default}}
  path: models/resnet50
  trust:
    subjects: [bootstrap-admin]
---
"
    )
}

/// The application; without waves it goes to every cluster at once.
fn application(rollout: &str) -> String {
    format!(
        "apiVersion: muster.dev/v1
kind: Application
metadata: {{name: bench}}
spec:
  fleetRef: {{name: edges}}
  gitRepositoryRef: {{name: bench}}
  targets:
    - fleet: edges
      path: ./serving/resnet50/overlays/edge
  syncPolicy:
    automated: {{prune: true, selfHeal: true}}
{rollout}"
    )
}

/// One cluster before the others.
fn canary_first(canary: &str) -> String {
    format!("  rollout:\n    waves:\n      - clusters: [{canary}]\n      - fleet: edges\n    minSuccessTime: 1s\n")
}
