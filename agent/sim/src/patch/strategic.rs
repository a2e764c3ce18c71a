//! Strategic merge patch: a merge patch that knows which lists are keyed, with its directives `$patch`,
//! `$deleteFromPrimitiveList/…`, `$setElementOrder/…` and `$retainKeys`.

use super::PatchError;
use crate::{
    json,
    schema::{Identity, Schema},
};
use serde_json::{Map, Value};

/// The object with the patch laid over it by the shape of the kind.
pub fn strategic_patch(schema: &Schema, object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Object(changes) = patch else { return Ok(patch.clone()) };
    match json::text(patch, "/$patch") {
        "replace" => {
            let mut replaced = changes.clone();
            replaced.shift_remove("$patch");
            return Ok(Value::Object(replaced));
        }
        "delete" => return Ok(Value::Object(Map::new())),
        "" | "merge" => {}
        other => return Err(PatchError::Malformed(format!("Unknown patch type found: {other}"))),
    }
    let mut merged = if object.is_object() { object.clone() } else { Value::Object(Map::new()) };
    let fields = json::object(&mut merged);
    if let Some(keep) = changes.get("$retainKeys").and_then(Value::as_array) {
        fields.retain(|name, _| keep.iter().any(|kept| kept.as_str() == Some(name)));
    }
    for (name, change) in changes {
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            let gone = change.as_array().cloned().unwrap_or_default();
            if let Some(items) = fields.get_mut(list).and_then(Value::as_array_mut) {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        if name.starts_with('$') {
            continue;
        }
        if change.is_null() {
            fields.shift_remove(name);
            continue;
        }
        let shape = schema.child(name);
        let before = fields.get(name).unwrap_or(&Value::Null);
        let after = match change {
            Value::Object(_) => strategic_patch(shape, before, change)?,
            Value::Array(items) => Value::Array(list_patch(shape, before, items)?),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => change.clone(),
        };
        fields.insert(name.clone(), after);
    }
    for (name, order) in changes {
        if let (Some(list), Some(order)) = (name.strip_prefix("$setElementOrder/"), order.as_array()) {
            let (_, identity) = schema.child(list).elements();
            if let Some(items) = fields.get_mut(list).and_then(Value::as_array_mut) {
                let rank = |item: &Value| order.iter().position(|other| same(identity, item, other)).unwrap_or(usize::MAX);
                items.sort_by_key(rank);
            }
        }
    }
    Ok(merged)
}

fn list_patch(schema: &Schema, before: &Value, changes: &[Value]) -> Result<Vec<Value>, PatchError> {
    let (shape, identity) = schema.elements();
    let plain = |item: &&Value| json::text(item, "/$patch") != "replace";
    let replaces = changes.iter().any(|item| !plain(&item));
    if replaces || *identity == Identity::Atomic {
        return Ok(changes.iter().filter(plain).cloned().collect());
    }
    let mut merged: Vec<Value> = before.as_array().cloned().unwrap_or_default();
    for change in changes {
        let at = merged.iter().position(|item| same(identity, item, change));
        if json::text(change, "/$patch") == "delete" {
            merged.retain(|item| !same(identity, item, change));
            continue;
        }
        if let Identity::Keys(keys) = identity
            && keys.first().is_some_and(|key| change.get(key).is_none())
        {
            let key = &keys[0];
            return Err(PatchError::Malformed(format!("map: {change} does not contain declared merge key: {key}")));
        }
        match at {
            Some(at) => merged[at] = strategic_patch(shape, &merged[at], change)?,
            None => merged.push(strategic_patch(shape, &Value::Null, change)?),
        }
    }
    Ok(merged)
}

/// The first of a list's keys is its patch merge key; the others have defaults and tell apart only where both are given.
fn same(identity: &Identity, one: &Value, other: &Value) -> bool {
    match identity {
        Identity::Keys(keys) => keys.iter().enumerate().all(|(at, key)| match (one.get(key), other.get(key)) {
            (Some(one), Some(other)) => one == other,
            (None, _) | (_, None) => at > 0,
        }),
        Identity::Set | Identity::Atomic => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::builtin;
    use serde_json::json;

    #[test]
    fn a_strategic_patch_merges_keyed_lists_and_obeys_its_directives() {
        let pod = builtin("PodSpec").unwrap();
        let object = json!({"containers": [{"name": "a", "image": "one"}, {"name": "b", "image": "two"}]});
        let patch = json!({"containers": [{"name": "a", "image": "new"}, {"name": "b", "$patch": "delete"}]});
        let patched = strategic_patch(pod, &object, &patch).unwrap();
        assert_eq!(patched, json!({"containers": [{"name": "a", "image": "new"}]}));
    }
}
