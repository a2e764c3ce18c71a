//! What the workload controllers share about pods: making them from a template and judging them.

use crate::{
    amend, json,
    state::{Actor, State},
    status::ApiError,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// The manager under which the workload controllers write.
pub const MANAGER: &str = "kube-controller-manager";

/// Neither ended nor on its way out.
pub fn is_active(pod: &Value) -> bool {
    !json::is_deleting(pod) && !is_ended(pod)
}

/// Succeeded or failed.
pub fn is_ended(pod: &Value) -> bool {
    matches!(json::text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// Its `Ready` condition is true and it is not on its way out.
pub fn is_ready(pod: &Value) -> bool {
    json::condition_is_true(pod, "Ready") && !json::is_deleting(pod)
}

/// How long a ready pod has to stay ready to count as available; zero where it does.
pub fn until_available(pod: &Value, min_ready_seconds: i64) -> Option<Duration> {
    if !is_ready(pod) {
        return None;
    }
    let since = json::condition(pod, "Ready").map_or("", |condition| json::text(condition, "/lastTransitionTime"));
    Some(remaining(since, min_ready_seconds))
}

/// What is left of `seconds` counted from an RFC 3339 time; zero where they have passed.
pub fn remaining(since: &str, seconds: i64) -> Duration {
    if seconds <= 0 {
        return Duration::ZERO;
    }
    let Ok(since) = since.parse::<jiff::Timestamp>() else { return Duration::ZERO };
    let passed = jiff::Timestamp::now().as_millisecond() - since.as_millisecond();
    Duration::from_millis(u64::try_from(seconds.saturating_mul(1_000) - passed).unwrap_or(0))
}

/// A reference that makes `owner` the controller of what carries it.
pub fn controller_reference(owner: &Value) -> Value {
    json!({
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": json::name(owner), "uid": json::uid(owner),
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// A pod of a template, owned by `owner`, not yet created and without a name.
pub fn from_template(template: &Value, owner: &Value) -> Value {
    let mut metadata = json!({
        "namespace": json::namespace(owner), "ownerReferences": [controller_reference(owner)],
    });
    for name in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template.pointer(&format!("/metadata/{name}")) {
            metadata[name] = value.clone();
        }
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template.get("spec")})
}

/// Creates a pod with a name of its own.
pub fn create(state: &mut State, actor: &Actor, mut pod: Value, prefix: &str) -> Result<Arc<Value>, ApiError> {
    json::set(&mut pod, &["metadata", "generateName"], json!(prefix));
    amend::create(state, actor, "pods", pod)
}

/// Sets one of an object's conditions and answers whether its status changed; the time of transition moves only then.
pub fn set_condition(status: &mut Value, kind: &str, value: &str, reason: &str, message: &str, now: &str) -> bool {
    let conditions = json::object(status).entry("conditions").or_insert_with(|| json!([]));
    let Some(conditions) = conditions.as_array_mut() else { return false };
    let found = conditions.iter().position(|condition| json::text(condition, "/type") == kind);
    let at = found.unwrap_or_else(|| {
        conditions.push(json!({"type": kind, "status": ""}));
        conditions.len() - 1
    });
    let condition = &mut conditions[at];
    let changed = json::text(condition, "/status") != value;
    if changed {
        condition["lastTransitionTime"] = json!(now);
    }
    condition["status"] = json!(value);
    for (field, text) in [("reason", reason), ("message", message)] {
        if text.is_empty() {
            json::remove(condition, &[field]);
        } else {
            condition[field] = json!(text);
        }
    }
    changed
}

/// Writes a count into a status, or leaves it out where it is zero, as `omitempty` does.
pub fn set_count(status: &mut Value, name: &str, count: i64) {
    if count == 0 {
        json::remove(status, &[name]);
    } else {
        status[name] = json!(count);
    }
}

/// A number or a share of `total`, as `maxSurge`: shares are rounded up for a surge and down for what may be missing.
pub fn resolve(value: Option<&Value>, total: i64, round_up: bool) -> i64 {
    match value {
        Some(Value::String(text)) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let product = total.saturating_mul(percent);
            if round_up { product.saturating_add(99) / 100 } else { product / 100 }
        }
        Some(other) => other.as_i64().unwrap_or(0),
        None => 0,
    }
}

/// Pods that are the least loss first: not bound, not running, not ready, the youngest.
pub fn least_loss_first(pods: &mut [Arc<Value>]) {
    pods.sort_by_cached_key(|pod| {
        (
            !json::text(pod, "/spec/nodeName").is_empty(),
            json::text(pod, "/status/phase") == "Running",
            is_ready(pod),
            std::cmp::Reverse(json::text(pod, "/metadata/creationTimestamp").to_owned()),
            json::name(pod).to_owned(),
        )
    });
}
