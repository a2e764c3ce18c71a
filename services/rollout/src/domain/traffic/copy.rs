//! A copy of a workload: the Deployment under its revision's name, with its own HPA, PDB and configuration.

use super::object::{group, has_all, is_workload, kind, labels, name, namespace, pod_labels, scales, selects};
use super::revision::{configurations, has_kustomize_hash, revision, version, visit};
use super::{ManagedWorkload, TrafficError};
use muster_core::labels::{REVISION, VERSION};
use serde_json::{Map, Value, json};

/// One version of a managed workload as it runs.
#[derive(Debug, Clone)]
pub(super) struct Copy {
    pub revision: String,
    pub version: String,
    /// The labels that a subset must have to select exactly this copy's pods; empty where none can.
    pub subset_labels: Map<String, Value>,
    /// The Deployment and all that belongs to it.
    pub objects: Vec<Value>,
}

/// The workload's Deployment in a rendered list.
pub(super) fn deployment<'a>(objects: &'a [Value], managed: &ManagedWorkload) -> Option<&'a Value> {
    objects.iter().find(|object| {
        is_workload(object)
            && kind(object) == "Deployment"
            && name(object) == managed.workload
            && namespace(object) == managed.namespace
    })
}

/// What belongs to the workload and goes with a copy of it: itself, its scaler, its budget, its configuration.
pub(super) fn belongs(object: &Value, workload: &Value, objects: &[Value]) -> bool {
    if is_workload(object) {
        return kind(object) == kind(workload) && name(object) == name(workload) && namespace(object) == namespace(workload);
    }
    if scales(object, workload) || is_budget_of(object, workload) {
        return true;
    }
    matches!(kind(object), "ConfigMap" | "Secret")
        && configurations(workload, std::slice::from_ref(object)).len() == 1
        && !objects.iter().any(|other| {
            is_workload(other) && name(other) != name(workload) && !configurations(other, std::slice::from_ref(object)).is_empty()
        })
}

fn is_budget_of(object: &Value, workload: &Value) -> bool {
    group(object) == "policy"
        && kind(object) == "PodDisruptionBudget"
        && namespace(object) == namespace(workload)
        && selects(&object["spec"]["selector"], &pod_labels(workload))
}

/// The copy of a workload under its revision's name.
pub(super) fn revisioned(objects: &[Value], managed: &ManagedWorkload) -> Result<Copy, TrafficError> {
    let workload = deployment(objects, managed).ok_or_else(|| TrafficError::NoSuchWorkload(managed.workload.clone()))?;
    let revision = revision(workload, objects);
    let version = version(workload, &revision);
    let suffixed = |name: &str| format!("{name}-{revision}");
    if suffixed(name(workload)).len() > 63 {
        return Err(TrafficError::NameTooLong(format!("Deployment {}", name(workload))));
    }
    let mut copy = Vec::new();
    for object in objects {
        if kind(object) == "PodDisruptionBudget" && is_budget_of(object, workload) {
            let mut budget = renamed(object, &suffixed(name(object)));
            label(&mut budget, &["spec", "selector", "matchLabels"], REVISION, &revision)?;
            copy.push(budget);
        } else if scales(object, workload) {
            let mut scaler = renamed(object, &suffixed(name(object)));
            scaler["spec"]["scaleTargetRef"]["name"] = json!(suffixed(name(workload)));
            copy.push(scaler);
        } else if !configurations(workload, std::slice::from_ref(object)).is_empty() {
            let unhashed = !has_kustomize_hash(name(object));
            copy.push(if unhashed { renamed(object, &suffixed(name(object))) } else { object.clone() });
        }
    }
    copy.push(deployment_copy(workload, objects, &revision, &version)?);
    let subset_labels = Map::from_iter([(VERSION.to_owned(), json!(version)), (REVISION.to_owned(), json!(revision))]);
    Ok(Copy { revision, version, subset_labels, objects: copy })
}

fn deployment_copy(workload: &Value, objects: &[Value], revision: &str, version: &str) -> Result<Value, TrafficError> {
    let mut copy = renamed(workload, &format!("{}-{revision}", name(workload)));
    label(&mut copy, &["metadata", "labels"], REVISION, revision)?;
    for path in [&["spec", "selector", "matchLabels"][..], &["spec", "template", "metadata", "labels"]] {
        label(&mut copy, path, REVISION, revision)?;
        label(&mut copy, path, VERSION, version)?;
    }
    if objects.iter().any(|object| scales(object, workload)) {
        disown_replicas(&mut copy);
    }
    let ours: Vec<(String, String)> = configurations(workload, objects)
        .into_iter()
        .filter(|object| !has_kustomize_hash(name(object)))
        .map(|object| (kind(object).to_owned(), name(object).to_owned()))
        .collect();
    if let Some(pod) = copy.pointer_mut("/spec/template/spec") {
        visit(pod, &mut |configuration, name| {
            if ours.iter().any(|(kind, known)| kind == configuration.kind() && known == name) {
                *name = format!("{name}-{revision}");
            }
        });
    }
    Ok(copy)
}

/// A plain-named Deployment that serves already, as it stands, with all that belongs to it.
///
/// Its pods have no revision label, so that a subset selects them alone only by a `version` label of their own.
pub(super) fn plain(objects: &[Value], managed: &ManagedWorkload, other_version: &str) -> Option<Copy> {
    let workload = deployment(objects, managed)?;
    let revision = revision(workload, objects);
    let version = version(workload, &revision);
    let labelled = has_all(&pod_labels(workload), &labels(&json!({ VERSION: version })));
    let subset_labels =
        if labelled && version != other_version { Map::from_iter([(VERSION.to_owned(), json!(version))]) } else { Map::new() };
    let mut own: Vec<Value> = objects.iter().filter(|object| belongs(object, workload, objects)).cloned().collect();
    if own.iter().any(|object| scales(object, workload)) {
        own.iter_mut().filter(|object| is_workload(object)).for_each(disown_replicas);
    }
    Some(Copy { revision, version, subset_labels, objects: own })
}

/// Leaves `spec.replicas` to whoever scales the workload.
pub(super) fn disown_replicas(workload: &mut Value) {
    if let Some(spec) = workload.get_mut("spec").and_then(Value::as_object_mut) {
        spec.shift_remove("replicas");
    }
}

fn renamed(object: &Value, name: &str) -> Value {
    let mut copy = object.clone();
    copy["metadata"]["name"] = json!(name);
    copy
}

/// Sets a label in the map at `path`, making what is missing on the way.
fn label(object: &mut Value, path: &[&'static str], key: &str, value: &str) -> Result<(), TrafficError> {
    let shown = format!("{} {}", kind(object), name(object));
    let mut place = object;
    for step in path {
        let map = place
            .as_object_mut()
            .ok_or_else(|| TrafficError::Malformed { object: shown.clone(), field: path[path.len() - 1] })?;
        place = map.entry(*step).or_insert_with(|| json!({}));
    }
    let map = place.as_object_mut().ok_or_else(|| TrafficError::Malformed { object: shown, field: path[path.len() - 1] })?;
    map.insert(key.to_owned(), json!(value));
    Ok(())
}
