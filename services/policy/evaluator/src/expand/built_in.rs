//! The controllers that every cluster has, as kube-controller-manager 1.37 is.

use super::{
    Made, Origins,
    owned::{Maker, Name, UNKNOWN_HASH, annotate, label},
};
use crate::{admission::label_as_the_jobs, path::Path};
use serde_json::{Map, Value, json};

/// Annotations of a Deployment that its ReplicaSets don't get.
const DEPLOYMENT_ONLY: [&str; 2] = ["kubectl.kubernetes.io/last-applied-configuration", "deprecated.deployment.rollback.to"];
/// What a DaemonSet's Pods tolerate without end.
const NODE_TROUBLES: [(&str, &str); 6] = [
    ("not-ready", "NoExecute"),
    ("unreachable", "NoExecute"),
    ("disk-pressure", "NoSchedule"),
    ("memory-pressure", "NoSchedule"),
    ("pid-pressure", "NoSchedule"),
    ("unschedulable", "NoSchedule"),
];
const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";

impl Maker<'_> {
    pub fn replica_set(&self) -> Made {
        const HASH: &str = "pod-template-hash";
        let template = self.at("spec.template").cloned().unwrap_or(Value::Null);
        let mut metadata = self.metadata(&template, &self.name, Name::Generated);
        let own = self.at("metadata.annotations").and_then(Value::as_object).into_iter().flatten();
        let annotations: Map<String, Value> = own
            .filter(|(key, _)| !DEPLOYMENT_ONLY.contains(&key.as_str()) && !key.starts_with("deployment.kubernetes.io/"))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        metadata["annotations"] = Value::Object(annotations);
        let mut spec = Map::new();
        for key in ["replicas", "minReadySeconds", "selector", "template"] {
            if let Some(value) = self.at("spec").and_then(|spec| spec.get(key)) {
                spec.insert(key.to_owned(), value.clone());
            }
        }
        let mut object = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": spec});
        label(&mut object, HASH, UNKNOWN_HASH);
        if object["spec"].get("template").is_some_and(Value::is_object) {
            label(&mut object["spec"]["template"], HASH, UNKNOWN_HASH);
        }
        if let Some(Value::Object(labels)) = object.pointer_mut("/spec/selector/matchLabels") {
            labels.insert(HASH.to_owned(), json!(UNKNOWN_HASH));
        }
        let replicas = self.at("spec.replicas").and_then(Value::as_i64).unwrap_or(1);
        annotate(&mut object, "deployment.kubernetes.io/desired-replicas", &replicas.to_string());
        annotate(&mut object, "deployment.kubernetes.io/max-replicas", &(replicas + self.surge(replicas)).to_string());
        annotate(&mut object, "deployment.kubernetes.io/revision", "1");
        let origins = Origins(vec![
            (Path::of_keys("spec"), Path::of_keys("spec")),
            (Path::of_keys("metadata.labels"), Path::of_keys("spec.template.metadata.labels")),
            (Path::of_keys("metadata.annotations"), Path::of_keys("metadata.annotations")),
        ]);
        Made { object, origins, unknown: None }
    }

    /// How many Pods a Deployment may have beside those it wants.
    fn surge(&self, replicas: i64) -> i64 {
        if self.text_at("spec.strategy.type") == Some("Recreate") {
            return 0;
        }
        let share = |percent: i64| (replicas.saturating_mul(percent) + 99).div_euclid(100);
        match self.at("spec.strategy.rollingUpdate.maxSurge") {
            Some(Value::Number(number)) => number.as_i64().unwrap_or_default(),
            Some(Value::String(text)) => text.strip_suffix('%').and_then(|text| text.parse().ok()).map_or(0, share),
            _ => share(25),
        }
    }

    pub fn replica(&self) -> Vec<Made> {
        self.pod("spec.template", &self.name, Name::Generated).into_iter().collect()
    }

    pub fn stateful_pod(&self) -> Vec<Made> {
        let ordinal = self.at("spec.ordinals.start").and_then(Value::as_i64).unwrap_or(0);
        let name = format!("{}-{ordinal}", self.name);
        let Some(mut pod) = self.pod("spec.template", &name, Name::Fixed) else { return Vec::new() };
        pod.object["metadata"]["generateName"] = json!(format!("{}-", self.name));
        label(&mut pod.object, "apps.kubernetes.io/pod-index", &ordinal.to_string());
        label(&mut pod.object, "statefulset.kubernetes.io/pod-name", &name);
        label(&mut pod.object, "controller-revision-hash", UNKNOWN_HASH);
        let service = self.text_at("spec.serviceName").unwrap_or_default();
        if let Value::Object(spec) = &mut pod.object["spec"] {
            spec.insert("hostname".to_owned(), json!(name));
            spec.insert("subdomain".to_owned(), json!(service));
        }
        self.claim(&mut pod, &name);
        vec![pod]
    }

    /// The volumes of a StatefulSet's claims come before the others, and instead of those of their names.
    fn claim(&self, pod: &mut Made, name: &str) {
        let claims: Vec<&str> = self
            .at("spec.volumeClaimTemplates")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|claim| claim.pointer("/metadata/name").and_then(Value::as_str))
            .collect();
        let Value::Object(spec) = &mut pod.object["spec"] else { return };
        if claims.is_empty() {
            return;
        }
        let mut volumes: Vec<Value> = claims
            .iter()
            .map(|claim| json!({"name": claim, "persistentVolumeClaim": {"claimName": format!("{claim}-{name}")}}))
            .collect();
        let place = Path::of_keys("spec.volumes");
        let mut origins: Vec<(Path, Path)> = (0..claims.len())
            .map(|index| (place.index(index), Path::of_keys("spec.volumeClaimTemplates").index(index)))
            .collect();
        let templates = spec.get("volumes").and_then(Value::as_array).cloned().unwrap_or_default();
        for (index, volume) in templates.into_iter().enumerate() {
            if !volume["name"].as_str().is_some_and(|name| claims.contains(&name)) {
                origins.push((place.index(volumes.len()), Path::of_keys("spec.template.spec.volumes").index(index)));
                volumes.push(volume);
            }
        }
        spec.insert("volumes".to_owned(), volumes.into());
        pod.origins.0.splice(0..0, origins);
    }

    pub fn daemon_pod(&self) -> Vec<Made> {
        let Some(mut pod) = self.pod("spec.template", &self.name, Name::Generated) else { return Vec::new() };
        label(&mut pod.object, "controller-revision-hash", UNKNOWN_HASH);
        label(&mut pod.object, "pod-template-generation", "1");
        let Value::Object(spec) = &mut pod.object["spec"] else { return vec![pod] };
        let is_in_the_hosts_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
        let mut tolerations = spec.get("tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
        let network = is_in_the_hosts_network.then_some(("network-unavailable", "NoSchedule"));
        for (trouble, effect) in NODE_TROUBLES.into_iter().chain(network) {
            let toleration = json!({"key": format!("node.kubernetes.io/{trouble}"), "operator": "Exists", "effect": effect});
            if !tolerations.contains(&toleration) {
                tolerations.push(toleration);
            }
        }
        spec.insert("tolerations".to_owned(), tolerations.into());
        let terms = json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node"]}]}]);
        let affinity = spec.entry("affinity").or_insert(Value::Null);
        set_below(affinity, &["nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"], terms);
        vec![pod]
    }

    pub fn scheduled_job(&self) -> Made {
        let template = self.at("spec.jobTemplate").cloned().unwrap_or(Value::Null);
        let place = Path::of_keys("spec.jobTemplate");
        let mut job = self.instance_of(&place, &template, ("batch/v1", "Job"), &self.name, Name::Generated);
        annotate(&mut job.object, "batch.kubernetes.io/cronjob-scheduled-timestamp", "1970-01-01T00:00:00Z");
        job
    }

    pub fn job_pod(&self) -> Vec<Made> {
        let is_indexed = self.text_at("spec.completionMode") == Some("Indexed");
        let name = if is_indexed { format!("{}-0", self.name) } else { self.name.clone() };
        let Some(mut pod) = self.pod("spec.template", &name, Name::Generated) else { return Vec::new() };
        pod.object["metadata"]["finalizers"] = json!(["batch.kubernetes.io/job-tracking"]);
        if self.at("spec.manualSelector") != Some(&Value::Bool(true)) {
            label_as_the_jobs(&mut pod.object, &self.name);
        }
        if is_indexed {
            label(&mut pod.object, COMPLETION_INDEX, "0");
            annotate(&mut pod.object, COMPLETION_INDEX, "0");
            if let Value::Object(spec) = &mut pod.object["spec"] {
                spec.insert("hostname".to_owned(), json!(name));
            }
            for list in ["containers", "initContainers"] {
                let containers = pod.object["spec"].get_mut(list).and_then(Value::as_array_mut);
                containers.into_iter().flatten().for_each(tell_index);
            }
        }
        vec![pod]
    }
}

/// Tells a container which of a Job's completions it is.
fn tell_index(container: &mut Value) {
    const VARIABLE: &str = "JOB_COMPLETION_INDEX";
    let Value::Object(fields) = container else { return };
    let variables = fields.entry("env").or_insert(Value::Null);
    if variables.is_null() {
        *variables = json!([]);
    }
    if let Value::Array(variables) = variables
        && variables.iter().all(|variable| variable["name"] != VARIABLE)
    {
        let source = json!({"fieldRef": {"fieldPath": format!("metadata.labels['{COMPLETION_INDEX}']")}});
        variables.push(json!({"name": VARIABLE, "valueFrom": source}));
    }
}

/// Sets a field some mappings below, which are made where they are missing.
fn set_below(target: &mut Value, keys: &[&str], value: Value) {
    if target.is_null() {
        *target = json!({});
    }
    let ([key, rest @ ..], Value::Object(fields)) = (keys, target) else { return };
    match rest {
        [] => _ = fields.insert((*key).to_owned(), value),
        rest => set_below(fields.entry(*key).or_insert(Value::Null), rest, value),
    }
}
