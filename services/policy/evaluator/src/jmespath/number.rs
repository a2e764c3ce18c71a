//! Numbers and values as Go prints and compares them: one kind of number, whole ones without a point.

use serde_json::{Number, Value};

/// A number as JSON knows it: whole numbers stay whole.
pub fn number(value: f64) -> Value {
    /// Beyond this a fraction's digits no longer reach the units.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// Whether two values are equal, `1` and `1.0` being the same.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

/// A value as Go's `encoding/json` writes it.
pub fn go_json(value: &Value) -> String {
    whole(value).to_string()
}

fn whole(value: &Value) -> Value {
    match value {
        Value::Number(found) if found.is_f64() => found.as_f64().map_or(Value::Null, number),
        Value::Array(items) => Value::Array(items.iter().map(whole).collect()),
        Value::Object(fields) => Value::Object(fields.iter().map(|(key, value)| (key.clone(), whole(value))).collect()),
        other => other.clone(),
    }
}

/// A value as Go's `fmt.Sprint` writes it: texts as they are, large numbers with an exponent.
pub fn go_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".to_owned(),
        Value::Number(found) => found.as_f64().map_or_else(|| found.to_string(), shortest),
        Value::Array(items) => format!("[{}]", items.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let entries: Vec<String> = fields.iter().map(|(key, value)| format!("{key}:{}", go_text(value))).collect();
            format!("map[{}]", entries.join(" "))
        }
        Value::Bool(set) => set.to_string(),
    }
}

/// Go's `%v` of a 64-bit fraction: an exponent from a million on and below a ten-thousandth.
fn shortest(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = exponent.parse().unwrap_or(0);
    if value == 0.0 || (-4..6).contains(&power) {
        return value.to_string();
    }
    let sign = if power < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", power.abs())
}

/// What functions that take a text or a number make of it.
pub fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(set) => Some(set.to_string()),
        Value::Number(found) => found.as_f64().map(|found| found.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_print_as_go_prints_them() {
        for (value, text) in [
            (json!(8080.0), "8080"),
            (json!(999_999), "999999"),
            (json!(1_000_000), "1e+06"),
            (json!(0.5), "0.5"),
            (json!(0.00001), "1e-05"),
            (json!([1.0, "a"]), "[1 a]"),
            (json!({"a": true}), "map[a:true]"),
        ] {
            assert_eq!(go_text(&value), text);
        }
        assert_eq!(go_json(&json!({"a": [1.0, 2.5]})), r#"{"a":[1,2.5]}"#);
        assert!(same(&json!([1, {"a": 2.0}]), &json!([1.0, {"a": 2}])));
        assert!(!same(&json!("1"), &json!(1)));
    }
}
