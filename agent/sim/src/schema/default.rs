//! Writing what the API server writes where a field is absent.

use super::Schema;
use serde_json::Value;

/// Fills every absent field that has a default, and those of what it has just filled.
pub fn fill(schema: &Schema, value: &mut Value) {
    match (schema.resolve(), value) {
        (Schema::Struct(shape), Value::Object(fields)) => {
            for (name, field) in &shape.fields {
                if let Some(default) = &field.default
                    && !fields.contains_key(name)
                {
                    fields.insert(name.clone(), default.clone());
                }
                if let Some(child) = fields.get_mut(name) {
                    fill(&field.schema, child);
                }
            }
        }
        (Schema::Map { values, .. }, Value::Object(entries)) => {
            entries.values_mut().for_each(|child| fill(values, child));
        }
        (Schema::List { items, .. }, Value::Array(elements)) => {
            elements.iter_mut().for_each(|child| fill(items, child));
        }
        _ => {}
    }
}
