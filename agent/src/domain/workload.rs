//! What a Deployment, its pods and a Service have to do with each other: labels, selectors and readiness.

use super::object::{list, number, text};
use muster_core::selector::Labels;
use serde_json::Value;

/// The string map at a JSON pointer, empty where there is none.
pub fn labels(value: &Value, pointer: &str) -> Labels {
    let fields = value.pointer(pointer).and_then(Value::as_object);
    fields.into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// Whether all of `selector` is among `labels`.
pub fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// Whether a pod takes requests: it is Ready and not on its way out.
pub fn pod_is_ready(pod: &Value) -> bool {
    pod.pointer("/metadata/deletionTimestamp").is_none()
        && list(pod, "/status/conditions")
            .iter()
            .any(|condition| text(condition, "/type") == "Ready" && text(condition, "/status") == "True")
}

/// Whether a Deployment stands at full size in the state its spec asks for.
pub fn deployment_is_full(deployment: &Value) -> bool {
    let wanted = number(deployment, "/spec/replicas").unwrap_or(1);
    let observed = number(deployment, "/status/observedGeneration").unwrap_or(0);
    let generation = number(deployment, "/metadata/generation").unwrap_or(0);
    observed >= generation
        && number(deployment, "/status/updatedReplicas").unwrap_or(0) >= wanted
        && number(deployment, "/status/readyReplicas").unwrap_or(0) >= wanted
        && deployment.pointer("/metadata/deletionTimestamp").is_none()
}
