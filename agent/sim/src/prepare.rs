//! What the API server writes into an object beside the plain defaults: what depends on other fields, on the kind's
//! strategy, or on an admission plugin.

use crate::{
    images, json,
    resource::ResourceType,
    schema::{Schema, default},
    state::State,
};
use base64::Engine as _;
use serde_json::{Value, json};

/// Fills in a new object.
pub fn for_create(state: &mut State, kind: &ResourceType, schema: &Schema, object: &mut Value) {
    fill(kind, schema, object);
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => new_pod(object),
        ("", "Namespace") => {
            let name = json::name(object).to_owned();
            json::set(object, &["metadata", "labels", "kubernetes.io/metadata.name"], json!(name));
            json::set(object, &["spec", "finalizers"], json!(["kubernetes"]));
            json::set(object, &["status"], json!({"phase": "Active"}));
        }
        ("", "Service") => new_service(state, object),
        ("", "PersistentVolumeClaim") => json::set(object, &["status"], json!({"phase": "Pending"})),
        ("batch", "Job") => new_job(object),
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet") | ("policy", _) => {
            json::set(object, &["status"], json!({}));
            if kind.kind == "DaemonSet" {
                json::set(object, &["metadata", "annotations", "deprecated.daemonset.template.generation"], json!("1"));
            }
        }
        ("scheduling.volcano.sh", "Queue") => absent(object, &["spec", "weight"], json!(1)),
        _ => {}
    }
}

/// Fills in a changed object.
pub fn for_update(kind: &ResourceType, schema: &Schema, before: &Value, object: &mut Value) {
    if kind.kind == "Service" && kind.group.is_empty() {
        for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if let Some(value) = before.pointer(&format!("/spec/{name}")) {
                absent(object, &["spec", name], value.clone());
            }
        }
    }
    if kind.kind == "Job" && kind.group == "batch" {
        // A replacement may leave out what the server wrote: selector and template labels are then the old ones.
        if object.pointer("/spec/selector").is_none()
            && let Some(selector) = before.pointer("/spec/selector")
        {
            json::set(object, &["spec", "selector"], selector.clone());
            let labels = before.pointer("/spec/template/metadata/labels").cloned().unwrap_or_default();
            for (key, value) in labels.as_object().into_iter().flatten() {
                absent(object, &["spec", "template", "metadata", "labels", key], value.clone());
            }
        }
    }
    fill(kind, schema, object);
}

/// True where an object that is being deleted and has no finalizers may go: pods only once their kubelet has let go.
pub fn may_vanish(kind: &ResourceType, object: &Value) -> bool {
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => json::integer(object, "/metadata/deletionGracePeriodSeconds").unwrap_or(0) == 0,
        ("", "Namespace") => json::list(object, "/spec/finalizers").is_empty(),
        _ => true,
    }
}

fn absent(object: &mut Value, path: &[&str], value: Value) {
    let pointer: String = path.iter().map(|key| format!("/{}", key.replace('~', "~0").replace('/', "~1"))).collect();
    if object.pointer(&pointer).is_none_or(Value::is_null) {
        json::set(object, path, value);
    }
}

fn fill(kind: &ResourceType, schema: &Schema, object: &mut Value) {
    default::fill(schema, object);
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => pod_spec(object.get_mut("spec")),
        ("", "Secret") => secret(object),
        ("", "Service") => service(object),
        ("apps", "Deployment") => {
            pod_spec(object.pointer_mut("/spec/template/spec"));
            if json::text(object, "/spec/strategy/type") == "RollingUpdate" {
                absent(object, &["spec", "strategy", "rollingUpdate", "maxUnavailable"], json!("25%"));
                absent(object, &["spec", "strategy", "rollingUpdate", "maxSurge"], json!("25%"));
            }
        }
        ("apps", "ReplicaSet") => pod_spec(object.pointer_mut("/spec/template/spec")),
        ("apps", "StatefulSet") => {
            pod_spec(object.pointer_mut("/spec/template/spec"));
            if json::text(object, "/spec/updateStrategy/type") == "RollingUpdate" {
                absent(object, &["spec", "updateStrategy", "rollingUpdate", "partition"], json!(0));
            }
            for claim in object.pointer_mut("/spec/volumeClaimTemplates").and_then(Value::as_array_mut).into_iter().flatten() {
                absent(claim, &["apiVersion"], json!("v1"));
                absent(claim, &["kind"], json!("PersistentVolumeClaim"));
                absent(claim, &["spec", "volumeMode"], json!("Filesystem"));
                absent(claim, &["status"], json!({"phase": "Pending"}));
            }
        }
        ("apps", "DaemonSet") => {
            pod_spec(object.pointer_mut("/spec/template/spec"));
            if json::text(object, "/spec/updateStrategy/type") == "RollingUpdate" {
                absent(object, &["spec", "updateStrategy", "rollingUpdate", "maxUnavailable"], json!(1));
                absent(object, &["spec", "updateStrategy", "rollingUpdate", "maxSurge"], json!(0));
            }
        }
        ("batch", "Job") => job_spec(object.get_mut("spec")),
        ("batch", "CronJob") => {
            if let Some(template) = object.pointer_mut("/spec/jobTemplate/spec") {
                pod_spec(template.pointer_mut("/template/spec"));
            }
        }
        ("autoscaling", "HorizontalPodAutoscaler") => {
            let cpu = json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
            absent(object, &["spec", "metrics"], cpu);
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
                if matches!(json::text(subject, "/kind"), "User" | "Group") {
                    absent(subject, &["apiGroup"], json!("rbac.authorization.k8s.io"));
                }
            }
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            let name = json::text(object, "/spec/names/kind").to_owned();
            absent(object, &["spec", "names", "singular"], json!(name.to_lowercase()));
            absent(object, &["spec", "names", "listKind"], json!(format!("{name}List")));
            absent(object, &["spec", "conversion"], json!({"strategy": "None"}));
        }
        ("batch.volcano.sh", "Job") => volcano_job(object),
        _ => {}
    }
}

fn pod_spec(spec: Option<&mut Value>) {
    let Some(spec) = spec else { return };
    match (json::text(spec, "/serviceAccountName").to_owned(), json::text(spec, "/serviceAccount").to_owned()) {
        (name, old) if name.is_empty() && !old.is_empty() => json::set(spec, &["serviceAccountName"], json!(old)),
        (name, _) if !name.is_empty() => json::set(spec, &["serviceAccount"], json!(name)),
        _ => {}
    }
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let image = json::text(container, "/image");
            let policy = if images::tag(image) == "latest" && !image.contains('@') { "Always" } else { "IfNotPresent" };
            absent(container, &["imagePullPolicy"], json!(policy));
        }
    }
}

/// Requests default to limits in pods, and only there: a template keeps what was written.
fn new_pod(pod: &mut Value) {
    let mut guaranteed = true;
    let mut best_effort = true;
    for list in ["initContainers", "containers"] {
        let pointer = format!("/spec/{list}");
        for container in pod.pointer_mut(&pointer).and_then(Value::as_array_mut).into_iter().flatten() {
            let limits = container.pointer("/resources/limits").cloned().unwrap_or_default();
            for (name, limit) in limits.as_object().into_iter().flatten() {
                absent(container, &["resources", "requests", name], limit.clone());
            }
            let requests = container.pointer("/resources/requests").cloned().unwrap_or_default();
            for name in ["cpu", "memory"] {
                let same = limits.get(name).is_some() && limits.get(name) == requests.get(name);
                guaranteed &= same;
                best_effort &= limits.get(name).is_none() && requests.get(name).is_none();
            }
        }
    }
    absent(pod, &["spec", "serviceAccountName"], json!("default"));
    let account = json::text(pod, "/spec/serviceAccountName").to_owned();
    json::set(pod, &["spec", "serviceAccount"], json!(account));
    absent(pod, &["spec", "enableServiceLinks"], json!(true));
    absent(pod, &["spec", "priority"], json!(0));
    absent(pod, &["spec", "preemptionPolicy"], json!("PreemptLowerPriority"));
    let mut tolerations = json::list(pod, "/spec/tolerations").to_vec();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        if !tolerations.iter().any(|other| matches!(json::text(other, "/key"), found if found == key || found.is_empty())) {
            tolerations.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
    json::set(pod, &["spec", "tolerations"], Value::Array(tolerations));
    let class = match (best_effort, guaranteed) {
        (true, _) => "BestEffort",
        (false, true) => "Guaranteed",
        (false, false) => "Burstable",
    };
    json::set(pod, &["status"], json!({"phase": "Pending", "qosClass": class}));
}

fn secret(object: &mut Value) {
    let Some(Value::Object(texts)) = json::remove(object, &["stringData"]) else { return };
    for (key, text) in texts {
        let encoded = base64::engine::general_purpose::STANDARD.encode(text.as_str().unwrap_or(""));
        json::set(object, &["data", &key], json!(encoded));
    }
}

fn service(object: &mut Value) {
    for port in object.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let number = port.get("port").cloned().unwrap_or_default();
        absent(port, &["targetPort"], number);
    }
    let kind = json::text(object, "/spec/type").to_owned();
    if kind != "ExternalName" {
        absent(object, &["spec", "internalTrafficPolicy"], json!("Cluster"));
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        absent(object, &["spec", "externalTrafficPolicy"], json!("Cluster"));
    }
    if kind == "LoadBalancer" {
        absent(object, &["spec", "allocateLoadBalancerNodePorts"], json!(true));
    }
}

fn new_service(state: &mut State, object: &mut Value) {
    json::set(object, &["status"], json!({"loadBalancer": {}}));
    if json::text(object, "/spec/type") == "ExternalName" {
        return;
    }
    if json::text(object, "/spec/clusterIP").is_empty() {
        let address = state.addresses.service();
        json::set(object, &["spec", "clusterIP"], json!(address));
    }
    let address = json::text(object, "/spec/clusterIP").to_owned();
    absent(object, &["spec", "clusterIPs"], json!([address]));
    absent(object, &["spec", "ipFamilies"], json!(["IPv4"]));
    absent(object, &["spec", "ipFamilyPolicy"], json!("SingleStack"));
}

fn job_spec(spec: Option<&mut Value>) {
    let Some(spec) = spec else { return };
    pod_spec(spec.pointer_mut("/template/spec"));
    let given = |spec: &Value, name: &str| spec.get(name).is_some_and(|value| !value.is_null());
    if !given(spec, "completions") && !given(spec, "parallelism") {
        json::set(spec, &["completions"], json!(1));
    }
    absent(spec, &["parallelism"], json!(1));
    let unlimited = given(spec, "backoffLimitPerIndex");
    absent(spec, &["backoffLimit"], if unlimited { json!(i32::MAX) } else { json!(6) });
    let replacement = if given(spec, "podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    absent(spec, &["podReplacementPolicy"], json!(replacement));
}

fn new_job(job: &mut Value) {
    json::set(job, &["status"], json!({}));
    let (uid, name) = (json::uid(job).to_owned(), json::name(job).to_owned());
    if !json::flag(job, "/spec/manualSelector") {
        json::set(job, &["spec", "selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}));
        for (label, value) in [
            ("batch.kubernetes.io/controller-uid", &uid),
            ("batch.kubernetes.io/job-name", &name),
            ("controller-uid", &uid),
            ("job-name", &name),
        ] {
            json::set(job, &["spec", "template", "metadata", "labels", label], json!(value));
        }
    }
}

/// What Volcano's own admission webhook writes into its jobs.
fn volcano_job(job: &mut Value) {
    let mut replicas = 0;
    if let Some(tasks) = job.pointer_mut("/spec/tasks").and_then(Value::as_array_mut) {
        for (index, task) in tasks.iter_mut().enumerate() {
            absent(task, &["name"], json!(format!("default{index}")));
            absent(task, &["replicas"], json!(1));
            let own = json::integer(task, "/replicas").unwrap_or(1);
            absent(task, &["minAvailable"], json!(own));
            absent(task, &["maxRetry"], json!(3));
            replicas += own;
        }
    }
    absent(job, &["spec", "queue"], json!("default"));
    absent(job, &["spec", "schedulerName"], json!("volcano"));
    absent(job, &["spec", "minAvailable"], json!(replicas));
    absent(job, &["spec", "maxRetry"], json!(3));
}
