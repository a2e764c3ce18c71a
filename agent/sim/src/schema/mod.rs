//! The shape of a kind: which fields it has, how lists and maps are owned, and what is written where a field is absent.
//! One shape drives strict validation, pruning, defaulting, server-side apply and strategic merge alike.

mod builtin;
pub mod decode;
pub mod default;
pub mod openapi;

use serde_json::{Map, Value};
use std::collections::BTreeMap;

pub use builtin::builtin;

/// The shape of one value.
#[derive(Debug, Clone, PartialEq)]
pub enum Schema {
    /// Anything: maps are owned key by key, lists as a whole.
    Any,
    /// A single value.
    Scalar(Scalar),
    /// An object with declared fields.
    Struct(Struct),
    /// An object with free keys.
    Map {
        /// The shape of every value.
        values: Box<Schema>,
        /// Owned as a whole instead of key by key.
        atomic: bool,
    },
    /// A list.
    List {
        /// The shape of every element.
        items: Box<Schema>,
        /// What makes an element the same element.
        identity: Identity,
    },
    /// A built-in type by name; `true` where it is owned as a whole.
    Named(String, bool),
}

/// The kind of a single value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// True or false.
    Boolean,
    /// RFC 3339 text.
    Time,
    /// A Kubernetes quantity, stored in its canonical form.
    Quantity,
    /// A whole number or text, as `maxSurge`.
    IntegerOrText,
}

/// What makes an element of a list the same element in another version of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Nothing does: the list is one value.
    Atomic,
    /// Its value.
    Set,
    /// The values of these fields.
    Keys(Vec<String>),
}

/// An object with declared fields.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Struct {
    /// Its fields by name.
    pub fields: BTreeMap<String, Field>,
    /// Unknown fields are kept.
    pub open: bool,
    /// Owned as a whole instead of field by field.
    pub atomic: bool,
}

/// A field of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The shape of its value.
    pub schema: Schema,
    /// An object without it is refused.
    pub required: bool,
    /// Written where it is absent.
    pub default: Option<Value>,
}

impl Schema {
    /// This shape with a name resolved to what it names.
    pub fn resolve(&self) -> &Schema {
        match self {
            Schema::Named(name, _) => builtin(name).unwrap_or(&Schema::Any),
            other => other,
        }
    }

    /// True where the value is owned as a whole.
    pub fn is_atomic(&self) -> bool {
        match self {
            Schema::Named(_, true) => true,
            Schema::Named(..) => self.resolve().is_atomic(),
            Schema::Struct(shape) => shape.atomic,
            Schema::Map { atomic, .. } => *atomic,
            Schema::List { identity, .. } => *identity == Identity::Atomic,
            Schema::Any | Schema::Scalar(_) => false,
        }
    }

    /// The shape of what is under `key` in an object of this shape.
    pub fn child(&self, key: &str) -> &Schema {
        match self.resolve() {
            Schema::Struct(shape) => shape.fields.get(key).map_or(&Schema::Any, |field| &field.schema),
            Schema::Map { values, .. } => values,
            Schema::Any | Schema::Scalar(_) | Schema::List { .. } | Schema::Named(..) => &Schema::Any,
        }
    }

    /// True where `key` is a declared field rather than a free key.
    pub fn declares(&self, key: &str) -> bool {
        matches!(self.resolve(), Schema::Struct(shape) if shape.fields.contains_key(key))
    }

    /// The shape of the elements of a list of this shape, and what identifies them.
    pub fn elements(&self) -> (&Schema, &Identity) {
        match self.resolve() {
            Schema::List { items, identity } => (items, identity),
            Schema::Any | Schema::Scalar(_) | Schema::Struct(_) | Schema::Map { .. } | Schema::Named(..) => {
                (&Schema::Any, &Identity::Atomic)
            }
        }
    }

    /// The key of a list element, `{"name":"web"}` with its keys in order; an error names the key that is missing.
    pub fn element_key(&self, keys: &[String], item: &Value) -> Result<String, String> {
        let mut key = Map::new();
        let mut names: Vec<&String> = keys.iter().collect();
        names.sort();
        for name in names {
            let value = item.get(name).filter(|value| !value.is_null()).cloned().or_else(|| match self.resolve() {
                Schema::Struct(shape) => shape.fields.get(name).and_then(|field| field.default.clone()),
                Schema::Any | Schema::Scalar(_) | Schema::Map { .. } | Schema::List { .. } | Schema::Named(..) => None,
            });
            let value = value.ok_or_else(|| {
                format!("element 0: associative list with keys has an element that omits key field {name:?} (and doesn't have default value)")
            })?;
            key.insert(name.clone(), value);
        }
        Ok(Value::Object(key).to_string())
    }
}
