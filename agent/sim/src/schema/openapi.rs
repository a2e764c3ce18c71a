//! The structural schema of a custom resource: turned into our shape, and checked as OpenAPI v3 says.

use super::{Field, Identity, Scalar, Schema, Struct};
use crate::{json, status::FieldError};
use serde_json::Value;
use std::collections::BTreeMap;

/// The shape of a custom resource with this `openAPIV3Schema`; without one anything is kept.
pub fn shape_of_kind(openapi: Option<&Value>) -> Schema {
    let shape = openapi.map_or(Schema::Any, shape);
    let mut top = match shape {
        Schema::Struct(top) => top,
        Schema::Any | Schema::Scalar(_) | Schema::Map { .. } | Schema::List { .. } | Schema::Named(..) => {
            Struct { open: true, ..Struct::default() }
        }
    };
    for name in ["apiVersion", "kind"] {
        top.fields.insert(name.to_owned(), Field { schema: Schema::Scalar(Scalar::Text), required: false, default: None });
    }
    let metadata = Schema::Named("ObjectMeta".to_owned(), false);
    top.fields.insert("metadata".to_owned(), Field { schema: metadata, required: false, default: None });
    Schema::Struct(top)
}

fn shape(openapi: &Value) -> Schema {
    let keeps_unknown = json::flag(openapi, "/x-kubernetes-preserve-unknown-fields");
    if json::flag(openapi, "/x-kubernetes-int-or-string") {
        return Schema::Scalar(Scalar::IntegerOrText);
    }
    match json::text(openapi, "/type") {
        "string" => Schema::Scalar(Scalar::Text),
        "integer" => Schema::Scalar(Scalar::Integer),
        "number" => Schema::Scalar(Scalar::Number),
        "boolean" => Schema::Scalar(Scalar::Boolean),
        "array" => {
            let identity = match json::text(openapi, "/x-kubernetes-list-type") {
                "map" => Identity::Keys(
                    json::list(openapi, "/x-kubernetes-list-map-keys")
                        .iter()
                        .filter_map(|key| key.as_str().map(str::to_owned))
                        .collect(),
                ),
                "set" => Identity::Set,
                _ => Identity::Atomic,
            };
            Schema::List { items: Box::new(openapi.get("items").map_or(Schema::Any, shape)), identity }
        }
        _ => object_shape(openapi, keeps_unknown),
    }
}

fn object_shape(openapi: &Value, keeps_unknown: bool) -> Schema {
    let atomic = json::text(openapi, "/x-kubernetes-map-type") == "atomic";
    match openapi.get("additionalProperties") {
        Some(Value::Bool(true)) => return Schema::Map { values: Box::new(Schema::Any), atomic },
        Some(values) if values.is_object() => return Schema::Map { values: Box::new(shape(values)), atomic },
        _ => {}
    }
    let Some(properties) = openapi.get("properties").and_then(Value::as_object) else {
        return if keeps_unknown || json::text(openapi, "/type").is_empty() {
            Schema::Any
        } else {
            Schema::Struct(Struct { atomic, ..Struct::default() })
        };
    };
    let required = json::list(openapi, "/required");
    let fields: BTreeMap<String, Field> = properties
        .iter()
        .map(|(name, property)| {
            let default = property.get("default").cloned();
            let required = required.iter().any(|one| one.as_str() == Some(name));
            (name.clone(), Field { schema: shape(property), required, default })
        })
        .collect();
    Schema::Struct(Struct { fields, open: keeps_unknown, atomic })
}

/// Everything in `value` that the structural schema does not allow.
pub fn check(openapi: &Value, value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(openapi, value, "", &mut errors);
    errors
}

fn walk(openapi: &Value, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if value.is_null() && json::flag(openapi, "/nullable") {
        return;
    }
    let shown = if path.is_empty() { "<nil>" } else { path };
    let kind = json::text(openapi, "/type");
    let fits = match kind {
        "string" => value.is_string(),
        "integer" => value.as_i64().is_some() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    };
    if !fits {
        let found = type_name(value);
        errors.push(FieldError {
            reason: "FieldValueTypeInvalid",
            field: shown.to_owned(),
            message: format!("Invalid value: \"{found}\": {shown} in body must be of type {kind}: \"{found}\""),
        });
        return;
    }
    if let Some(allowed) = openapi.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let names: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
        errors.push(FieldError::not_supported(shown, value, &names));
    }
    bounds(openapi, value, shown, errors);
    match value {
        Value::Object(fields) => {
            for name in json::list(openapi, "/required").iter().filter_map(Value::as_str) {
                if !fields.contains_key(name) {
                    errors.push(FieldError::required(join(path, name), ""));
                }
            }
            for (name, child) in fields {
                let declared = openapi.pointer("/properties").and_then(|properties| properties.get(name));
                let free = openapi.get("additionalProperties").filter(|free| free.is_object());
                if let Some(schema) = declared.or(free) {
                    walk(schema, child, &join(path, name), errors);
                }
            }
        }
        Value::Array(elements) => {
            if let Some(items) = openapi.get("items") {
                let each = elements.iter().enumerate();
                each.for_each(|(index, child)| walk(items, child, &format!("{path}[{index}]"), errors));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn bounds(openapi: &Value, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let limit = |name: &str| openapi.get(name).and_then(Value::as_f64);
    if let Some(number) = value.as_f64() {
        if let Some(minimum) = limit("minimum")
            && number < minimum
        {
            let why = format!("{path} in body should be greater than or equal to {minimum}");
            errors.push(FieldError::invalid(path, value, why));
        }
        if let Some(maximum) = limit("maximum")
            && number > maximum
        {
            let why = format!("{path} in body should be less than or equal to {maximum}");
            errors.push(FieldError::invalid(path, value, why));
        }
    }
    let size = match value {
        Value::String(text) => Some((text.chars().count(), "Length", "chars long")),
        Value::Array(elements) => Some((elements.len(), "Items", "items")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    };
    if let Some((size, name, unit)) = size {
        if limit(&format!("min{name}")).is_some_and(|least| (size as f64) < least) {
            let why = format!("{path} in body should be at least {} {unit}", limit(&format!("min{name}")).unwrap_or(0.0));
            errors.push(FieldError::invalid(path, value, why));
        }
        if limit(&format!("max{name}")).is_some_and(|most| size as f64 > most) {
            let why = format!("{path} in body should be at most {} {unit}", limit(&format!("max{name}")).unwrap_or(0.0));
            errors.push(FieldError::invalid(path, value, why));
        }
    }
    if let (Some(text), Some(pattern)) = (value.as_str(), openapi.get("pattern").and_then(Value::as_str))
        && regex::Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(text))
    {
        errors.push(FieldError::invalid(path, value, format!("{path} in body should match '{pattern}'")));
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
