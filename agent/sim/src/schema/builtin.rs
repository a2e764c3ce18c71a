//! The shapes of the built-in kinds, read once from `builtin.types`, whose opening explains the notation.

use super::{Field, Identity, Scalar, Schema, Struct};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    sync::OnceLock,
};

const SOURCE: &str = include_str!("builtin.types");

/// The shape of a built-in kind or of a type within one.
pub fn builtin(name: &str) -> Option<&'static Schema> {
    static TYPES: OnceLock<HashMap<String, Schema>> = OnceLock::new();
    TYPES.get_or_init(|| read(SOURCE)).get(name)
}

fn read(source: &str) -> HashMap<String, Schema> {
    let mut types: HashMap<String, Schema> = HashMap::new();
    let mut current: Option<(String, BTreeMap<String, Field>)> = None;
    let lines = source.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    for line in lines {
        let mut words = line.split_whitespace();
        if !line.starts_with(' ') {
            if let Some((name, fields)) = current.take() {
                types.insert(name, Schema::Struct(Struct { fields, open: false, atomic: false }));
            }
            let name = words.next().expect("a paragraph opens with a name").to_owned();
            assert_eq!(words.next(), Some("="), "the name {name} is followed by an equals sign");
            current = Some((name, BTreeMap::new()));
        }
        let (_, fields) = current.as_mut().expect("the first line opens a paragraph");
        for word in words {
            let (name, kind) = word.split_once(':').expect("a field is name:type");
            fields.insert(name.to_owned(), field(kind));
        }
    }
    if let Some((name, fields)) = current {
        types.insert(name, Schema::Struct(Struct { fields, open: false, atomic: false }));
    }
    types
}

fn field(kind: &str) -> Field {
    let (kind, default) = match kind.split_once('=') {
        Some((kind, text)) => {
            let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
            (kind, Some(value))
        }
        None => (kind, None),
    };
    let (kind, required) = kind.strip_suffix('!').map_or((kind, false), |kind| (kind, true));
    Field { schema: shape(kind), required, default }
}

fn shape(kind: &str) -> Schema {
    if let Some(inner) = kind.strip_prefix('[').and_then(|kind| kind.strip_suffix(']')) {
        let (items, identity) = match inner.split_once('|') {
            None => (inner, Identity::Atomic),
            Some((items, "*")) => (items, Identity::Set),
            Some((items, keys)) => (items, Identity::Keys(keys.split(',').map(str::to_owned).collect())),
        };
        return Schema::List { items: Box::new(shape(items)), identity };
    }
    if let Some(inner) = kind.strip_prefix('{').and_then(|kind| kind.strip_suffix('}')) {
        let (values, atomic) = inner.strip_suffix("|*").map_or((inner, false), |values| (values, true));
        return Schema::Map { values: Box::new(shape(values)), atomic };
    }
    match kind {
        "any" => Schema::Any,
        "str" => Schema::Scalar(Scalar::Text),
        "int" => Schema::Scalar(Scalar::Integer),
        "num" => Schema::Scalar(Scalar::Number),
        "bool" => Schema::Scalar(Scalar::Boolean),
        "time" => Schema::Scalar(Scalar::Time),
        "quantity" => Schema::Scalar(Scalar::Quantity),
        "int_or_string" => Schema::Scalar(Scalar::IntegerOrText),
        name => match name.strip_suffix('*') {
            Some(name) => Schema::Named(name.to_owned(), true),
            None => Schema::Named(name.to_owned(), false),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_type_exists() {
        fn walk(schema: &Schema, missing: &mut Vec<String>) {
            match schema {
                Schema::Named(name, _) if builtin(name).is_none() => missing.push(name.clone()),
                Schema::Struct(shape) => shape.fields.values().for_each(|field| walk(&field.schema, missing)),
                Schema::Map { values, .. } => walk(values, missing),
                Schema::List { items, .. } => walk(items, missing),
                Schema::Named(..) | Schema::Any | Schema::Scalar(_) => {}
            }
        }
        let mut missing = Vec::new();
        read(SOURCE).values().for_each(|schema| walk(schema, &mut missing));
        assert_eq!(missing, Vec::<String>::new());
    }
}
