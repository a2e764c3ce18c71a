//! JSON Patch, RFC 6902.

use super::PatchError;
use serde_json::Value;

/// The object after every operation, or the first that failed.
pub fn json_patch(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let malformed = |why: &str| PatchError::Malformed(format!("error decoding patch: {why}"));
    let operations = patch.as_array().ok_or_else(|| malformed("expected a list of operations"))?;
    let mut patched = object.clone();
    for operation in operations {
        let word = |name: &str| operation.get(name).and_then(Value::as_str);
        let path = word("path").ok_or_else(|| malformed("an operation has no path"))?;
        let value = || operation.get("value").cloned().ok_or_else(|| malformed("an operation has no value"));
        let from = || word("from").ok_or_else(|| malformed("an operation has no from"));
        match word("op").unwrap_or("") {
            "add" => add(&mut patched, path, value()?)?,
            "remove" => drop(remove(&mut patched, path)?),
            "replace" => {
                let place = patched.pointer_mut(path).ok_or_else(|| missing("replace", path))?;
                *place = value()?;
            }
            "move" => {
                let moved = remove(&mut patched, from()?)?;
                add(&mut patched, path, moved)?;
            }
            "copy" => {
                let copied = patched.pointer(from()?).cloned().ok_or_else(|| missing("copy", path))?;
                add(&mut patched, path, copied)?;
            }
            "test" => {
                let expected = value()?;
                let found = patched.pointer(path).unwrap_or(&Value::Null);
                if *found != expected {
                    return Err(PatchError::DoesNotFit(format!("testing value {path} failed: test failed")));
                }
            }
            other => return Err(malformed(&format!("unknown operation {other:?}"))),
        }
    }
    Ok(patched)
}

fn missing(operation: &str, path: &str) -> PatchError {
    PatchError::DoesNotFit(format!("{operation} operation does not apply: doc is missing path: {path}: missing value"))
}

fn parent<'a>(object: &'a mut Value, path: &str, operation: &str) -> Result<(&'a mut Value, String), PatchError> {
    let (parent, last) = path.rsplit_once('/').ok_or_else(|| missing(operation, path))?;
    let last = last.replace("~1", "/").replace("~0", "~");
    Ok((object.pointer_mut(parent).ok_or_else(|| missing(operation, path))?, last))
}

fn add(object: &mut Value, path: &str, value: Value) -> Result<(), PatchError> {
    if path.is_empty() {
        *object = value;
        return Ok(());
    }
    let (parent, last) = parent(object, path, "add")?;
    match parent {
        Value::Object(fields) => drop(fields.insert(last, value)),
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let at = last.parse::<usize>().ok().filter(|at| *at <= items.len()).ok_or_else(|| missing("add", path))?;
            items.insert(at, value);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return Err(missing("add", path)),
    }
    Ok(())
}

fn remove(object: &mut Value, path: &str) -> Result<Value, PatchError> {
    let (parent, last) = parent(object, path, "remove")?;
    let removed = match parent {
        Value::Object(fields) => fields.shift_remove(&last),
        Value::Array(items) => last.parse::<usize>().ok().filter(|at| *at < items.len()).map(|at| items.remove(at)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    };
    removed.ok_or_else(|| missing("remove", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_json_patch_adds_tests_moves_and_removes() {
        let object = json!({"a": {"b/c": 1}, "list": [1, 2]});
        let patch = json!([
            {"op": "test", "path": "/a/b~1c", "value": 1},
            {"op": "add", "path": "/list/1", "value": 9},
            {"op": "move", "from": "/a/b~1c", "path": "/moved"},
            {"op": "remove", "path": "/list/0"},
        ]);
        assert_eq!(json_patch(&object, &patch), Ok(json!({"a": {}, "list": [9, 2], "moved": 1})));
        let missing = json!([{"op": "remove", "path": "/nowhere"}]);
        assert!(matches!(json_patch(&object, &missing), Err(PatchError::DoesNotFit(_))));
    }
}
