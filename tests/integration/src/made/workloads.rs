//! Generated workloads: every kind that makes Pods, with the fields that policies ask for present, absent, empty and null.
//!
//! A number is the whole of a workload, so that one which is judged otherwise can be made again. All are valid: an API server
//! takes each of them.

use serde_json::{Map, Value, json};

use super::pod;
use crate::draw::Draw;

/// Controllers that a cluster has by itself.
const BUILT_IN: [(&str, &str); 5] = [
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
];

/// Kinds that somebody has to install.
const OTHERS: [(&str, &str); 8] = [
    ("batch.volcano.sh/v1alpha1", "Job"),
    ("jobset.x-k8s.io/v1alpha2", "JobSet"),
    ("kubeflow.org/v1", "PyTorchJob"),
    ("kubeflow.org/v1", "TFJob"),
    ("ray.io/v1", "RayJob"),
    ("ray.io/v1", "RayCluster"),
    ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet"),
    ("kubeflow.org/v2beta1", "MPIJob"),
];

/// A workload that real controllers make Pods of.
pub fn built_in(number: usize, namespace: &str) -> Value {
    let (api_version, kind) = BUILT_IN[number % BUILT_IN.len()];
    let draw = &mut seeded(number);
    let name = format!("{}-{number}", kind.to_lowercase());
    let selector = json!({"matchLabels": {"app": name}});
    let mut spec = match kind {
        "Deployment" => deployment(draw, &name),
        "StatefulSet" => stateful_set(draw, &name),
        "DaemonSet" => json!({"template": pod::template(draw, &name, None)}),
        "Job" => job(draw, &name),
        _ => {
            // What the controller does within a minute of real time.
            let mut spec = json!({"schedule": "* * * * *", "jobTemplate": {"spec": job(draw, &name)}});
            if draw.below(2) == 0 {
                spec["jobTemplate"]["metadata"] = json!({"labels": {"team": "a"}, "annotations": {"note": ""}});
            }
            if draw.below(3) == 0 {
                spec["concurrencyPolicy"] = json!("Forbid");
            }
            spec
        }
    };
    if matches!(kind, "Deployment" | "StatefulSet" | "DaemonSet") {
        spec["selector"] = selector;
    }
    json!({"apiVersion": api_version, "kind": kind, "metadata": metadata(draw, &name, namespace), "spec": spec})
}

/// A workload of one of the kinds whose controllers are not there.
pub fn other(number: usize, namespace: &str) -> Value {
    let (api_version, kind) = OTHERS[number % OTHERS.len()];
    let draw = &mut seeded(number);
    let name = format!("{}-{number}", kind.to_lowercase());
    let template = |draw: &mut Draw| pod::template(draw, &name, None);
    let spec = match kind {
        "Job" => json!({"minAvailable": 1, "tasks": [
            {"name": "master", "replicas": 1, "template": template(draw)}, {"replicas": 2, "template": template(draw)},
        ]}),
        "JobSet" => json!({"replicatedJobs": [
            {"name": "main", "template": {"spec": job(draw, &name)}}, {"name": "side", "template": {"spec": job(draw, &name)}},
        ]}),
        "PyTorchJob" => json!({"pytorchReplicaSpecs": {
            "Master": {"replicas": 1, "template": template(draw)},
            "Worker": {"replicas": 2, "restartPolicy": "OnFailure", "template": template(draw)},
        }}),
        "TFJob" => json!({"tfReplicaSpecs": {"Chief": {"template": template(draw)}, "PS": {"template": template(draw)}}}),
        "MPIJob" => {
            json!({"mpiReplicaSpecs": {"Launcher": {"template": template(draw)}, "Worker": {"template": template(draw)}}})
        }
        "RayJob" => json!({"entrypoint": "python a.py", "rayClusterSpec": ray(draw, &name)}),
        "RayCluster" => ray(draw, &name),
        _ => json!({"leaderWorkerTemplate": {"size": 2, "leaderTemplate": template(draw), "workerTemplate": template(draw)}}),
    };
    json!({"apiVersion": api_version, "kind": kind, "metadata": metadata(draw, &name, namespace), "spec": spec})
}

fn seeded(number: usize) -> Draw {
    let mut draw = Draw((number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    // The first numbers of neighbouring states are alike.
    for _ in 0..8 {
        draw.number();
    }
    draw
}

fn metadata(draw: &mut Draw, name: &str, namespace: &str) -> Value {
    let mut metadata = json!({"name": name, "namespace": namespace});
    match draw.below(4) {
        0 => {}
        1 => metadata["labels"] = json!({"app": name, "app.kubernetes.io/name": name, "app.kubernetes.io/component": "x"}),
        2 => metadata["labels"] = json!({}),
        _ => metadata["annotations"] = json!({"owner": "team-a", "empty": ""}),
    }
    metadata
}

fn deployment(draw: &mut Draw, name: &str) -> Value {
    let mut spec = json!({"template": pod::template(draw, name, None)});
    match draw.below(4) {
        0 => spec["strategy"] = json!({"type": "Recreate"}),
        1 => spec["strategy"] = json!({"rollingUpdate": {"maxSurge": 1}}),
        2 => spec["replicas"] = json!(2),
        _ => spec["minReadySeconds"] = json!(5),
    }
    spec
}

fn stateful_set(draw: &mut Draw, name: &str) -> Value {
    let mut spec = json!({"template": pod::template(draw, name, None)});
    if draw.below(3) > 0 {
        spec["serviceName"] = json!(name);
    }
    match draw.below(4) {
        0 => {
            let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
            spec["volumeClaimTemplates"] = json!([{"metadata": {"name": "claimed"}, "spec": claim}]);
        }
        1 => spec["updateStrategy"] = json!({"type": "OnDelete"}),
        2 => spec["ordinals"] = json!({"start": 3}),
        _ => spec["podManagementPolicy"] = json!("Parallel"),
    }
    spec
}

fn job(draw: &mut Draw, name: &str) -> Value {
    let policy = if draw.below(2) == 0 { "Never" } else { "OnFailure" };
    let mut spec = json!({"template": pod::template(draw, name, Some(policy))});
    match draw.below(5) {
        0 => spec["completionMode"] = json!("Indexed"),
        1 => spec["parallelism"] = json!(2),
        2 => spec["ttlSecondsAfterFinished"] = json!(600),
        3 => spec["activeDeadlineSeconds"] = json!(3600),
        _ => spec["backoffLimit"] = json!(0),
    }
    if spec["completionMode"] == "Indexed" {
        spec["completions"] = json!(2);
    }
    spec
}

fn ray(draw: &mut Draw, name: &str) -> Value {
    let mut workers = Map::from_iter([("groupName".to_owned(), json!("gpu"))]);
    workers.insert("template".to_owned(), pod::template(draw, name, None));
    json!({"headGroupSpec": {"template": pod::template(draw, name, None)}, "workerGroupSpecs": [workers]})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_number_is_the_whole_of_a_workload_and_others_differ() {
        let made: Vec<Value> =
            (0..200).map(|number| built_in(number, "a")).chain((0..200).map(|number| other(number, "a"))).collect();
        let again: Vec<Value> =
            (0..200).map(|number| built_in(number, "a")).chain((0..200).map(|number| other(number, "a"))).collect();
        assert_eq!(made, again);
        let specs: BTreeSet<String> = made.iter().map(|workload| workload["spec"].to_string()).collect();
        assert_eq!(specs.len(), made.len());
    }
}
