//! Reading a request's object as a kind: unknown fields are found and dropped, wrong types refused, nulls dropped and
//! quantities brought to their canonical form, as decoding into the API server's own types does.

use super::{Scalar, Schema};
use crate::quantity;
use serde_json::Value;

/// What reading found.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Paths of fields the kind does not have, in the order of the object.
    pub unknown: Vec<String>,
    /// The first value of a wrong type.
    pub mistyped: Option<String>,
}

/// Reads `value` in place as `schema`. Only `keep_unknown` leaves unknown fields where they are.
pub fn decode(schema: &Schema, value: &mut Value) -> Decoded {
    let mut decoded = Decoded::default();
    walk(schema, value, &mut String::new(), &mut decoded);
    decoded
}

fn walk(schema: &Schema, value: &mut Value, path: &mut String, decoded: &mut Decoded) {
    match (schema.resolve(), value) {
        (Schema::Any | Schema::Named(..), _) | (_, Value::Null) => {}
        (Schema::Scalar(kind), value) => scalar(*kind, value, path, decoded),
        (Schema::Struct(shape), Value::Object(fields)) => {
            let mut dropped = Vec::new();
            for (key, child) in fields.iter_mut() {
                let length = path.len();
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
                match shape.fields.get(key) {
                    Some(_) if child.is_null() => dropped.push(key.clone()),
                    Some(field) => walk(&field.schema, child, path, decoded),
                    None if shape.open => {}
                    None => {
                        decoded.unknown.push(path.clone());
                        dropped.push(key.clone());
                    }
                }
                path.truncate(length);
            }
            dropped.iter().for_each(|key| drop(fields.shift_remove(key)));
        }
        (Schema::Map { values, .. }, Value::Object(entries)) => {
            for (key, child) in entries.iter_mut() {
                let length = path.len();
                path.push('.');
                path.push_str(key);
                walk(values, child, path, decoded);
                path.truncate(length);
            }
        }
        (Schema::List { items, .. }, Value::Array(elements)) => {
            for (index, child) in elements.iter_mut().enumerate() {
                let length = path.len();
                path.push_str(&format!("[{index}]"));
                walk(items, child, path, decoded);
                path.truncate(length);
            }
        }
        (Schema::Struct(_) | Schema::Map { .. }, other) => mistyped(decoded, path, other, "an object"),
        (Schema::List { .. }, other) => mistyped(decoded, path, other, "a list"),
    }
}

fn scalar(kind: Scalar, value: &mut Value, path: &str, decoded: &mut Decoded) {
    let wanted = match kind {
        Scalar::Text | Scalar::Time if value.is_string() => return,
        Scalar::Text => "string",
        Scalar::Time => "RFC 3339 time",
        Scalar::Integer if value.as_i64().is_some() || value.as_f64().is_some_and(|number| number.fract() == 0.0) => return,
        Scalar::Integer => "int",
        Scalar::Number if value.is_number() => return,
        Scalar::Number => "number",
        Scalar::Boolean if value.is_boolean() => return,
        Scalar::Boolean => "bool",
        Scalar::IntegerOrText if value.is_string() || value.as_i64().is_some() => return,
        Scalar::IntegerOrText => "int or string",
        Scalar::Quantity => {
            let written = match &*value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => String::new(),
            };
            match quantity::canonical(&written) {
                Some(canonical) => {
                    *value = Value::String(canonical);
                    return;
                }
                None => "quantity",
            }
        }
    };
    mistyped(decoded, path, value, wanted);
}

fn mistyped(decoded: &mut Decoded, path: &str, value: &Value, wanted: &str) {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    decoded.mistyped.get_or_insert_with(|| format!("json: cannot unmarshal {found} into field {path} of type {wanted}"));
}

/// The fields that the shape requires and the value lacks, as paths.
pub fn missing(schema: &Schema, value: &Value) -> Vec<String> {
    fn walk(schema: &Schema, value: &Value, path: &str, found: &mut Vec<String>) {
        match (schema.resolve(), value) {
            (Schema::Struct(shape), Value::Object(fields)) => {
                for (name, field) in &shape.fields {
                    let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    match fields.get(name) {
                        Some(child) => {
                            let empty = child.as_str() == Some("") || child.as_array().is_some_and(Vec::is_empty);
                            if field.required && empty {
                                found.push(inner.clone());
                            }
                            walk(&field.schema, child, &inner, found);
                        }
                        None if field.required => found.push(inner),
                        None => {}
                    }
                }
            }
            (Schema::Map { values, .. }, Value::Object(fields)) => {
                fields.iter().for_each(|(key, child)| walk(values, child, &format!("{path}.{key}"), found));
            }
            (Schema::List { items, .. }, Value::Array(elements)) => {
                let each = elements.iter().enumerate();
                each.for_each(|(index, child)| walk(items, child, &format!("{path}[{index}]"), found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(schema, value, "", &mut found);
    found
}
