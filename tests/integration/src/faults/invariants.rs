//! What must hold whatever breaks.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use muster_proto::rollout::v1 as rollout;

use super::Ground;
use crate::eventually;
use crate::main_job::layout;
use crate::main_job::releases::{self, routings, sound};
use crate::main_job::runs::pods_made;
use crate::main_job::simulation::{SERVE_ONLINE, SERVER, TRAIN_IDC};
use crate::patience::Look;

/// Pods of a job that the main job submits here.
pub const PODS: u32 = 2;

/// Of a service or an agent, resident at most in its life, MiB.
const MEMORY: u64 = 512;

/// At every instant: every weight was legal, no run was started twice and none in two clusters, and memory is bounded.
/// Answers the largest resident size, MiB.
///
/// # Errors
/// One of them does not hold.
pub fn always(ground: &mut Ground) -> Result<u64> {
    sound(&routings(&ground.scene, SERVE_ONLINE)?)?;
    runs(ground)?;
    memory(ground)
}

/// Once everything has come to rest: what holds always, and what was acknowledged is there, once, and nothing else is. Answers
/// the largest resident size, MiB.
///
/// # Errors
/// Something is missing, is there twice, or is left over.
pub async fn at_rest(ground: &mut Ground, jobs: &BTreeSet<String>, versions: &BTreeSet<String>) -> Result<u64> {
    sound(&routings(&ground.scene, SERVE_ONLINE)?)?;
    let runs = runs(ground)?;
    for job in jobs {
        let pods = runs.get(&format!("ml.{job}.1")).with_context(|| format!("{job} was acknowledged and never ran"))?;
        ensure!(*pods == PODS, "{pods} pods were made for {job}, not {PODS}");
    }
    let request =
        rollout::ListModelVersionsRequest { parent: "models/resnet50".to_owned(), page_size: 1_000, ..Default::default() };
    let recorded = eventually("versions are listed", async || {
        let listed = ground.scene.clients()?.models().list_model_versions(request.clone()).await?;
        Ok(Look::Is(listed.into_inner().model_versions))
    })
    .await?;
    let log = ground.scene.repository.log().await?;
    for version in versions {
        let name = format!("models/resnet50/versions/{version}");
        ensure!(recorded.iter().any(|known| known.name == name), "{version} was acknowledged and is not recorded");
        let digest = layout::digest(version);
        let commits = log.iter().filter(|commit| commit.message.contains(&digest)).count();
        // One that a newer one overtook before its commit was written needs none any more.
        let least = usize::from(*version == ground.scene.serving);
        ensure!((least..=1).contains(&commits), "{commits} commits bring {version}, which was acknowledged");
    }
    let image = releases::image(&ground.scene.serving);
    for cluster in ground.scene.serving() {
        let deployments = ground.scene.platform.cluster(cluster)?.api.list("/apis/apps/v1/namespaces/ml/deployments").await?;
        let images: Vec<&str> = deployments
            .iter()
            .filter_map(|deployment| deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str())
            .filter(|image| image.starts_with(SERVER))
            .collect();
        ensure!(images == [image.as_str()], "{cluster} holds {images:?}, not {image} alone");
    }
    let left = ground.scene.platform.cluster(TRAIN_IDC)?.api.list("/apis/batch.volcano.sh/v1alpha1/namespaces/ml/jobs").await?;
    for job in &left {
        let phase = job["status"]["state"]["phase"].as_str().unwrap_or_default();
        ensure!(phase == "Completed", "{} is left in its cluster, {phase:?}", job["metadata"]["name"]);
    }
    memory(ground)
}

/// How many pods were ever made for each run; never more than a job has.
fn runs(ground: &Ground) -> Result<BTreeMap<String, u32>> {
    let made = pods_made(&ground.scene)?;
    for (run, count) in &made {
        ensure!(*count <= PODS, "{run} has {count} pods");
    }
    Ok(made)
}

/// The largest resident size that one of Muster's processes ever had.
fn memory(ground: &mut Ground) -> Result<u64> {
    let mut largest = 0;
    for (name, process) in ground.scene.platform.processes().into_iter().filter(|(name, _)| name != "simulator") {
        // A process that is dead at the moment has none.
        let Ok(status) = std::fs::read_to_string(format!("/proc/{process}/status")) else { continue };
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        let peak = peak.unwrap_or_default() / 1024;
        ensure!(peak <= MEMORY, "{name} took {peak} MiB, more than {MEMORY}");
        largest = largest.max(peak);
    }
    Ok(largest)
}
