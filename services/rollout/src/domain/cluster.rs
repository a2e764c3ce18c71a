//! What a release needs to know of a member cluster: whether it is there, who it is, and what it has room for.

use crate::domain::release::Availability;
use muster_core::selector::Labels;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A cluster of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cluster {
    /// Why nothing new goes there now (offline, cordoned, not enrolled); none: it is there.
    pub away: Option<String>,
    /// Its labels.
    pub labels: Labels,
    /// API groups it serves, the core group as an empty text; empty as a whole where its agent has not said.
    pub groups: BTreeSet<String>,
    /// GPUs that nobody uses; none where its agent has not said.
    pub free_gpus: Option<i64>,
}

impl Cluster {
    /// Whether it can be told anything now.
    pub fn availability(&self) -> Availability {
        match &self.away {
            None => Availability::Here,
            Some(reason) => Availability::Away(reason.clone()),
        }
    }

    /// What is missing for objects that would be added, one line each.
    pub fn missing(&self, added: &[&Value]) -> Vec<String> {
        let mut missing = Vec::new();
        let mut groups = BTreeMap::new();
        for object in added {
            let version = object["apiVersion"].as_str().unwrap_or_default();
            let group = version.split_once('/').map_or("", |(group, _)| group);
            groups.entry(group).or_insert_with(|| object["kind"].as_str().unwrap_or_default());
        }
        for (group, kind) in groups {
            if !self.groups.is_empty() && !group.is_empty() && !self.groups.contains(group) {
                missing.push(format!("the API group {group}, which {kind} needs, is not served"));
            }
        }
        let wanted: i64 = added.iter().map(|object| gpus(object)).sum();
        if let Some(free) = self.free_gpus.filter(|free| *free < wanted) {
            missing.push(format!("{wanted} GPUs are needed beside what runs, {free} are free"));
        }
        missing
    }
}

/// GPUs that a workload's pods ask for together.
fn gpus(workload: &Value) -> i64 {
    let replicas = match workload["kind"].as_str() {
        Some("Deployment" | "StatefulSet") => workload["spec"]["replicas"].as_i64().unwrap_or(1),
        _ => return 0,
    };
    let containers = workload["spec"]["template"]["spec"]["containers"].as_array();
    let per_pod: i64 = containers
        .into_iter()
        .flatten()
        .map(|container| {
            let resources = &container["resources"];
            let asked = |list: &str| match &resources[list][muster_core::labels::GPU_RESOURCE] {
                Value::String(text) => text.parse().ok(),
                Value::Number(number) => number.as_i64(),
                _ => None,
            };
            asked("requests").or_else(|| asked("limits")).unwrap_or(0)
        })
        .sum();
    per_pod * replicas
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_second_copy_that_does_not_fit_is_named_before_the_release() {
        let copy = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 3, "template": {"spec": {
            "containers": [{"resources": {"requests": {"nvidia.com/gpu": "2"}}}, {"resources": {}}]}}}});
        let route = json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService"});
        let cluster = Cluster { free_gpus: Some(4), groups: ["apps".to_owned()].into(), ..Cluster::default() };
        assert_eq!(
            cluster.missing(&[&copy, &route]),
            [
                "the API group networking.istio.io, which VirtualService needs, is not served",
                "6 GPUs are needed beside what runs, 4 are free"
            ]
        );
        assert!(Cluster::default().missing(&[&copy, &route]).is_empty(), "nothing is claimed of what is not known");
    }
}
