//! Namespaces: a new one gets its service account and root certificate; a deleted one is emptied and then goes.

use crate::{
    amend,
    delete::Propagation,
    json,
    state::{Actor, State},
    store::Key,
};
use serde_json::json;
use std::time::Duration;

/// Fills or empties one namespace.
pub fn reconcile(state: &mut State, key: &Key) -> Option<Duration> {
    let namespace = state.store.get(key)?.clone();
    let actor = Actor::controller("namespace-controller", super::pods::MANAGER);
    if !json::is_deleting(&namespace) {
        if state.store.find("serviceaccounts", &key.name, "default").is_none() {
            let account =
                json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": key.name}});
            drop(amend::create(state, &actor, "serviceaccounts", account));
        }
        if state.store.find("configmaps", &key.name, "kube-root-ca.crt").is_none() {
            let roots = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt", "namespace": key.name},
                "data": {"ca.crt": ""},
            });
            drop(amend::create(state, &actor, "configmaps", roots));
        }
        return None;
    }
    let mut remaining = 0;
    for resource in state.store.resources() {
        if !state.types.get(&resource).is_some_and(|kind| kind.namespaced) {
            continue;
        }
        let objects: Vec<Key> = state.store.list(&resource, &key.name).map(|object| Key::of(&resource, object)).collect();
        for object in objects {
            if state.store.get(&object).is_some_and(|object| !json::is_deleting(object)) {
                let place = (&*object.resource, object.namespace.as_str(), object.name.as_str());
                drop(amend::delete(state, &actor, place, Propagation::Background, None));
            }
        }
        remaining += state.store.count(&resource, &key.name);
    }
    if remaining == 0 {
        drop(amend::change(state, &actor, ("namespaces", "", &key.name), "finalize", |namespace| {
            json::set(namespace, &["spec", "finalizers"], json!([]));
        }));
        if state.store.get(key).is_some_and(|namespace| json::list(namespace, "/metadata/finalizers").is_empty()) {
            drop(amend::remove(state, &actor, "namespaces", "", &key.name));
        }
    }
    // The removal of the last object wakes this controller again.
    None
}
