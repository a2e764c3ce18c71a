//! Between the body of a request and the object that is stored: versions, identity, unknown fields, system metadata.

use crate::{
    json,
    resource::ResourceType,
    schema::decode,
    state::Target,
    status::{ApiError, FieldError},
    write::FieldValidation,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// An object in a version of its kind.
pub fn present(kind: &ResourceType, version: usize, object: &Arc<Value>) -> Value {
    let mut presented = (**object).clone();
    if version != 0 {
        json::set(&mut presented, &["apiVersion"], json!(kind.api_version(version)));
    }
    presented
}

/// Refuses a body of another kind or version than the path's.
pub fn check_identity(target: &Target, body: &Value) -> Result<(), ApiError> {
    let (api_version, kind) = (json::text(body, "/apiVersion"), json::text(body, "/kind"));
    let wanted = target.api_version();
    if kind.is_empty() {
        return Err(ApiError::bad_request(format!("Object 'Kind' is missing in '{}'", shortened(body))));
    }
    if api_version != wanted || kind != target.kind.kind {
        return Err(ApiError::bad_request(format!(
            "{kind} in version \"{api_version}\" cannot be handled as a {}: the API version in the data ({api_version}) does not match the expected API version ({wanted})",
            target.kind.kind
        )));
    }
    Ok(())
}

fn shortened(body: &Value) -> String {
    body.to_string().chars().take(200).collect()
}

/// Reads a body as the kind: identity, unknown fields, types.
pub fn read_body(target: &Target, object: &mut Value, validation: FieldValidation) -> Result<Vec<String>, ApiError> {
    if !object.is_object() {
        return Err(ApiError::bad_request("the object provided is not a JSON object"));
    }
    let kind = &target.kind;
    // A body of a built-in kind may leave its own kind out.
    for (name, value) in [("apiVersion", target.api_version()), ("kind", kind.kind.clone())] {
        if !kind.custom && json::text(object, &format!("/{name}")).is_empty() {
            json::set(object, &[name], json!(value));
        }
    }
    check_identity(target, object)?;
    let version = &kind.versions[target.version];
    let decoded = decode::decode(&version.schema, object);
    let said = format!("{} in version \"{}\" cannot be handled as a {}", kind.kind, version.name, kind.kind);
    if let (Some(mistyped), false) = (decoded.mistyped, kind.custom) {
        return Err(ApiError::bad_request(format!("{said}: {mistyped}")));
    }
    let unknown: Vec<String> = decoded.unknown.iter().map(|path| format!("unknown field \"{path}\"")).collect();
    match validation {
        FieldValidation::Strict if !unknown.is_empty() => {
            Err(ApiError::bad_request(format!("{said}: strict decoding error: {}", unknown.join(", "))))
        }
        FieldValidation::Warn => Ok(unknown),
        FieldValidation::Strict | FieldValidation::Ignore => Ok(Vec::new()),
    }
}

/// What an apply on this path may own: no status on the object itself, nothing but status on `/status`.
pub fn keep_only_what_counts(target: &Target, config: &mut Value) {
    let Some(fields) = config.as_object_mut() else { return };
    if target.subresource == "status" {
        fields.retain(|name, _| matches!(name.as_str(), "apiVersion" | "kind" | "status"));
    } else if target.kind.versions[target.version].status {
        fields.shift_remove("status");
    }
}

/// Puts back what no request may change.
pub fn restore_system_metadata(before: &Value, object: &mut Value) {
    for name in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
        "selfLink",
        "managedFields",
        "generateName",
    ] {
        match before.pointer(&format!("/metadata/{name}")) {
            Some(value) => json::set(object, &["metadata", name], value.clone()),
            None => drop(json::remove(object, &["metadata", name])),
        }
    }
    for map in ["labels", "annotations"] {
        if object.pointer(&format!("/metadata/{map}")).is_some_and(|map| map.as_object().is_some_and(serde_json::Map::is_empty)) {
            json::remove(object, &["metadata", map]);
        }
    }
}

/// Built-in kinds count changes of their spec; custom ones everything but metadata, and status where it has its own path.
pub fn spec_differs(kind: &ResourceType, before: &Value, after: &Value) -> bool {
    if !kind.custom {
        let fields = ["spec", "webhooks", "endpoints", "ports", "value"];
        return fields.iter().any(|name| before.get(name) != after.get(name))
            || (json::is_deleting(after) && !json::is_deleting(before));
    }
    let status_apart = kind.versions[0].status;
    let rest = |object: &Value| -> Value {
        let mut rest = object.clone();
        for name in ["metadata", "apiVersion", "kind"] {
            json::remove(&mut rest, &[name]);
        }
        if status_apart {
            json::remove(&mut rest, &["status"]);
        }
        rest
    };
    rest(before) != rest(after)
}

/// Refuses an object with these errors, or those of its OpenAPI schema.
pub fn check(kind: &ResourceType, version: usize, object: &Value, mut errors: Vec<FieldError>) -> Result<(), ApiError> {
    if let Some(openapi) = &kind.versions[version].openapi {
        errors.extend(crate::schema::openapi::check(openapi, object));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(&kind.group, &kind.kind, json::name(object), &errors))
}
