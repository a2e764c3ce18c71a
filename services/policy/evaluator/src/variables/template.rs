//! A value with variables in it: `{{ expression }}` in texts and keys.
//!
//! A text that is one variable becomes whatever the variable is; in a longer text values are written out, as JSON where
//! they are no text. Variables inside of variables go first, and what they make is read again.

use super::{Context, MAX_SUBSTITUTIONS, MAX_TEXT_BYTES};
use crate::jmespath::{JmesError, Program, go_json};
use regex::Regex;
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// A variable without another in it; what stands before it must not be a backslash.
static VARIABLE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?:^|[^\\])(\{\{((?:\{[^{}]*\}|[^{}])*)\}\})").expect("a fixed expression"));

/// A value, read once.
#[derive(Debug, Clone, PartialEq)]
pub enum Template {
    /// Without variables.
    Fixed(Value),
    /// A text that is one variable.
    Whole(Box<Program>),
    /// A text with variables, which may come out of each other.
    Text(String),
    /// A list with variables below.
    List(Vec<Template>),
    /// A mapping with variables in keys or below.
    Map(Vec<(Template, Template)>),
}

/// Whether a text has a variable.
pub fn has_variable(text: &str) -> bool {
    text.contains("{{")
}

impl Template {
    /// Reads a value. An error is the reason why no cluster could make anything of it, or this crate can't.
    pub fn compile(value: &Value) -> Result<Self, JmesError> {
        match value {
            Value::String(text) => Self::text(text),
            Value::Array(items) => {
                let items: Vec<Self> = items.iter().map(Self::compile).collect::<Result<_, _>>()?;
                let is_fixed = items.iter().all(|item| matches!(item, Self::Fixed(_)));
                Ok(if is_fixed { Self::Fixed(value.clone()) } else { Self::List(items) })
            }
            Value::Object(fields) => {
                let entry = |(key, value): (&String, &Value)| Ok((Self::text(key)?, Self::compile(value)?));
                let entries: Vec<(Self, Self)> = fields.iter().map(entry).collect::<Result<_, JmesError>>()?;
                let is_fixed = entries.iter().all(|entry| matches!(entry, (Self::Fixed(_), Self::Fixed(_))));
                Ok(if is_fixed { Self::Fixed(value.clone()) } else { Self::Map(entries) })
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(Self::Fixed(value.clone())),
        }
    }

    /// Reads a text.
    pub fn text(text: &str) -> Result<Self, JmesError> {
        if !has_variable(text) {
            return Ok(Self::Fixed(Value::from(text)));
        }
        match VARIABLE.captures(text) {
            Some(found) if found.get(1).is_some_and(|variable| variable.range() == (0..text.len())) => {
                Program::compile(found[2].trim()).map(|program| Self::Whole(Box::new(program)))
            }
            _ => Ok(Self::Text(text.to_owned())),
        }
    }

    /// The value without variables, if it has none.
    pub fn fixed(&self) -> Option<&Value> {
        match self {
            Self::Fixed(value) => Some(value),
            Self::Whole(_) | Self::Text(_) | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// The value with everything put in.
    pub fn resolve(&self, context: &mut Context<'_>) -> Result<Value, JmesError> {
        match self {
            Self::Fixed(value) => Ok(value.clone()),
            Self::Whole(program) => context.query(program),
            Self::Text(text) => resolve_text(text, context),
            Self::List(items) => items.iter().map(|item| item.resolve(context)).collect(),
            Self::Map(entries) => {
                let mut fields = Map::new();
                for (key, value) in entries {
                    let key = match key.resolve(context)? {
                        Value::String(key) => key,
                        other => return Err(JmesError::failed(format!("the key {} is no text", go_json(&other)))),
                    };
                    fields.insert(key, value.resolve(context)?);
                }
                Ok(Value::Object(fields))
            }
        }
    }

    /// The value as a text; what is no text is written as JSON.
    pub fn resolve_to_text(&self, context: &mut Context<'_>) -> Result<String, JmesError> {
        Ok(match self.resolve(context)? {
            Value::String(text) => text,
            other => go_json(&other),
        })
    }
}

fn resolve_text(text: &str, context: &mut Context<'_>) -> Result<Value, JmesError> {
    let mut text = text.to_owned();
    for _ in 0..MAX_SUBSTITUTIONS {
        let Some(found) = VARIABLE.captures(&text) else {
            return Ok(Value::from(text.replace(r"\{{", "{{")));
        };
        let (Some(variable), Some(expression)) = (found.get(1), found.get(2)) else { break };
        let value = context.query_text(expression.as_str().trim())?;
        if variable.range() == (0..text.len()) {
            return Ok(value);
        }
        let written = match value {
            Value::String(written) => written,
            other => go_json(&other),
        };
        if text.len() + written.len() > MAX_TEXT_BYTES {
            return Err(JmesError::failed(format!("a text grows longer than {MAX_TEXT_BYTES} bytes")));
        }
        context.charge((text.len() + written.len()) / 16)?;
        text.replace_range(variable.range(), &written);
    }
    Err(JmesError::failed(format!("a text has more than {MAX_SUBSTITUTIONS} variables")))
}
