//! Which fields of a live object are ours, by the API server's own bookkeeping (`metadata.managedFields`), and whether
//! somebody has changed them.
//!
//! The one thing to know: the hash covers the *set* of our fields and their values. Somebody who edits a field of ours
//! takes it out of our set; somebody who deletes it does too; fields that were never ours do not move the hash. So drift
//! needs no schema and never mistakes a default or a foreign field for a change.

use muster_core::bundle::canonical;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// Fields a difference names, at most.
const MAX_DIFFERENCES: usize = 5;

/// The hash of the fields `manager` applied and still owns; `None` where it owns nothing.
pub fn owned_hash(live: &Value, manager: &str) -> Option<String> {
    let fields = owned_fields(live, manager)?;
    let owned = json!([fields, project(fields, live)]);
    Some(hex(&canonical(&owned)))
}

/// The hash of a manifest's content.
pub fn manifest_hash(manifest: &Value) -> String {
    hex(&canonical(manifest))
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn owned_fields<'a>(live: &'a Value, manager: &str) -> Option<&'a Value> {
    live.pointer("/metadata/managedFields")?.as_array()?.iter().find_map(|entry| {
        let ours = entry.get("manager")?.as_str()? == manager
            && entry.get("operation")?.as_str()? == "Apply"
            && entry.get("subresource").and_then(Value::as_str).unwrap_or_default().is_empty();
        if ours { entry.get("fieldsV1") } else { None }
    })
}

/// What of `live` a `fieldsV1` set names. A set without children names the whole value.
fn project(fields: &Value, live: &Value) -> Value {
    let Some(fields) = fields.as_object().filter(|fields| fields.keys().any(|key| key != ".")) else {
        return live.clone();
    };
    let mut named = Map::new();
    for (name, children) in fields {
        let value = match name.split_once(':') {
            Some(("f", field)) => live.get(field),
            Some(("k", key)) => keyed(live, key),
            Some(("v", value)) => member(live, value),
            Some(("i", index)) => index.parse().ok().and_then(|index: usize| live.get(index)),
            _ => continue,
        };
        named.insert(name.clone(), value.map_or(Value::Null, |value| project(children, value)));
    }
    Value::Object(named)
}

fn keyed<'a>(list: &'a Value, key: &str) -> Option<&'a Value> {
    let key: Map<String, Value> = serde_json::from_str(key).ok()?;
    list.as_array()?.iter().find(|item| key.iter().all(|(name, value)| item.get(name) == Some(value)))
}

fn member<'a>(list: &'a Value, value: &str) -> Option<&'a Value> {
    let value: Value = serde_json::from_str(value).ok()?;
    list.as_array()?.iter().find(|item| **item == value)
}

/// What a person reads of a drift: the fields of the manifest that are otherwise in the live object, a few of them.
pub fn differences(manifest: &Value, live: &Value) -> String {
    let mut found = Vec::new();
    compare("", manifest, live, &mut found);
    let more = found.len().saturating_sub(MAX_DIFFERENCES);
    found.truncate(MAX_DIFFERENCES);
    let mut text = found.join("; ");
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    if text.is_empty() { "another field manager has taken fields of it".to_owned() } else { text }
}

fn compare(path: &str, wanted: &Value, live: &Value, found: &mut Vec<String>) {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            for (name, value) in wanted {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match live.get(name) {
                    Some(live) => compare(&path, value, live, found),
                    None if is_empty(value) => {}
                    None => found.push(format!("{path} is gone")),
                }
            }
        }
        (Value::Array(wanted), Value::Array(live)) => {
            for (index, value) in wanted.iter().enumerate() {
                let path = format!("{path}[{index}]");
                let twin = match value.get("name") {
                    Some(name) => live.iter().find(|item| item.get("name") == Some(name)),
                    None => live.get(index),
                };
                match twin {
                    Some(live) => compare(&path, value, live, found),
                    None => found.push(format!("{path} is gone")),
                }
            }
            if live.len() > wanted.len() {
                found.push(format!("{path} has {} entries instead of {}", live.len(), wanted.len()));
            }
        }
        (wanted, live) if wanted == live || same_quantity(wanted, live) => {}
        (wanted, live) => found.push(format!("{path} is {live} instead of {wanted}")),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn same_quantity(wanted: &Value, live: &Value) -> bool {
    let quantity = |value: &Value| -> Option<muster_core::quantity::Quantity> {
        match value {
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => number.to_string().parse().ok(),
            _ => None,
        }
    };
    matches!((quantity(wanted), quantity(live)), (Some(wanted), Some(live)) if wanted == live)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Value {
        json!({
            "metadata": {"managedFields": [
                {"manager": "muster-rollout", "operation": "Apply", "fieldsV1": {
                    "f:metadata": {"f:labels": {"f:app": {}}},
                    "f:spec": {"f:replicas": {}, "f:containers": {"k:{\"name\":\"serve\"}": {".": {}, "f:name": {}, "f:image": {}}}},
                }},
                {"manager": "someone", "operation": "Update", "fieldsV1": {"f:spec": {"f:paused": {}}}},
            ], "labels": {"app": "resnet50", "theirs": "x"}},
            "spec": {"replicas": 2, "paused": false, "containers": [
                {"name": "sidecar", "image": "s"}, {"name": "serve", "image": "serve:v2", "terminationMessagePath": "/dev/log"},
            ]},
        })
    }

    #[test]
    fn a_foreign_field_is_no_drift() {
        let (before, mut after) = (deployment(), deployment());
        after["spec"]["paused"] = json!(true);
        after["spec"]["containers"][0]["image"] = json!("other");
        after["metadata"]["labels"]["theirs"] = json!("y");
        assert_eq!(owned_hash(&before, "muster-rollout"), owned_hash(&after, "muster-rollout"));
    }

    #[test]
    fn a_changed_a_taken_and_a_deleted_field_are_drift() {
        let before = owned_hash(&deployment(), "muster-rollout");
        let mut changed = deployment();
        changed["spec"]["containers"][1]["image"] = json!("serve:hacked");
        assert_ne!(owned_hash(&changed, "muster-rollout"), before);
        let mut taken = deployment();
        taken["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"].as_object_mut().expect("object").shift_remove("f:replicas");
        assert_ne!(owned_hash(&taken, "muster-rollout"), before);
        let mut deleted = deployment();
        deleted["metadata"]["labels"].as_object_mut().expect("object").shift_remove("app");
        assert_ne!(owned_hash(&deleted, "muster-rollout"), before);
        assert_eq!(owned_hash(&json!({"metadata": {}}), "muster-rollout"), None);
    }

    #[test]
    fn a_difference_is_told_by_field_and_a_quantity_by_its_amount() {
        let wanted = json!({"spec": {"replicas": 2, "cpu": "1000m", "containers": [{"name": "serve", "image": "serve:v2"}]}});
        let live = json!({"spec": {"replicas": 5, "cpu": "1", "containers": [{"name": "serve", "image": "serve:v9"}]}});
        assert_eq!(
            differences(&wanted, &live),
            r#"spec.replicas is 5 instead of 2; spec.containers[0].image is "serve:v9" instead of "serve:v2""#
        );
    }
}
