//! A value of CEL. What comes from a document is borrowed from it: reading `object.spec.containers` copies nothing.
//!
//! Numbers of different types compare as numbers (Kubernetes and Kyverno switch that on); other types are never equal
//! to one another and have no order.

use super::{NoValue, network::Network};
use crate::facts::field;
use jiff::Timestamp;
use muster_core::quantity::Quantity;
use serde_json::{Map, Value};
use std::{borrow::Cow, cmp::Ordering, rc::Rc};

/// Pairs of a map, in the order they were made.
pub type Pairs<'a> = Vec<(Val<'a>, Val<'a>)>;

#[derive(Debug, Clone)]
pub enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Cow<'a, str>),
    Bytes(Rc<[u8]>),
    /// A list of a document.
    Items(&'a [Value]),
    /// A mapping of a document.
    Fields(&'a Map<String, Value>),
    List(Rc<Vec<Val<'a>>>),
    Map(Rc<Pairs<'a>>),
    Optional(Option<Rc<Val<'a>>>),
    Type(&'static str),
    /// In nanoseconds.
    Duration(i64),
    Timestamp(Timestamp),
    Quantity(Quantity),
    Network(Network),
}

impl<'a> Val<'a> {
    /// A value of a document, borrowed.
    pub fn of(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(set) => Self::Bool(*set),
            Value::Number(number) => number
                .as_i64()
                .map(Self::Int)
                .or_else(|| number.as_u64().map(Self::Uint))
                .unwrap_or_else(|| Self::Double(number.as_f64().unwrap_or(f64::NAN))),
            Value::String(text) => Self::Text(Cow::Borrowed(text)),
            Value::Array(items) => Self::Items(items),
            Value::Object(fields) => Self::Fields(fields),
        }
    }

    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Cow::Owned(text.into()))
    }

    pub fn list(items: Vec<Self>) -> Self {
        Self::List(Rc::new(items))
    }

    pub fn some(value: Self) -> Self {
        Self::Optional(Some(Rc::new(value)))
    }

    /// An owned JSON value, taken apart.
    pub fn from_json(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(set) => Self::Bool(set),
            Value::String(text) => Self::text(text),
            Value::Array(items) => Self::list(items.into_iter().map(Self::from_json).collect()),
            Value::Object(fields) => {
                Self::Map(Rc::new(fields.into_iter().map(|(key, value)| (Self::text(key), Self::from_json(value))).collect()))
            }
            number @ Value::Number(_) => match number.as_i64() {
                Some(number) => Self::Int(number),
                None => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
        }
    }

    /// The type's name, as `type(x)` gives it and messages show it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Items(_) | Self::List(_) => "list",
            Self::Fields(_) | Self::Map(_) => "map",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Network(network) => network.type_name(),
        }
    }

    /// The elements of a list; `None` for anything else.
    pub fn elements(&self) -> Option<Vec<Self>> {
        match self {
            Self::Items(items) => Some(items.iter().map(Self::of).collect()),
            Self::List(items) => Some(items.to_vec()),
            _ => None,
        }
    }

    /// What a comprehension runs over: a list's elements, a map's keys.
    pub fn range(&self) -> Option<Vec<Self>> {
        match self {
            Self::Fields(fields) => Some(fields.keys().map(|key| Self::Text(Cow::Borrowed(key))).collect()),
            Self::Map(pairs) => Some(pairs.iter().map(|(key, _)| key.clone()).collect()),
            _ => self.elements(),
        }
    }

    /// How many characters, bytes, elements or entries it has.
    pub fn size(&self) -> Option<usize> {
        match self {
            Self::Text(text) => Some(text.chars().count()),
            Self::Bytes(bytes) => Some(bytes.len()),
            Self::Items(items) => Some(items.len()),
            Self::List(items) => Some(items.len()),
            Self::Fields(fields) => Some(fields.len()),
            Self::Map(pairs) => Some(pairs.len()),
            _ => None,
        }
    }

    /// What calling a function with it costs, in eights.
    pub fn cost(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            other => other.size().unwrap_or_default(),
        }
    }

    /// The entry of a map, or the element of a list at a whole number; `None` where there is none, an error where this
    /// is neither.
    pub fn get(&self, key: &Self) -> Result<Option<Self>, NoValue> {
        let at = || match key {
            Self::Int(index) => usize::try_from(*index).ok(),
            Self::Uint(index) => usize::try_from(*index).ok(),
            Self::Double(index) if index.fract() == 0.0 && *index >= 0.0 => Some(*index as usize),
            _ => None,
        };
        match self {
            Self::Fields(fields) => match key {
                Self::Text(key) => Ok(field(fields, key).map(Self::of)),
                _ => Ok(None),
            },
            Self::Map(pairs) => Ok(pairs.iter().find(|(found, _)| found.is_same_key(key)).map(|(_, value)| value.clone())),
            Self::Items(items) => Ok(at().and_then(|index| items.get(index)).map(Self::of)),
            Self::List(items) => Ok(at().and_then(|index| items.get(index)).cloned()),
            other => Err(NoValue::failed(format!("a {} has no elements", other.type_name()))),
        }
    }

    /// Whether two keys of maps are the same; what can be no key never is.
    pub fn is_same_key(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            _ => self.number_order(other) == Some(Ordering::Equal),
        }
    }

    /// Whether it can be the key of a map.
    pub fn is_key(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Bool(_) | Self::Int(_) | Self::Uint(_) | Self::Double(_))
    }

    /// A field by name.
    pub fn field(&self, name: &str) -> Result<Option<Self>, NoValue> {
        match self {
            Self::Fields(fields) => Ok(field(fields, name).map(Self::of)),
            Self::Map(pairs) => {
                let is_it = |key: &Self| matches!(key, Self::Text(key) if key == name);
                Ok(pairs.iter().find(|(key, _)| is_it(key)).map(|(_, value)| value.clone()))
            }
            other => Err(NoValue::failed(format!("a {} has no field {name:?}", other.type_name()))),
        }
    }

    pub(super) fn number_order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Uint(a), Self::Uint(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (Self::Uint(a), Self::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            _ => self.as_double()?.partial_cmp(&other.as_double()?),
        }
    }

    fn as_double(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(*number as f64),
            Self::Uint(number) => Some(*number as f64),
            Self::Double(number) => Some(*number),
            _ => None,
        }
    }

    /// The order of two values of one type; `None` where they have none.
    pub fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            (Self::Timestamp(a), Self::Timestamp(b)) => Some(a.cmp(b)),
            _ => self.number_order(other),
        }
    }

    /// Whether it is its type's zero, for `optional.ofNonZeroValue`.
    pub fn is_zero(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(set) => !set,
            Self::Int(number) => *number == 0,
            Self::Uint(number) => *number == 0,
            Self::Double(number) => *number == 0.0,
            Self::Duration(nanos) => *nanos == 0,
            Self::Optional(value) => value.is_none(),
            Self::Type(_) | Self::Timestamp(_) | Self::Quantity(_) | Self::Network(_) => false,
            other => other.size() == Some(0),
        }
    }

    /// The JSON form, for messages and library functions that take documents.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(set) => Value::Bool(*set),
            Self::Int(number) => Value::from(*number),
            Self::Uint(number) => Value::from(*number),
            Self::Double(number) => Value::from(*number),
            Self::Text(text) => Value::from(text.as_ref()),
            Self::Items(items) => Value::from(items.to_vec()),
            Self::Fields(fields) => Value::Object((*fields).clone()),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(pairs) => {
                Value::Object(pairs.iter().map(|(key, value)| (key.shown().into_owned(), value.to_json())).collect())
            }
            Self::Optional(Some(value)) => value.to_json(),
            Self::Optional(None) => Value::Null,
            other => Value::from(other.shown().into_owned()),
        }
    }

    /// The text `string(x)` gives, and messages show.
    pub fn shown(&self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => text.clone(),
            Self::Bool(set) => Cow::Owned(set.to_string()),
            Self::Int(number) => Cow::Owned(number.to_string()),
            Self::Uint(number) => Cow::Owned(number.to_string()),
            Self::Double(number) => Cow::Owned(number.to_string()),
            Self::Bytes(bytes) => Cow::Owned(String::from_utf8_lossy(bytes).into_owned()),
            Self::Duration(nanos) => Cow::Owned(format!("{}s", *nanos as f64 / 1e9)),
            Self::Timestamp(instant) => Cow::Owned(instant.to_string()),
            Self::Quantity(quantity) => Cow::Owned(quantity.to_string()),
            Self::Network(network) => Cow::Owned(network.to_string()),
            Self::Type(name) => Cow::Borrowed(name),
            other => Cow::Owned(other.to_json().to_string()),
        }
    }
}
