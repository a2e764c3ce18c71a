//! Anchors of a `patchStrategicMerge`: what of the patch applies to an object.
//!
//! `(key)` keeps the part it stands in only where the object has such a value there, `<(key)` keeps the whole patch only
//! then, and `+(key)` adds what is not there. What is left is a plain patch.

use super::merge::key_of;
use crate::{
    anchor::{self, Kind},
    pattern::{Node, fits},
};
use serde_json::{Map, Value};

/// Why a part of a patch does not apply.
#[derive(Debug, PartialEq, Eq)]
pub enum Unmet {
    /// A condition beside it.
    Part,
    /// A condition of the whole patch.
    Whole,
}

/// The patch without anchors, as it applies to the object.
pub fn applied(patch: &Value, object: &Value) -> Result<Value, Unmet> {
    let Value::Object(fields) = patch else { return Ok(patch.clone()) };
    conditions(fields, object)?;
    let mut plain = Map::new();
    for (key, wanted) in fields {
        let (kind, field) = anchor::parse(key).map_or((None, key.as_str()), |(kind, field)| (Some(kind), field));
        let found = object.get(field);
        match kind {
            Some(Kind::Condition | Kind::Global) => {}
            Some(Kind::AddIfAbsent) if found.is_some_and(|found| !found.is_null()) => {}
            _ => match below(field, wanted, found.unwrap_or(&Value::Null)) {
                Ok(value) => {
                    // A part of which nothing is left would add what nobody asked for.
                    let is_left = !has_conditions(wanted) || !is_empty(&value);
                    if is_left {
                        plain.insert(field.to_owned(), value);
                    }
                }
                Err(Unmet::Part) => {}
                Err(Unmet::Whole) => return Err(Unmet::Whole),
            },
        }
    }
    Ok(Value::Object(plain))
}

fn below(field: &str, wanted: &Value, found: &Value) -> Result<Value, Unmet> {
    match wanted {
        Value::Object(_) => applied(wanted, found),
        Value::Array(elements) if elements.iter().any(Value::is_object) => {
            let items = found.as_array().map_or(&[][..], Vec::as_slice);
            let mut plain = Vec::new();
            for element in elements {
                if has_conditions(element) {
                    plain.extend(for_each(field, element, items)?);
                } else {
                    let key = key_of(field, element);
                    let same = items.iter().find(|item| key.is_some_and(|key| item.get(key) == element.get(key)));
                    plain.push(applied(element, same.unwrap_or(&Value::Null))?);
                }
            }
            Ok(Value::Array(plain))
        }
        other => Ok(other.clone()),
    }
}

/// What an element with conditions is for each item of the list that meets them, named as the item is.
fn for_each(field: &str, element: &Value, items: &[Value]) -> Result<Vec<Value>, Unmet> {
    let mut plain = Vec::new();
    let mut whole_unmet = false;
    let mut met = false;
    for item in items {
        match applied(element, item) {
            Ok(mut made) => {
                met = true;
                let key = key_of(field, item);
                if let (Some(key), Value::Object(fields)) = (key, &mut made)
                    && let Some(name) = item.get(key)
                    && !fields.is_empty()
                {
                    fields.insert(key.to_owned(), name.clone());
                }
                if !is_empty(&made) {
                    plain.push(made);
                }
            }
            Err(Unmet::Part) => {}
            Err(Unmet::Whole) => whole_unmet = true,
        }
    }
    // A condition of the whole patch is met by one item.
    if (whole_unmet && !met) || (items.is_empty() && has_global(element)) { Err(Unmet::Whole) } else { Ok(plain) }
}

fn conditions(fields: &Map<String, Value>, object: &Value) -> Result<(), Unmet> {
    for (key, wanted) in fields {
        let (unmet, field) = match anchor::parse(key) {
            Some((Kind::Condition, field)) => (Unmet::Part, field),
            Some((Kind::Global, field)) => (Unmet::Whole, field),
            _ => continue,
        };
        let found = object.get(field).filter(|found| !found.is_null());
        let is_met = found.is_some_and(|found| {
            let pattern = Value::Object([("v".to_owned(), wanted.clone())].into_iter().collect());
            let document = Value::Object([("v".to_owned(), found.clone())].into_iter().collect());
            fits(&document, &Node::compile(&pattern))
        });
        if !is_met {
            return Err(unmet);
        }
    }
    Ok(())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn has(value: &Value, is_meant: &impl Fn(Kind) -> bool) -> bool {
    match value {
        Value::Object(fields) => {
            fields.iter().any(|(key, value)| anchor::parse(key).is_some_and(|(kind, _)| is_meant(kind)) || has(value, is_meant))
        }
        Value::Array(items) => items.iter().any(|item| has(item, is_meant)),
        _ => false,
    }
}

fn has_conditions(value: &Value) -> bool {
    has(value, &|kind| matches!(kind, Kind::Condition | Kind::Global))
}

fn has_global(value: &Value) -> bool {
    has(value, &|kind| kind == Kind::Global)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn anchors_keep_what_applies() {
        let object = json!({
            "metadata": {"labels": {"a": "1"}},
            "spec": {
                "containers": [{"name": "x", "image": "corp/x"}, {"name": "y", "image": "y"}],
                "volumes": [{"name": "v", "emptyDir": {}}], "hostNetwork": true,
            },
        });
        for (patch, expected) in [
            (json!({"metadata": {"labels": {"+(a)": "2", "+(b)": "3"}}}), Ok(json!({"metadata": {"labels": {"b": "3"}}}))),
            (
                json!({"spec": {"containers": [{"(image)": "corp/*", "imagePullPolicy": "Always"}]}}),
                Ok(json!({"spec": {"containers": [{"name": "x", "imagePullPolicy": "Always"}]}})),
            ),
            (
                json!({"spec": {"containers": [{"(name)": "*", "+(image)": "z", "tty": true}]}}),
                Ok(json!({"spec": {"containers": [{"name": "x", "tty": true}, {"name": "y", "tty": true}]}})),
            ),
            (json!({"spec": {"(hostNetwork)": false, "dnsPolicy": "Default"}}), Ok(json!({}))),
            (
                json!({"spec": {"containers": [{"<(image)": "corp/*"}], "imagePullSecrets": [{"name": "s"}]}}),
                Ok(json!({"spec": {"imagePullSecrets": [{"name": "s"}]}})),
            ),
            (json!({"spec": {"volumes": [{"<(hostPath)": {}}], "a": 1}}), Err(Unmet::Whole)),
            (json!({"spec": {"volumes": [{"<(emptyDir)": {}}], "a": 1}}), Ok(json!({"spec": {"a": 1}}))),
        ] {
            assert_eq!(applied(&patch, &object), expected, "{patch}");
        }
    }
}
