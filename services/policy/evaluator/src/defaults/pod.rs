//! The defaults of a Pod's spec, wherever one stands; and those that only a Pod gets.

use super::{
    absent::{canonical_amount, canonical_resources, leave_out_zeros},
    each, fill, set_where_absent,
};
use serde_json::{Map, Value, json};

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

/// What every Pod's spec gets, also in a template.
pub fn pod_spec(spec: &mut Value) {
    leave_out_zeros(spec, &POD_ZEROS);
    // One is an alias of the other.
    for (key, alias) in [("serviceAccountName", "serviceAccount"), ("serviceAccount", "serviceAccountName")] {
        if let Some(account) = spec.get(alias).cloned() {
            fill(spec, [(key, account)]);
        }
    }
    if let (Some(name), Value::Object(fields)) = (spec.get("serviceAccountName").cloned(), &mut *spec) {
        fields.insert("serviceAccount".to_owned(), name);
    }
    fill(
        spec,
        [
            ("restartPolicy", json!("Always")),
            ("dnsPolicy", json!("ClusterFirst")),
            ("schedulerName", json!("default-scheduler")),
            ("terminationGracePeriodSeconds", json!(30)),
            ("securityContext", json!({})),
        ],
    );
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        each(spec.get_mut(list), container);
    }
    each(spec.get_mut("volumes"), volume);
}

fn container(container: &mut Value) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let pull = pull_policy(image);
    leave_out_zeros(container, &["workingDir", "stdin", "stdinOnce", "tty"]);
    let usual = [
        ("terminationMessagePath", json!("/dev/termination-log")),
        ("terminationMessagePolicy", json!("File")),
        ("imagePullPolicy", json!(pull)),
        ("resources", json!({})),
    ];
    fill(container, usual);
    if let Some(Value::Object(resources)) = container.get_mut("resources") {
        canonical_resources(resources);
    }
    each(container.get_mut("ports"), |port| {
        leave_out_zeros(port, &["name", "hostPort", "hostIP"]);
        fill(port, [("protocol", json!("TCP"))]);
    });
    each(container.get_mut("volumeMounts"), |mount| leave_out_zeros(mount, &["readOnly", "subPath", "subPathExpr"]));
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe) {
            self::probe(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(request) = container.get_mut("lifecycle").and_then(|all| all.get_mut(hook)?.get_mut("httpGet")) {
            http_request(request);
        }
    }
    each(container.get_mut("env"), |env| {
        leave_out_zeros(env, &["value"]);
        if let Some(field) = env.pointer_mut("/valueFrom/fieldRef") {
            fill(field, [("apiVersion", json!("v1"))]);
        }
        if let Some(Value::Object(field)) = env.pointer_mut("/valueFrom/resourceFieldRef") {
            field.entry("divisor").or_insert_with(|| json!("0"));
        }
    });
}

fn probe(probe: &mut Value) {
    let counts = ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"];
    leave_out_zeros(probe, &counts);
    fill(
        probe,
        [
            ("timeoutSeconds", json!(1)),
            ("periodSeconds", json!(10)),
            ("successThreshold", json!(1)),
            ("failureThreshold", json!(3)),
        ],
    );
    if let Some(request) = probe.get_mut("httpGet") {
        http_request(request);
    }
    if let Some(Value::Object(request)) = probe.get_mut("grpc") {
        request.entry("service").or_insert_with(|| json!(""));
    }
}

fn http_request(request: &mut Value) {
    leave_out_zeros(request, &["host"]);
    fill(request, [("path", json!("/")), ("scheme", json!("HTTP"))]);
}

fn pull_policy(image: &str) -> &'static str {
    if is_latest(image) { "Always" } else { "IfNotPresent" }
}

/// An image without a tag, or tagged `latest`; a digest is neither.
pub fn is_latest(image: &str) -> bool {
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
    if let Some(labels) = fields.get_mut("downwardAPI") {
        downward(labels);
    }
    each(fields.get_mut("projected").and_then(|projected| projected.get_mut("sources")), |source| {
        if let Some(token) = source.get_mut("serviceAccountToken") {
            fill(token, [("expirationSeconds", json!(3600))]);
        }
        if let Some(labels) = source.get_mut("downwardAPI") {
            downward(labels);
        }
    });
    if let Some(Value::Object(path)) = fields.get_mut("hostPath") {
        path.entry("type").or_insert_with(|| json!(""));
    }
    if let Some(size) = fields.get_mut("emptyDir").and_then(|empty| empty.get_mut("sizeLimit")) {
        canonical_amount(size);
    }
    if let Some(claim) = fields.get_mut("persistentVolumeClaim") {
        leave_out_zeros(claim, &["readOnly"]);
    }
    if let Some(claim) = fields.get_mut("ephemeral").and_then(|ephemeral| ephemeral.pointer_mut("/volumeClaimTemplate/spec")) {
        fill(claim, [("volumeMode", json!("Filesystem"))]);
    }
    let image = fields.get("image").and_then(|image| image["reference"].as_str()).map(pull_policy);
    if let (Some(policy), Some(image)) = (image, fields.get_mut("image")) {
        fill(image, [("pullPolicy", json!(policy))]);
    }
}

fn downward(labels: &mut Value) {
    each(labels.get_mut("items"), |item| {
        if let Some(field) = item.get_mut("fieldRef") {
            fill(field, [("apiVersion", json!("v1"))]);
        }
    });
}

/// In a Pod, a container requests what it is limited to.
pub fn requests_from_limits(container: &mut Value) {
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

/// What a Pod alone gets beside requests: links to services, and in the host's network the host's ports.
pub fn host_ports(spec: &mut Value) {
    fill(spec, [("enableServiceLinks", json!(true))]);
    if spec.get("hostNetwork") != Some(&Value::Bool(true)) {
        return;
    }
    for list in ["containers", "initContainers"] {
        each(spec.get_mut(list), |container| {
            each(container.get_mut("ports"), |port| {
                if let Some(number) = port.get("containerPort").cloned() {
                    fill(port, [("hostPort", number)]);
                }
            });
        });
    }
}
