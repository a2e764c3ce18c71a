//! Reading single fields of a queue's manifest. Each names its path where it is at fault.

use std::collections::BTreeMap;

use muster_scheduler_engine::Amounts;
use serde_json::{Map, Value};

use crate::domain::Fault;
use crate::domain::manifest::quantity;

/// Refuses a field that is not among the known ones.
pub(super) fn known(path: &str, object: &Map<String, Value>, fields: &[&str]) -> Result<(), Fault> {
    match object.keys().find(|key| !fields.contains(&key.as_str())) {
        Some(key) => {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            Err(Fault::new(path, format!("unknown field; known are {}", fields.join(", "))))
        }
        None => Ok(()),
    }
}

/// Text; `None` where the field is left out.
pub(super) fn text(path: &str, value: Option<&Value>) -> Result<Option<String>, Fault> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Fault::new(path, "must be text")),
    }
}

/// True or false; `None` where the field is left out.
pub(super) fn boolean(path: &str, value: Option<&Value>) -> Result<Option<bool>, Fault> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(_) => Err(Fault::new(path, "must be true or false")),
    }
}

/// A span of time such as `10m`, in milliseconds.
pub(super) fn span(path: &str, value: Option<&Value>) -> Result<Option<i64>, Fault> {
    let Some(text) = text(path, value)? else { return Ok(None) };
    let span = muster_core::duration::parse(&text).map_err(|error| Fault::new(path, error.to_string()))?;
    i64::try_from(span.as_millis()).map(Some).map_err(|_| Fault::new(path, "is too long"))
}

/// As Volcano writes it: amounts below `resource`.
pub(super) fn guarantee(value: Option<&Value>) -> Result<Amounts, Fault> {
    match value {
        None | Some(Value::Null) => Ok(Amounts::new()),
        Some(Value::Object(guarantee)) => {
            known("spec.guarantee", guarantee, &["resource"])?;
            amounts("spec.guarantee.resource", guarantee.get("resource"))
        }
        Some(_) => Err(Fault::new("spec.guarantee", "must be an object")),
    }
}

/// Quantities by resource name, in base units.
pub(super) fn amounts(path: &str, value: Option<&Value>) -> Result<Amounts, Fault> {
    let mut amounts = Amounts::new();
    match value {
        None | Some(Value::Null) => {}
        Some(Value::Object(entries)) => {
            for (name, value) in entries {
                amounts.set(name, quantity(&format!("{path}[{name}]"), name, value)?);
            }
        }
        Some(_) => return Err(Fault::new(path, "must be an object of quantities by resource name")),
    }
    Ok(amounts)
}

/// Limits by resource name, in base units; 0 is one too.
pub(super) fn limits(path: &str, value: Option<&Value>) -> Result<BTreeMap<String, i64>, Fault> {
    match value {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::Object(entries)) => {
            entries.iter().map(|(name, value)| Ok((name.clone(), quantity(&format!("{path}[{name}]"), name, value)?))).collect()
        }
        Some(_) => Err(Fault::new(path, "must be an object of quantities by resource name")),
    }
}

/// A share among siblings; 1 where it is left out.
pub(super) fn weight(path: &str, value: Option<&Value>) -> Result<u32, Fault> {
    match value {
        None | Some(Value::Null) => Ok(1),
        Some(value) => value
            .as_u64()
            .filter(|weight| (1..=65_535).contains(weight))
            .and_then(|weight| u32::try_from(weight).ok())
            .ok_or_else(|| Fault::new(path, "must be a whole number from 1 to 65535")),
    }
}
