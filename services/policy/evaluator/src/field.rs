//! Reading a document field by field, so that every refusal names the field at fault.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Why a document is not a policy this crate can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct PolicyError {
    /// The field at fault, as `spec.rules[0].match.any[1].resources.kinds`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// A value and where it stands.
#[derive(Clone)]
pub struct Field<'a> {
    value: Option<&'a Value>,
    path: String,
}

impl<'a> Field<'a> {
    /// The whole document.
    pub fn root(value: &'a Value) -> Self {
        Self { value: Some(value), path: String::new() }
    }

    /// Another value in the same place.
    pub fn with_value<'b>(&self, value: &'b Value) -> Field<'b> {
        Field { value: Some(value), path: self.path.clone() }
    }

    /// The value; `None` where absent or null.
    pub fn value(&self) -> Option<&'a Value> {
        self.value.filter(|value| !value.is_null())
    }

    /// An error about this field.
    pub fn error(&self, message: impl Into<String>) -> PolicyError {
        let field = if self.path.is_empty() { "the document".to_owned() } else { self.path.clone() };
        PolicyError { field, message: message.into() }
    }

    /// A field below.
    pub fn get(&self, key: &str) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { value: self.value.and_then(|value| value.get(key)), path }
    }

    /// The mapping, or `None` where absent.
    pub fn object(&self) -> Result<Option<&'a Map<String, Value>>, PolicyError> {
        match self.value() {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(fields)),
            Some(_) => Err(self.error("must be a mapping")),
        }
    }

    /// The elements of a list; none where absent.
    pub fn list(&self) -> Result<Vec<Self>, PolicyError> {
        match self.value() {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => Ok(items
                .iter()
                .enumerate()
                .map(|(index, value)| Self { value: Some(value), path: format!("{}[{index}]", self.path) })
                .collect()),
            Some(_) => Err(self.error("must be a list")),
        }
    }

    /// The text, or `None` where absent.
    pub fn text(&self) -> Result<Option<String>, PolicyError> {
        match self.value() {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.error("must be a text")),
        }
    }

    /// The text, which must be there.
    pub fn required_text(&self) -> Result<String, PolicyError> {
        match self.text()? {
            Some(text) if !text.is_empty() => Ok(text),
            _ => Err(self.error("is missing")),
        }
    }

    /// A list of texts; empty where absent.
    pub fn texts(&self) -> Result<Vec<String>, PolicyError> {
        self.list()?.iter().map(|item| item.text()?.ok_or_else(|| item.error("must be a text"))).collect()
    }

    /// A mapping of texts, or `None` where absent.
    pub fn text_map(&self) -> Result<Option<BTreeMap<String, String>>, PolicyError> {
        let Some(fields) = self.object()? else { return Ok(None) };
        fields
            .keys()
            .map(|key| {
                let field = self.get(key);
                Ok((key.clone(), field.text()?.ok_or_else(|| field.error("must be a text"))?))
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }
}
