//! Kubeflow's `TrainJob`: a JobSet made from the runtime that it names, with what the job itself says laid over it.

use super::{
    Made, Origins,
    owned::{Maker, Name, lay_marks},
    templates::Around,
};
use crate::{
    inventory::text,
    mutate::merge::{New, merge},
    path::Path,
};
use serde_json::{Value, json};

/// The label by which a runtime says what one of its jobs does.
const STEP: &str = "trainer.kubeflow.org/trainjob-ancestor-step";
/// Steps that fetch something first, and where the job speaks of them.
const INITIALIZERS: [(&str, &str); 2] =
    [("dataset-initializer", "spec.initializer.dataset"), ("model-initializer", "spec.initializer.model")];
/// Fields of a trainer and of the container named `node` that they stand in for.
const OF_THE_TRAINER: [(&str, &str); 4] =
    [("image", "image"), ("command", "command"), ("args", "args"), ("resourcesPerNode", "resources")];

impl Maker<'_> {
    pub fn training(&self, around: &Around<'_>) -> Vec<Made> {
        let runtime = match self.training_runtime(around) {
            Ok(runtime) => runtime,
            Err(reason) => return vec![self.unknown_pod(&format!("{}-node-0-0", self.name), reason)],
        };
        let template = runtime.pointer("/spec/template").cloned().unwrap_or(Value::Null);
        let mut spec = template.get("spec").cloned().unwrap_or(Value::Null);
        let mut origins = Vec::new();
        let jobs = spec.get_mut("replicatedJobs").and_then(Value::as_array_mut);
        for (index, job) in jobs.into_iter().flatten().enumerate() {
            self.override_pods(job);
            let step = job.pointer("/template/metadata/labels").and_then(|labels| labels.get(STEP));
            let step = step.and_then(Value::as_str).unwrap_or_default().to_owned();
            let Some(pod) = job.pointer_mut("/template/spec/template/spec") else { continue };
            let place = Path::of_keys("spec.replicatedJobs").index(index).join(&Path::of_keys("template.spec.template.spec"));
            if step == "trainer" {
                self.train(pod, &place, &mut origins);
            } else if let Some((_, told)) = INITIALIZERS.iter().find(|(known, _)| *known == step) {
                self.initialize(pod, &step, told);
            }
        }
        let mut metadata = self.metadata(&template, &self.name, Name::Fixed);
        lay_marks(&mut metadata, &self.workload["spec"]);
        let object = json!({"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": metadata, "spec": spec});
        vec![Made { object, origins: Origins(origins), unknown: None }]
    }

    fn training_runtime<'a>(&self, around: &Around<'a>) -> Result<&'a Value, String> {
        let version = text(self.workload, "/apiVersion");
        let kind = self.text_at("spec.runtimeRef.kind").unwrap_or("ClusterTrainingRuntime");
        let namespace = if kind == "ClusterTrainingRuntime" { "" } else { text(self.workload, "/metadata/namespace") };
        around.find(version, kind, namespace, self.text_at("spec.runtimeRef.name").unwrap_or_default())
    }

    /// What the trainer says of its container.
    fn train(&self, pod: &mut Value, place: &Path, origins: &mut Vec<(Path, Path)>) {
        let Some(trainer) = self.at("spec.trainer") else { return };
        let Some((index, container)) = container_named(pod, "node") else { return };
        for (told, field) in OF_THE_TRAINER {
            if let Some(value) = trainer.get(told) {
                container[field] = value.clone();
                let place = place.key("containers").index(index).key(field);
                origins.push((place, Path::of_keys("spec.trainer").key(told)));
            }
        }
        if let Some(env) = trainer.get("env") {
            merge(container, &json!({"env": env}), true, New::Last);
        }
    }

    /// What an initializer is told.
    fn initialize(&self, pod: &mut Value, step: &str, told: &str) {
        let Some(told) = self.at(told) else { return };
        let Some((_, container)) = container_named(pod, step) else { return };
        if let Some(uri) = told.get("storageUri") {
            merge(container, &json!({"env": [{"name": "STORAGE_URI", "value": uri}]}), true, New::Last);
        }
        if let Some(env) = told.get("env") {
            merge(container, &json!({"env": env}), true, New::Last);
        }
        if let Some(secret) = told.get("secretRef") {
            container["envFrom"] = json!([{"secretRef": secret}]);
        }
    }

    /// Lays the job's own changes of Pod templates over one of the runtime's jobs, in their order.
    fn override_pods(&self, job: &mut Value) {
        let name = text(job, "/name").to_owned();
        let by_manager = self.at("spec.templateOverrides").and_then(Value::as_array).into_iter().flatten();
        let by_manager = by_manager.filter_map(|of| of.get("pod")).filter_map(Value::as_array).flatten();
        let plain = self.at("spec.podTemplateOverrides").and_then(Value::as_array).into_iter().flatten();
        for change in plain.chain(by_manager) {
            let targets = change.get("targetJobs").and_then(Value::as_array).into_iter().flatten();
            if targets.map(|target| text(target, "/name")).any(|target| target == name)
                && let Some(template) = job.pointer_mut("/template/spec/template")
            {
                for key in ["metadata", "spec"] {
                    if let Some(patch) = change.get(key) {
                        merge(template, &json!({key: patch}), true, New::Last);
                    }
                }
            }
        }
    }

    /// Stands for a Pod of which nothing is known but that it will be there.
    fn unknown_pod(&self, name: &str, reason: String) -> Made {
        let metadata = self.metadata(&Value::Null, name, Name::Generated);
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": []}});
        Made { object, origins: Origins(Vec::new()), unknown: Some(reason) }
    }
}

/// A container of a Pod's spec, and its place.
fn container_named<'p>(pod: &'p mut Value, name: &str) -> Option<(usize, &'p mut Value)> {
    let containers = pod.get_mut("containers")?.as_array_mut()?;
    containers.iter_mut().enumerate().find(|(_, container)| text(container, "/name") == name)
}
