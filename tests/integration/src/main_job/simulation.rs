//! The six clusters of the main job, and what its images do.

use serde_json::{Value, json};

/// The cheap training cluster.
pub const TRAIN_IDC: &str = "train-idc";
/// The dear training cluster.
pub const TRAIN_CLOUD: &str = "train-cloud";
/// The serving cluster.
pub const SERVE_ONLINE: &str = "serve-online";
/// The edge sites; the first two are the canaries.
pub const EDGES: [&str; 3] = ["edge-01", "edge-02", "edge-03"];

/// Every cluster, in the order of the document above.
pub const CLUSTERS: [&str; 6] = [TRAIN_IDC, TRAIN_CLOUD, SERVE_ONLINE, EDGES[0], EDGES[1], EDGES[2]];

/// GPUs of `train-idc`: 8 nodes of 8.
pub const IDC_GPUS: u32 = 64;
/// GPUs of `train-cloud`: 16 nodes of 8.
pub const CLOUD_GPUS: u32 = 128;

/// Euro millionths per GPU-hour.
pub const IDC_PRICE: i64 = 900_000;
/// Euro millionths per GPU-hour.
pub const CLOUD_PRICE: i64 = 3_400_000;

/// Without the registry's host.
pub const TRAINER: &str = "registry.example.com/ml/resnet-trainer";
/// Without the registry's host.
pub const SERVER: &str = "registry.example.com/ml/resnet50-server";

/// The simulator's configuration, with some of the clusters or all.
pub fn simulation(names: &[&str]) -> Value {
    let node = |count: u32, model: &str, gpus: u32| json!({"count": count, "gpuModel": model, "gpus": gpus, "cpu": "96", "memory": "768Gi"});
    let training = |name: &str, node: Value| json!({"name": name, "nodes": [node], "crds": ["volcano"], "gpuOperator": true});
    let mut clusters = vec![
        training(TRAIN_IDC, node(8, "V100", 8)),
        training(TRAIN_CLOUD, node(16, "A100", 8)),
        json!({"name": SERVE_ONLINE, "nodes": [node(4, "A10", 4)], "crds": ["istio", "kyverno"], "requestsPerSecond": 200.0}),
    ];
    for edge in EDGES {
        clusters.push(json!({"name": edge, "nodes": [node(1, "T4", 2)], "requestsPerSecond": 100.0}));
    }
    clusters.retain(|cluster| names.iter().any(|name| cluster["name"] == *name));
    json!({"clusters": clusters, "images": images(&[])})
}

/// What the images do, with more rules after these; of two that fit, the later counts.
pub fn images(more: &[Value]) -> Value {
    let mut rules = vec![
        // A training that ends well, and one that goes on until it is cancelled.
        json!({"match": format!("{TRAINER}:*"), "runForMs": 6_000, "logs": ["epoch 1 loss 0.71", "epoch 2 loss 0.48"]}),
        json!({"match": format!("{TRAINER}:quick"), "runForMs": 1_000}),
        json!({"match": format!("{TRAINER}:endless"), "runForMs": 3_600_000}),
        json!({"match": format!("{SERVER}:*"), "readyAfterMs": 300, "latencyMs": 12.0}),
        // Fails everywhere, from the first request on.
        json!({"match": format!("{SERVER}:*v4"), "errorRate": 0.5}),
        // Fails only where the traffic is of another kind.
        json!({"match": format!("{SERVER}:*v5"), "clusters": [SERVE_ONLINE], "errorRate": 0.5}),
    ];
    rules.extend_from_slice(more);
    Value::Array(rules)
}
