//! Reading Kubernetes objects as JSON values: kinds, names, labels.

use muster_core::selector::{LabelSelector, Labels};
use serde_json::Value;

/// The object's `kind`, or empty.
pub(super) fn kind(object: &Value) -> &str {
    object["kind"].as_str().unwrap_or_default()
}

/// The API group, empty for the core group.
pub(super) fn group(object: &Value) -> &str {
    object["apiVersion"].as_str().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group)
}

/// `metadata.name`, or empty.
pub(super) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// `metadata.namespace`, or empty for the default one.
pub(super) fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

/// What tells an object from every other: group, kind, namespace, name.
pub(super) fn identity(object: &Value) -> (&str, &str, &str, &str) {
    (group(object), kind(object), namespace(object), name(object))
}

/// A map of strings, empty where the value is none.
pub(super) fn labels(value: &Value) -> Labels {
    let Some(map) = value.as_object() else { return Labels::new() };
    map.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// The labels of the pods that a workload makes.
pub(super) fn pod_labels(workload: &Value) -> Labels {
    labels(&workload["spec"]["template"]["metadata"]["labels"])
}

/// Whether the object makes pods from `spec.template` and keeps them running.
pub(super) fn is_workload(object: &Value) -> bool {
    group(object) == "apps" && matches!(kind(object), "Deployment" | "StatefulSet" | "DaemonSet")
}

/// Whether the object is Istio's `kind`.
pub(super) fn is_istio(object: &Value, wanted: &str) -> bool {
    group(object) == "networking.istio.io" && kind(object) == wanted
}

/// Whether every label of `wanted` is among `labels`; an empty `wanted` selects nothing.
pub(super) fn has_all(labels: &Labels, wanted: &Labels) -> bool {
    !wanted.is_empty() && wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether a `LabelSelector` value selects the labels; an unreadable or empty one does not.
pub(super) fn selects(selector: &Value, labels: &Labels) -> bool {
    serde_json::from_value::<LabelSelector>(selector.clone())
        .is_ok_and(|selector| !selector.is_empty() && selector.matches(labels))
}

/// Whether the object scales `workload` (an HPA, or anything else with a `scaleTargetRef`).
pub(super) fn scales(object: &Value, workload: &Value) -> bool {
    let target = &object["spec"]["scaleTargetRef"];
    namespace(object) == namespace(workload)
        && target["name"].as_str() == Some(name(workload))
        && target["kind"].as_str().unwrap_or("Deployment") == kind(workload)
}

/// Whether a destination's host means the Service `service` in `service_namespace`, seen from an object in `from`.
pub(super) fn host_is(host: &str, from: &str, service: &str, service_namespace: &str) -> bool {
    let mut parts = host.splitn(3, '.');
    let same = |a: &str, b: &str| a == b || (a.is_empty() && b == "default") || (a == "default" && b.is_empty());
    parts.next() == Some(service)
        && same(parts.next().unwrap_or(from), service_namespace)
        && parts.next().is_none_or(|rest| rest == "svc" || rest.starts_with("svc."))
}
