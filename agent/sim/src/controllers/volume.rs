//! Claims for storage: bound at once to a volume made for them.

use crate::{
    amend, json,
    state::{Actor, State},
    store::Key,
};
use serde_json::json;
use std::time::Duration;

/// Binds one claim.
pub fn reconcile(state: &mut State, key: &Key) -> Option<Duration> {
    let claim = state.store.get(key)?.clone();
    if json::is_deleting(&claim) || json::text(&claim, "/status/phase") == "Bound" {
        return None;
    }
    let actor = Actor::controller("persistent-volume-binder", super::pods::MANAGER);
    let place = ("persistentvolumeclaims", key.namespace.as_str(), key.name.as_str());
    if json::text(&claim, "/spec/volumeName").is_empty() {
        let volume = format!("pvc-{}", json::uid(&claim));
        drop(amend::change(state, &actor, place, "", |claim| json::set(claim, &["spec", "volumeName"], json!(volume))));
    }
    let status = json!({
        "phase": "Bound", "accessModes": claim["spec"]["accessModes"],
        "capacity": claim.pointer("/spec/resources/requests"),
    });
    drop(amend::change(state, &actor, place, "status", |claim| claim["status"] = status));
    None
}
