//! What several steps ask about releases: their state, and what the clusters' audit logs say of them.

use crate::audit::Write;
use crate::patience::{Look, look};
use crate::{eventually, eventually_within};
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use muster_proto::event::v1::TrainingComplete;
use muster_proto::rollout::v1 as rollout;
use rollout::release::State;
use serde_json::{Value, json};
use std::time::Duration;

use super::layout;
use super::scene::{APPLICATION, Scene, request_id};
use super::simulation::SERVER;

/// A release with its waves and soaks.
pub const RELEASE_WITHIN: Duration = Duration::from_secs(180);

/// The topic that pipelines publish to.
pub const EVENTS: &str = "mlops.events";
/// The type of a training-complete event.
pub const TRAINING_COMPLETE: &str = "dev.muster.model.training.completed.v1";
/// The pipeline that the model trusts.
pub const PIPELINE: &str = "/pipelines/demo";

/// The event of a training that made this version.
pub fn training(version: &str) -> TrainingComplete {
    let now = Timestamp::now();
    TrainingComplete {
        model: "resnet50".to_owned(),
        version: version.to_owned(),
        digest: layout::digest(version),
        uri: layout::artifact(version),
        completed_at: Some(muster_proto::Timestamp { seconds: now.as_second(), nanos: now.subsec_nanosecond() }),
        image: version.to_owned(),
        ..Default::default()
    }
}

/// Reports a training over gRPC.
pub async fn report(scene: &Scene, event: TrainingComplete) -> Result<rollout::ModelVersion> {
    let request = rollout::ReportTrainingCompleteRequest { event: Some(event), request_id: request_id() };
    Ok(scene.clients()?.models().report_training_complete(request).await?.into_inner())
}

/// All releases of the application, newest first.
pub async fn list(scene: &Scene) -> Result<Vec<rollout::Release>> {
    let request = rollout::ListReleasesRequest { parent: APPLICATION.to_owned(), page_size: 1_000, ..Default::default() };
    let releases = scene.clients()?.releases().list_releases(request).await?;
    Ok(releases.into_inner().releases)
}

/// The releases that bring a version of the model.
pub async fn of_version(scene: &Scene, version: &str) -> Result<Vec<rollout::Release>> {
    let name = format!("models/resnet50/versions/{version}");
    let mut releases = list(scene).await?;
    releases.retain(|release| release.model_version == name);
    Ok(releases)
}

/// Waits until the one release of a version is in a state, and answers it.
pub async fn reaches(scene: &Scene, version: &str, state: State) -> Result<rollout::Release> {
    let what = format!("the release of {version} is {state:?}");
    eventually_within(RELEASE_WITHIN, &what, async || {
        let releases = of_version(scene, version).await?;
        let release = releases.first().with_context(|| format!("no release brings {version}"))?;
        let over = matches!(release.state(), State::Completed | State::Failed | State::Superseded | State::Refused);
        Ok(match (release.state() == state, over) {
            (true, _) => Look::Is(release.clone()),
            (false, true) => Look::Never(describe(release)),
            (false, false) => Look::NotYet(describe(release)),
        })
    })
    .await
}

/// Reports a bad version, and answers its release once it has failed in a wave and `good` is served everywhere again. With
/// the step's cause broken the version is a good one.
pub async fn is_turned_back(scene: &mut Scene, version: &str, wave: u32, good: &str) -> Result<rollout::Release> {
    if scene.is_broken() {
        scene.behaves(json!({"match": image(version), "errorRate": 0.0})).await?;
    }
    report(scene, training(version)).await?;
    let release = reaches(scene, version, State::Failed).await?;
    ensure!(release.wave == wave, "it failed in wave {}, not in {wave}", release.wave);
    for cluster in scene.serving() {
        serves_only(scene, cluster, good).await?;
    }
    Ok(release)
}

/// One line about a release.
pub fn describe(release: &rollout::Release) -> String {
    let targets: Vec<String> =
        release.targets.iter().map(|target| format!("{} {:?} {}", target.cluster, target.state(), target.reason)).collect();
    format!(
        "{} {:?} wave {} of {}: {}; {}",
        release.name,
        release.state(),
        release.wave,
        release.wave_count,
        release.reason,
        targets.join(", ")
    )
}

/// A target's status in a release.
pub fn target<'a>(release: &'a rollout::Release, cluster: &str) -> Result<&'a rollout::TargetStatus> {
    let name = format!("clusters/{cluster}");
    release
        .targets
        .iter()
        .find(|target| target.cluster == name)
        .with_context(|| format!("{} has no target {cluster}", release.name))
}

/// The image of a version.
pub fn image(version: &str) -> String {
    format!("{SERVER}:{version}")
}

/// When a cluster was first told to run a version; `None` if never.
pub fn first_told(scene: &Scene, cluster: &str, version: &str) -> Result<Option<Timestamp>> {
    let image = image(version);
    let writes = scene.platform.cluster(cluster)?.audit.writes()?;
    Ok(writes.iter().find(|write| write.resource == "deployments.apps" && runs(write, &image)).map(|write| write.time))
}

fn runs(write: &Write, image: &str) -> bool {
    let containers =
        write.object.as_ref().and_then(|object| object.pointer("/spec/template/spec/containers")).and_then(Value::as_array);
    containers.is_some_and(|containers| containers.iter().any(|container| container["image"] == image))
}

/// Waits until a version and no other serves in a cluster, with every pod ready.
pub async fn serves_only(scene: &Scene, cluster: &str, version: &str) -> Result<()> {
    let api = &scene.platform.cluster(cluster)?.api;
    let image = image(version);
    eventually(&format!("{cluster} serves {version} alone"), async || {
        let pods = api.list("/api/v1/namespaces/ml/pods?labelSelector=app%3Dresnet50").await?;
        let mut seen = Vec::new();
        let mut all = !pods.is_empty();
        for pod in &pods {
            let runs = pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
            let ready = is_ready(pod);
            all &= runs == image && ready;
            seen.push(format!("{runs}{}", if ready { "" } else { " not ready" }));
        }
        Ok(look(all, (), || seen.join(", ")))
    })
    .await
}

/// A version that was to be bad and was not is what serves from now on.
///
/// # Errors
/// It does not.
pub async fn took_over(scene: &mut Scene, version: &str) -> Result<()> {
    scene.serving = version.to_owned();
    for cluster in scene.serving() {
        serves_only(scene, cluster, version).await?;
    }
    Ok(())
}

/// Whether a pod is ready and not on its way out.
pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    pod["metadata"]["deletionTimestamp"].is_null()
        && conditions.is_some_and(|conditions| {
            conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        })
}

/// Nothing of a version ever reached a cluster.
pub fn never_reached(scene: &Scene, cluster: &str, version: &str) -> Result<()> {
    let seen = scene.platform.cluster(cluster)?.audit.mentions(&image(version))?;
    ensure!(!seen, "{cluster} was told of {version}");
    Ok(())
}

/// What a cluster's routes said over time, and which versions had ready pods then.
pub struct Routing {
    /// When it was written.
    pub time: Timestamp,
    /// Weight by the version that the subset selects.
    pub weights: Vec<(String, i64)>,
    /// Versions with ready pods at that moment.
    pub ready: Vec<String>,
}

/// Every write of the VirtualService that changed something, oldest first, with the pods as they were then.
pub fn routings(scene: &Scene, cluster: &str) -> Result<Vec<Routing>> {
    let writes = scene.platform.cluster(cluster)?.audit.writes()?;
    let mut pods: std::collections::BTreeMap<String, (String, bool)> = Default::default();
    let mut routings: Vec<Routing> = Vec::new();
    for write in &writes {
        let Some(object) = &write.object else { continue };
        if write.resource == "pods" && write.namespace == "ml" {
            let version =
                object["spec"]["containers"][0]["image"].as_str().and_then(|image| image.strip_prefix(&format!("{SERVER}:")));
            if let Some(version) = version {
                if write.removed {
                    pods.remove(&write.name);
                } else {
                    pods.insert(write.name.clone(), (version.to_owned(), is_ready(object)));
                }
            }
        }
        if write.resource.starts_with("virtualservices.") && write.name == "resnet50" && !write.removed {
            let weights = weights(object);
            if routings.last().is_some_and(|last| last.weights == weights) {
                continue;
            }
            let mut ready: Vec<String> = pods.values().filter(|(_, ready)| *ready).map(|(version, _)| version.clone()).collect();
            ready.sort();
            ready.dedup();
            routings.push(Routing { time: write.time, weights, ready });
        }
    }
    Ok(routings)
}

/// Weights always total 100 and never name a version without ready pods.
///
/// # Errors
/// They did.
pub fn sound(routings: &[Routing]) -> Result<()> {
    for routing in routings {
        let total: i64 = routing.weights.iter().map(|(_, weight)| weight).sum();
        ensure!(total == 100, "at {} the weights total {total}: {:?}", routing.time, routing.weights);
        for (version, weight) in &routing.weights {
            ensure!(
                routing.ready.contains(version),
                "at {} {version} had {weight} % of the traffic and no ready pod",
                routing.time
            );
        }
    }
    Ok(())
}

/// The weights of a VirtualService's first route by subset, the ones of 0 left out.
fn weights(object: &Value) -> Vec<(String, i64)> {
    let destinations = object["spec"]["http"][0]["route"].as_array();
    destinations
        .into_iter()
        .flatten()
        .map(|destination| {
            let subset = destination["destination"]["subset"].as_str().unwrap_or_default();
            // Istio: a single destination without a weight gets everything.
            (subset.to_owned(), destination["weight"].as_i64().unwrap_or(100))
        })
        .filter(|(_, weight)| *weight > 0)
        .collect()
}
