//! What must hold whatever breaks.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

use super::Ground;
use crate::main_job::layout;
use crate::main_job::releases::{self, routings, sound};
use crate::main_job::simulation::{SERVE_ONLINE, SERVER, TRAIN_IDC};

/// Pods of a job that the main job submits here.
pub const PODS: usize = 2;

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

/// Once everything has come to rest: what was acknowledged is there, once, and nothing else is.
///
/// # Errors
/// Something is missing, is there twice, or is left over.
pub async fn at_rest(ground: &mut Ground, jobs: &BTreeSet<String>, versions: &BTreeSet<String>) -> Result<()> {
    always(ground)?;
    let runs = runs(ground)?;
    for job in jobs {
        let pods = runs.get(&format!("ml.{job}.1")).with_context(|| format!("{job} was acknowledged and never ran"))?;
        ensure!(*pods == PODS, "{pods} pods were made for {job}, not {PODS}");
    }
    let log = ground.scene.repository.log().await?;
    for version in versions {
        let digest = layout::digest(version);
        let commits = log.iter().filter(|commit| commit.message.contains(&digest)).count();
        ensure!(commits == 1, "{commits} commits bring {version}, which was acknowledged");
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
    Ok(())
}

/// How many pods were ever made for each run, by the clusters' own record.
fn runs(ground: &Ground) -> Result<BTreeMap<String, usize>> {
    let mut pods: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    let mut made: BTreeMap<String, usize> = BTreeMap::new();
    for cluster in ground.scene.clusters() {
        for write in ground.scene.platform.cluster(cluster)?.audit.writes()? {
            if write.resource != "pods" || write.verb != "create" || !write.subresource.is_empty() {
                continue;
            }
            if let Some(run) = write.label("muster.dev/run") {
                *made.entry(run.to_owned()).or_default() += 1;
                pods.entry(run.to_owned()).or_default().insert(((*cluster).to_owned(), write.name.clone()));
            }
        }
    }
    for (run, count) in &made {
        let clusters: BTreeSet<&String> = pods[run].iter().map(|(cluster, _)| cluster).collect();
        ensure!(clusters.len() == 1, "{run} was started in {clusters:?}");
        ensure!(*count == pods[run].len(), "{run} made a pod twice: {:?}", pods[run]);
        ensure!(*count <= PODS, "{run} has {count} pods: {:?}", pods[run]);
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
