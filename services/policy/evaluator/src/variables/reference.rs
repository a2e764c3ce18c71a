//! `$(path)` in a pattern: the value another field of the same pattern asks for.
//!
//! A path is absolute (`/spec/a`) or relative to the field it stands in (`./../a`); an operator before it is put before
//! the value (`$(<=./../limits/memory)`). It is put in when the rule is read: the pattern does not change after that.

use crate::anchor;
use regex::Regex;
use serde_json::{Map, Value};
use std::sync::LazyLock;

static REFERENCE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(^|[^\\])(\$\(([^ )][^ ]*)\))").expect("a fixed expression"));
/// `{{ @ }}`: the field of the object at the same place.
static HERE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\{\{\s*@\s*\}\}").expect("a fixed expression"));
/// References in one text.
const MAX_REFERENCES: usize = 20;

/// The pattern with its references and `{{ @ }}` put in. An error names the reference that leads nowhere.
pub fn with_references(pattern: &Value) -> Result<Value, String> {
    replaced(pattern, pattern, &mut Vec::new())
}

fn replaced(value: &Value, document: &Value, place: &mut Vec<String>) -> Result<Value, String> {
    match value {
        Value::String(text) => in_text(text, document, place).map(Value::from),
        Value::Array(items) => {
            let mut made = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                place.push(index.to_string());
                made.push(replaced(item, document, place)?);
                place.pop();
            }
            Ok(Value::Array(made))
        }
        Value::Object(fields) => {
            let mut made = Map::new();
            for (key, value) in fields {
                place.push(field_of(key).to_owned());
                let value = replaced(value, document, place)?;
                place.pop();
                made.insert(key.clone(), value);
            }
            Ok(Value::Object(made))
        }
        other => Ok(other.clone()),
    }
}

fn in_text(text: &str, document: &Value, place: &[String]) -> Result<String, String> {
    let mut text = text.to_owned();
    if HERE.is_match(&text) {
        let here = place.iter().fold("request.object".to_owned(), |path, part| match part.parse::<usize>() {
            Ok(index) => format!("{path}[{index}]"),
            Err(_) => format!("{path}.\"{part}\""),
        });
        text = HERE.replace_all(&text, regex::NoExpand(&format!("{{{{ {here} }}}}"))).into_owned();
    }
    for _ in 0..MAX_REFERENCES {
        let Some(found) = REFERENCE.captures(&text) else { return Ok(text.replace(r"\$(", "$(")) };
        let Some(whole) = found.get(2) else { break };
        let value = resolved(&found[3], document, place)?;
        text.replace_range(whole.range(), &value);
    }
    Err(format!("a text of the pattern has more than {MAX_REFERENCES} references"))
}

fn resolved(reference: &str, document: &Value, place: &[String]) -> Result<String, String> {
    let operators = [">=", "<=", ">", "<", "!"];
    let operator = operators.into_iter().find(|operator| reference.starts_with(operator)).unwrap_or("");
    let path = &reference[operator.len()..];
    let mut parts: Vec<&str> = if path.starts_with('/') { Vec::new() } else { place.iter().map(String::as_str).collect() };
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    let nowhere = || format!("the reference $({reference}) leads to nothing");
    let found = find(document, &parts).ok_or_else(nowhere)?;
    match found {
        Value::String(text) => Ok(format!("{operator}{text}")),
        Value::Number(number) if !operator.is_empty() => Ok(format!("{operator}{number}")),
        _ => Err(format!("the reference $({reference}) leads to what is no text")),
    }
}

/// The value at a path without anchors; the last where a field stands under several anchors.
fn find<'a>(value: &'a Value, parts: &[&str]) -> Option<&'a Value> {
    let [part, rest @ ..] = parts else { return Some(value) };
    match value {
        Value::Object(fields) => {
            let named = fields.iter().filter(|(key, _)| field_of(key) == *part);
            named.filter_map(|(_, below)| find(below, rest)).next_back()
        }
        Value::Array(items) => find(items.get(part.parse::<usize>().ok()?)?, rest),
        _ => None,
    }
}

fn field_of(key: &str) -> &str {
    anchor::parse(key).map_or(key, |(_, field)| field)
}
