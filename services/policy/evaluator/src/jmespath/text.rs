//! Kyverno's functions about texts, and those that take documents apart or put them together.

use super::{
    Evaluation, JmesError, MAX_REGEX_BYTES,
    functions::{Answer, fail, ok},
    number::{same, text_of},
};
use crate::{image::ImageReference, version::Range, wildcard};
use base64::{Engine, engine::general_purpose::STANDARD};
use muster_core::manifest::parse_value;
use regex::{NoExpand, Regex, RegexBuilder};
use serde_json::{Map, Value};

pub const NAMES: &[&str] = &[
    "base64_decode",
    "base64_encode",
    "compare",
    "equal_fold",
    "image_normalize",
    "items",
    "label_match",
    "lookup",
    "object_from_lists",
    "parse_json",
    "parse_yaml",
    "path_canonicalize",
    "pattern_match",
    "regex_match",
    "regex_replace_all",
    "regex_replace_all_literal",
    "replace",
    "replace_all",
    "semver_compare",
    "split",
    "to_boolean",
    "to_lower",
    "to_upper",
    "trim",
    "trim_prefix",
    "truncate",
];

pub fn call(run: &Evaluation<'_>, name: &str, args: &[&Value]) -> Answer {
    match (name, args) {
        ("compare", [Value::String(a), Value::String(b)]) => ok(a.cmp(b) as i64),
        ("equal_fold", [Value::String(a), Value::String(b)]) => ok(a.to_lowercase() == b.to_lowercase()),
        ("replace", [Value::String(text), Value::String(old), Value::String(new), count]) => {
            let count = count.as_f64()?;
            let limit = if count < 0.0 { usize::MAX } else { count as usize };
            Some(replaced(run, text, old, new, limit))
        }
        ("replace_all", [Value::String(text), Value::String(old), Value::String(new)]) => {
            Some(replaced(run, text, old, new, usize::MAX))
        }
        ("to_upper", [Value::String(text)]) => ok(text.to_uppercase()),
        ("to_lower", [Value::String(text)]) => ok(text.to_lowercase()),
        ("trim", [Value::String(text), Value::String(cut)]) => ok(text.trim_matches(|c| cut.contains(c))),
        ("trim_prefix", [Value::String(text), Value::String(prefix)]) => ok(text.strip_prefix(prefix.as_str()).unwrap_or(text)),
        ("split", [Value::String(text), Value::String(separator)]) => {
            let parts: Vec<String> = if separator.is_empty() {
                text.chars().map(String::from).collect()
            } else {
                text.split(separator.as_str()).map(str::to_owned).collect()
            };
            ok(parts)
        }
        ("regex_match", [Value::String(pattern), text]) => {
            let text = text_of(text)?;
            Some(regex(run, pattern, &text).map(|regex| regex.is_match(&text).into()))
        }
        ("regex_replace_all" | "regex_replace_all_literal", [Value::String(pattern), text, new]) => {
            let (text, new) = (text_of(text)?, text_of(new)?);
            Some(regex(run, pattern, &text).and_then(|regex| {
                let found = regex.find_iter(&text).count();
                let longest = if name == "regex_replace_all" { new.len().saturating_mul(text.len().max(1)) } else { new.len() };
                run.charge(longest.saturating_mul(found) / 16)?;
                Ok(Value::from(if name == "regex_replace_all" {
                    regex.replace_all(&text, new.as_str()).into_owned()
                } else {
                    regex.replace_all(&text, NoExpand(&new)).into_owned()
                }))
            }))
        }
        ("pattern_match", [Value::String(pattern), text]) => {
            let text = text_of(text)?;
            Some(run.charge(pattern.len().saturating_mul(text.len()) / 16).map(|()| wildcard::matches(pattern, &text).into()))
        }
        ("label_match", [Value::Object(wanted), Value::Object(found)]) => {
            ok(wanted.iter().all(|(key, value)| found.get(key).is_some_and(|found| same(found, value))))
        }
        ("to_boolean", [Value::String(text)]) => match text.to_lowercase().as_str() {
            "true" => ok(true),
            "false" => ok(false),
            _ => fail(format!("to_boolean: {text:?} is neither true nor false")),
        },
        ("base64_decode", [Value::String(text)]) => {
            match STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
                Some(decoded) => ok(decoded),
                None => fail("base64_decode: this is no text in base64"),
            }
        }
        ("base64_encode", [Value::String(text)]) => ok(STANDARD.encode(text)),
        ("path_canonicalize", [Value::String(path)]) => ok(canonical(path)),
        ("truncate", [Value::String(text), length]) => {
            let length = length.as_f64()?.max(0.0) as usize;
            ok(text.chars().take(length).collect::<String>())
        }
        ("semver_compare", [Value::String(version), Value::String(range)]) => match Range::parse(range) {
            Some(range) => ok(range.contains(version)),
            None => fail(format!("semver_compare: {range:?} is no range of versions")),
        },
        ("parse_json", [Value::String(text)]) => match serde_json::from_str::<Value>(text) {
            Ok(value) => ok(value),
            Err(error) => fail(format!("parse_json: {error}")),
        },
        ("parse_yaml", [Value::String(text)]) => match parse_value(text) {
            Ok(value) => ok(value),
            Err(error) => fail(format!("parse_yaml: {error}")),
        },
        ("lookup", [Value::Object(fields), Value::String(key)]) => ok(fields.get(key).cloned().unwrap_or_default()),
        ("lookup", [Value::Array(items), index]) => {
            let index = index.as_f64()?;
            if index.fract() != 0.0 {
                return fail("lookup: an index is a whole number");
            }
            ok(if index < 0.0 { Value::Null } else { items.get(index as usize).cloned().unwrap_or_default() })
        }
        ("items", [Value::Object(fields), Value::String(key_name), Value::String(value_name)]) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort();
            let pair = |key: &String| pair(key_name, Value::from(key.as_str()), value_name, &fields[key]);
            Some(
                run.charge(fields.len() * (key_name.len() + value_name.len()) / 16)
                    .map(|()| keys.into_iter().map(pair).collect()),
            )
        }
        ("items", [Value::Array(items), Value::String(key_name), Value::String(value_name)]) => {
            let pair = |(index, value): (usize, &Value)| pair(key_name, Value::from(index), value_name, value);
            let cost = items.len() * (key_name.len() + value_name.len()) / 16;
            Some(run.charge(cost).map(|()| items.iter().enumerate().map(pair).collect()))
        }
        ("object_from_lists", [Value::Array(keys), Value::Array(values)]) => {
            let mut made = Map::new();
            for (index, key) in keys.iter().enumerate() {
                made.insert(text_of(key)?, values.get(index).cloned().unwrap_or_default());
            }
            ok(Value::Object(made))
        }
        ("image_normalize", [Value::String(image)]) => match ImageReference::parse(image) {
            Some(image) => ok(image.with_registry()),
            None => fail(format!("image_normalize: {image:?} is no image")),
        },
        _ => None,
    }
}

fn pair(key_name: &str, key: Value, value_name: &str, value: &Value) -> Value {
    Value::Object([(key_name.to_owned(), key), (value_name.to_owned(), value.clone())].into_iter().collect())
}

fn replaced(run: &Evaluation<'_>, text: &str, old: &str, new: &str, limit: usize) -> Result<Value, JmesError> {
    let found = text.matches(old).take(limit).count();
    run.charge(found.saturating_mul(new.len()) / 16)?;
    Ok(text.replacen(old, new, limit).into())
}

/// Steps that reading the smallest regular expression takes.
const REGEX_STEPS: usize = 500;

/// A regular expression, whose reading counts as work too. It is matched in time linear in the text.
fn regex(run: &Evaluation<'_>, pattern: &str, text: &str) -> Result<Regex, JmesError> {
    run.charge(REGEX_STEPS + pattern.len().saturating_mul(8) + text.len() / 16)?;
    let built = RegexBuilder::new(pattern).size_limit(MAX_REGEX_BYTES).dfa_size_limit(MAX_REGEX_BYTES).build();
    built.map_err(|error| JmesError::failed(format!("{pattern:?} is no regular expression: {error}")))
}

/// A path without `.`, `..` and doubled slashes, as Go's `filepath.Join` leaves it.
fn canonical(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if is_absolute => {}
            other => parts.push(other),
        }
    }
    let joined = parts.join("/");
    match (is_absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) if !path.is_empty() => ".".to_owned(),
        (false, _) => joined,
    }
}
