//! Reading and writing Kubernetes objects as plain JSON. Paths are JSON pointers, and every reader answers "absent" with
//! an empty value, because an object that lacks a field and one that has it empty mean the same here.

use serde_json::{Map, Value};

/// The text at `pointer`, or "" where there is none.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// The whole number at `pointer`.
pub fn integer(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer).and_then(Value::as_i64)
}

/// True if and only if there is a JSON `true` at `pointer`.
pub fn flag(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool) == Some(true)
}

/// The list at `pointer`, or an empty one.
pub fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The entries of the object at `pointer`, or none.
pub fn entries<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.pointer(pointer).and_then(Value::as_object).into_iter().flatten()
}

/// The object's own name.
pub fn name(value: &Value) -> &str {
    text(value, "/metadata/name")
}

/// The object's namespace; "" for what is cluster scoped.
pub fn namespace(value: &Value) -> &str {
    text(value, "/metadata/namespace")
}

/// The object's UID.
pub fn uid(value: &Value) -> &str {
    text(value, "/metadata/uid")
}

/// The value of one label, or "".
pub fn label<'a>(value: &'a Value, key: &str) -> &'a str {
    value.pointer("/metadata/labels").and_then(|labels| labels.get(key)).and_then(Value::as_str).unwrap_or("")
}

/// True once a deletion has been asked for.
pub fn is_deleting(value: &Value) -> bool {
    value.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null())
}

/// `value` as an object, turned into one if it was anything else.
pub fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("just made an object")
}

/// Writes `new` at the path of `keys`, making the objects on the way.
pub fn set(value: &mut Value, keys: &[&str], new: Value) {
    let mut at = value;
    for key in keys {
        at = object(at).entry((*key).to_owned()).or_insert(Value::Null);
    }
    *at = new;
}

/// Removes what is at the path of `keys`, keeping the order of what remains.
pub fn remove(value: &mut Value, keys: &[&str]) -> Option<Value> {
    let (last, parents) = keys.split_last()?;
    let mut at = value;
    for key in parents {
        at = at.get_mut(*key)?;
    }
    at.as_object_mut()?.shift_remove(*last)
}

/// The owner reference that has `controller: true`.
pub fn controller_of(value: &Value) -> Option<&Value> {
    list(value, "/metadata/ownerReferences").iter().find(|owner| flag(owner, "/controller"))
}

/// The condition of this type in `status.conditions`.
pub fn condition<'a>(value: &'a Value, kind: &str) -> Option<&'a Value> {
    list(value, "/status/conditions").iter().find(|condition| text(condition, "/type") == kind)
}

/// True where the condition of this type says "True".
pub fn condition_is_true(value: &Value, kind: &str) -> bool {
    condition(value, kind).is_some_and(|condition| text(condition, "/status") == "True")
}

/// True when `labels` holds every pair of `wanted`.
pub fn labels_contain(labels: Option<&Value>, wanted: &Value) -> bool {
    wanted
        .as_object()
        .is_some_and(|wanted| wanted.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value)))
}
