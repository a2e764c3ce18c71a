//! Server-side apply on values: what fields a configuration says, how it is merged into the live object, what changed
//! between two objects, and taking fields away again. All of it follows the shape of the kind.

use crate::{
    fields::FieldSet,
    schema::{Identity, Schema},
};
use serde_json::{Map, Value};

/// The fields a configuration says: its leaves, the keys of its maps and the elements of its lists.
/// An error names a list element without its key.
pub fn field_set(schema: &Schema, value: &Value) -> Result<FieldSet, String> {
    if schema.is_atomic() {
        return Ok(FieldSet::leaf());
    }
    match value {
        Value::Object(fields) => {
            let mut set = FieldSet::default();
            for (name, child) in fields {
                let mut inner = field_set(schema.child(name), child)?;
                let empty = child.is_null() || child.as_object().is_some_and(Map::is_empty);
                inner.member |= empty || !schema.declares(name);
                set.put(format!("f:{name}"), inner);
            }
            Ok(set)
        }
        Value::Array(items) => {
            let (shape, identity) = schema.elements();
            if *identity == Identity::Atomic {
                return Ok(FieldSet::leaf());
            }
            let mut set = FieldSet::default();
            for item in items {
                let mut inner = match identity {
                    Identity::Keys(_) => field_set(shape, item)?,
                    Identity::Set | Identity::Atomic => FieldSet::default(),
                };
                inner.member = true;
                set.put(element(shape, identity, item)?, inner);
            }
            Ok(set)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(FieldSet::leaf()),
    }
}

/// The path element of a list's item.
pub fn element(items: &Schema, identity: &Identity, item: &Value) -> Result<String, String> {
    match identity {
        Identity::Keys(keys) => Ok(format!("k:{}", items.element_key(keys, item)?)),
        Identity::Set | Identity::Atomic => Ok(format!("v:{item}")),
    }
}

/// `applied` laid over `live`.
pub fn merge(schema: &Schema, live: Option<&Value>, applied: &Value) -> Result<Value, String> {
    let Some(live) = live.filter(|live| !live.is_null()) else { return Ok(applied.clone()) };
    if schema.is_atomic() {
        return Ok(applied.clone());
    }
    match (live, applied) {
        (Value::Object(live), Value::Object(applied)) => {
            let mut merged = live.clone();
            for (name, child) in applied {
                let value = merge(schema.child(name), live.get(name), child)?;
                merged.insert(name.clone(), value);
            }
            Ok(Value::Object(merged))
        }
        (Value::Array(live), Value::Array(applied)) => merge_lists(schema, live, applied),
        _ => Ok(applied.clone()),
    }
}

/// The order of the applied list decides; live items it does not name keep their place among their neighbours.
fn merge_lists(schema: &Schema, live: &[Value], applied: &[Value]) -> Result<Value, String> {
    let (shape, identity) = schema.elements();
    if *identity == Identity::Atomic {
        return Ok(Value::Array(applied.to_vec()));
    }
    let keys =
        |list: &[Value]| -> Result<Vec<String>, String> { list.iter().map(|item| element(shape, identity, item)).collect() };
    let (live_keys, applied_keys) = (keys(live)?, keys(applied)?);
    let mut merged = Vec::with_capacity(live.len().max(applied.len()));
    let mut next = 0;
    let take = |index: usize, merged: &mut Vec<Value>| -> Result<(), String> {
        let before = live_keys.iter().position(|key| *key == applied_keys[index]).map(|at| &live[at]);
        merged.push(merge(shape, before, &applied[index])?);
        Ok(())
    };
    for (at, key) in live_keys.iter().enumerate() {
        match applied_keys.iter().position(|other| other == key) {
            None => merged.push(live[at].clone()),
            Some(position) => {
                while next <= position {
                    take(next, &mut merged)?;
                    next += 1;
                }
            }
        }
    }
    while next < applied.len() {
        take(next, &mut merged)?;
        next += 1;
    }
    Ok(Value::Array(merged))
}

/// What differs between two objects.
#[derive(Debug, Default)]
pub struct Difference {
    /// Fields only the new one has.
    pub added: FieldSet,
    /// Fields with another value.
    pub modified: FieldSet,
    /// Fields only the old one has.
    pub removed: FieldSet,
}

/// What differs between two objects of one shape.
pub fn compare(schema: &Schema, old: &Value, new: &Value) -> Difference {
    let mut difference = Difference::default();
    if old == new {
        return difference;
    }
    if schema.is_atomic() {
        difference.modified = FieldSet::leaf();
        return difference;
    }
    match (old, new) {
        (Value::Object(before), Value::Object(after)) => {
            for (name, child) in after {
                let element = format!("f:{name}");
                let shape = schema.child(name);
                match before.get(name) {
                    Some(other) => put(&mut difference, element, compare(shape, other, child)),
                    None => difference.added.put(element, whole(shape, child, !schema.declares(name))),
                }
            }
            for (name, child) in before {
                if !after.contains_key(name) {
                    difference.removed.put(format!("f:{name}"), whole(schema.child(name), child, true));
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => compare_lists(schema, before, after, &mut difference),
        _ => difference.modified = FieldSet::leaf(),
    }
    difference
}

fn compare_lists(schema: &Schema, before: &[Value], after: &[Value], difference: &mut Difference) {
    let (shape, identity) = schema.elements();
    let keys = |list: &[Value]| -> Option<Vec<String>> { list.iter().map(|item| element(shape, identity, item).ok()).collect() };
    let (Some(before_keys), Some(after_keys), false) = (keys(before), keys(after), *identity == Identity::Atomic) else {
        difference.modified = FieldSet::leaf();
        return;
    };
    for (key, item) in after_keys.iter().zip(after) {
        match before_keys.iter().position(|other| other == key) {
            Some(at) => put(difference, key.clone(), compare(shape, &before[at], item)),
            None => difference.added.put(key.clone(), whole(shape, item, true)),
        }
    }
    for (key, item) in before_keys.iter().zip(before) {
        if !after_keys.contains(key) {
            difference.removed.put(key.clone(), whole(shape, item, true));
        }
    }
}

fn put(difference: &mut Difference, element: String, inner: Difference) {
    difference.added.put(element.clone(), inner.added);
    difference.modified.put(element.clone(), inner.modified);
    difference.removed.put(element, inner.removed);
}

/// Everything of a value that came or went as a whole, itself included where it is more than a struct.
fn whole(schema: &Schema, value: &Value, itself: bool) -> FieldSet {
    let mut set = field_set(schema, value).unwrap_or_else(|_| FieldSet::leaf());
    let map = matches!(schema.resolve(), Schema::Map { .. } | Schema::Any) && value.is_object();
    set.member |= itself || map || set.children.is_empty();
    set
}

/// `value` without the fields of `gone`; a path of `kept` is never taken, nor what leads to one.
/// `None` where nothing is left of it.
pub fn remove_fields(schema: &Schema, value: &Value, gone: &FieldSet, kept: &FieldSet) -> Option<Value> {
    if gone.member && kept.is_empty() {
        return None;
    }
    if schema.is_atomic() || gone.children.is_empty() {
        return Some(value.clone());
    }
    let nothing = FieldSet::default();
    match value {
        Value::Object(fields) => {
            let mut rest = Map::new();
            for (name, child) in fields {
                let element = format!("f:{name}");
                let child = match gone.children.get(&element) {
                    Some(gone) => remove_fields(schema.child(name), child, gone, kept.children.get(&element).unwrap_or(&nothing)),
                    None => Some(child.clone()),
                };
                if let Some(child) = child {
                    rest.insert(name.clone(), child);
                }
            }
            // What has just lost its last field goes as well: the API server's own types leave empty ones out.
            (!rest.is_empty() || fields.is_empty() || kept.member).then_some(Value::Object(rest))
        }
        Value::Array(items) => {
            let (shape, identity) = schema.elements();
            let keys: &[String] = if let Identity::Keys(keys) = identity { keys } else { &[] };
            let mut rest = Vec::new();
            for item in items {
                let element = element(shape, identity, item).unwrap_or_default();
                match gone.children.get(&element) {
                    Some(gone) => {
                        // The keys of an element that stays are no one's to take.
                        let key_fields: Vec<String> = keys.iter().map(|key| format!("f:{key}")).collect();
                        let key_fields: Vec<&str> = key_fields.iter().map(String::as_str).collect();
                        let kept = kept.children.get(&element).unwrap_or(&nothing);
                        let gone = if gone.member && kept.is_empty() { gone.clone() } else { gone.without(&key_fields) };
                        rest.extend(remove_fields(shape, item, &gone, kept));
                    }
                    None => rest.push(item.clone()),
                }
            }
            (!rest.is_empty() || items.is_empty()).then_some(Value::Array(rest))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Some(value.clone()),
    }
}

/// `value` with only the fields of `set` (and the keys of list elements in it); what a manager said last.
pub fn without_system_fields(set: &FieldSet) -> FieldSet {
    let mut rest = set.without(&["f:apiVersion", "f:kind"]);
    if let Some(metadata) = rest.children.get_mut("f:metadata") {
        metadata.member = false;
        for name in [
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "generation",
            "managedFields",
            "resourceVersion",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generateName",
        ] {
            metadata.children.remove(&format!("f:{name}"));
        }
        if metadata.is_empty() {
            rest.children.remove("f:metadata");
        }
    }
    rest
}
