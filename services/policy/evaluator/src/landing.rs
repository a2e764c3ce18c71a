//! Objects as a cluster gets to see them: each in its namespace, with the API's defaults and what its server adds, and
//! everything it makes.
//!
//! Made once for however many policies judge them.

use crate::{
    admission::admit,
    defaults::set_api_defaults,
    expand::{Made, Origins, made_by, owned::UNKNOWN_HASH, templates::Around},
    inventory::Inventory,
    path::Path,
};
use muster_core::selector::Labels;
use serde_json::{Value, json};
use std::{collections::BTreeMap, ops::Range};

/// An object that is judged: a manifest's own, or one that it makes.
#[derive(Debug, Clone, PartialEq)]
pub struct Landed {
    /// Which of the manifests it is of.
    pub(crate) manifest: usize,
    pub(crate) object: Value,
    /// `Kind namespace/name`.
    pub(crate) resource: String,
    /// Where in the manifest its parts come from; `None` for the manifest's own object.
    origins: Option<Origins>,
    /// Why nobody knows what it will be; no rule can be judged about it then.
    pub(crate) unknown: Option<String>,
}

impl Landed {
    /// As the cluster gets to see it.
    pub fn object(&self) -> &Value {
        &self.object
    }

    /// Whether it only stands for an object that will be there: what that is made from is not known.
    pub fn is_unknown(&self) -> bool {
        self.unknown.is_some()
    }

    fn new(manifest: usize, mut object: Value, origins: Option<Origins>, unknown: Option<String>) -> Self {
        set_api_defaults(&mut object);
        admit(&mut object);
        let resource = resource_name(&object);
        // Who sees it sees a name.
        if let (true, Some(Value::Object(metadata))) = (origins.is_some(), object.get_mut("metadata"))
            && let (None, Some(prefix)) = (metadata.get("name"), metadata.get("generateName").and_then(Value::as_str))
        {
            let name = format!("{prefix}{UNKNOWN_HASH}");
            metadata.insert("name".to_owned(), json!(name));
        }
        Self { manifest, object, resource, origins, unknown }
    }

    /// A place of this object in the manifest; `None` where the cluster puts it there itself.
    pub(crate) fn place_of(&self, path: &Path) -> Option<Path> {
        self.origins.as_ref().map_or_else(|| Some(path.clone()), |origins| origins.of(path))
    }

    /// Its namespace, empty where it has none.
    pub(crate) fn namespace(&self) -> &str {
        self.object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default()
    }
}

/// What manifests become in a cluster where `default_namespace` (empty: `default`) is that of namespaced manifests that
/// name none. Every manifest is followed by what it makes; templates that it names are looked for among the manifests, then in the
/// inventory.
pub fn landed(manifests: &[Value], default_namespace: &str, inventory: Option<&Inventory>) -> Vec<Landed> {
    landed_some(0..manifests.len(), manifests, default_namespace, inventory)
}

/// Manifests as they become in clusters of which nothing is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    /// As [`landed`].
    pub objects: Vec<Landed>,
    /// The manifests, if what some object will be depends on what is in the cluster: to be [`landed`] there once more.
    pub unsettled: Option<Vec<Value>>,
}

/// As [`landed`], without an inventory, of manifests that are mostly not needed again.
pub fn arrived(mut manifests: Vec<Value>, default_namespace: &str) -> Arrival {
    let default_namespace = if default_namespace.is_empty() { "default" } else { default_namespace };
    manifests.iter_mut().for_each(|manifest| put_in_a_namespace(manifest, default_namespace));
    let around = Around { manifests: &manifests, default_namespace, inventory: None };
    let made: Vec<Vec<Made>> = manifests.iter().map(|manifest| made_by(manifest, &around)).collect();
    let is_unsettled = made.iter().flatten().any(|made| made.unknown.is_some());
    let unsettled = is_unsettled.then(|| manifests.clone());
    let mut objects = Vec::with_capacity(manifests.len());
    for (index, (manifest, made)) in manifests.into_iter().zip(made).enumerate() {
        land(index, manifest, made, &mut objects);
    }
    Arrival { objects, unsettled }
}

/// As [`landed`], of some of the manifests.
pub(crate) fn landed_some(
    some: Range<usize>,
    manifests: &[Value],
    default_namespace: &str,
    inventory: Option<&Inventory>,
) -> Vec<Landed> {
    let default_namespace = if default_namespace.is_empty() { "default" } else { default_namespace };
    let around = Around { manifests, default_namespace, inventory };
    let mut objects = Vec::new();
    for index in some {
        let mut manifest = manifests[index].clone();
        put_in_a_namespace(&mut manifest, default_namespace);
        let made = made_by(&manifest, &around);
        land(index, manifest, made, &mut objects);
    }
    objects
}

fn land(index: usize, manifest: Value, made: Vec<Made>, objects: &mut Vec<Landed>) {
    objects.push(Landed::new(index, manifest, None, None));
    let made = made.into_iter();
    objects.extend(made.map(|Made { object, origins, unknown }| Landed::new(index, object, Some(origins), unknown)));
}

/// Labels of the namespaces told, and of those among the manifests, which come first.
pub(crate) fn namespaces_known<'m>(
    manifests: impl Iterator<Item = &'m Value>,
    told: &BTreeMap<String, Labels>,
) -> BTreeMap<String, Labels> {
    let mut namespaces = told.clone();
    for manifest in manifests.filter(|manifest| manifest["kind"] == "Namespace" && manifest["apiVersion"] == "v1") {
        if let Some(name) = manifest.pointer("/metadata/name").and_then(Value::as_str) {
            namespaces.insert(name.to_owned(), labels_of(manifest));
        }
    }
    for (name, labels) in &mut namespaces {
        labels.entry("kubernetes.io/metadata.name".to_owned()).or_insert_with(|| name.clone());
    }
    namespaces
}

fn labels_of(object: &Value) -> Labels {
    let Some(Value::Object(entries)) = object.pointer("/metadata/labels") else { return Labels::new() };
    entries.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// `Kind namespace/name`, or `Kind name` without a namespace; a generated name ends with `*`.
fn resource_name(object: &Value) -> String {
    let at = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let name = match at("/metadata/name") {
        "" => format!("{}*", at("/metadata/generateName")),
        name => name.to_owned(),
    };
    match at("/metadata/namespace") {
        "" => format!("{} {name}", at("/kind")),
        namespace => format!("{} {namespace}/{name}", at("/kind")),
    }
}

/// Kinds of the usual API groups that have no namespace.
const CLUSTER_SCOPED: [&str; 22] = [
    "APIService",
    "CSIDriver",
    "CSINode",
    "CertificateSigningRequest",
    "ClusterPolicy",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "DeviceClass",
    "FlowSchema",
    "IngressClass",
    "MutatingWebhookConfiguration",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "PriorityLevelConfiguration",
    "RuntimeClass",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
];

/// Puts a manifest into the namespace it will land in: the default one where it names none and its kind has one.
fn put_in_a_namespace(manifest: &mut Value, default: &str) {
    let kind = manifest.get("kind").and_then(Value::as_str).unwrap_or_default();
    let is_volcano_queue =
        kind == "Queue" && manifest["apiVersion"].as_str().is_some_and(|v| v.starts_with("scheduling.volcano.sh/"));
    if CLUSTER_SCOPED.contains(&kind) || is_volcano_queue {
        return;
    }
    if let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) {
        let namespace = metadata.entry("namespace").or_insert(Value::Null);
        if namespace.as_str().is_none_or(str::is_empty) {
            *namespace = json!(default);
        }
    }
}
