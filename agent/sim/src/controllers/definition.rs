//! CustomResourceDefinitions: a new one is served and becomes Established; a deleted one takes its objects with it.

use crate::{
    amend, json,
    resource::{custom_type, established},
    state::{Actor, State, now},
    store::Key,
};
use serde_json::{Value, json};
use std::time::Duration;

const RESOURCE: &str = "customresourcedefinitions.apiextensions.k8s.io";
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Serves the kind of a definition from now on and says so in its status.
pub fn serve(state: &mut State, definition: &Value) {
    let kind = custom_type(definition);
    let unchanged = state.types.get(&kind.qualified()).is_some_and(|before| {
        before.custom && format!("{:?}", before.versions) == format!("{:?}", kind.versions) && before.kind == kind.kind
    });
    if !unchanged {
        if state.types.get(&kind.qualified()).is_none() {
            state.store.begin(&kind.qualified());
        }
        state.types.register(kind);
    }
    let actor = Actor::controller("kube-apiserver", "kube-apiserver");
    let status = established(definition, &now());
    let place = (RESOURCE, "", json::name(definition));
    // A refusal is in the audit log; the next change of the definition tries again.
    drop(amend::change(state, &actor, place, "status", |object| json::set(object, &["status"], status)));
    let has = json::list(definition, "/metadata/finalizers").iter().any(|name| name == CLEANUP);
    if !has && !json::is_deleting(definition) {
        drop(amend::change(state, &actor, place, "", |object| {
            let mut finalizers = json::list(object, "/metadata/finalizers").to_vec();
            finalizers.push(json!(CLEANUP));
            json::set(object, &["metadata", "finalizers"], Value::Array(finalizers));
        }));
    }
}

/// Serves, or cleans up after, one definition.
pub fn reconcile(state: &mut State, key: &Key) -> Option<Duration> {
    let definition = state.store.get(key)?.clone();
    if !json::is_deleting(&definition) {
        serve(state, &definition);
        return None;
    }
    let actor = Actor::controller("kube-apiserver", "kube-apiserver");
    let objects: Vec<Key> = state.store.list(&key.name, "").map(|object| Key::of(&key.name, object)).collect();
    for object in &objects {
        if state.store.get(object).is_some_and(|object| !json::is_deleting(object)) {
            let place = (&*object.resource, object.namespace.as_str(), object.name.as_str());
            drop(amend::delete(state, &actor, place, crate::delete::Propagation::Background, None));
        }
    }
    if state.store.count(&key.name, "") > 0 {
        return None;
    }
    let kind = state.types.get(&key.name).map(|kind| kind.qualified());
    drop(amend::change(state, &actor, (RESOURCE, "", &key.name), "", |object| {
        let rest: Vec<Value> =
            json::list(object, "/metadata/finalizers").iter().filter(|name| *name != CLEANUP).cloned().collect();
        json::set(object, &["metadata", "finalizers"], Value::Array(rest));
    }));
    if let Some(kind) = kind {
        state.types.remove(&kind);
    }
    None
}
