//! From nodes and pods to an inventory. Pure.

use super::PolicyKinds;
use crate::{
    domain::{
        manifest::label,
        object::{list, text},
        workload::labels,
    },
    reconcile::run_of_label,
};
use muster_core::{
    labels::{GPU_PRODUCT, GPU_RESOURCE, HOSTNAME, RUN, says_where},
    quantity::Quantity,
    selector::Labels,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Labels of a node that travel, at most.
const MAX_LABELS: usize = 32;
/// Nodes of an inventory, at most: what the wire takes.
const MAX_NODES: usize = 10_000;
/// Labels that placement reads come first, then those that say where the node stands; the others fill what is left.
const FIRST_LABELS: [&str; 4] = [HOSTNAME, "node.kubernetes.io/instance-type", "kubernetes.io/arch", GPU_PRODUCT];

/// What the cluster has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inventory {
    /// By name.
    pub nodes: Vec<Node>,
    /// What enforces policies.
    pub policy_kinds: PolicyKinds,
}

/// What one node has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The node's name.
    pub name: String,
    /// GPU model by the node's label; empty without GPUs.
    pub flavor: String,
    /// What pods can have in all.
    pub allocatable: Amounts,
    /// What pods that are no runs of ours ask for.
    pub used_by_others: Amounts,
    /// What runs of ours ask for, by run.
    pub used_by_run: Vec<RunUsage>,
    /// False where it is cordoned or not ready.
    pub schedulable: bool,
    /// At most 32.
    pub labels: Labels,
}

/// What one run asks for on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunUsage {
    /// `namespaces/{namespace}/jobs/{job}/runs/{epoch}`.
    pub run: String,
    /// By resource name.
    pub requests: Amounts,
}

/// The part of a pod that an inventory needs: small, because there may be many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodUse {
    /// Where it is bound.
    pub node: String,
    /// The run it belongs to; empty for others.
    pub run: String,
    /// What it asks for.
    pub requests: Amounts,
}

impl PodUse {
    /// What a pod uses; `None` where it is bound nowhere or has ended.
    pub fn of(pod: &Value) -> Option<Self> {
        let node = text(pod, "/spec/nodeName");
        if node.is_empty() || matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") {
            return None;
        }
        let run = run_of_label(label(pod, RUN)).unwrap_or_default();
        Some(Self { node: node.to_owned(), run, requests: requests(pod) })
    }
}

/// What a pod asks for: the sum of its containers or the largest init container, whichever is more, and the overhead.
fn requests(pod: &Value) -> Amounts {
    let mut total = Amounts::new();
    let mut begin = Amounts::new();
    for container in list(pod, "/spec/containers") {
        add(&mut total, &container_requests(container));
    }
    for container in list(pod, "/spec/initContainers") {
        let asked = container_requests(container);
        // A sidecar runs beside the containers; any other init container is done before they begin.
        if text(container, "/restartPolicy") == "Always" {
            add(&mut total, &asked);
        } else {
            for (resource, amount) in asked {
                let most = begin.entry(resource).or_insert(Quantity::ZERO);
                *most = (*most).max(amount);
            }
        }
    }
    for (resource, amount) in begin {
        let most = total.entry(resource).or_insert(Quantity::ZERO);
        *most = (*most).max(amount);
    }
    add(&mut total, &amounts(pod, "/spec/overhead"));
    total
}

fn container_requests(container: &Value) -> Amounts {
    // The API server defaults requests to limits; a pod made past it is read the same way.
    let mut asked = amounts(container, "/resources/limits");
    asked.extend(amounts(container, "/resources/requests"));
    asked
}

fn amounts(value: &Value, pointer: &str) -> Amounts {
    let fields = value.pointer(pointer).and_then(Value::as_object);
    let parsed = fields.into_iter().flatten().filter_map(|(name, amount)| {
        let text = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
        Some((name.clone(), text.parse().ok()?))
    });
    parsed.collect()
}

fn add(total: &mut Amounts, more: &Amounts) {
    for (resource, amount) in more {
        let sum = total.entry(resource.clone()).or_insert(Quantity::ZERO);
        *sum = *sum + *amount;
    }
}

/// The inventory of nodes with what their pods use.
pub fn take<'a>(nodes: impl Iterator<Item = &'a Value>, pods: impl Iterator<Item = &'a PodUse>) -> Inventory {
    let mut by_name: BTreeMap<String, (Node, BTreeMap<String, Amounts>)> =
        nodes.take(MAX_NODES).map(node).map(|node| (node.name.clone(), (node, BTreeMap::new()))).collect();
    for pod in pods {
        let Some((node, runs)) = by_name.get_mut(&pod.node) else { continue };
        match pod.run.as_str() {
            "" => add(&mut node.used_by_others, &pod.requests),
            run => add(runs.entry(run.to_owned()).or_default(), &pod.requests),
        }
    }
    let with_runs = |(mut node, runs): (Node, BTreeMap<String, Amounts>)| {
        node.used_by_run = runs.into_iter().map(|(run, requests)| RunUsage { run, requests }).collect();
        node
    };
    Inventory { nodes: by_name.into_values().map(with_runs).collect(), ..Inventory::default() }
}

fn node(live: &Value) -> Node {
    let all = labels(live, "/metadata/labels");
    let mut kept: Labels = FIRST_LABELS.iter().filter_map(|name| Some(((*name).to_owned(), all.get(*name)?.clone()))).collect();
    let (first, others): (Vec<_>, Vec<_>) = all.iter().partition(|(name, _)| says_where(name));
    for (name, value) in first.into_iter().chain(others) {
        if kept.len() < MAX_LABELS {
            kept.insert(name.clone(), value.clone());
        }
    }
    let allocatable = amounts(live, "/status/allocatable");
    let has_gpus = allocatable.get(GPU_RESOURCE).is_some_and(|gpus| *gpus > Quantity::ZERO);
    let ready = list(live, "/status/conditions")
        .iter()
        .any(|condition| text(condition, "/type") == "Ready" && text(condition, "/status") == "True");
    let cordoned = live.pointer("/spec/unschedulable").and_then(Value::as_bool).unwrap_or(false);
    Node {
        name: text(live, "/metadata/name").to_owned(),
        flavor: if has_gpus { all.get(GPU_PRODUCT).cloned().unwrap_or_default() } else { String::new() },
        allocatable,
        used_by_others: Amounts::new(),
        used_by_run: Vec::new(),
        schedulable: ready && !cordoned,
        labels: kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(run: &str, phase: &str, gpus: u32) -> Value {
        json!({
            "metadata": {"labels": {"muster.dev/run": run}},
            "spec": {"nodeName": "n1", "containers": [
                {"resources": {"limits": {"nvidia.com/gpu": gpus, "cpu": "2"}, "requests": {"cpu": "500m"}}},
                {"resources": {"requests": {"cpu": "250m"}}},
            ], "initContainers": [{"resources": {"requests": {"cpu": "4"}}}]},
            "status": {"phase": phase},
        })
    }

    #[test]
    fn pods_count_once_and_for_whom_they_run() {
        let node = json!({
            "metadata": {"name": "n1", "labels": {"nvidia.com/gpu.product": "V100"}},
            "status": {"allocatable": {"nvidia.com/gpu": "8", "cpu": "96"}, "conditions": [{"type": "Ready", "status": "True"}]},
        });
        let pods: Vec<PodUse> = [
            pod("ml.train.1", "Running", 4),
            pod("ml.train.1", "Pending", 1),
            pod("ml.train.1", "Succeeded", 1),
            pod("", "Running", 2),
        ]
        .iter()
        .filter_map(PodUse::of)
        .collect();
        let inventory = take([node].iter(), pods.iter());
        let amount = |gpus: &str, cpu: &str| {
            Amounts::from([
                ("nvidia.com/gpu".to_owned(), gpus.parse().expect("amount")),
                ("cpu".to_owned(), cpu.parse().expect("amount")),
            ])
        };
        assert_eq!(
            inventory.nodes,
            [Node {
                name: "n1".into(),
                flavor: "V100".into(),
                allocatable: amount("8", "96"),
                used_by_others: amount("2", "4"),
                used_by_run: vec![RunUsage { run: "namespaces/ml/jobs/train/runs/1".into(), requests: amount("5", "8") }],
                schedulable: true,
                labels: Labels::from([("nvidia.com/gpu.product".into(), "V100".into())]),
            }]
        );
    }

    #[test]
    fn a_cordoned_node_is_not_schedulable_and_one_without_gpus_has_no_flavor() {
        let node = json!({
            "metadata": {"name": "n1", "labels": {"nvidia.com/gpu.product": "V100"}}, "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        let taken = take([node].iter(), [].iter());
        assert_eq!((taken.nodes[0].schedulable, taken.nodes[0].flavor.as_str()), (false, ""));
    }

    #[test]
    fn labels_that_say_where_a_node_stands_are_kept_before_others() {
        let mut labels: serde_json::Map<String, Value> =
            (0..40).map(|number| (format!("a.example.com/feature-{number}"), json!("true"))).collect();
        labels.insert("topology.kubernetes.io/rack".to_owned(), json!("r7"));
        labels.insert("x.example.com/row".to_owned(), json!("3"));
        let kept = node(&json!({"metadata": {"name": "n1", "labels": labels}})).labels;
        assert_eq!(kept.len(), MAX_LABELS);
        assert_eq!((kept["topology.kubernetes.io/rack"].as_str(), kept["x.example.com/row"].as_str()), ("r7", "3"));
    }
}
