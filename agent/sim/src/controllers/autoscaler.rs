//! The status of HorizontalPodAutoscalers, and their floor and ceiling: simulated load does not move replicas in between,
//! so that what a test sees is what its objects say.

use super::pods;
use crate::{
    amend, json,
    state::{Actor, State, now},
    store::Key,
};
use serde_json::{Value, json};
use std::time::Duration;

/// An autoscaler looks at its target this often, because a change of the target does not wake it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Keeps one autoscaler's target within its bounds.
pub fn reconcile(state: &mut State, key: &Key) -> Option<Duration> {
    let autoscaler = state.store.get(key)?.clone();
    if json::is_deleting(&autoscaler) {
        return None;
    }
    let actor = Actor::controller("horizontal-pod-autoscaler", pods::MANAGER);
    let resource = match json::text(&autoscaler, "/spec/scaleTargetRef/kind") {
        "Deployment" => "deployments.apps",
        "StatefulSet" => "statefulsets.apps",
        "ReplicaSet" => "replicasets.apps",
        _ => "",
    };
    let name = json::text(&autoscaler, "/spec/scaleTargetRef/name").to_owned();
    let target = state.store.find(resource, &key.namespace, &name).cloned();
    let at = now();
    let current = target.as_ref().and_then(|target| json::integer(target, "/status/replicas")).unwrap_or(0);
    let wanted = target.as_ref().and_then(|target| json::integer(target, "/spec/replicas")).unwrap_or(0);
    let least = json::integer(&autoscaler, "/spec/minReplicas").unwrap_or(1);
    let most = json::integer(&autoscaler, "/spec/maxReplicas").unwrap_or(1);
    // Zero replicas switch an autoscaler off.
    let bounded = if wanted == 0 { 0 } else { wanted.clamp(least, most.max(least)) };
    if target.is_some() && bounded != wanted {
        drop(amend::change(state, &actor, (resource, &key.namespace, &name), "", |target| {
            json::set(target, &["spec", "replicas"], json!(bounded));
        }));
    }
    drop(amend::change(state, &actor, ("horizontalpodautoscalers.autoscaling", &key.namespace, &key.name), "status", |object| {
        let mut status: Value = object.get("status").cloned().unwrap_or_else(|| json!({}));
        status["currentReplicas"] = json!(current);
        status["desiredReplicas"] = json!(bounded);
        let (value, reason) = if target.is_some() { ("True", "SucceededGetScale") } else { ("False", "FailedGetScale") };
        pods::set_condition(&mut status, "AbleToScale", value, reason, "", &at);
        object["status"] = status;
    }));
    Some(LOOK_EVERY)
}
