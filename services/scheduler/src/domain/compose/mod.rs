//! The object a run makes in its cluster: the user's manifest, marked with its run, told its epoch, pointed at the nodes of
//! the plan, and not suspended.

mod part;
#[cfg(test)]
mod part_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use muster_core::labels;
use muster_scheduler_engine::{Gang, Slot, TopologyMode};
use serde_json::{Map, Value, json};

use super::Fault;
use super::manifest::{Kind, Template, set_replicas, templates};
pub use part::PartMarks;

/// What is put into a manifest.
#[derive(Clone, Debug)]
pub struct RunMarks<'a> {
    /// The job's namespace.
    pub namespace: &'a str,
    /// The job's name.
    pub job: &'a str,
    /// The run.
    pub epoch: u32,
    /// The queue it is charged to.
    pub queue: &'a str,
    /// W3C trace context; empty if none.
    pub traceparent: &'a str,
    /// The plan in its cluster, empty where there is none yet; group indices are those of the manifest's templates.
    pub slots: &'a [Slot],
    /// The gang, which says of which group the plan may place fewer workers.
    pub gang: &'a Gang,
    /// The GPU model pods must be bound to, where nodes have the label for it and the cluster has several.
    pub require_model: Option<&'a str>,
    /// The domains the plan is in, by the label that names them, where the job asked for its workers to stand together.
    pub domains: Option<(TopologyMode, &'a Domains)>,
    /// Which part of the run this is, of a job that may span clusters and has a plan.
    pub part: Option<&'a PartMarks>,
}

/// Names of domains by the node label that says them.
pub type Domains = BTreeMap<String, BTreeSet<String>>;

/// Characters of a namespace and a job's name together: a label's value has 63, of which two are dots and six an epoch's.
pub const MAX_NAMES: usize = 55;
/// The weight of the preference for planned nodes, of 100, and for the planned domains of a job that prefers few of them.
const PLAN_WEIGHT: u32 = 50;
const DOMAIN_WEIGHT: u32 = 100;

/// `namespace.job.epoch`: the value of the run's label, by which the agent finds a run's pods and a pod's run. Names are
/// kept short enough at submit ([`MAX_NAMES`]).
#[must_use]
pub fn run_label(namespace: &str, job: &str, epoch: u32) -> String {
    format!("{namespace}.{job}.{epoch}")
}

/// The object's name in the cluster: the job's own for the first run, so that people find it; later runs are new objects.
#[must_use]
pub fn object_name(job: &str, epoch: u32) -> String {
    if epoch <= 1 { job.to_owned() } else { format!("{job}-r{epoch}") }
}

/// Composes the manifest of a run.
///
/// # Errors
/// A manifest that was not read as a job before.
pub fn compose(manifest: &Value, marks: &RunMarks<'_>) -> Result<Value, Fault> {
    let text = |key: &str| manifest.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let kind = Kind::of(&text("apiVersion"), &text("kind"))?;
    let found = templates(kind, manifest)?;
    let mut composed = manifest.clone();
    if let Some(top) = composed.as_object_mut() {
        top.remove("status");
    }
    let metadata = object(&mut composed, "metadata");
    for server_field in ["generateName", "resourceVersion", "uid", "creationTimestamp", "managedFields", "generation", "selfLink"]
    {
        metadata.remove(server_field);
    }
    metadata.insert("name".to_owned(), json!(object_name(marks.job, marks.epoch)));
    metadata.insert("namespace".to_owned(), json!(marks.namespace));
    mark(metadata, marks);
    if kind == Kind::Volcano {
        object(&mut composed, "spec").insert("queue".to_owned(), json!(marks.queue));
    }
    if let Some(elastic) = marks.gang.elastic {
        // Without a plan it is what a run of the full size would make.
        let planned = marks.gang.size_of(marks.slots).filter(|_| !marks.slots.is_empty());
        let workers = planned.or_else(|| marks.gang.groups.get(elastic.group).map(|group| group.replicas));
        size(kind, &mut composed, &found, marks.gang, workers.unwrap_or(elastic.least));
    }
    if let Some(part) = marks.part {
        part::divide(kind, &mut composed, &found, part);
    }
    if let Some((pointer, field)) = kind.suspend_pointer()
        && let Some(Value::Object(parent)) = composed.pointer_mut(pointer)
        && parent.contains_key(field)
    {
        parent.insert(field.to_owned(), Value::Bool(false));
    }
    // Labels may have changed since the plan was made.
    let is_bound = marks.domains.is_some_and(|(mode, domains)| {
        mode == TopologyMode::Required && domains.len() == 1 && domains.values().all(|names| names.len() == 1)
    });
    for (index, template) in found.iter().enumerate() {
        let Some(pod) = composed.pointer_mut(&template.pointer) else { continue };
        mark(object(pod, "metadata"), marks);
        let spec = object(pod, "spec");
        for list in ["containers", "initContainers"] {
            for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                set_variable(container, labels::RUN_EPOCH_ENV, &json!(marks.epoch.to_string()));
                if let Some(part) = marks.part {
                    part::tell(container, part, index);
                }
            }
        }
        let nodes: BTreeSet<String> =
            marks.slots.iter().filter(|slot| slot.group == index).map(|slot| slot.node.clone()).collect();
        prefer(spec, PLAN_WEIGHT, labels::HOSTNAME, &nodes);
        for (key, values) in marks.domains.into_iter().flat_map(|(_, domains)| domains) {
            match values.first() {
                Some(value) if is_bound => select(spec, key, value),
                Some(_) | None => prefer(spec, DOMAIN_WEIGHT, key, values),
            }
        }
        if let Some(model) = marks.require_model.filter(|_| asks_for_gpus(spec)) {
            select(spec, labels::GPU_PRODUCT, model);
        }
    }
    Ok(composed)
}

/// The object of a run of an elastic gang with another number of workers. Nothing else of it changes: clusters take no other change of
/// an object that runs.
///
/// # Errors
/// What was not composed from a job.
pub fn resized(object: &Value, gang: &Gang, workers: u32) -> Result<Value, Fault> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let kind = Kind::of(&text("apiVersion"), &text("kind"))?;
    let mut resized = object.clone();
    size(kind, &mut resized, &templates(kind, object)?, gang, workers);
    Ok(resized)
}

fn size(kind: Kind, sized: &mut Value, templates: &[Template], gang: &Gang, workers: u32) {
    let Some(template) = gang.elastic.and_then(|elastic| templates.get(elastic.group)) else { return };
    set_replicas(kind, sized, template, workers);
    if kind == Kind::Volcano {
        // Left out it would mean all replicas, of which there may be fewer from now on.
        object(sized, "spec").insert("minAvailable".to_owned(), gang.min_available.into());
    }
}

fn asks_for_gpus(spec: &Map<String, Value>) -> bool {
    let containers = spec.get("containers").and_then(Value::as_array);
    containers.into_iter().flatten().any(|container| {
        ["limits", "requests"].iter().any(|part| {
            let amounts = container.get("resources").and_then(|resources| resources.get(part)).and_then(Value::as_object);
            amounts.is_some_and(|amounts| amounts.keys().any(|name| muster_scheduler_engine::is_gpu(name)))
        })
    })
}

/// The object under a key, made if it is not there or is none.
fn object<'a>(parent: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !parent.is_object() {
        *parent = json!({});
    }
    let child = parent.as_object_mut().expect("it was just made one").entry(key).or_insert_with(|| json!({}));
    if !child.is_object() {
        *child = json!({});
    }
    child.as_object_mut().expect("it was just made one")
}

fn mark(metadata: &mut Map<String, Value>, marks: &RunMarks<'_>) {
    put(metadata, "labels", labels::RUN, run_label(marks.namespace, marks.job, marks.epoch));
    put(metadata, "labels", labels::RUN_EPOCH, marks.epoch.to_string());
    put(metadata, "labels", labels::QUEUE, marks.queue.to_owned());
    if !marks.traceparent.is_empty() {
        put(metadata, "annotations", labels::TRACEPARENT, marks.traceparent.to_owned());
    }
    if let Some(part) = marks.part {
        part::mark(metadata, part);
    }
}

/// Sets a label or an annotation.
fn put(metadata: &mut Map<String, Value>, map: &str, key: &str, value: String) {
    let entry = metadata.entry(map).or_insert_with(|| json!({}));
    if !entry.is_object() {
        *entry = json!({});
    }
    if let Some(entry) = entry.as_object_mut() {
        entry.insert(key.to_owned(), Value::String(value));
    }
}

/// Sets an environment variable, whatever the container has by its name.
fn set_variable(container: &mut Value, name: &str, value: &Value) {
    let Some(container) = container.as_object_mut() else { return };
    let env = container.entry("env").or_insert_with(|| json!([]));
    let Some(env) = env.as_array_mut() else { return };
    env.retain(|variable| variable.get("name").and_then(Value::as_str) != Some(name));
    env.push(json!({"name": name, "value": value}));
}

/// Binds a pod to nodes with a label, unless it says itself which value it wants.
fn select(spec: &mut Map<String, Value>, key: &str, value: &str) {
    let selector = spec.entry("nodeSelector").or_insert_with(|| json!({}));
    if let Some(selector) = selector.as_object_mut() {
        selector.entry(key).or_insert_with(|| json!(value));
    }
}

/// Adds a preference for nodes with one of a label's values: the cluster's own scheduler binds, and may know better.
fn prefer(spec: &mut Map<String, Value>, weight: u32, key: &str, values: &BTreeSet<String>) {
    if values.is_empty() {
        return;
    }
    let affinity = spec.entry("affinity").or_insert_with(|| json!({}));
    let node_affinity = object(affinity, "nodeAffinity");
    let preferred = node_affinity.entry("preferredDuringSchedulingIgnoredDuringExecution").or_insert_with(|| json!([]));
    if let Some(preferred) = preferred.as_array_mut() {
        preferred.push(json!({
            "weight": weight,
            "preference": {"matchExpressions": [{"key": key, "operator": "In", "values": values}]},
        }));
    }
}
