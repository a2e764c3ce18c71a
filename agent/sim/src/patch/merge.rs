//! JSON Merge Patch, RFC 7386.

use crate::json;
use serde_json::Value;

/// The object with the patch laid over it; a null takes its field away.
pub fn merge_patch(object: &Value, patch: &Value) -> Value {
    let Value::Object(changes) = patch else { return patch.clone() };
    let mut merged = if object.is_object() { object.clone() } else { Value::Null };
    let fields = json::object(&mut merged);
    for (name, change) in changes {
        if change.is_null() {
            fields.shift_remove(name);
        } else {
            let before = fields.get(name).unwrap_or(&Value::Null);
            let after = merge_patch(before, change);
            fields.insert(name.clone(), after);
        }
    }
    merged
}
