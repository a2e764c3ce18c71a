//! The functions of JMESPath itself, and the way to all others.
//!
//! A function that is not known here is refused when the expression is read. One that is known and called with what it
//! does not take fails, as in Kyverno.

use super::{
    Evaluation, Item, JmesError, arithmetic,
    evaluate::weight,
    number::{go_json, number, same},
    text, time,
};
use jmespath::ast::Ast;
use serde_json::{Map, Value};
use std::{borrow::Cow, cmp::Ordering};

/// What a function makes; `None` where it does not take these arguments.
pub type Answer = Option<Result<Value, JmesError>>;

const STANDARD: &[&str] = &[
    "abs",
    "avg",
    "ceil",
    "contains",
    "ends_with",
    "floor",
    "join",
    "keys",
    "length",
    "map",
    "max",
    "max_by",
    "merge",
    "min",
    "min_by",
    "not_null",
    "reverse",
    "sort",
    "sort_by",
    "starts_with",
    "to_array",
    "to_number",
    "to_string",
    "type",
    "values",
];

/// Whether a function of this name can be called.
pub fn is_known(name: &str) -> bool {
    [STANDARD, text::NAMES, arithmetic::NAMES, time::NAMES].iter().any(|names| names.contains(&name))
}

pub fn ok(value: impl Into<Value>) -> Answer {
    Some(Ok(value.into()))
}

pub fn fail(message: impl Into<String>) -> Answer {
    Some(Err(JmesError::failed(message)))
}

/// Calls a function: arguments first, a missing field among them being null.
pub fn call<'v>(run: &Evaluation<'_>, name: &str, args: &[Ast], data: Item<'v>) -> Result<Cow<'v, Value>, JmesError> {
    if let Some(answer) = with_expression(run, name, args, &data)? {
        run.charge(weight(&answer))?;
        return Ok(Cow::Owned(answer));
    }
    let mut values = Vec::with_capacity(args.len());
    for arg in args {
        values.push(run.value(run.node_or_null(arg, data.clone())?)?);
    }
    let borrowed: Vec<&Value> = values.iter().map(|value| &**value).collect();
    // What a function does is at most in proportion to what it is given, except where it charges for itself.
    run.charge(borrowed.iter().map(|value| weight(value)).sum())?;
    let answer = standard(run, name, &borrowed)
        .or_else(|| text::call(run, name, &borrowed))
        .or_else(|| arithmetic::call(name, &borrowed))
        .or_else(|| time::call(run, name, &borrowed));
    let answer = answer.unwrap_or_else(|| {
        let types: Vec<&str> = borrowed.iter().map(|value| type_of(value)).collect();
        Err(JmesError::failed(format!("{name} does not take ({})", types.join(", "))))
    })?;
    run.charge(weight(&answer))?;
    Ok(Cow::Owned(answer))
}

/// Functions that run an expression of theirs over a list.
fn with_expression(run: &Evaluation<'_>, name: &str, args: &[Ast], data: &Item<'_>) -> Result<Option<Value>, JmesError> {
    let (list, expression, is_map) = match (name, args) {
        ("map", [Ast::Expref { ast, .. }, list]) => (list, ast, true),
        ("sort_by" | "max_by" | "min_by", [list, Ast::Expref { ast, .. }]) => (list, ast, false),
        _ => return Ok(None),
    };
    let list = run.value(run.node_or_null(list, data.clone())?)?;
    let Value::Array(items) = &*list else { return Err(JmesError::failed(format!("{name} is about a list"))) };
    let mut made = Vec::with_capacity(items.len());
    for item in items {
        let value = run.value(run.node_or_null(expression, Item::of(item))?)?.into_owned();
        run.charge(weight(&value) + weight(item))?;
        made.push((value, item));
    }
    if is_map {
        return Ok(Some(Value::Array(made.into_iter().map(|(value, _)| value).collect())));
    }
    let is_ordered = made.iter().all(|(value, _)| value.is_number()) || made.iter().all(|(value, _)| value.is_string());
    if !is_ordered {
        return Err(JmesError::failed(format!("{name} compares numbers or texts")));
    }
    made.sort_by(|(a, _), (b, _)| ordered(a, b));
    Ok(Some(match name {
        "max_by" => made.last().map_or(Value::Null, |(_, item)| (*item).clone()),
        "min_by" => made.first().map_or(Value::Null, |(_, item)| (*item).clone()),
        _ => Value::Array(made.into_iter().map(|(_, item)| item.clone()).collect()),
    }))
}

fn standard(run: &Evaluation<'_>, name: &str, args: &[&Value]) -> Answer {
    match (name, args) {
        ("abs", [value]) => ok(number(value.as_f64()?.abs())),
        ("ceil", [value]) => ok(number(value.as_f64()?.ceil())),
        ("floor", [value]) => ok(number(value.as_f64()?.floor())),
        ("avg", [Value::Array(items)]) => {
            let numbers = numbers(items)?;
            if numbers.is_empty() {
                return ok(Value::Null);
            }
            ok(number(numbers.iter().sum::<f64>() / numbers.len() as f64))
        }
        ("contains", [Value::Array(items), wanted]) => ok(items.iter().any(|item| same(item, wanted))),
        ("contains", [Value::String(text), wanted]) => ok(wanted.as_str().is_some_and(|wanted| text.contains(wanted))),
        ("starts_with", [Value::String(text), Value::String(start)]) => ok(text.starts_with(start.as_str())),
        ("ends_with", [Value::String(text), Value::String(end)]) => ok(text.ends_with(end.as_str())),
        ("join", [Value::String(glue), Value::Array(items)]) => {
            let texts = items.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?;
            Some(run.charge(glue.len().saturating_mul(items.len()) / 16).map(|()| texts.join(glue).into()))
        }
        ("keys", [Value::Object(fields)]) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort();
            ok(keys.into_iter().cloned().collect::<Vec<String>>())
        }
        ("values", [Value::Object(fields)]) => ok(fields.values().cloned().collect::<Vec<Value>>()),
        ("length", [Value::String(text)]) => ok(text.chars().count()),
        ("length", [Value::Array(items)]) => ok(items.len()),
        ("length", [Value::Object(fields)]) => ok(fields.len()),
        ("max" | "min", [Value::Array(items)]) => {
            let is_ordered = items.iter().all(Value::is_number) || items.iter().all(Value::is_string);
            let by = |a: &&Value, b: &&Value| ordered(a, b);
            let found = if name == "max" { items.iter().max_by(by) } else { items.iter().min_by(by) };
            is_ordered.then(|| Ok(found.cloned().unwrap_or_default()))
        }
        ("merge", parts) => {
            let mut merged = Map::new();
            for part in parts {
                merged.extend(part.as_object()?.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
            ok(Value::Object(merged))
        }
        ("not_null", values) => ok(values.iter().find(|value| !value.is_null()).map_or(Value::Null, |value| (*value).clone())),
        ("reverse", [Value::Array(items)]) => ok(items.iter().rev().cloned().collect::<Vec<_>>()),
        ("reverse", [Value::String(text)]) => ok(text.chars().rev().collect::<String>()),
        ("sort", [Value::Array(items)]) => {
            let is_ordered = items.iter().all(Value::is_number) || items.iter().all(Value::is_string);
            let mut sorted = items.clone();
            sorted.sort_by(ordered);
            is_ordered.then_some(Ok(Value::Array(sorted)))
        }
        ("to_array", [value @ Value::Array(_)]) => ok((*value).clone()),
        ("to_array", [value]) => ok(vec![(*value).clone()]),
        ("to_string", [value @ Value::String(_)]) => ok((*value).clone()),
        ("to_string", [value]) => ok(go_json(value)),
        ("to_number", [value @ Value::Number(_)]) => ok((*value).clone()),
        ("to_number", [Value::String(text)]) => ok(text.parse().map_or(Value::Null, number)),
        ("to_number", [_]) => ok(Value::Null),
        ("type", [value]) => ok(type_of(value)),
        _ => None,
    }
}

pub fn numbers(items: &[Value]) -> Option<Vec<f64>> {
    items.iter().map(Value::as_f64).collect()
}

fn ordered(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::String(a), Value::String(b)) => a.cmp(b),
        _ => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
