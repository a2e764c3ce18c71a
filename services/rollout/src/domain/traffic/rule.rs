//! DestinationRules: a subset keeps its name and gains the revision label of the copy whose version it names.

use super::ManagedWorkload;
use super::copy::Copy;
use super::object::{host_is, is_istio, namespace};
use muster_core::labels::VERSION;
use serde_json::{Value, json};

/// A copy with the subset that routes name it by.
pub(super) struct Subset<'a> {
    pub name: String,
    pub copy: &'a Copy,
}

/// Whether the object is the DestinationRule of the managed workload's Service.
pub(super) fn is_rule_of(object: &Value, managed: &ManagedWorkload) -> bool {
    is_istio(object, "DestinationRule")
        && host_is(object["spec"]["host"].as_str().unwrap_or_default(), namespace(object), &managed.service, &managed.namespace)
}

/// The name of the subset for a version: git's own where git has one that names it, else the version; never `taken`.
pub(super) fn subset_name(objects: &[Value], managed: &ManagedWorkload, copy: &Copy, taken: Option<&str>) -> String {
    let own = objects
        .iter()
        .filter(|object| is_rule_of(object, managed))
        .flat_map(|rule| rule["spec"]["subsets"].as_array().into_iter().flatten())
        .filter(|subset| names(subset, &copy.version))
        .find_map(|subset| subset["name"].as_str().map(str::to_owned));
    let name = own.unwrap_or_else(|| dns_label(&copy.version));
    if Some(name.as_str()) == taken { format!("{}-{}", dns_label(&copy.version), copy.revision) } else { name }
}

/// Whether a subset of git names a version: by its `version` label, or by its name where it has no such label.
fn names(subset: &Value, version: &str) -> bool {
    match subset["labels"][VERSION].as_str() {
        Some(label) => label == version,
        None => subset["name"].as_str() == Some(version),
    }
}

/// Istio wants a DNS label for a subset's name; an image tag need not be one.
fn dns_label(version: &str) -> String {
    let label: String =
        version.to_ascii_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(50).collect();
    label.trim_matches('-').to_owned()
}

/// Points the rule's subsets at the copies and adds those it lacks.
pub(super) fn rewrite(rule: &mut Value, subsets: &[Subset<'_>]) {
    let spec = &mut rule["spec"];
    if !spec["subsets"].is_array() {
        spec["subsets"] = json!([]);
    }
    let list = spec["subsets"].as_array_mut().expect("just made");
    for subset in subsets {
        if subset.copy.subset_labels.is_empty() {
            continue;
        }
        let known = list.iter_mut().find(|entry| entry["name"] == subset.name.as_str());
        match known {
            Some(entry) => gain(entry, subset.copy),
            None => list.push(json!({ "name": subset.name, "labels": subset.copy.subset_labels })),
        }
    }
    // A second subset of git for the same version follows the copy too: left behind it would select both copies' pods.
    for entry in list.iter_mut() {
        let taken = subsets.iter().any(|subset| entry["name"] == subset.name.as_str());
        if let (false, Some(subset)) = (taken, subsets.iter().find(|subset| names(entry, &subset.copy.version))) {
            gain(entry, subset.copy);
        }
    }
}

fn gain(entry: &mut Value, copy: &Copy) {
    if !entry["labels"].is_object() {
        entry["labels"] = json!({});
    }
    for (key, value) in &copy.subset_labels {
        entry["labels"][key] = value.clone();
    }
}

/// A rule for a host that git has none for.
pub(super) fn new_rule(api_version: &str, managed: &ManagedWorkload) -> Value {
    let mut metadata = json!({ "name": managed.service });
    if !managed.namespace.is_empty() {
        metadata["namespace"] = json!(managed.namespace);
    }
    json!({
        "apiVersion": api_version,
        "kind": "DestinationRule",
        "metadata": metadata,
        "spec": { "host": managed.service, "subsets": [] },
    })
}
