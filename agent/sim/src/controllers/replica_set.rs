//! ReplicaSets: as many active pods as wanted, and a status that counts them.

use super::pods;
use crate::{
    amend,
    delete::Propagation,
    json,
    selector::LabelSelector,
    state::{Actor, State},
    store::Key,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// Brings one ReplicaSet's pods to the wanted number.
pub fn reconcile(state: &mut State, key: &Key) -> Option<Duration> {
    let set = state.store.get(key)?.clone();
    let actor = Actor::controller("replicaset-controller", pods::MANAGER);
    adopt(state, &actor, &set, "pods");
    let mut active: Vec<Arc<Value>> =
        state.store.owned(json::uid(&set), "pods").filter(|pod| pods::is_active(pod)).cloned().collect();
    let wanted = json::integer(&set, "/spec/replicas").unwrap_or(1).max(0) as usize;
    if !json::is_deleting(&set) {
        if active.len() < wanted {
            for _ in active.len()..wanted {
                let pod = pods::from_template(&set["spec"]["template"], &set);
                // A refusal is in the audit log; it would be the same for the next pod.
                match pods::create(state, &actor, pod, &format!("{}-", key.name)) {
                    Ok(pod) => active.push(pod),
                    Err(_) => break,
                }
            }
        } else if active.len() > wanted {
            pods::least_loss_first(&mut active);
            for pod in active.drain(..active.len() - wanted) {
                drop(amend::delete(state, &actor, ("pods", &key.namespace, json::name(&pod)), Propagation::Background, None));
            }
        }
    }
    let min_ready = json::integer(&set, "/spec/minReadySeconds").unwrap_or(0);
    let waits: Vec<Duration> = active.iter().filter_map(|pod| pods::until_available(pod, min_ready)).collect();
    let available = waits.iter().filter(|wait| wait.is_zero()).count() as i64;
    let generation = set["metadata"]["generation"].clone();
    drop(amend::change(state, &actor, ("replicasets.apps", &key.namespace, &key.name), "status", |set| {
        let mut status = set.get("status").cloned().unwrap_or_else(|| json!({}));
        status["replicas"] = json!(active.len());
        pods::set_count(&mut status, "fullyLabeledReplicas", active.len() as i64);
        pods::set_count(&mut status, "readyReplicas", waits.len() as i64);
        pods::set_count(&mut status, "availableReplicas", available);
        status["observedGeneration"] = generation;
        set["status"] = status;
    }));
    waits.into_iter().filter(|wait| !wait.is_zero()).min()
}

/// Takes over objects that match the selector and have no controller, as after an orphaning deletion.
pub fn adopt(state: &mut State, actor: &Actor, owner: &Value, resource: &str) {
    if json::is_deleting(owner) {
        return;
    }
    let selector = LabelSelector::of_object(&owner["spec"]["selector"]);
    let namespace = json::namespace(owner).to_owned();
    let orphans: Vec<Key> = state
        .store
        .list(resource, &namespace)
        .filter(|object| json::controller_of(object).is_none() && !json::is_deleting(object))
        .filter(|object| !selector.is_empty() && selector.selects(object.pointer("/metadata/labels")))
        .map(|object| Key::of(resource, object))
        .collect();
    for orphan in orphans {
        drop(amend::change(state, actor, (resource, &namespace, &orphan.name), "", |object| {
            let mut owners = json::list(object, "/metadata/ownerReferences").to_vec();
            owners.push(pods::controller_reference(owner));
            json::set(object, &["metadata", "ownerReferences"], Value::Array(owners));
        }));
    }
}
