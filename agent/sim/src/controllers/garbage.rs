//! The garbage collector: objects whose owners are all gone go too; foreground deletion waits for those it blocks on, and
//! orphaning takes the reference away.

use crate::{
    amend,
    delete::Propagation,
    json,
    state::{Actor, State},
    store::Key,
};
use serde_json::Value;
use std::time::Duration;

/// Looks at one object: as an owner that is on its way, and as something owned.
pub fn reconcile(state: &mut State, key: &Key) -> Option<Duration> {
    let object = state.store.get(key)?.clone();
    let actor = Actor::controller("generic-garbage-collector", super::pods::MANAGER);
    let place = (&*key.resource, key.namespace.as_str(), key.name.as_str());
    let finalizer = |name: &str| json::list(&object, "/metadata/finalizers").iter().any(|other| other == name);
    if json::is_deleting(&object) {
        let uid = json::uid(&object).to_owned();
        let dependents: Vec<Key> = state.store.dependents(&uid).cloned().collect();
        if finalizer("orphan") {
            for dependent in &dependents {
                let place = (&*dependent.resource, dependent.namespace.as_str(), dependent.name.as_str());
                drop(amend::change(state, &actor, place, "", |object| forget_owner(object, &uid)));
            }
            drop(amend::change(state, &actor, place, "", |object| drop_finalizer(object, "orphan")));
        } else if finalizer("foregroundDeletion") {
            let mut blocking = 0;
            for dependent in &dependents {
                let Some(found) = state.store.get(dependent).cloned() else { continue };
                let reference =
                    json::list(&found, "/metadata/ownerReferences").iter().find(|owner| json::text(owner, "/uid") == uid);
                blocking += usize::from(reference.is_some_and(|owner| json::flag(owner, "/blockOwnerDeletion")));
                if !json::is_deleting(&found) && is_only_owner(state, &found, &uid) {
                    let has_own = state.store.dependents(json::uid(&found)).next().is_some();
                    let policy = if has_own { Propagation::Foreground } else { Propagation::Background };
                    let place = (&*dependent.resource, dependent.namespace.as_str(), dependent.name.as_str());
                    drop(amend::delete(state, &actor, place, policy, None));
                    if state.store.get(dependent).is_none() {
                        blocking = blocking.saturating_sub(1);
                    }
                }
            }
            if blocking == 0 {
                drop(amend::change(state, &actor, place, "", |object| drop_finalizer(object, "foregroundDeletion")));
            }
        }
        return None;
    }
    let owners = json::list(&object, "/metadata/ownerReferences");
    if owners.is_empty() || owners.iter().any(|owner| is_there(state, owner)) {
        return None;
    }
    drop(amend::delete(state, &actor, place, Propagation::Background, None));
    None
}

fn is_there(state: &State, owner: &Value) -> bool {
    // A UID under another name is a reference to something that never was.
    state.store.by_uid(json::text(owner, "/uid")).is_some_and(|key| key.name == json::text(owner, "/name"))
}

/// An object with another living owner is not taken along by this one.
fn is_only_owner(state: &State, object: &Value, uid: &str) -> bool {
    json::list(object, "/metadata/ownerReferences").iter().all(|owner| {
        json::text(owner, "/uid") == uid
            || !is_there(state, owner)
            || state
                .store
                .by_uid(json::text(owner, "/uid"))
                .and_then(|key| state.store.get(key))
                .is_some_and(|owner| json::is_deleting(owner))
    })
}

fn forget_owner(object: &mut Value, uid: &str) {
    let rest: Vec<Value> = json::list(object, "/metadata/ownerReferences")
        .iter()
        .filter(|owner| json::text(owner, "/uid") != uid)
        .cloned()
        .collect();
    if rest.is_empty() {
        json::remove(object, &["metadata", "ownerReferences"]);
    } else {
        json::set(object, &["metadata", "ownerReferences"], Value::Array(rest));
    }
}

fn drop_finalizer(object: &mut Value, name: &str) {
    let rest: Vec<Value> = json::list(object, "/metadata/finalizers").iter().filter(|other| *other != name).cloned().collect();
    if rest.is_empty() {
        json::remove(object, &["metadata", "finalizers"]);
    } else {
        json::set(object, &["metadata", "finalizers"], Value::Array(rest));
    }
}
