//! The `scale` subresource: the wanted and observed replicas of a workload as one small object.

use crate::{
    body::present,
    json,
    resource::pointer_of,
    state::{State, Target},
    status::{ApiError, FieldError},
    write::{WriteOptions, Written},
};
use serde_json::{Value, json};

fn paths(target: &Target) -> Result<&(String, String), ApiError> {
    target.kind.versions[target.version].scale.as_ref().ok_or_else(ApiError::no_such_path)
}

/// The `Scale` of an object.
pub fn of(target: &Target, object: &Value) -> Result<Value, ApiError> {
    let (wanted, observed) = paths(target)?;
    let labels: Vec<String> = json::entries(object, "/spec/selector/matchLabels")
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    let meta = |name: &str| object.pointer(&format!("/metadata/{name}"));
    Ok(json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": json::name(object), "namespace": json::namespace(object), "uid": json::uid(object),
            "resourceVersion": meta("resourceVersion"), "creationTimestamp": meta("creationTimestamp"),
        },
        "spec": {"replicas": json::integer(object, &pointer_of(wanted)).unwrap_or(0)},
        "status": {"replicas": json::integer(object, &pointer_of(observed)).unwrap_or(0), "selector": labels.join(",")},
    }))
}

/// The `Scale` of the object a request names.
pub fn read(state: &State, target: &Target) -> Result<Value, ApiError> {
    let object = state.existing(target)?;
    of(target, &object)
}

/// Sets the wanted replicas.
pub fn write(state: &mut State, target: &Target, scale: &Value, options: &WriteOptions) -> Result<Written, ApiError> {
    let (wanted, _) = paths(target)?;
    let replicas = json::integer(scale, "/spec/replicas").unwrap_or(0);
    if replicas < 0 {
        let error = FieldError::invalid("spec.replicas", &json!(replicas), "must be greater than or equal to 0");
        return Err(ApiError::invalid("autoscaling", "Scale", &target.name, &[error]));
    }
    let current = state.existing(target)?;
    let mut object = present(&target.kind, target.version, &current);
    let keys: Vec<&str> = wanted.split('.').filter(|key| !key.is_empty()).collect();
    json::set(&mut object, &keys, json!(replicas));
    if let Some(version) = scale.pointer("/metadata/resourceVersion").filter(|version| version.as_str() != Some("")) {
        json::set(&mut object, &["metadata", "resourceVersion"], version.clone());
    }
    state.replace(target, &current, object, None, options)
}
