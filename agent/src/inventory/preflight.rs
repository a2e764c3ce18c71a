//! What is wrong with a cluster before it is let in: versions, kinds, GPU stack, clock, round trip.

use crate::{
    cluster::{Cluster, ClusterError},
    domain::object::{list, text},
};
use jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimeParser};
use kube::client::Body;
use muster_core::labels::GPU_RESOURCE;
use std::time::{Duration, Instant};

/// Server-side apply with strict field validation is stable from here on.
const OLDEST_MINOR: u32 = 27;
/// Leases, tokens and soak times are judged by clocks; more than this is worth a line.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(5);

/// What a preflight found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Preflight {
    /// As in `v1.37.2`.
    pub kubernetes_version: String,
    /// API groups with their served versions, preferred first; the core group is empty.
    pub api_groups: Vec<(String, Vec<String>)>,
    /// Custom resource definitions with their served versions.
    pub crds: Vec<(String, Vec<String>)>,
    /// An NVIDIA GPU operator or a device plugin is there.
    pub gpu_stack_present: bool,
    /// The cluster's clock minus the hub's, as far as it is known.
    pub clock_offset: SignedDuration,
    /// One request to the API server.
    pub api_round_trip: Duration,
    /// What is wrong, one line a finding.
    pub problems: Vec<String>,
}

/// What is known of clocks that are not this machine's.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClockOffsets {
    /// The hub's clock minus this machine's; zero until the hub has said it.
    pub hub: SignedDuration,
}

/// Looks a cluster over.
pub async fn preflight(cluster: &Cluster, offsets: ClockOffsets) -> Result<Preflight, ClusterError> {
    let client = cluster.client();
    let (kubernetes_version, clock, api_round_trip) = version(client).await?;
    let mut found = Preflight { kubernetes_version, api_round_trip, ..Preflight::default() };
    let core = client.list_core_api_versions().await?;
    found.api_groups.push((String::new(), core.versions));
    for group in client.list_api_groups().await?.groups {
        let preferred = group.preferred_version.map(|version| version.version);
        let mut versions: Vec<String> = group.versions.into_iter().map(|version| version.version).collect();
        versions.sort_by_key(|version| Some(version) != preferred.as_ref());
        found.api_groups.push((group.name, versions));
    }
    for definition in cluster.list("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "").await? {
        let served = list(&definition, "/spec/versions").iter().filter(|version| version["served"] == true);
        found.crds.push((
            text(&definition, "/metadata/name").to_owned(),
            served.map(|version| text(version, "/name").to_owned()).collect(),
        ));
    }
    let nodes = cluster.list("v1", "Node", "", "").await?;
    let has_gpus = nodes.iter().any(|node| node.pointer("/status/allocatable").and_then(|all| all.get(GPU_RESOURCE)).is_some());
    let operator = found.crds.iter().any(|(name, _)| name == "clusterpolicies.nvidia.com");
    let plugin = cluster
        .list("apps/v1", "DaemonSet", "", "")
        .await?
        .iter()
        .any(|set| text(set, "/metadata/name").contains("nvidia-device-plugin"));
    found.gpu_stack_present = operator || plugin || has_gpus;
    if let Some(clock) = clock {
        found.clock_offset = clock.duration_since(Timestamp::now()) - offsets.hub;
    }
    found.problems = problems(&found, nodes.len());
    Ok(found)
}

fn problems(found: &Preflight, nodes: usize) -> Vec<String> {
    let mut problems = Vec::new();
    let minor = found.kubernetes_version.trim_start_matches('v').split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    match minor {
        Some(minor) if minor < OLDEST_MINOR => problems.push(format!(
            "Kubernetes {} is older than 1.{OLDEST_MINOR}, which server-side apply with strict field validation needs",
            found.kubernetes_version
        )),
        Some(_) => {}
        None => problems.push(format!("the version {:?} cannot be read", found.kubernetes_version)),
    }
    if found.clock_offset.abs() > CLOCK_TOLERANCE {
        problems.push(format!("the cluster's clock is off by {} s", found.clock_offset.as_secs()));
    }
    if nodes == 0 {
        problems.push("the cluster has no nodes".to_owned());
    }
    problems
}

/// The API server's version, its clock by the `Date` header, and how long it took to answer.
async fn version(client: &kube::Client) -> Result<(String, Option<Timestamp>, Duration), ClusterError> {
    let request = http::Request::get("/version").body(Body::empty()).expect("a fixed request is legal");
    let begun = Instant::now();
    let response = client.send(request).await?;
    let took = begun.elapsed();
    let date = response.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
    // The header has whole seconds: the middle of the second is the best guess, and half the way back has passed.
    let clock = date
        .and_then(|date| DateTimeParser::new().parse_zoned(date.replace("GMT", "+0000")).ok())
        .map(|date| date.timestamp() + SignedDuration::from_millis(500) + SignedDuration::try_from(took / 2).unwrap_or_default());
    let body = response.into_body().collect_bytes().await.map_err(|error| ClusterError::Unreachable(error.to_string()))?;
    let body: serde_json::Value =
        serde_json::from_slice(&body).map_err(|error| ClusterError::Unreachable(format!("/version: {error}")))?;
    Ok((text(&body, "/gitVersion").to_owned(), clock, took))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_in_words() {
        let well = Preflight { kubernetes_version: "v1.37.2".into(), ..Preflight::default() };
        assert!(problems(&well, 1).is_empty());
        let ill = Preflight {
            kubernetes_version: "v1.20.1".into(),
            clock_offset: SignedDuration::from_secs(-42),
            ..Preflight::default()
        };
        assert_eq!(
            problems(&ill, 0),
            [
                "Kubernetes v1.20.1 is older than 1.27, which server-side apply with strict field validation needs",
                "the cluster's clock is off by -42 s",
                "the cluster has no nodes",
            ]
        );
    }
}
