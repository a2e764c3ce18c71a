//! Operators of conditions, with Kyverno's ideas of equality, membership and order.
//!
//! Durations compare with durations and with numbers of seconds, quantities with quantities, versions with versions.
//! A key of a type an operator does not take never holds, not even for the operators that say *not*.

use crate::{
    jmespath::{JmesError, go_text, same},
    scalar,
    version::Version,
    wildcard,
};
use muster_core::{duration, quantity::Quantity};
use serde_json::Value;
use std::cmp::Ordering;

/// How a key is compared with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Equals,
    NotEquals,
    In,
    NotIn,
    AnyIn,
    AllIn,
    AnyNotIn,
    AllNotIn,
    Ordered(Order),
    DurationOrdered(Order),
}

/// What an order has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    More,
    MoreOrEqual,
    Less,
    LessOrEqual,
}

impl Order {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::More => order.is_gt(),
            Self::MoreOrEqual => order.is_ge(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
        }
    }
}

/// Counts work.
type Charge<'c> = &'c dyn Fn(usize) -> Result<(), JmesError>;

impl Operator {
    /// Reads an operator's name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name.to_lowercase().as_str() {
            "equal" | "equals" => Self::Equals,
            "notequal" | "notequals" => Self::NotEquals,
            "in" => Self::In,
            "notin" => Self::NotIn,
            "anyin" => Self::AnyIn,
            "allin" => Self::AllIn,
            "anynotin" => Self::AnyNotIn,
            "allnotin" => Self::AllNotIn,
            "greaterthan" => Self::Ordered(Order::More),
            "greaterthanorequals" => Self::Ordered(Order::MoreOrEqual),
            "lessthan" => Self::Ordered(Order::Less),
            "lessthanorequals" => Self::Ordered(Order::LessOrEqual),
            "durationgreaterthan" => Self::DurationOrdered(Order::More),
            "durationgreaterthanorequals" => Self::DurationOrdered(Order::MoreOrEqual),
            "durationlessthan" => Self::DurationOrdered(Order::Less),
            "durationlessthanorequals" => Self::DurationOrdered(Order::LessOrEqual),
            _ => return None,
        })
    }

    /// Whether a key and a value are as the operator says.
    pub fn holds(self, key: &Value, value: &Value, charge: Charge<'_>) -> Result<bool, JmesError> {
        Ok(match self {
            Self::Equals => !key.is_null() && equal(key, value, charge)?.unwrap_or(false),
            // What cannot be compared is not equal, except where a quantity meets a text that is none.
            Self::NotEquals => !key.is_null() && !equal(key, value, charge)?.unwrap_or_else(|| is_unlike_quantity(key, value)),
            Self::Ordered(order) => compared(key, value).is_some_and(|found| order.holds(found)),
            Self::DurationOrdered(order) => {
                let both = span(key).zip(span(value));
                both.is_some_and(|(key, value)| order.holds(key.cmp(&value)))
            }
            Self::In | Self::NotIn | Self::AnyIn | Self::AllIn | Self::AnyNotIn | Self::AllNotIn => {
                self.is_member(key, value, charge)?
            }
        })
    }

    fn is_member(self, key: &Value, value: &Value, charge: Charge<'_>) -> Result<bool, JmesError> {
        let negated = matches!(self, Self::NotIn | Self::AnyNotIn | Self::AllNotIn);
        let Value::Array(keys) = key else {
            if key.is_null() || key.is_object() {
                return Ok(false);
            }
            let key = go_text(key);
            let found = match value {
                Value::String(range) if scalar::is_range(range) => Some(scalar::matches(&Value::from(key), value)),
                Value::String(text) if wildcard_within(text, &key, charge)? => Some(true),
                _ => match members(value) {
                    None => None,
                    Some(Members::Listed(listed)) => Some(any(&listed, |one| alike(one, &key, charge))?),
                    Some(Members::Written(listed)) => Some(listed.contains(&key)),
                },
            };
            return Ok(found.is_some_and(|found| found != negated));
        };
        let keys: Vec<String> = keys.iter().map(go_text).collect();
        if let Value::String(text) = value {
            if let [only] = keys.as_slice()
                && only == text
            {
                return Ok(!negated);
            }
            if scalar::is_range(text) && !matches!(self, Self::In | Self::NotIn) {
                let within = |key: &String| scalar::matches(&Value::from(key.as_str()), value);
                return Ok(match self {
                    Self::AnyIn => keys.iter().any(within),
                    Self::AllIn => keys.iter().all(within),
                    Self::AnyNotIn => !keys.iter().all(within),
                    _ => !keys.iter().any(within),
                });
            }
        }
        let Some(members) = members(value) else { return Ok(false) };
        let listed = members.into_texts();
        // The old two compare whole texts, without wildcards.
        if matches!(self, Self::In | Self::NotIn) {
            charge(keys.len().saturating_mul(listed.len()))?;
            return Ok(keys.iter().all(|key| listed.contains(key)) != negated);
        }
        let mut found = 0;
        for key in &keys {
            found += usize::from(any(&listed, |one| alike(one, key, charge))?);
        }
        Ok(match self {
            Self::AnyIn => found > 0,
            Self::AllIn => found == keys.len(),
            Self::AnyNotIn => found < keys.len(),
            _ => found == 0,
        })
    }
}

/// What a key may be a member of.
enum Members {
    /// A list.
    Listed(Vec<String>),
    /// A text that is a JSON list of texts, or one text.
    Written(Vec<String>),
}

impl Members {
    fn into_texts(self) -> Vec<String> {
        match self {
            Self::Listed(texts) | Self::Written(texts) => texts,
        }
    }
}

fn members(value: &Value) -> Option<Members> {
    match value {
        Value::Array(items) => Some(Members::Listed(items.iter().map(go_text).collect())),
        Value::String(text) => match serde_json::from_str::<Value>(text) {
            Err(_) => Some(Members::Written(vec![text.clone()])),
            Ok(Value::Array(items)) => {
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>().map(Members::Written)
            }
            Ok(Value::Null) => Some(Members::Written(Vec::new())),
            Ok(_) => None,
        },
        _ => None,
    }
}

fn any(listed: &[String], mut is_it: impl FnMut(&str) -> Result<bool, JmesError>) -> Result<bool, JmesError> {
    for one in listed {
        if is_it(one)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Either may hold the wildcards.
fn alike(a: &str, b: &str, charge: Charge<'_>) -> Result<bool, JmesError> {
    Ok(wildcard_within(a, b, charge)? || wildcard_within(b, a, charge)?)
}

fn wildcard_within(pattern: &str, text: &str, charge: Charge<'_>) -> Result<bool, JmesError> {
    if !wildcard::is_pattern(pattern) {
        charge(1)?;
        return Ok(pattern == text);
    }
    charge(1 + pattern.len().saturating_mul(text.len()) / 16)?;
    Ok(wildcard::matches(pattern, text))
}

/// Whether a key equals a value; `None` where they can't be compared.
fn equal(key: &Value, value: &Value, charge: Charge<'_>) -> Result<Option<bool>, JmesError> {
    Ok(match (key, value) {
        (Value::String(text), _) => {
            if let Some((key, value)) = spans(key, value) {
                return Ok(Some(key == value));
            }
            match (text.parse::<Quantity>(), value) {
                (Ok(key), Value::String(wanted)) => wanted.parse::<Quantity>().ok().map(|wanted| key == wanted),
                (Err(_), Value::String(wanted)) => Some(wildcard_within(wanted, text, charge)?),
                _ => None,
            }
        }
        (Value::Number(_), Value::Number(_)) => Some(same(key, value)),
        (Value::Number(number), Value::String(text)) => text.parse::<f64>().ok().map(|value| Some(value) == number.as_f64()),
        (Value::Bool(key), Value::Bool(value)) => Some(key == value),
        (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => Some(same(key, value)),
        _ => None,
    })
}

fn is_unlike_quantity(key: &Value, value: &Value) -> bool {
    value.is_string() && key.as_str().is_some_and(|key| key.parse::<Quantity>().is_ok())
}

/// The order of a key and a value.
fn compared(key: &Value, value: &Value) -> Option<Ordering> {
    if !matches!(key, Value::Number(_) | Value::String(_)) {
        return None;
    }
    if let Some((key, value)) = spans(key, value) {
        return Some(key.cmp(&value));
    }
    if let Some((key, value)) = amount(key).zip(amount(value)) {
        return Some(key.cmp(&value));
    }
    if let Some((key, value)) = fraction(key).zip(fraction(value)) {
        return key.partial_cmp(&value);
    }
    let version = |value: &Value| value.as_str().and_then(Version::parse);
    version(key).zip(version(value)).map(|(key, value)| key.cmp(&value))
}

fn amount(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(_) => go_text(value).parse().ok(),
        _ => None,
    }
}

fn fraction(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

/// Both as nanoseconds, where at least one is written as a duration.
fn spans(key: &Value, value: &Value) -> Option<(i64, i64)> {
    let is_written = |value: &Value| value.as_str().is_some_and(|text| text != "0" && duration::parse_nanos(text).is_ok());
    if !is_written(key) && !is_written(value) {
        return None;
    }
    let nanos = |value: &Value| match value {
        Value::String(_) if !is_written(value) => None,
        other => span(other),
    };
    nanos(key).zip(nanos(value))
}

/// A duration, or a number of seconds, in nanoseconds.
fn span(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => duration::parse_nanos(text).ok(),
        Value::Number(number) => number.as_f64().map(|seconds| (seconds.trunc() * 1e9) as i64),
        _ => None,
    }
}

#[cfg(test)]
#[path = "operator_tests.rs"]
mod tests;
