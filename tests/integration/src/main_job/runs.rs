//! What the clusters' own records say of runs: how many pods were made for each.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

use super::Scene;

/// Pods that were ever made for each run, all of them in one cluster and none twice.
///
/// # Errors
/// A run was started in two clusters, or made a pod twice.
pub fn pods_made(scene: &Scene) -> Result<BTreeMap<String, u32>> {
    let mut pods: BTreeMap<String, BTreeSet<(&str, String)>> = BTreeMap::new();
    let mut made: BTreeMap<String, u32> = BTreeMap::new();
    for cluster in scene.clusters() {
        for write in scene.platform.cluster(cluster)?.audit.writes()? {
            if write.resource != "pods" || write.verb != "create" || !write.subresource.is_empty() {
                continue;
            }
            if let Some(run) = write.label("muster.dev/run") {
                *made.entry(run.to_owned()).or_default() += 1;
                pods.entry(run.to_owned()).or_default().insert((cluster, write.name.clone()));
            }
        }
    }
    for (run, count) in &made {
        let clusters: BTreeSet<&str> = pods[run].iter().map(|(cluster, _)| *cluster).collect();
        ensure!(clusters.len() == 1, "{run} was started in {clusters:?}");
        ensure!(*count as usize == pods[run].len(), "{run} made a pod twice: {:?}", pods[run]);
    }
    Ok(made)
}
