//! What the agent adds to a manifest before it is written, and what it leaves out.

use super::{
    item::ItemKey,
    object::{list, text},
};
use muster_core::labels::{ITEM, OWNER, TRACEPARENT};
use serde_json::{Value, json};

/// The manifest as it is written for an item: with the owner as a label (the watch goes by it), the item as an
/// annotation, and the trace of what caused it. The trace stays out of `hashed` so that it alone changes nothing.
pub fn prepared(manifest: &Value, key: &ItemKey, namespace: &str) -> Value {
    let mut prepared = manifest.clone();
    if let Some(fields) = prepared.as_object_mut() {
        fields.shift_remove("status");
    }
    let metadata = &mut prepared["metadata"];
    if let Some(fields) = metadata.as_object_mut() {
        for server_owned in ["managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink"] {
            fields.shift_remove(server_owned);
        }
        match namespace {
            "" => _ = fields.shift_remove("namespace"),
            namespace => _ = fields.insert("namespace".to_owned(), json!(namespace)),
        }
    }
    // A manifest may say `labels:` and nothing below it.
    for field in ["labels", "annotations"] {
        if metadata.get(field).is_none_or(Value::is_null) {
            metadata[field] = json!({});
        }
    }
    metadata["labels"][OWNER] = json!(key.owner);
    metadata["annotations"][ITEM] = json!(key.to_string());
    prepared
}

/// Adds the trace context to a prepared manifest; empty adds nothing.
pub fn traced(mut prepared: Value, traceparent: &str) -> Value {
    if !traceparent.is_empty() {
        prepared["metadata"]["annotations"][TRACEPARENT] = json!(traceparent);
    }
    prepared
}

/// Leaves `spec.replicas` to the autoscaler where one of the same bundle aims at the workload.
pub fn leave_replicas_to_autoscalers(manifests: &mut [Value]) {
    let aims: Vec<(String, String, String)> = manifests
        .iter()
        .filter(|manifest| text(manifest, "/kind") == "HorizontalPodAutoscaler")
        .map(|scaler| {
            let at = |pointer| text(scaler, pointer).to_owned();
            (at("/metadata/namespace"), at("/spec/scaleTargetRef/kind"), at("/spec/scaleTargetRef/name"))
        })
        .collect();
    for manifest in manifests {
        let aimed_at = aims.iter().any(|(namespace, kind, name)| {
            text(manifest, "/metadata/namespace") == namespace
                && text(manifest, "/kind") == kind
                && text(manifest, "/metadata/name") == name
        });
        if aimed_at && let Some(spec) = manifest.get_mut("spec").and_then(Value::as_object_mut) {
            spec.shift_remove("replicas");
        }
    }
}

/// Whether an object belongs to an item of ours, by label and annotation.
pub fn belongs_to(live: &Value, key: &ItemKey) -> bool {
    label(live, OWNER) == key.owner && annotation(live, ITEM) == key.to_string()
}

/// A label of a live object, empty where absent. Labels have slashes in them, so a JSON pointer will not do.
pub fn label<'a>(live: &'a Value, name: &str) -> &'a str {
    live.pointer("/metadata/labels").and_then(|labels| labels.get(name)).and_then(Value::as_str).unwrap_or_default()
}

/// An annotation of a live object, empty where absent.
pub fn annotation<'a>(live: &'a Value, name: &str) -> &'a str {
    live.pointer("/metadata/annotations").and_then(|all| all.get(name)).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a custom resource definition is Established.
pub fn is_established(definition: &Value) -> bool {
    list(definition, "/status/conditions")
        .iter()
        .any(|condition| text(condition, "/type") == "Established" && text(condition, "/status") == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prepared_manifest_names_its_owner_and_nothing_the_server_owns() {
        let manifest = json!({"kind": "ConfigMap", "metadata": {"name": "a", "labels": null, "uid": "x"}, "status": {}});
        let prepared = prepared(&manifest, &ItemKey::new("rollout", "applications/ml/a"), "ml");
        assert_eq!(
            prepared,
            json!({"kind": "ConfigMap", "metadata": {
                "name": "a", "namespace": "ml", "labels": {"muster.dev/owner": "rollout"},
                "annotations": {"muster.dev/item": "rollout/applications/ml/a"},
            }})
        );
        assert!(belongs_to(&prepared, &ItemKey::new("rollout", "applications/ml/a")));
        assert!(!belongs_to(&prepared, &ItemKey::new("rollout", "applications/ml/b")));
    }

    #[test]
    fn replicas_are_left_to_an_autoscaler() {
        let mut manifests = [
            json!({"kind": "Deployment", "metadata": {"namespace": "ml", "name": "a"}, "spec": {"replicas": 2}}),
            json!({"kind": "Deployment", "metadata": {"namespace": "ml", "name": "b"}, "spec": {"replicas": 2}}),
            json!({"kind": "HorizontalPodAutoscaler", "metadata": {"namespace": "ml", "name": "a"},
                   "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "a"}}}),
        ];
        leave_replicas_to_autoscalers(&mut manifests);
        assert_eq!(manifests[0]["spec"], json!({}));
        assert_eq!(manifests[1]["spec"], json!({"replicas": 2}));
    }
}
