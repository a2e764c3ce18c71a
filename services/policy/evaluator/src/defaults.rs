//! What the API server fills in before an admission webhook sees an object (`SetDefaults_*` of Kubernetes 1.3x).
//!
//! Requests default to limits in a *Pod* and not in the template of a controller: the one difference between what
//! passes as a Pod and what fails as a Deployment.

use serde_json::{Map, Value, json};

/// The object with the defaults of its kind; kinds of other API groups come back as they are.
pub fn with_api_defaults(object: &Value) -> Value {
    let mut object = object.clone();
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let Some(Value::Object(_)) = object.get("spec") else { return object };
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
            fill(spec, json!({"replicas": 1, "strategy": strategy, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600}));
            template(spec.get_mut("template"));
        }
        ("apps/v1", "StatefulSet") => {
            let spec = &mut object["spec"];
            fill(spec, json!({"replicas": 1, "podManagementPolicy": "OrderedReady", "revisionHistoryLimit": 10}));
            template(spec.get_mut("template"));
        }
        ("apps/v1", "ReplicaSet") | ("v1", "ReplicationController") => {
            fill(&mut object["spec"], json!({"replicas": 1}));
            template(object["spec"].get_mut("template"));
        }
        ("apps/v1", "DaemonSet") => {
            fill(&mut object["spec"], json!({"revisionHistoryLimit": 10}));
            template(object["spec"].get_mut("template"));
        }
        ("batch/v1", "Job") => job_spec(&mut object["spec"]),
        ("batch/v1" | "batch/v1beta1", "CronJob") => {
            let spec = &mut object["spec"];
            let limits = json!({"concurrencyPolicy": "Allow", "suspend": false, "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1});
            fill(spec, limits);
            if let Some(job) = spec.pointer_mut("/jobTemplate/spec") {
                job_spec(job);
            }
        }
        ("v1", "Service") => {
            let spec = &mut object["spec"];
            fill(spec, json!({"type": "ClusterIP", "sessionAffinity": "None"}));
            each(spec.get_mut("ports"), |port| {
                fill(port, json!({"protocol": "TCP"}));
                if let (None, Some(number)) = (port.get("targetPort"), port.get("port").cloned()) {
                    fill(port, json!({"targetPort": number}));
                }
            });
        }
        _ => {}
    }
    object
}

fn job_spec(spec: &mut Value) {
    fill(spec, json!({"completionMode": "NonIndexed", "backoffLimit": 6, "suspend": false}));
    if spec.get("completions").is_none() && spec.get("parallelism").is_none() {
        fill(spec, json!({"completions": 1}));
    }
    fill(spec, json!({"parallelism": 1}));
    template(spec.get_mut("template"));
}

fn template(template: Option<&mut Value>) {
    if let Some(spec) = template.and_then(|template| template.get_mut("spec")) {
        pod_spec(spec);
    }
}

fn pod_spec(spec: &mut Value) {
    fill(
        spec,
        json!({
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
            "terminationGracePeriodSeconds": 30, "securityContext": {}, "enableServiceLinks": true,
        }),
    );
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        each(spec.get_mut(list), container);
    }
    each(spec.get_mut("volumes"), volume);
}

fn container(container: &mut Value) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let pull = if is_latest(image) { "Always" } else { "IfNotPresent" };
    let usual = json!({
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        "imagePullPolicy": pull, "resources": {},
    });
    fill(container, usual);
    each(container.get_mut("ports"), |port| fill(port, json!({"protocol": "TCP"})));
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe) {
            fill(probe, json!({"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}));
            if let Some(http) = probe.get_mut("httpGet") {
                fill(http, json!({"path": "/", "scheme": "HTTP"}));
            }
        }
    }
    each(container.get_mut("env"), |env| {
        if let Some(field) = env.pointer_mut("/valueFrom/fieldRef") {
            fill(field, json!({"apiVersion": "v1"}));
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
            fill(source, json!({"defaultMode": 420}));
        }
    }
    if let Some(path) = fields.get_mut("hostPath") {
        fill(path, json!({"type": ""}));
    }
}

fn requests_from_limits(container: &mut Value) {
    let Some(Value::Object(limits)) = container.pointer("/resources/limits").cloned() else { return };
    let Some(Value::Object(resources)) = container.get_mut("resources") else { return };
    let requests = resources.entry("requests").or_insert_with(|| Value::Object(Map::new()));
    if requests.is_null() {
        *requests = Value::Object(Map::new());
    }
    fill(requests, Value::Object(limits));
}

fn each(list: Option<&mut Value>, change: impl Fn(&mut Value)) {
    if let Some(Value::Array(items)) = list {
        items.iter_mut().for_each(change);
    }
}

/// Sets what is absent or null; leaves alone what is no mapping.
fn fill(target: &mut Value, defaults: Value) {
    let (Value::Object(target), Value::Object(defaults)) = (target, defaults) else { return };
    for (key, value) in defaults {
        let entry = target.entry(key).or_insert(Value::Null);
        if entry.is_null() {
            *entry = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
