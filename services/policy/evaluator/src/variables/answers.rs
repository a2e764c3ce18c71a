//! Values told beforehand, in place of what a rule would ask the cluster or the registry for.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Values by dotted name, as `saMap.data.allowed`. What a rule asks the outside for and finds here is taken from here.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// For every rule.
    pub everywhere: Vec<(String, Value)>,
    /// For one rule, by its name without autogen's prefix.
    pub of_rules: BTreeMap<String, Vec<(String, Value)>>,
    /// For one rule, element by element of its `foreach`.
    pub of_elements: BTreeMap<String, Vec<(String, Vec<Value>)>>,
}

impl Answers {
    /// Those for a rule.
    pub(crate) fn for_rule<'a>(&'a self, rule: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let of_rule = self.of_rules.get(base_name(rule)).into_iter().flatten();
        self.everywhere.iter().chain(of_rule).map(|(name, value)| (name.as_str(), value))
    }

    /// Those for an element of a rule's `foreach`.
    pub(crate) fn for_element<'a>(&'a self, rule: &str, index: usize) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let listed = self.of_elements.get(base_name(rule)).into_iter().flatten();
        listed.filter_map(move |(name, values)| Some((name.as_str(), values.get(index)?)))
    }
}

fn base_name(rule: &str) -> &str {
    rule.strip_prefix("autogen-cronjob-").or_else(|| rule.strip_prefix("autogen-")).unwrap_or(rule)
}

/// The parts of a dotted name; what stands in quotes is one part.
pub(super) fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in name.chars() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            other => parts.iter_mut().last().into_iter().for_each(|part| part.push(other)),
        }
    }
    parts
}

/// Puts a value into a mapping at a place, beside what is there.
pub(super) fn insert(into: &mut Map<String, Value>, place: &[String], value: Value) {
    match place {
        [] => {}
        [key] => {
            into.insert(key.clone(), value);
        }
        [key, rest @ ..] => {
            let inner = into.entry(key.clone()).or_insert_with(|| Value::Object(Map::new()));
            if !inner.is_object() {
                *inner = Value::Object(Map::new());
            }
            if let Value::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}
