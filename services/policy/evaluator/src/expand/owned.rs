//! Objects made from a template, and who owns them.

use super::{Made, Origins};
use crate::{
    mutate::merge::{New, merge},
    path::Path,
};
use serde_json::{Map, Value, json};

/// A hash that nobody knows before.
pub const UNKNOWN_HASH: &str = "0";
/// A UID that nobody knows before.
pub const UNKNOWN_UID: &str = "00000000-0000-0000-0000-000000000000";

/// How an object gets its name.
#[derive(Clone, Copy)]
pub enum Name {
    Fixed,
    Generated,
}

/// Makes what a workload makes.
pub struct Maker<'a> {
    pub workload: &'a Value,
    pub name: String,
}

impl Maker<'_> {
    pub fn at(&self, dotted: &str) -> Option<&Value> {
        self.workload.pointer(&format!("/{}", dotted.replace('.', "/")))
    }

    pub fn text_at(&self, dotted: &str) -> Option<&str> {
        self.at(dotted).and_then(Value::as_str)
    }

    /// `metadata` of what is made from the template at this place.
    pub fn metadata(&self, template: &Value, name: &str, kind_of_name: Name) -> Value {
        let mut metadata = Map::new();
        match kind_of_name {
            Name::Fixed => metadata.insert("name".to_owned(), json!(name)),
            Name::Generated => metadata.insert("generateName".to_owned(), json!(format!("{name}-"))),
        };
        if let Some(namespace) = self.at("metadata.namespace") {
            metadata.insert("namespace".to_owned(), namespace.clone());
        }
        for key in ["labels", "annotations"] {
            if let Some(entries) = template.pointer(&format!("/metadata/{key}")) {
                metadata.insert(key.to_owned(), entries.clone());
            }
        }
        let owner = json!({
            "apiVersion": self.workload["apiVersion"], "kind": self.workload["kind"], "name": self.name, "uid": UNKNOWN_UID,
            "controller": true, "blockOwnerDeletion": true,
        });
        metadata.insert("ownerReferences".to_owned(), json!([owner]));
        Value::Object(metadata)
    }

    /// An object whose metadata and spec stand in the template at `place`.
    pub fn instance_of(&self, place: &Path, template: &Value, identity: (&str, &str), name: &str, named: Name) -> Made {
        let metadata = self.metadata(template, name, named);
        let spec = template.get("spec").cloned().unwrap_or(Value::Null);
        let object = json!({"apiVersion": identity.0, "kind": identity.1, "metadata": metadata, "spec": spec});
        let same = |dotted: &str| (Path::of_keys(dotted), place.join(&Path::of_keys(dotted)));
        let origins = Origins(vec![same("spec"), same("metadata.labels"), same("metadata.annotations")]);
        Made { object, origins, unknown: None }
    }

    pub fn pod_at(&self, place: &Path, template: &Value, name: &str, named: Name) -> Made {
        self.instance_of(place, template, ("v1", "Pod"), name, named)
    }

    /// The Pod of the template at `place`, if there is one.
    pub fn pod(&self, place: &str, name: &str, named: Name) -> Option<Made> {
        let template = self.at(place).filter(|template| template.is_object())?;
        Some(self.pod_at(&Path::of_keys(place), template, name, named))
    }
}

/// Lays the labels and annotations of `given` over those of `metadata`.
pub fn lay_marks(metadata: &mut Value, given: &Value) {
    for key in ["labels", "annotations"].into_iter().filter(|key| given[*key].is_object()) {
        merge(metadata, &json!({key: given[key]}), false, New::Last);
    }
}

/// Sets a label, unless the object has another.
pub fn label(object: &mut Value, key: &str, value: &str) {
    entry(object, "labels", key, value);
}

/// Sets an annotation, unless the object has another.
pub fn annotate(object: &mut Value, key: &str, value: &str) {
    entry(object, "annotations", key, value);
}

fn entry(object: &mut Value, list: &str, key: &str, value: &str) {
    let Some(Value::Object(metadata)) = object.get_mut("metadata") else { return };
    let entries = metadata.entry(list).or_insert(Value::Null);
    if entries.is_null() {
        *entries = json!({});
    }
    if let Value::Object(entries) = entries {
        entries.entry(key).or_insert(json!(value));
    }
}
