//! KServe's `InferenceService`: a Pod for each of its components. A component gives its containers itself, or names a model whose
//! server is a runtime's. What the storage initializer and Knative put in besides is configuration of the cluster, and not here.

use super::{
    Made, Origins,
    owned::{Maker, Name, label, lay_marks},
    templates::Around,
};
use crate::{
    inventory::text,
    mutate::merge::{New, merge},
    path::Path,
};
use serde_json::{Map, Value, json};

const RUNTIMES: &str = "serving.kserve.io/v1alpha1";
/// The container of the model server.
const SERVER: &str = "kserve-container";
/// Where a component speaks of its model: by a format, or as older documents do by the format's name.
const MODELS: [&str; 11] =
    ["model", "sklearn", "xgboost", "tensorflow", "pytorch", "triton", "onnx", "huggingface", "pmml", "lightgbm", "paddle"];
/// What a component says that is not of its Pod's spec.
const OF_THE_COMPONENT: [&str; 17] = [
    "annotations",
    "art",
    "autoScaling",
    "batcher",
    "canaryTrafficPercent",
    "containerConcurrency",
    "deploymentStrategy",
    "labels",
    "logger",
    "maxReplicas",
    "minReplicas",
    "scaleMetric",
    "scaleMetricType",
    "scaleTarget",
    "storageUris",
    "timeout",
    "workerSpec",
];
/// What a model says that is not of its container.
const OF_THE_MODEL: [&str; 7] =
    ["modelFormat", "protocolVersion", "runtime", "runtimeVersion", "storage", "storageUri", "storageUris"];
/// What a runtime says that is not of its Pods' spec.
const OF_THE_RUNTIME: [&str; 13] = [
    "annotations",
    "builtInAdapter",
    "disabled",
    "grpcDataEndpoint",
    "grpcEndpoint",
    "httpDataEndpoint",
    "labels",
    "multiModel",
    "protocolVersions",
    "replicas",
    "storageHelper",
    "supportedModelFormats",
    "workerSpec",
];

impl Maker<'_> {
    pub fn inference_pods(&self, around: &Around<'_>) -> Vec<Made> {
        let components = ["predictor", "transformer", "explainer"].into_iter();
        let given = components.filter_map(|name| Some((name, self.at("spec")?.get(name)?.as_object()?)));
        given.map(|(name, component)| self.component(name, component, around)).collect()
    }

    fn component(&self, name: &str, component: &Map<String, Value>, around: &Around<'_>) -> Made {
        let own = without(component, |key| OF_THE_COMPONENT.contains(&key) || MODELS.contains(&key));
        let place = Path::of_keys("spec").key(name);
        let model = MODELS.iter().find_map(|key| Some((*key, component.get(*key)?.as_object()?)));
        let (runtime, unknown) = match model.map(|(key, model)| self.serving_runtime(key, model, around)) {
            None if own.get("containers").is_some() => (None, None),
            None => (None, Some("what its containers are is the cluster's configuration".to_owned())),
            Some(Ok(runtime)) => (Some(runtime), None),
            Some(Err(reason)) => (None, Some(reason)),
        };
        let mut template = json!({"metadata": {}});
        let runtimes = runtime.map(|runtime| &runtime["spec"]);
        for given in [runtimes, self.at("metadata"), Some(&json!(component))].into_iter().flatten() {
            lay_marks(&mut template["metadata"], given);
        }
        if let Some(Value::Object(annotations)) = template.pointer_mut("/metadata/annotations") {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
        let metadata = self.metadata(&template, &format!("{}-{name}", self.name), Name::Generated);
        let (spec, origins) = match (runtime, model) {
            (Some(runtime), Some((key, model))) => served(runtime, &own, &place, model, key),
            _ => (own, vec![(Path::of_keys("spec"), place)]),
        };
        let mut object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        label(&mut object, "serving.kserve.io/inferenceservice", &self.name);
        label(&mut object, "component", name);
        Made { object, origins: Origins(origins), unknown }
    }

    /// The runtime that a model names, else the one that takes models of its format by itself: of its namespace before the
    /// cluster's, then by name.
    fn serving_runtime<'a>(&self, key: &str, model: &Map<String, Value>, around: &Around<'a>) -> Result<&'a Value, String> {
        let namespace = text(self.workload, "/metadata/namespace");
        if let Some(name) = model.get("runtime").and_then(Value::as_str) {
            let own = around.find(RUNTIMES, "ServingRuntime", namespace, name);
            return own.or_else(|_| around.find(RUNTIMES, "ClusterServingRuntime", "", name));
        }
        let format = model.get("modelFormat").map_or(key, |format| text(format, "/name"));
        for (kind, namespace) in [("ServingRuntime", namespace), ("ClusterServingRuntime", "")] {
            let mut fitting = around.all(RUNTIMES, kind, namespace)?;
            fitting.retain(|runtime| takes_by_itself(runtime, format));
            if let Some(first) = fitting.into_iter().min_by_key(|runtime| text(runtime, "/metadata/name")) {
                return Ok(first);
            }
        }
        Err(format!("no runtime takes models of the format {format:?}"))
    }
}

fn takes_by_itself(runtime: &Value, format: &str) -> bool {
    let formats = runtime.pointer("/spec/supportedModelFormats").and_then(Value::as_array);
    let takes = |known: &Value| text(known, "/name") == format && known.get("autoSelect") == Some(&Value::Bool(true));
    runtime.pointer("/spec/disabled") != Some(&Value::Bool(true)) && formats.into_iter().flatten().any(takes)
}

/// The spec of a Pod that serves a model: the runtime's, the component's over it, and the model's over its server's container.
fn served(runtime: &Value, own: &Value, place: &Path, model: &Map<String, Value>, key: &str) -> (Value, Vec<(Path, Path)>) {
    let runtimes = runtime.get("spec").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut spec = without(&runtimes, |key| OF_THE_RUNTIME.contains(&key));
    let known = spec.clone();
    merge(&mut spec, own, true, New::Last);
    let in_spec = Path::of_keys("spec");
    let mut origins = Vec::new();
    let mut over = without(model, |key| OF_THE_MODEL.contains(&key));
    over["name"] = json!(SERVER);
    let server = |spec: &Value| {
        let containers = spec.get("containers").and_then(Value::as_array);
        containers.into_iter().flatten().position(|container| text(container, "/name") == SERVER)
    };
    // What a model says its server is called with comes after what the runtime says.
    let told = server(&spec).and_then(|at| spec["containers"][at].get("args")?.as_array().cloned()).unwrap_or_default();
    let more = over.get("args").and_then(Value::as_array).cloned().unwrap_or_default();
    if !told.is_empty() || !more.is_empty() {
        over["args"] = told.into_iter().chain(more).collect();
    }
    merge(&mut spec, &json!({"containers": [over]}), true, New::Last);
    if let Some(at) = server(&spec) {
        let container = in_spec.key("containers").index(at);
        let fields =
            over.as_object().into_iter().flatten().filter(|(field, _)| !["name", "args", "env"].contains(&field.as_str()));
        origins.extend(fields.map(|(field, _)| (container.key(field), place.key(key).key(field))));
    }
    let alone = own.as_object().into_iter().flatten().filter(|(field, _)| known.get(*field).is_none() && *field != "containers");
    origins.extend(alone.map(|(field, _)| (in_spec.key(field), place.key(field))));
    (spec, origins)
}

fn without(fields: &Map<String, Value>, left_out: impl Fn(&str) -> bool) -> Value {
    fields.iter().filter(|(key, _)| !left_out(key)).map(|(key, value)| (key.clone(), value.clone())).collect::<Map<_, _>>().into()
}
