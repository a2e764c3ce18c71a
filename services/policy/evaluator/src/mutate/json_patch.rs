//! JSON patches as Kyverno applies them (RFC 6902): what is missing on the way of an *add* is made, and what is missing
//! at a *remove* is as good as removed.

use serde_json::{Map, Value};

/// Operations of one patch.
pub const MAX_OPERATIONS: usize = 1_000;

/// Applies the operations in order.
pub fn apply(object: &mut Value, patch: &Value) -> Result<(), String> {
    let operations = patch.as_array().ok_or("a JSON patch is a list")?;
    if operations.len() > MAX_OPERATIONS {
        return Err(format!("a JSON patch has more than {MAX_OPERATIONS} operations"));
    }
    operations.iter().try_for_each(|operation| one(object, operation))
}

fn one(object: &mut Value, operation: &Value) -> Result<(), String> {
    let text = |key: &str| operation.get(key).and_then(Value::as_str).unwrap_or_default();
    let path = tokens(text("path"))?;
    let value = || operation.get("value").cloned().unwrap_or_default();
    match text("op") {
        "add" => add(object, &path, value()),
        "replace" => {
            let place = find(object, &path).ok_or_else(|| format!("{} is not there to be replaced", text("path")))?;
            *place = value();
            Ok(())
        }
        "remove" => {
            take(object, &path);
            Ok(())
        }
        "copy" | "move" => {
            let from = tokens(text("from"))?;
            let missing = || format!("{} is not there", text("from"));
            let taken = if text("op") == "move" { take(object, &from) } else { find(object, &from).cloned() };
            add(object, &path, taken.ok_or_else(missing)?)
        }
        "test" if find(object, &path).cloned() == Some(value()) => Ok(()),
        "test" => Err(format!("{} is something else", text("path"))),
        other => Err(format!("{other:?} is no operation of a JSON patch")),
    }
}

fn tokens(pointer: &str) -> Result<Vec<String>, String> {
    if pointer.is_empty() {
        return Ok(Vec::new());
    }
    let rest = pointer.strip_prefix('/').ok_or_else(|| format!("{pointer:?} is no path"))?;
    Ok(rest.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect())
}

fn find<'v>(object: &'v mut Value, path: &[String]) -> Option<&'v mut Value> {
    path.iter().try_fold(object, |value, token| match value {
        Value::Object(fields) => fields.get_mut(token),
        Value::Array(items) => {
            let at = index(token, items.len())?;
            items.get_mut(at)
        }
        _ => None,
    })
}

/// An index, from the back where it is negative.
fn index(token: &str, length: usize) -> Option<usize> {
    let index: i64 = token.parse().ok()?;
    usize::try_from(if index < 0 { index + length as i64 } else { index }).ok()
}

fn add(object: &mut Value, path: &[String], value: Value) -> Result<(), String> {
    let Some((token, rest)) = path.split_first() else {
        *object = value;
        return Ok(());
    };
    match object {
        Value::Object(fields) => match rest.first() {
            None => {
                fields.insert(token.clone(), value);
                Ok(())
            }
            Some(next) => {
                let is_list = next == "-" || next.parse::<usize>().is_ok();
                let missing = || if is_list { Value::Array(Vec::new()) } else { Value::Object(Map::new()) };
                let inner = fields.entry(token.clone()).or_insert_with(missing);
                if inner.is_null() {
                    *inner = missing();
                }
                add(inner, rest, value)
            }
        },
        Value::Array(items) => {
            let at = if token == "-" { Some(items.len()) } else { index(token, items.len()) };
            let at = at.filter(|at| *at <= items.len()).ok_or_else(|| format!("{token} is beyond the list"))?;
            if rest.is_empty() {
                items.insert(at, value);
                return Ok(());
            }
            if at == items.len() {
                items.push(Value::Object(Map::new()));
            }
            add(&mut items[at], rest, value)
        }
        _ => Err(format!("{token} has nothing to be in")),
    }
}

fn take(object: &mut Value, path: &[String]) -> Option<Value> {
    let (token, parent) = path.split_last()?;
    match find(object, parent)? {
        Value::Object(fields) => fields.remove(token),
        Value::Array(items) => {
            let at = index(token, items.len()).filter(|at| *at < items.len())?;
            Some(items.remove(at))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn operations_do_what_they_say() {
        let object = json!({"a": {"b": [1, 2]}, "c/d": 1});
        for (patch, expected) in [
            (json!([{"op": "add", "path": "/a/b/-", "value": 3}]), json!({"a": {"b": [1, 2, 3]}, "c/d": 1})),
            (json!([{"op": "add", "path": "/a/b/0", "value": 0}]), json!({"a": {"b": [0, 1, 2]}, "c/d": 1})),
            (json!([{"op": "add", "path": "/x/y/-", "value": 1}]), json!({"a": {"b": [1, 2]}, "c/d": 1, "x": {"y": [1]}})),
            (json!([{"op": "remove", "path": "/c~1d"}]), json!({"a": {"b": [1, 2]}})),
            (json!([{"op": "remove", "path": "/nothing/here"}]), object.clone()),
            (json!([{"op": "replace", "path": "/a/b/-1", "value": 5}]), json!({"a": {"b": [1, 5]}, "c/d": 1})),
            (json!([{"op": "move", "from": "/a/b", "path": "/e"}]), json!({"a": {}, "c/d": 1, "e": [1, 2]})),
            (json!([{"op": "copy", "from": "/c~1d", "path": "/a/c"}]), json!({"a": {"b": [1, 2], "c": 1}, "c/d": 1})),
        ] {
            let mut patched = object.clone();
            assert_eq!(apply(&mut patched, &patch).map(|()| patched), Ok(expected), "{patch}");
        }
        for wrong in [
            json!([{"op": "replace", "path": "/z", "value": 1}]),
            json!([{"op": "test", "path": "/c~1d", "value": 2}]),
            json!([{"op": "add", "path": "/a/b/9", "value": 2}]),
            json!([{"op": "turn", "path": "/a"}]),
            json!({}),
        ] {
            assert!(apply(&mut object.clone(), &wrong).is_err(), "{wrong}");
        }
    }
}
