//! What the API server fills in before an admission webhook sees an object (`SetDefaults_*` of Kubernetes 1.3x), and what it
//! leaves out: a field that says nothing (`hostPort: 0`) is not written where its type has no other way to be absent.
//!
//! Requests default to limits in a *Pod* and not in the template of a controller: the one difference between what
//! passes as a Pod and what fails as a Deployment.

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
    match (text("apiVersion").as_str(), text("kind").as_str()) {
        ("v1", "Pod") => {
            let spec = &mut object["spec"];
            pod_spec(spec);
            for list in ["containers", "initContainers"] {
                each(spec.get_mut(list), requests_from_limits);
            }
        }
        ("apps/v1", "Deployment") => {
            let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}});
            let spec = &mut object["spec"];
            fill(
                spec,
                [
                    ("replicas", json!(1)),
                    ("strategy", strategy),
                    ("revisionHistoryLimit", json!(10)),
                    ("progressDeadlineSeconds", json!(600)),
                ],
            );
            template(spec.get_mut("template"));
        }
        ("apps/v1", "StatefulSet") => {
            let spec = &mut object["spec"];
            fill(
                spec,
                [("replicas", json!(1)), ("podManagementPolicy", json!("OrderedReady")), ("revisionHistoryLimit", json!(10))],
            );
            template(spec.get_mut("template"));
        }
        ("apps/v1", "ReplicaSet") | ("v1", "ReplicationController") => {
            fill(&mut object["spec"], [("replicas", json!(1))]);
            template(object["spec"].get_mut("template"));
        }
        ("apps/v1", "DaemonSet") => {
            fill(&mut object["spec"], [("revisionHistoryLimit", json!(10))]);
            template(object["spec"].get_mut("template"));
        }
        ("batch/v1", "Job") => job_spec(&mut object["spec"]),
        ("batch/v1" | "batch/v1beta1", "CronJob") => {
            let spec = &mut object["spec"];
            let limits = [
                ("concurrencyPolicy", json!("Allow")),
                ("suspend", json!(false)),
                ("successfulJobsHistoryLimit", json!(3)),
                ("failedJobsHistoryLimit", json!(1)),
            ];
            fill(spec, limits);
            if let Some(job) = spec.pointer_mut("/jobTemplate/spec") {
                job_spec(job);
            }
        }
        ("v1", "Service") => {
            let spec = &mut object["spec"];
            fill(spec, [("type", json!("ClusterIP")), ("sessionAffinity", json!("None"))]);
            each(spec.get_mut("ports"), |port| {
                fill(port, [("protocol", json!("TCP"))]);
                if let (None, Some(number)) = (port.get("targetPort"), port.get("port").cloned()) {
                    fill(port, [("targetPort", number)]);
                }
            });
        }
        _ => {}
    }
}

fn job_spec(spec: &mut Value) {
    fill(spec, [("completionMode", json!("NonIndexed")), ("backoffLimit", json!(6)), ("suspend", json!(false))]);
    if spec.get("completions").is_none() && spec.get("parallelism").is_none() {
        fill(spec, [("completions", json!(1))]);
    }
    fill(spec, [("parallelism", json!(1))]);
    template(spec.get_mut("template"));
}

fn template(template: Option<&mut Value>) {
    if let Some(spec) = template.and_then(|template| template.get_mut("spec")) {
        pod_spec(spec);
    }
}

/// Fields of a Pod's spec that are left out where they say nothing: of `core/v1`, those with `omitempty` and no pointer.
const POD_ZEROS: [&str; 9] = [
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "nodeName",
    "serviceAccountName",
    "serviceAccount",
    "hostname",
    "subdomain",
    "priorityClassName",
];

fn pod_spec(spec: &mut Value) {
    leave_out_zeros(spec, &POD_ZEROS);
    fill(
        spec,
        [
            ("restartPolicy", json!("Always")),
            ("dnsPolicy", json!("ClusterFirst")),
            ("schedulerName", json!("default-scheduler")),
            ("terminationGracePeriodSeconds", json!(30)),
            ("securityContext", json!({})),
            ("enableServiceLinks", json!(true)),
        ],
    );
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        each(spec.get_mut(list), container);
    }
    each(spec.get_mut("volumes"), volume);
}

fn container(container: &mut Value) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let pull = if is_latest(image) { "Always" } else { "IfNotPresent" };
    let usual = [
        ("terminationMessagePath", json!("/dev/termination-log")),
        ("terminationMessagePolicy", json!("File")),
        ("imagePullPolicy", json!(pull)),
        ("resources", json!({})),
    ];
    leave_out_zeros(container, &["workingDir", "stdin", "stdinOnce", "tty"]);
    fill(container, usual);
    each(container.get_mut("ports"), |port| {
        leave_out_zeros(port, &["name", "hostPort", "hostIP"]);
        fill(port, [("protocol", json!("TCP"))]);
    });
    each(container.get_mut("volumeMounts"), |mount| leave_out_zeros(mount, &["readOnly", "subPath", "subPathExpr"]));
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe) {
            fill(
                probe,
                [
                    ("timeoutSeconds", json!(1)),
                    ("periodSeconds", json!(10)),
                    ("successThreshold", json!(1)),
                    ("failureThreshold", json!(3)),
                ],
            );
            if let Some(http) = probe.get_mut("httpGet") {
                fill(http, [("path", json!("/")), ("scheme", json!("HTTP"))]);
            }
        }
    }
    each(container.get_mut("env"), |env| {
        leave_out_zeros(env, &["value"]);
        if let Some(field) = env.pointer_mut("/valueFrom/fieldRef") {
            fill(field, [("apiVersion", json!("v1"))]);
        }
    });
}

/// An image without a tag, or tagged `latest`; a digest is neither.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let name = image.rsplit('/').next().unwrap_or_default();
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn volume(volume: &mut Value) {
    let Value::Object(fields) = volume else { return };
    if fields.keys().all(|key| key == "name") {
        fields.insert("emptyDir".to_owned(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = fields.get_mut(source) {
            fill(source, [("defaultMode", json!(420))]);
        }
    }
    if let Some(path) = fields.get_mut("hostPath") {
        fill(path, [("type", json!(""))]);
    }
}

fn requests_from_limits(container: &mut Value) {
    let Some(Value::Object(limits)) = container.pointer("/resources/limits").cloned() else { return };
    let Some(Value::Object(resources)) = container.get_mut("resources") else { return };
    let requests = resources.entry("requests").or_insert_with(|| Value::Object(Map::new()));
    if requests.is_null() {
        *requests = Value::Object(Map::new());
    }
    let Value::Object(requests) = requests else { return };
    for (key, value) in limits {
        set_where_absent(requests, &key, value);
    }
}

fn each(list: Option<&mut Value>, change: impl Fn(&mut Value)) {
    if let Some(Value::Array(items)) = list {
        items.iter_mut().for_each(change);
    }
}

/// Takes out what the server's own types can't tell from absence: `false`, 0 and the empty text.
fn leave_out_zeros(target: &mut Value, keys: &[&str]) {
    let Value::Object(target) = target else { return };
    let is_zero = |value: &Value| value == &Value::Bool(false) || value == "" || value.as_i64() == Some(0);
    for key in keys {
        if target.get(*key).is_some_and(is_zero) {
            target.shift_remove(*key);
        }
    }
}

/// Sets what is absent or null; leaves alone what is no mapping.
fn fill<const N: usize>(target: &mut Value, defaults: [(&str, Value); N]) {
    let Value::Object(target) = target else { return };
    for (key, value) in defaults {
        set_where_absent(target, key, value);
    }
}

fn set_where_absent(target: &mut Map<String, Value>, key: &str, value: Value) {
    match target.get_mut(key) {
        Some(present) if present.is_null() => *present = value,
        Some(_) => {}
        None => {
            target.insert(key.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
