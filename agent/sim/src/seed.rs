//! The first objects of a cluster: its namespaces, nodes, default queue, GPU software and preset kinds.

use crate::{
    amend,
    config::{CrdPreset, NodeGroup},
    json, presets, quantity, random,
    state::{Actor, State, now},
    status::ApiError,
};
use serde_json::{Value, json};

/// Makes them.
pub fn first_objects(state: &mut State) -> Result<(), ApiError> {
    let actor = Actor::controller("kube-apiserver", "kube-apiserver");
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        namespace(state, &actor, name)?;
    }
    for (index, group) in state.config.clone().nodes.iter().enumerate() {
        let prefix = group.prefix.clone().unwrap_or_else(|| format!("{}-{index}", state.config.name));
        add_nodes(state, &NodeGroup { prefix: Some(prefix), ..group.clone() })?;
    }
    for preset in state.config.clone().crds.iter().copied() {
        for definition in presets::definitions(preset) {
            let created = amend::create(state, &actor, "customresourcedefinitions.apiextensions.k8s.io", definition)?;
            crate::controllers::definition::serve(state, &created);
        }
        if preset == CrdPreset::Volcano {
            let queue = json!({
                "apiVersion": "scheduling.volcano.sh/v1beta1", "kind": "Queue", "metadata": {"name": "default"},
                "spec": {"weight": 1, "reclaimable": true},
            });
            amend::create(state, &actor, "queues.scheduling.volcano.sh", queue)?;
        }
    }
    for (name, value) in [("system-node-critical", 2_000_001_000_i64), ("system-cluster-critical", 2_000_000_000)] {
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value,
        });
        amend::create(state, &actor, "priorityclasses.scheduling.k8s.io", class)?;
    }
    gpu_software(state, &actor)
}

fn namespace(state: &mut State, actor: &Actor, name: &str) -> Result<(), ApiError> {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let created = amend::create(state, actor, "namespaces", object)?;
    if name == "kube-system" {
        // The cluster's identity has to outlive this process, so it comes from the configuration and not from chance.
        let uid = state.config.uid.clone().unwrap_or_else(|| random::Random::new(&state.config.name, state.config.seed).uid());
        let mut object = (*created).clone();
        json::set(&mut object, &["metadata", "uid"], json!(uid));
        let key = crate::store::Key::of("namespaces", &object);
        state.store.put(&key, object);
    }
    Ok(())
}

/// Adds nodes of one shape; they are numbered on from those of their prefix that are there.
pub fn add_nodes(state: &mut State, group: &NodeGroup) -> Result<Vec<String>, ApiError> {
    let actor = Actor::controller("kubelet", "kubelet");
    let prefix = group.prefix.clone().unwrap_or_else(|| state.config.name.clone());
    let mut names = Vec::new();
    let mut number = 0;
    while names.len() < group.count as usize {
        let name = format!("{prefix}-{number}");
        number += 1;
        if state.store.find("nodes", "", &name).is_some() {
            continue;
        }
        let status = node_status(state, group, number);
        amend::create(state, &actor, "nodes", node(group, &name))?;
        amend::change(state, &actor, ("nodes", "", &name), "status", |node| json::set(node, &["status"], status))?;
        names.push(name);
    }
    Ok(names)
}

fn node(group: &NodeGroup, name: &str) -> Value {
    let mut labels = json!({
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64",
    });
    if group.gpus > 0 {
        labels["nvidia.com/gpu.present"] = json!("true");
        labels["nvidia.com/gpu.count"] = json!(group.gpus.to_string());
        if let Some(model) = &group.gpu_model {
            labels["nvidia.com/gpu.product"] = json!(model);
        }
    }
    for (key, value) in &group.labels {
        labels[key] = json!(value);
    }
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {"providerID": format!("sim://{name}")}})
}

fn node_status(state: &State, group: &NodeGroup, number: u32) -> Value {
    let canonical = |text: &str| quantity::canonical(text).unwrap_or_else(|| text.to_owned());
    let mut amounts = json!({
        "cpu": canonical(&group.cpu), "memory": canonical(&group.memory), "ephemeral-storage": "1Ti", "pods": "110",
    });
    if group.gpus > 0 {
        amounts["nvidia.com/gpu"] = json!(group.gpus.to_string());
    }
    let at = now();
    let condition = |kind: &str, status: &str, reason: &str| json!({"type": kind, "status": status, "reason": reason, "message": "", "lastHeartbeatTime": at, "lastTransitionTime": at});
    json!({
        "capacity": amounts, "allocatable": amounts,
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID"),
            condition("Ready", "True", "KubeletReady"),
        ],
        "addresses": [
            {"type": "InternalIP", "address": format!("10.128.{}.{}", number / 250, number % 250 + 1)},
        ],
        "nodeInfo": {
            "kubeletVersion": format!("v{}", state.config.version), "kubeProxyVersion": "", "osImage": "Simulated Linux",
            "kernelVersion": "6.12.0", "containerRuntimeVersion": "containerd://2.1.0", "operatingSystem": "linux",
            "architecture": "amd64", "machineID": "", "systemUUID": "", "bootID": "",
        },
    })
}

/// GPUs come from the operator or from a bare device plugin; a cluster without GPUs has neither.
fn gpu_software(state: &mut State, actor: &Actor) -> Result<(), ApiError> {
    let operator = state.config.gpu_operator;
    if operator {
        namespace(state, actor, "gpu-operator")?;
        for definition in presets::gpu_operator() {
            let created = amend::create(state, actor, "customresourcedefinitions.apiextensions.k8s.io", definition)?;
            crate::controllers::definition::serve(state, &created);
        }
        let policy = json!({
            "apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "metadata": {"name": "cluster-policy"},
            "spec": {"devicePlugin": {"enabled": true}, "dcgmExporter": {"enabled": true}},
        });
        amend::create(state, actor, "clusterpolicies.nvidia.com", policy)?;
        let labels = json!({"app": "gpu-operator"});
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "gpu-operator", "namespace": "gpu-operator", "labels": labels},
            "spec": {
                "replicas": 1, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [
                    {"name": "gpu-operator", "image": "nvcr.io/nvidia/gpu-operator:v25.3.0"},
                ]}},
            },
        });
        amend::create(state, actor, "deployments.apps", deployment)?;
    }
    if !state.config.nodes.iter().any(|group| group.gpus > 0) {
        return Ok(());
    }
    let namespace = if operator { "gpu-operator" } else { "kube-system" };
    let labels = json!({"app": "nvidia-device-plugin-daemonset"});
    let plugin = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "nvidia-device-plugin-daemonset", "namespace": namespace, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {
                "nodeSelector": {"nvidia.com/gpu.present": "true"},
                "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "nvidia-device-plugin", "image": "nvcr.io/nvidia/k8s-device-plugin:v0.17.1"}],
            }},
        },
    });
    amend::create(state, actor, "daemonsets.apps", plugin).map(drop)
}
