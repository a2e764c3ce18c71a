//! Deleting: at once, after a grace period, after finalizers, and with or without what belongs to it.

use crate::{
    json,
    state::{State, Target, now},
    status::ApiError,
    store::Key,
    write::WriteOptions,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// What happens to the objects that name the deleted one as their owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They go first.
    Foreground,
    /// They go after it.
    Background,
    /// They stay, without their owner.
    Orphan,
}

/// How to delete.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// Seconds the object gets to end; the kind's own where it is absent.
    pub grace_seconds: Option<i64>,
    /// What happens to dependents; the kind's own where it is absent.
    pub propagation: Option<Propagation>,
    /// Only this very object.
    pub uid: Option<String>,
    /// Only this state of it.
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    /// Reads the body of a request (which may be empty) and its query.
    pub fn parse(body: &Value, query: &dyn Fn(&str) -> Option<String>) -> Result<Self, ApiError> {
        let word = |pointer: &str| match json::text(body, pointer) {
            "" => None,
            text => Some(text.to_owned()),
        };
        let propagation = match word("/propagationPolicy").or_else(|| query("propagationPolicy")).as_deref() {
            None => match body.get("orphanDependents").and_then(Value::as_bool) {
                Some(true) => Some(Propagation::Orphan),
                Some(false) => Some(Propagation::Background),
                None => None,
            },
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Background") => Some(Propagation::Background),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                let error = crate::status::FieldError::not_supported(
                    "propagationPolicy",
                    &json!(other),
                    &["Background", "Foreground", "Orphan"],
                );
                return Err(ApiError::invalid("meta.k8s.io", "DeleteOptions", "", &[error]));
            }
        };
        let grace = json::integer(body, "/gracePeriodSeconds");
        Ok(Self {
            grace_seconds: grace.or_else(|| query("gracePeriodSeconds").and_then(|seconds| seconds.parse().ok())),
            propagation,
            uid: word("/preconditions/uid"),
            resource_version: word("/preconditions/resourceVersion"),
        })
    }
}

/// What a deletion came to.
#[derive(Debug, Clone)]
pub struct Deleted {
    /// The object's last or present state.
    pub object: Arc<Value>,
    /// It is gone now; otherwise it is on its way.
    pub gone: bool,
}

impl State {
    /// Deletes an object.
    pub fn delete(&mut self, target: &Target, how: &DeleteOptions, options: &WriteOptions) -> Result<Deleted, ApiError> {
        let current = self.existing(target)?;
        let resource = target.resource();
        let refuse = |kind: &str, wanted: &str, found: &str| {
            let why = format!("Precondition failed: {kind} in precondition: {wanted}, {kind} in object meta: {found}");
            ApiError::conflict(&resource, &target.name, &why)
        };
        if let Some(uid) = how.uid.as_deref().filter(|uid| *uid != json::uid(&current)) {
            return Err(refuse("UID", uid, json::uid(&current)));
        }
        let revision = json::text(&current, "/metadata/resourceVersion");
        if let Some(wanted) = how.resource_version.as_deref().filter(|wanted| *wanted != revision) {
            return Err(refuse("ResourceVersion", wanted, revision));
        }
        let mut object = (*current).clone();
        let mut finalizers: Vec<Value> = json::list(&object, "/metadata/finalizers").to_vec();
        // A policy in the request replaces what an earlier one asked for.
        let propagation = how.propagation.or(default_propagation(target, &finalizers));
        if how.propagation.is_some() {
            finalizers.retain(|name| name != "foregroundDeletion" && name != "orphan");
        }
        for (policy, name) in [(Propagation::Foreground, "foregroundDeletion"), (Propagation::Orphan, "orphan")] {
            if propagation == Some(policy) && !finalizers.iter().any(|other| other == name) {
                finalizers.push(json!(name));
            }
        }
        let grace = grace_seconds(target, &current, how);
        let namespace = target.kind.kind == "Namespace" && !json::list(&object, "/spec/finalizers").is_empty();
        let waits = !finalizers.is_empty() || grace > 0 || namespace;
        let key = Key::of(&resource, &current);
        if !waits {
            if options.dry_run {
                return Ok(Deleted { object: current, gone: true });
            }
            let object = self.store.remove(&key).unwrap_or(current);
            return Ok(Deleted { object, gone: true });
        }
        if finalizers.is_empty() {
            json::remove(&mut object, &["metadata", "finalizers"]);
        } else {
            json::set(&mut object, &["metadata", "finalizers"], Value::Array(finalizers));
        }
        if !json::is_deleting(&object) {
            json::set(&mut object, &["metadata", "deletionTimestamp"], json!(now()));
            json::set(&mut object, &["metadata", "deletionGracePeriodSeconds"], json!(grace));
            if target.kind.counts_generation
                && let Some(generation) = json::integer(&object, "/metadata/generation")
            {
                json::set(&mut object, &["metadata", "generation"], json!(generation + 1));
            }
        } else if json::integer(&object, "/metadata/deletionGracePeriodSeconds").is_some_and(|before| grace < before) {
            json::set(&mut object, &["metadata", "deletionGracePeriodSeconds"], json!(grace));
        }
        if namespace {
            json::set(&mut object, &["status", "phase"], json!("Terminating"));
        }
        if options.dry_run || object == *current {
            return Ok(Deleted { object: Arc::new(object), gone: false });
        }
        let object = self.store.put(&key, object);
        Ok(Deleted { object, gone: false })
    }
}

/// `batch/v1` Jobs keep their pods for compatibility with the first versions; everything else takes its dependents along.
fn default_propagation(target: &Target, finalizers: &[Value]) -> Option<Propagation> {
    let has = |name: &str| finalizers.iter().any(|other| other == name);
    if has("foregroundDeletion") || has("orphan") {
        return None;
    }
    (target.kind.group == "batch" && target.kind.kind == "Job").then_some(Propagation::Orphan)
}

/// Pods get time to end, but only where a kubelet has them.
fn grace_seconds(target: &Target, current: &Value, how: &DeleteOptions) -> i64 {
    if target.kind.kind != "Pod" || !target.kind.group.is_empty() {
        return 0;
    }
    let ended = matches!(json::text(current, "/status/phase"), "Succeeded" | "Failed");
    if json::text(current, "/spec/nodeName").is_empty() || (ended && how.grace_seconds.is_none()) {
        return 0;
    }
    let own = json::integer(current, "/spec/terminationGracePeriodSeconds").unwrap_or(30);
    how.grace_seconds.unwrap_or(own).max(0)
}
