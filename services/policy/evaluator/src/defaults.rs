//! What the API server fills in before an admission webhook sees an object (`SetDefaults_*` of Kubernetes 1.3x), and what it
//! leaves out: its types can't tell a list or mapping without entries, or a field that says nothing, from an absent one.
//!
//! Requests default to limits in a *Pod* and not in the template of a controller, and so do the host's ports of a Pod in the
//! host's network: the two differences between what passes as a Deployment and what fails as a Pod, or the other way round.

mod absent;
mod pod;

use absent::{drop_empty, leave_out_zeros};
use pod::{host_ports, pod_spec, requests_from_limits};
use serde_json::{Map, Value, json};

/// The object with the defaults of its kind; kinds of other API groups come back as they are.
pub fn with_api_defaults(object: &Value) -> Value {
    let mut object = object.clone();
    set_api_defaults(&mut object);
    object
}

/// Sets what the API server would.
pub(crate) fn set_api_defaults(object: &mut Value) {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let Some(Value::Object(_)) = object.get("spec") else { return };
    let (version, kind) = (text("apiVersion"), text("kind"));
    if version == "apps/v1"
        || version == "batch/v1"
        || (version == "v1" && matches!(kind.as_str(), "Pod" | "ReplicationController"))
    {
        drop_empty(object);
    }
    match (version.as_str(), kind.as_str()) {
        ("v1", "Pod") => {
            let spec = &mut object["spec"];
            pod_spec(spec);
            for list in ["containers", "initContainers"] {
                each(spec.get_mut(list), requests_from_limits);
            }
            host_ports(spec);
        }
        ("apps/v1", "Deployment") => deployment(&mut object["spec"]),
        ("apps/v1", "StatefulSet") => stateful_set(&mut object["spec"]),
        ("apps/v1", "DaemonSet") => daemon_set(&mut object["spec"]),
        ("apps/v1", "ReplicaSet") => {
            leave_out_zeros(&mut object["spec"], &["minReadySeconds"]);
            fill(&mut object["spec"], [("replicas", json!(1))]);
            template(object["spec"].get_mut("template"));
        }
        ("v1", "ReplicationController") => {
            let labels = object.pointer("/spec/template/metadata/labels").cloned();
            leave_out_zeros(&mut object["spec"], &["minReadySeconds"]);
            fill(&mut object["spec"], [("replicas", json!(1))]);
            if let Some(labels) = labels {
                fill(&mut object["spec"], [("selector", labels.clone())]);
                labelled(object, labels);
            }
            template(object["spec"].get_mut("template"));
        }
        ("batch/v1", "Job") => {
            let labels = object.pointer("/spec/template/metadata/labels").cloned();
            job_spec(&mut object["spec"]);
            if let Some(labels) = labels {
                labelled(object, labels);
            }
        }
        ("batch/v1" | "batch/v1beta1", "CronJob") => cron_job(&mut object["spec"]),
        ("v1", "Service") => service(&mut object["spec"]),
        _ => {}
    }
}

fn deployment(spec: &mut Value) {
    leave_out_zeros(spec, &["minReadySeconds", "paused"]);
    fill(
        spec,
        [
            ("replicas", json!(1)),
            ("strategy", json!({})),
            ("revisionHistoryLimit", json!(10)),
            ("progressDeadlineSeconds", json!(600)),
        ],
    );
    rolling(&mut spec["strategy"], [("maxUnavailable", json!("25%")), ("maxSurge", json!("25%"))]);
    template(spec.get_mut("template"));
}

fn daemon_set(spec: &mut Value) {
    leave_out_zeros(spec, &["minReadySeconds"]);
    fill(spec, [("updateStrategy", json!({})), ("revisionHistoryLimit", json!(10))]);
    rolling(&mut spec["updateStrategy"], [("maxUnavailable", json!(1)), ("maxSurge", json!(0))]);
    template(spec.get_mut("template"));
}

fn stateful_set(spec: &mut Value) {
    leave_out_zeros(spec, &["minReadySeconds"]);
    fill(
        spec,
        [
            ("replicas", json!(1)),
            ("podManagementPolicy", json!("OrderedReady")),
            ("revisionHistoryLimit", json!(10)),
            ("updateStrategy", json!({})),
            ("persistentVolumeClaimRetentionPolicy", json!({})),
        ],
    );
    rolling(&mut spec["updateStrategy"], [("partition", json!(0))]);
    fill(&mut spec["persistentVolumeClaimRetentionPolicy"], [("whenDeleted", json!("Retain")), ("whenScaled", json!("Retain"))]);
    each(spec.get_mut("volumeClaimTemplates"), |claim| {
        fill(
            claim,
            [("apiVersion", json!("v1")), ("kind", json!("PersistentVolumeClaim")), ("status", json!({"phase": "Pending"}))],
        );
        if let Some(spec) = claim.get_mut("spec") {
            fill(spec, [("volumeMode", json!("Filesystem"))]);
        }
    });
    template(spec.get_mut("template"));
}

/// A strategy, rolling where it does not say otherwise.
fn rolling<const N: usize>(strategy: &mut Value, defaults: [(&str, Value); N]) {
    fill(strategy, [("type", json!("RollingUpdate"))]);
    if strategy["type"] == "RollingUpdate" {
        fill(strategy, [("rollingUpdate", json!({}))]);
        fill(&mut strategy["rollingUpdate"], defaults);
    }
}

fn cron_job(spec: &mut Value) {
    let limits = [
        ("concurrencyPolicy", json!("Allow")),
        ("suspend", json!(false)),
        ("successfulJobsHistoryLimit", json!(3)),
        ("failedJobsHistoryLimit", json!(1)),
    ];
    fill(spec, limits);
    // The defaults of a Job are set where it is one.
    template(spec.pointer_mut("/jobTemplate/spec/template"));
}

fn job_spec(spec: &mut Value) {
    let limit = if spec.get("backoffLimitPerIndex").is_some() { i32::MAX } else { 6 };
    let replaced = if spec.get("podFailurePolicy").is_some() { "Failed" } else { "TerminatingOrFailed" };
    fill(
        spec,
        [
            ("completionMode", json!("NonIndexed")),
            ("backoffLimit", json!(limit)),
            ("suspend", json!(false)),
            ("podReplacementPolicy", json!(replaced)),
            ("manualSelector", json!(false)),
        ],
    );
    if spec.get("completions").is_none() && spec.get("parallelism").is_none() {
        fill(spec, [("completions", json!(1))]);
    }
    fill(spec, [("parallelism", json!(1))]);
    template(spec.get_mut("template"));
}

fn service(spec: &mut Value) {
    fill(spec, [("type", json!("ClusterIP")), ("sessionAffinity", json!("None"))]);
    each(spec.get_mut("ports"), |port| {
        fill(port, [("protocol", json!("TCP"))]);
        if let (None, Some(number)) = (port.get("targetPort"), port.get("port").cloned()) {
            fill(port, [("targetPort", number)]);
        }
    });
}

/// Labels of an object that has none.
fn labelled(object: &mut Value, labels: Value) {
    if let Some(metadata) = object.get_mut("metadata") {
        fill(metadata, [("labels", labels)]);
    }
}

fn template(template: Option<&mut Value>) {
    if let Some(spec) = template.and_then(|template| template.get_mut("spec")) {
        pod_spec(spec);
    }
}

fn each(list: Option<&mut Value>, change: impl Fn(&mut Value)) {
    if let Some(Value::Array(items)) = list {
        items.iter_mut().for_each(change);
    }
}

/// Sets what is absent or says nothing; leaves alone what is no mapping.
fn fill<const N: usize>(target: &mut Value, defaults: [(&str, Value); N]) {
    let Value::Object(target) = target else { return };
    for (key, value) in defaults {
        set_where_absent(target, key, value);
    }
}

fn set_where_absent(target: &mut Map<String, Value>, key: &str, value: Value) {
    match target.get_mut(key) {
        Some(present) if present.is_null() || present == "" => *present = value,
        Some(_) => {}
        None => {
            target.insert(key.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{pod::is_latest, *};

    #[test]
    fn what_says_nothing_is_left_out_as_the_server_does() {
        let container = json!({
            "name": "a", "image": "x:1", "tty": false, "env": [{"name": "A", "value": ""}],
            "ports": [{"containerPort": 80, "hostPort": 0}, {"containerPort": 81, "hostPort": 81}],
            "securityContext": {"privileged": false, "runAsUser": 0},
        });
        let spec = json!({"hostNetwork": false, "hostPID": true, "nodeName": "", "automountServiceAccountToken": false, "containers": [container]});
        let pod = with_api_defaults(&json!({"apiVersion": "v1", "kind": "Pod", "spec": spec}));
        let at = |pointer: &str| pod.pointer(&format!("/spec{pointer}"));
        for absent in
            ["/hostNetwork", "/nodeName", "/containers/0/tty", "/containers/0/env/0/value", "/containers/0/ports/0/hostPort"]
        {
            assert_eq!(at(absent), None, "{absent}");
        }
        // These are pointers, or say something.
        for (there, value) in [
            ("/hostPID", json!(true)),
            ("/automountServiceAccountToken", json!(false)),
            ("/containers/0/ports/1/hostPort", json!(81)),
            ("/containers/0/securityContext/privileged", json!(false)),
            ("/containers/0/securityContext/runAsUser", json!(0)),
        ] {
            assert_eq!(at(there), Some(&value), "{there}");
        }
    }

    fn limits_only() -> Value {
        json!({"containers": [{"name": "a", "image": "x:1", "resources": {"limits": {"cpu": "8", "memory": "1Gi"}, "requests": {"cpu": "2"}}}]})
    }

    #[test]
    fn requests_default_to_limits_in_a_pod_and_not_in_a_template() {
        let pod = with_api_defaults(&json!({"apiVersion": "v1", "kind": "Pod", "spec": limits_only()}));
        assert_eq!(pod["spec"]["containers"][0]["resources"]["requests"], json!({"cpu": "2", "memory": "1Gi"}));
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": limits_only()}}});
        let deployment = with_api_defaults(&deployment);
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["resources"]["requests"], json!({"cpu": "2"}));
        assert_eq!(container["imagePullPolicy"], json!("IfNotPresent"));
        assert_eq!(deployment["spec"]["replicas"], json!(1));
    }

    #[test]
    fn images_are_pulled_always_only_when_latest() {
        for (image, latest) in [
            ("nginx", true),
            ("nginx:latest", true),
            ("nginx:1.27", false),
            ("registry.example.com:5000/nginx", true),
            ("registry.example.com:5000/nginx:1", false),
            ("nginx@sha256:0123", false),
        ] {
            assert_eq!(is_latest(image), latest, "{image}");
        }
    }

    #[test]
    fn what_is_odd_stays_as_it_is() {
        for odd in [json!({}), json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": "x"}}), json!("text")] {
            let filled = with_api_defaults(&odd);
            assert_eq!(filled.get("kind"), odd.get("kind"));
        }
    }
}
