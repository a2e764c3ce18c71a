//! How the cluster's own controllers write: the same steps as a request, without the reading, and with a line in the
//! audit log each.

use crate::{
    delete::{DeleteOptions, Propagation},
    json,
    state::{Actor, Outcome, State, Target},
    status::ApiError,
    write::WriteOptions,
};
use serde_json::Value;
use std::sync::Arc;

fn target(state: &State, resource: &str, namespace: &str, name: &str, subresource: &str) -> Result<Target, ApiError> {
    let target = state.target(resource, namespace, name).ok_or_else(|| ApiError::not_found(resource, name))?;
    Ok(Target { subresource: subresource.to_owned(), ..target })
}

fn refused(state: &mut State, actor: &Actor, verb: &str, target: &Target, error: ApiError) -> ApiError {
    let outcome = Outcome::Refused { code: error.code, message: &error.message };
    state.record(actor, verb, &target.path(), target, false, outcome);
    error
}

/// Creates an object.
pub fn create(state: &mut State, actor: &Actor, resource: &str, object: Value) -> Result<Arc<Value>, ApiError> {
    let target = target(state, resource, json::namespace(&object), "", "")?;
    match state.create(&target, object, &WriteOptions::internal(actor)) {
        Ok(written) => {
            let outcome = Outcome::Done { code: 201, object: Some(&written.object) };
            state.record(actor, "create", &target.path(), &target, false, outcome);
            Ok(written.object)
        }
        Err(error) => Err(refused(state, actor, "create", &target, error)),
    }
}

/// Changes an object or its subresource; nothing is written where `change` changes nothing.
pub fn change(
    state: &mut State,
    actor: &Actor,
    place: (&str, &str, &str),
    subresource: &str,
    change: impl FnOnce(&mut Value),
) -> Result<Arc<Value>, ApiError> {
    let (resource, namespace, name) = place;
    let target = target(state, resource, namespace, name, subresource)?;
    let current = state.existing(&target)?;
    let mut object = (*current).clone();
    change(&mut object);
    if object == *current {
        return Ok(current);
    }
    match state.replace(&target, &current, object, None, &WriteOptions::internal(actor)) {
        Ok(written) => {
            let outcome = if written.removed {
                Outcome::Removed { object: Some(&written.object) }
            } else {
                Outcome::Done { code: 200, object: Some(&written.object) }
            };
            state.record(actor, "update", &target.path(), &target, false, outcome);
            Ok(written.object)
        }
        Err(error) => Err(refused(state, actor, "update", &target, error)),
    }
}

/// Deletes an object.
pub fn delete(
    state: &mut State,
    actor: &Actor,
    place: (&str, &str, &str),
    propagation: Propagation,
    grace_seconds: Option<i64>,
) -> Result<(), ApiError> {
    let (resource, namespace, name) = place;
    let target = target(state, resource, namespace, name, "")?;
    let how = DeleteOptions { grace_seconds, propagation: Some(propagation), ..DeleteOptions::default() };
    match state.delete(&target, &how, &WriteOptions::internal(actor)) {
        Ok(deleted) => {
            let outcome = if deleted.gone {
                Outcome::Removed { object: Some(&deleted.object) }
            } else {
                Outcome::Done { code: 200, object: Some(&deleted.object) }
            };
            state.record(actor, "delete", &target.path(), &target, false, outcome);
            Ok(())
        }
        Err(error) => Err(refused(state, actor, "delete", &target, error)),
    }
}

/// Removes an object at once, whatever its finalizers say.
pub fn remove(state: &mut State, actor: &Actor, resource: &str, namespace: &str, name: &str) -> Result<(), ApiError> {
    let target = target(state, resource, namespace, name, "")?;
    let current = state.existing(&target)?;
    let key = crate::store::Key::of(resource, &current);
    let last = state.store.remove(&key).unwrap_or(current);
    state.record(actor, "delete", &target.path(), &target, false, Outcome::Removed { object: Some(&last) });
    Ok(())
}
