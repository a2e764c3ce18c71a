//! Step 8: hands off: drift is reported and healed, what left git is pruned, what is foreign stays, and a site that is cut
//! off is pending, heals itself, and catches up to what is current when it returns.

use std::collections::BTreeSet;

use crate::cluster_api::ClusterApi;
use crate::kafka::Event;
use crate::patience::{Look, look};
use crate::{eventually, eventually_within};
use anyhow::{Context, Result, ensure};
use muster_proto::registry::v1 as registry;
use muster_proto::rollout::v1 as rollout;
use rollout::release::State;
use serde_json::json;

use super::Checked;
use super::releases::{self, RELEASE_WITHIN};
use super::scene::{Cause, Scene};
use super::simulation::{EDGES, SERVE_ONLINE};

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/ml/deployments/resnet50";
const CONFIG_MAPS: &str = "/api/v1/namespaces/ml/configmaps";

/// The site that is cut off.
const AWAY: &str = EDGES[2];

/// Plays the step.
///
/// # Errors
/// A check was not true.
pub async fn play(scene: &mut Scene) -> Result<Checked> {
    // Sabotage: the application does not ask for drift to be healed.
    if scene.is_broken() {
        in_force(scene, &scene.application().replace("selfHeal: true", "selfHeal: false")).await?;
    }
    let mut checked = vec![drift(scene).await?, pruned(scene).await?];
    checked.extend(cut_off(scene).await?);
    Ok(checked)
}

/// The application asks for it again.
///
/// # Errors
/// It is refused.
pub async fn mend(scene: &Scene) -> Result<()> {
    in_force(scene, &scene.application()).await
}

/// Applies another document of the application, and waits until every edge speaks of what it asks for.
async fn in_force(scene: &Scene, document: &str) -> Result<()> {
    let generations = |edge: &str| -> BTreeSet<String> {
        said(scene, edge).iter().map(|event| event.data["observation"]["generation"].to_string()).collect()
    };
    let before: Vec<(&str, usize)> = scene.edges().into_iter().map(|edge| (edge, generations(edge).len())).collect();
    scene.apply("application.yaml", document).await?;
    for (edge, before) in before {
        eventually(&format!("{edge} speaks of the new document"), async || {
            let now = generations(edge);
            Ok(look(now.len() > before, (), || format!("{now:?}")))
        })
        .await?;
    }
    Ok(())
}

/// What a cluster's agent has said of the application.
fn said(scene: &Scene, cluster: &str) -> Vec<Event> {
    let of_cluster = format!("clusters/{cluster}/items/rollout/");
    scene.topics.of("muster.clusters").into_iter().filter(|event| event.key.starts_with(&of_cluster)).collect()
}

/// Somebody edits a Deployment by hand.
async fn drift(scene: &Scene) -> Result<String> {
    // What a broken play has edited is healed by now, and was reported.
    let edge = scene.edges()[usize::from(scene.cause == Cause::Mended)];
    let api = &scene.platform.cluster(edge)?.api;
    let drifted = |kind: &String| kind.contains("drifted");
    let reports = || said(scene, edge).iter().filter(|event| event.headers.get("ce_type").is_some_and(drifted)).count();
    let before = reports();
    edit(api).await?;
    eventually("the drift is reported", async || Ok(look(reports() > before, (), || "no such event".to_owned()))).await?;
    // Where the agent may heal it does so before it says anything.
    let replicas = replicas(api).await?;
    ensure!(replicas == Some(1), "the Deployment that was edited by hand in {edge} is not healed: {replicas:?} replicas");
    Ok("a Deployment edited by hand: reported and healed".to_owned())
}

async fn edit(api: &ClusterApi) -> Result<()> {
    let patch = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 7}}, "replicas": 2}});
    api.merge(DEPLOYMENT, &patch).await?;
    Ok(())
}

async fn replicas(api: &ClusterApi) -> Result<Option<i64>> {
    let deployment = api.find(DEPLOYMENT).await?.context("the Deployment is gone")?;
    Ok(deployment["spec"]["replicas"].as_i64())
}

async fn healed(api: &ClusterApi, cluster: &str) -> Result<()> {
    eventually(&format!("the edited Deployment in {cluster} is healed"), async || {
        let replicas = replicas(api).await?;
        Ok(look(replicas == Some(1), (), || format!("{replicas:?} replicas")))
    })
    .await
}

/// What left git is removed; what somebody else made is not.
async fn pruned(scene: &Scene) -> Result<String> {
    for edge in scene.edges() {
        let foreign =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "not-musters"}, "data": {"by": "hand"}});
        scene.platform.cluster(edge)?.api.create(CONFIG_MAPS, &foreign).await?;
    }
    let mut files = Vec::new();
    for edge in scene.edges() {
        let path = format!("serving/resnet50/overlays/{edge}/kustomization.yaml");
        let text = scene.repository.read(&path).await?.replace("  - banner.yaml\n", "");
        files.push((path, text));
    }
    scene.repository.commit("No banner at the edge", &files).await?;
    for edge in scene.edges() {
        let api = &scene.platform.cluster(edge)?.api;
        eventually_within(RELEASE_WITHIN, &format!("the banner of {edge} is pruned"), async || {
            let banner = api.find(&format!("{CONFIG_MAPS}/site-banner")).await?;
            Ok(look(banner.is_none(), (), || "it is still there".to_owned()))
        })
        .await?;
        let foreign = api.find(&format!("{CONFIG_MAPS}/not-musters")).await?;
        ensure!(foreign.is_some(), "{edge}: what Muster did not make is gone");
    }
    settled(scene).await?;
    Ok("what left git is pruned, a foreign object stays".to_owned())
}

/// No release is on its way.
async fn settled(scene: &Scene) -> Result<()> {
    eventually_within(RELEASE_WITHIN, "the release is complete", async || {
        let release = releases::list(scene).await?.into_iter().next().context("a release")?;
        Ok(look(release.state() == State::Completed, (), || releases::describe(&release)))
    })
    .await
}

async fn cut_off(scene: &mut Scene) -> Result<Checked> {
    let before = seen_away(scene).len();
    scene.platform.agent(AWAY)?.cut_off();
    // v6 is on its way while the site is away, and v7 replaces it before the site returns.
    releases::report(scene, releases::training("v6")).await?;
    eventually_within(RELEASE_WITHIN, "v6 serves where it can, and the site that is away is pending", async || {
        let release = releases::of_version(scene, "v6").await?.into_iter().next().context("the release of v6")?;
        let online = releases::target(&release, SERVE_ONLINE)?.state() == rollout::target_status::State::Healthy;
        let away = releases::target(&release, AWAY)?.state() == rollout::target_status::State::Pending;
        ensure!(
            !matches!(release.state(), State::Failed | State::RollingBack),
            "a site that is away failed the release: {}",
            releases::describe(&release)
        );
        Ok(look(online && away && release.wave == release.wave_count, (), || releases::describe(&release)))
    })
    .await?;

    let api = scene.platform.cluster(AWAY)?.api.clone();
    edit(&api).await?;
    healed(&api, AWAY).await?;
    releases::serves_only(scene, AWAY, &scene.serving).await?;

    releases::report(scene, releases::training("v7")).await?;
    releases::serves_only(scene, scene.edges()[0], "v7").await?;
    scene.platform.agent(AWAY)?.let_through();
    releases::serves_only(scene, AWAY, "v7").await?;
    releases::never_reached(scene, AWAY, "v6")?;
    releases::reaches(scene, "v7", State::Completed).await?;
    scene.serving = "v7".to_owned();
    steady(scene, before).await?;
    Ok(vec![
        "cut off during a release: pending, not failed, and it heals itself".to_owned(),
        "on return it went straight to what was current; the fleet did not flap".to_owned(),
    ])
}

/// Only the site that was away was seen away since, and it is back for good.
async fn steady(scene: &Scene, before: usize) -> Result<()> {
    eventually("the site is live again", async || {
        let request = registry::GetClusterRequest { name: format!("clusters/{AWAY}") };
        let cluster = scene.clients()?.clusters().get_cluster(request).await?.into_inner();
        match cluster.state() {
            registry::cluster::State::Live => Ok(Look::Is(())),
            other => Ok(Look::NotYet(format!("{other:?}: {}", cluster.reason))),
        }
    })
    .await?;
    let away = seen_away(scene).split_off(before);
    let name = format!("clusters/{AWAY}");
    ensure!(away.iter().all(|key| *key == name), "others were seen away too: {away:?}");
    ensure!(away.len() <= 2, "the site flapped: {away:?}");
    Ok(())
}

/// The clusters that were seen to fall silent, in order.
fn seen_away(scene: &Scene) -> Vec<String> {
    let silent = |kind: &String| kind.contains("cluster.suspect") || kind.contains("cluster.lost");
    let events = scene.topics.of("muster.clusters").into_iter();
    events.filter(|event| event.headers.get("ce_type").is_some_and(silent)).map(|event| event.key).collect()
}
