//! What the API server itself adds to an object before an admission webhook sees it, beyond the defaults of its kind: its
//! admission plugins `ServiceAccount`, `Priority` and `DefaultTolerationSeconds`, and the labels by which a Job finds its Pods.
//!
//! What depends on objects nobody told of is as it is where nobody changed them: an account mounts its token and has no secrets
//! for pulling images, and the only priority classes are the two of the system.

use crate::expand::owned::{UNKNOWN_UID, label};
use serde_json::{Map, Value, json};

const TOKEN_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const TOKEN_VOLUME: &str = "kube-api-access-";
/// Labels of a Job's Pods that hold its name.
const JOB_NAMES: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
/// Those that hold its UID.
const JOB_UIDS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];

/// Adds what the server does, after the defaults.
pub fn admit(object: &mut Value) {
    match (object["apiVersion"].as_str(), object["kind"].as_str()) {
        (Some("v1"), Some("Pod")) => {
            if let Some(Value::Object(spec)) = object.get_mut("spec") {
                account(spec);
                priority(spec);
                tolerations(spec);
            }
        }
        (Some("batch/v1"), Some("Job")) => select_pods(object),
        _ => {}
    }
}

/// The labels of a Job's Pods.
pub fn label_as_the_jobs(object: &mut Value, job: &str) {
    JOB_NAMES.iter().for_each(|key| label(object, key, job));
    JOB_UIDS.iter().for_each(|key| label(object, key, UNKNOWN_UID));
}

fn select_pods(job: &mut Value) {
    let name = ["/metadata/name", "/metadata/generateName"].iter().find_map(|at| job.pointer(at).and_then(Value::as_str));
    let name = name.unwrap_or_default().trim_end_matches('-').to_owned();
    let Some(Value::Object(spec)) = job.get_mut("spec") else { return };
    if spec.get("manualSelector") == Some(&Value::Bool(true)) {
        return;
    }
    let Some(template) = spec.get_mut("template").filter(|template| template.is_object()) else { return };
    if let Value::Object(template) = template {
        template.entry("metadata").or_insert_with(|| json!({}));
    }
    label_as_the_jobs(template, &name);
    let selector = spec.entry("selector").or_insert_with(|| json!({"matchLabels": {}}));
    if let Some(Value::Object(labels)) = selector.get_mut("matchLabels") {
        labels.entry(JOB_UIDS[1]).or_insert(json!(UNKNOWN_UID));
    }
}

fn account(spec: &mut Map<String, Value>) {
    let account = spec.entry("serviceAccountName").or_insert(json!("default")).clone();
    spec.insert("serviceAccount".to_owned(), account);
    if spec.get("automountServiceAccountToken") == Some(&Value::Bool(false)) {
        return;
    }
    let volumes = spec.get("volumes").and_then(Value::as_array).into_iter().flatten();
    let given = volumes.filter_map(|volume| volume["name"].as_str()).find(|name| name.starts_with(TOKEN_VOLUME));
    let is_given = given.is_some();
    let name = given.map_or_else(|| format!("{TOKEN_VOLUME}00000"), str::to_owned);
    let mut is_needed = false;
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let Value::Object(container) = container else { continue };
            let Value::Array(mounts) = container.entry("volumeMounts").or_insert_with(|| json!([])) else { continue };
            if mounts.iter().all(|mount| mount["mountPath"] != TOKEN_FOLDER) {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": TOKEN_FOLDER}));
                is_needed = true;
            }
        }
    }
    if is_needed
        && !is_given
        && let Value::Array(volumes) = spec.entry("volumes").or_insert_with(|| json!([]))
    {
        let namespace = json!({"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}});
        let sources = json!([
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [namespace]}},
        ]);
        volumes.push(json!({"name": name, "projected": {"defaultMode": 420, "sources": sources}}));
    }
}

fn priority(spec: &mut Map<String, Value>) {
    let value = match spec.get("priorityClassName").and_then(Value::as_str) {
        None | Some("") => 0,
        Some("system-cluster-critical") => 2_000_000_000,
        Some("system-node-critical") => 2_000_001_000,
        Some(_) => return,
    };
    spec.entry("priority").or_insert(json!(value));
    spec.entry("preemptionPolicy").or_insert(json!("PreemptLowerPriority"));
}

fn tolerations(spec: &mut Map<String, Value>) {
    let Value::Array(tolerations) = spec.entry("tolerations").or_insert_with(|| json!([])) else { return };
    for trouble in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let says = |toleration: &Value, key: &str| toleration[key].as_str().unwrap_or_default().to_owned();
        let is_tolerated = |toleration: &Value| {
            let (key, effect) = (says(toleration, "key"), says(toleration, "effect"));
            (key.is_empty() || key == trouble) && (effect.is_empty() || effect == "NoExecute")
        };
        if !tolerations.iter().any(is_tolerated) {
            tolerations.push(json!({"key": trouble, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
}
