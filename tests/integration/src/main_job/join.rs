//! Step 1: clusters enrol with one-time tokens; strangers, used tokens and second clusters don't. Preflight, fleets,
//! inventory, prices.

use std::collections::{BTreeMap, BTreeSet};

use crate::eventually;
use crate::patience::{Look, look};
use crate::platform::Agent;
use anyhow::{Context, Result, bail, ensure};
use muster_proto::registry::v1 as registry;
use registry::cluster::State;

use super::scene::{Cause, Scene, request_id};
use super::simulation::{CLOUD_GPUS, CLOUD_PRICE, EDGES, IDC_GPUS, IDC_PRICE, SERVE_ONLINE, TRAIN_CLOUD, TRAIN_IDC};
use super::{Checked, documents};

/// Plays the step.
///
/// # Errors
/// A check was not true.
pub async fn play(scene: &mut Scene) -> Result<Checked> {
    let clusters = all(scene).await?;
    let mut checked = vec![format!("{} clusters enrolled and live", clusters.len())];
    checked.push(refusals(scene).await?);
    checked.push(preflights(scene, &clusters)?);
    checked.push(fleets(scene).await?);
    checked.push(inventory(scene, &clusters)?);
    Ok(checked)
}

/// Declares every cluster, with fleets and prices, starts their agents, and waits until all are live.
///
/// # Errors
/// One does not become live.
pub async fn all(scene: &mut Scene) -> Result<BTreeMap<String, registry::Cluster>> {
    if scene.cause != Cause::Mended {
        declare(scene).await?;
    }
    scene.apply("fleets.yaml", &documents::fleets(scene.clusters())).await?;
    if !scene.training().is_empty() {
        scene.apply("prices.yaml", &documents::prices()).await?;
    }
    for cluster in scene.clusters().to_vec() {
        // Sabotage: one cluster has no agent.
        if scene.is_broken() && Some(&cluster) == scene.edges().last() {
            continue;
        }
        if scene.platform.agent(cluster).is_err() {
            scene.platform.join(cluster).await?;
        }
    }
    wait_until_live(scene).await
}

/// Labels are given ahead, by the administrator; no agent can choose them.
async fn declare(scene: &Scene) -> Result<()> {
    let mut client = scene.clients()?.clusters();
    for cluster in scene.clusters() {
        let (tier, takes_jobs) = match *cluster {
            TRAIN_IDC | TRAIN_CLOUD => ("train", true),
            SERVE_ONLINE => ("serve", false),
            _ => ("edge", false),
        };
        let request = registry::CreateClusterRequest {
            cluster_id: (*cluster).to_owned(),
            cluster: Some(registry::Cluster {
                labels: [("tier".to_owned(), tier.to_owned())].into(),
                region: "eu-west".to_owned(),
                takes_jobs,
                ..Default::default()
            }),
            request_id: request_id(),
        };
        let declared = client.create_cluster(request).await?.into_inner();
        ensure!(declared.state() == State::NotEnrolled, "{cluster} is declared and {:?}, not NOT_ENROLLED", declared.state());
    }
    Ok(())
}

async fn wait_until_live(scene: &mut Scene) -> Result<BTreeMap<String, registry::Cluster>> {
    eventually("every cluster is live, with its preflight and inventory", async || {
        for cluster in scene.clusters().to_vec() {
            if let Err(error) = scene.platform.agent(cluster).and_then(|agent| agent.process().expect_running()) {
                return Ok(Look::Never(format!("{error:#}")));
            }
        }
        let clusters = list(scene).await?;
        let ready = scene.clusters().iter().all(|name| {
            clusters.get(*name).is_some_and(|cluster| {
                cluster.state() == State::Live && cluster.inventory.is_some() && cluster.preflight.is_some()
            })
        });
        let states: Vec<String> =
            clusters.iter().map(|(name, cluster)| format!("{name} {:?} {}", cluster.state(), cluster.reason)).collect();
        Ok(look(ready, clusters, || states.join(", ")))
    })
    .await
}

/// All clusters by their short names.
async fn list(scene: &Scene) -> Result<BTreeMap<String, registry::Cluster>> {
    let request = registry::ListClustersRequest { page_size: 1_000, ..Default::default() };
    let response = scene.clients()?.clusters().list_clusters(request).await?.into_inner();
    Ok(response.clusters.into_iter().map(|cluster| (cluster.name.trim_start_matches("clusters/").to_owned(), cluster)).collect())
}

/// A token nobody gave, one that was used, and a cluster that has joined already under another name.
async fn refusals(scene: &Scene) -> Result<String> {
    let joined = scene.clusters()[0];
    let stranger = scene.platform.agent_with("stranger", joined, "not-a-token").await?;
    refused("a stranger", stranger).await?;

    let token = scene.platform.enrolment_token("twice").await?;
    let first = scene.platform.agent_with("twice", joined, &token).await?;
    refused("a second cluster with the same UID", first).await?;

    // The token of a cluster that has joined, by whoever finds it later.
    let [canary, other, ..] = scene.edges()[..] else { bail!("two edges must play") };
    let used = used_token(scene, canary)?;
    let second = scene.platform.agent_with(canary, other, &used).await?;
    refused("a used token", second).await?;

    let clusters = list(scene).await?;
    let strangers: Vec<&String> = clusters
        .iter()
        .filter(|(name, cluster)| !scene.clusters().contains(&name.as_str()) && cluster.state() != State::NotEnrolled)
        .map(|(name, _)| name)
        .collect();
    ensure!(strangers.is_empty(), "strangers are among the clusters: {strangers:?}");
    Ok("a stranger, a used token and a second cluster with the same UID refused".to_owned())
}

/// A token that its cluster has used. The registry never shows secrets again, so the one the agent was given is read.
fn used_token(scene: &Scene, cluster: &str) -> Result<String> {
    let folder = scene.platform.folder().join("config");
    let mut files: Vec<_> = std::fs::read_dir(&folder)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&format!("agent-{cluster}-")) && name.ends_with(".token")
        })
        .collect();
    files.sort();
    let file = files.first().with_context(|| format!("the token of {cluster}"))?;
    Ok(std::fs::read_to_string(file)?)
}

/// The agent says that it was refused: it ends, or says so in its log and stays outside.
async fn refused(who: &str, mut agent: Agent) -> Result<()> {
    eventually(&format!("{who} is refused"), async || {
        let log = agent.log()?;
        let said =
            ["refused", "PermissionDenied", "Unauthenticated", "denied", "AlreadyExists"].iter().any(|word| log.contains(word));
        if said || agent.process().expect_running().is_err() {
            Ok(Look::Is(()))
        } else {
            Ok(Look::NotYet(format!("its log: {log}")))
        }
    })
    .await
}

fn preflights(scene: &Scene, clusters: &BTreeMap<String, registry::Cluster>) -> Result<String> {
    for name in scene.clusters() {
        let preflight = clusters[*name].preflight.as_ref().context("a preflight")?;
        ensure!(preflight.kubernetes_version.starts_with("v1."), "{name}: Kubernetes version {:?}", preflight.kubernetes_version);
        ensure!(preflight.api_groups.iter().any(|group| group.name == "apps"), "{name}: the group apps was not found");
        ensure!(preflight.clock_offset.is_some(), "{name}: no clock offset");
        ensure!(preflight.api_round_trip.is_some(), "{name}: no round trip");
        let volcano = preflight.crds.iter().any(|crd| crd.name == "jobs.batch.volcano.sh" && !crd.versions.is_empty());
        let trains = scene.training().contains(name);
        ensure!(volcano == trains, "{name}: Volcano's CRDs found: {volcano}");
        ensure!(preflight.gpu_stack_present, "{name}: the GPU stack was not found");
    }
    Ok("preflight: versions, groups and CRDs, GPU stack, clock, round trip".to_owned())
}

async fn fleets(scene: &Scene) -> Result<String> {
    let (training, edges) = (scene.training(), scene.edges());
    let canaries = edges.iter().copied().filter(|edge| EDGES[..2].contains(edge)).collect();
    for (fleet, members) in [("fleet-train", training), ("fleet-edge", edges), ("fleet-canary", canaries)] {
        let request = registry::GetFleetRequest { name: format!("fleets/{fleet}") };
        let found = scene.clients()?.fleets().get_fleet(request).await?.into_inner();
        let found: BTreeSet<String> = found.members.into_iter().map(|member| member.cluster).collect();
        let wanted: BTreeSet<String> = members.iter().map(|name| format!("clusters/{name}")).collect();
        ensure!(found == wanted, "{fleet} has {found:?}, not {wanted:?}");
    }
    Ok("fleets by list and by selector".to_owned())
}

fn inventory(scene: &Scene, clusters: &BTreeMap<String, registry::Cluster>) -> Result<String> {
    let mut seen = Vec::new();
    for name in scene.training() {
        let (flavor, gpus, price) =
            if name == TRAIN_IDC { ("V100", IDC_GPUS, IDC_PRICE) } else { ("A100", CLOUD_GPUS, CLOUD_PRICE) };
        let cluster = &clusters[name];
        let nodes = &cluster.inventory.as_ref().context("an inventory")?.nodes;
        let mut found = 0;
        for node in nodes.iter().filter(|node| node.flavor == flavor) {
            let count = node.allocatable.get("nvidia.com/gpu").map_or("0", String::as_str);
            found += count.parse::<u32>().with_context(|| format!("{name}: {count:?} GPUs"))?;
        }
        ensure!(found == gpus, "{name} has {found} {flavor}, not {gpus}");
        let priced = cluster.prices.iter().find(|line| line.flavor == flavor).map(|line| line.micros_per_gpu_hour);
        ensure!(priced == Some(price), "{name}: {flavor} costs {priced:?}, not {price}");
        seen.push(format!("{gpus} {flavor}"));
    }
    Ok(format!("{} with their prices", seen.join(" and ")))
}
