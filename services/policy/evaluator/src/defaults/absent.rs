//! What the server's own types can't tell from absence, so that nobody sees it again.

use muster_core::quantity::Quantity;
use serde_json::{Map, Value};

/// Fields that are mappings of any keys: without entries they are left out. Other objects are structures, whose presence
/// alone may say something (`emptyDir: {}`).
const MAPPINGS: [&str; 7] = ["labels", "annotations", "matchLabels", "nodeSelector", "limits", "requests", "volumeAttributes"];
/// Deeper is no object of a kind that is known here.
const MAX_DEPTH: usize = 32;

/// Leaves out nulls, and lists and mappings without entries, below `spec` and `metadata`.
pub fn drop_empty(object: &mut Value) {
    for key in ["metadata", "spec"] {
        if let Some(below) = object.get_mut(key) {
            drop_below(below, 0);
        }
    }
}

fn drop_below(value: &mut Value, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(|below| drop_below(below, depth + 1));
            if fields.iter().any(|(key, value)| is_empty(key, value)) {
                fields.retain(|key, value| !is_empty(key, value));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| drop_below(item, depth + 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_empty(key: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty() && key != "containers",
        Value::Object(fields) => fields.is_empty() && MAPPINGS.contains(&key),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Takes out `false`, 0 and the empty text.
pub fn leave_out_zeros(target: &mut Value, keys: &[&str]) {
    let Value::Object(target) = target else { return };
    for key in keys {
        if target.get(*key).is_some_and(says_nothing) {
            target.shift_remove(*key);
        }
    }
}

fn says_nothing(value: &Value) -> bool {
    value == &Value::Bool(false) || value == "" || value.as_i64() == Some(0)
}

/// Quantities as the server writes them: `0.5` is `500m`, `1024Mi` is `1Gi`, and a number becomes a text.
pub fn canonical(amounts: Option<&mut Value>) {
    let Some(Value::Object(amounts)) = amounts else { return };
    amounts.values_mut().for_each(canonical_amount);
}

/// One of them; what is no quantity stays as it is.
pub fn canonical_amount(amount: &mut Value) {
    let written = match &*amount {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return,
    };
    if let Ok(quantity) = written.parse::<Quantity>() {
        let text = form(quantity, &written);
        if amount.as_str() != Some(text.as_str()) {
            *amount = text.into();
        }
    }
}

/// The form of `resource.Quantity`, in the family of suffixes it was written in. What is finer than a thousandth is rounded up.
fn form(quantity: Quantity, written: &str) -> String {
    const FINE: i128 = 1_000_000;
    let millis = (quantity.nanos() + FINE - 1).div_euclid(FINE);
    if millis % 1_000 != 0 {
        return format!("{millis}m");
    }
    let units = millis / 1_000;
    let (step, suffixes): (i128, &[&str]) = if written.ends_with('i') && units.abs() >= 1_024 {
        (1_024, &["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])
    } else if is_exponent(written) {
        (1_000, &["", "e3", "e6", "e9", "e12", "e15", "e18"])
    } else {
        (1_000, &["", "k", "M", "G", "T", "P", "E"])
    };
    let (mut value, mut power) = (units, 0);
    while value != 0 && value % step == 0 && power + 1 < suffixes.len() {
        value /= step;
        power += 1;
    }
    format!("{value}{}", suffixes[power])
}

fn is_exponent(written: &str) -> bool {
    written.split_once(['e', 'E']).is_some_and(|(_, power)| !power.is_empty())
}

/// All amounts of a container or claim.
pub fn canonical_resources(fields: &mut Map<String, Value>) {
    for key in ["limits", "requests"] {
        canonical(fields.get_mut(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities_are_written_as_the_server_writes_them() {
        for (written, read) in [
            (json!("0.5"), "500m"),
            (json!(1), "1"),
            (json!("2000m"), "2"),
            (json!("1024Mi"), "1Gi"),
            (json!("512Ki"), "512Ki"),
            (json!("1000"), "1k"),
            (json!("1500"), "1500"),
            (json!("1e3"), "1e3"),
            (json!("0.0001"), "1m"),
            (json!("1000Mi"), "1000Mi"),
            (json!("0"), "0"),
            (json!("1Ki"), "1Ki"),
            (json!("0.5Ki"), "512"),
            (json!("many"), "many"),
        ] {
            let mut amount = written.clone();
            canonical_amount(&mut amount);
            assert_eq!(amount, json!(read), "{written}");
        }
    }
}
