//! A selector over the object's labels as an expression.

use super::{Refusal, pattern, refuse};
use crate::wildcard;
use serde_json::Value;

/// Whether the object has the labels that the selector wants; wildcards only in values of `matchLabels`.
pub fn labelled(selector: &Value, field: &str) -> Result<String, Refusal> {
    let mut terms = Vec::new();
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        let Some(wanted) = value.as_str().filter(|_| !wildcard::is_pattern(key)) else {
            return refuse(format!("{field}.matchLabels"), "a wildcard among keys has no counterpart");
        };
        let value = value_of(key);
        let fits = match wildcard::is_pattern(wanted) {
            true => format!("{value}.matches({})", pattern::quoted(&format!("^{}$", pattern::regular(wanted)))),
            false => format!("{value} == {}", pattern::quoted(wanted)),
        };
        terms.push(format!("({} && {fits})", has(key)));
    }
    for (index, expression) in selector["matchExpressions"].as_array().into_iter().flatten().enumerate() {
        let key = expression["key"].as_str().unwrap_or_default();
        let values: Vec<String> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).map(pattern::quoted).collect();
        let listed = format!("{} in [{}]", value_of(key), values.join(", "));
        terms.push(match expression["operator"].as_str() {
            Some("Exists") => has(key),
            Some("DoesNotExist") => format!("!({})", has(key)),
            Some("In") => format!("({} && {listed})", has(key)),
            Some("NotIn") => format!("!({} && {listed})", has(key)),
            _ => return refuse(format!("{field}.matchExpressions[{index}].operator"), "is none of a selector's"),
        });
    }
    Ok(if terms.is_empty() { "true".to_owned() } else { terms.join(" && ") })
}

fn has(key: &str) -> String {
    format!("has(object.metadata.labels) && {} in object.metadata.labels", pattern::quoted(key))
}

fn value_of(key: &str) -> String {
    format!("object.metadata.labels[{}]", pattern::quoted(key))
}
