//! Sets of field paths, as they stand in `managedFields`: a tree whose edges are the path elements of `FieldsV1`
//! (`f:name`, `k:{"name":"web"}`, `v:"value"`), so that reading and writing the wire form is a walk.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A set of field paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// The path that ends here is in the set.
    pub member: bool,
    /// What follows.
    pub children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// A set of exactly the path that ends here.
    pub fn leaf() -> Self {
        Self { member: true, children: BTreeMap::new() }
    }

    /// True if no path is in it.
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(FieldSet::is_empty)
    }

    /// Puts a child set under a path element; an empty one is left out.
    pub fn put(&mut self, element: String, child: FieldSet) {
        if !child.is_empty() {
            self.children.insert(element, child);
        }
    }

    /// Every path of either.
    pub fn union(&self, other: &FieldSet) -> FieldSet {
        let mut joined = self.clone();
        joined.extend(other);
        joined
    }

    /// Adds every path of `other`.
    pub fn extend(&mut self, other: &FieldSet) {
        self.member |= other.member;
        for (element, child) in &other.children {
            self.children.entry(element.clone()).or_default().extend(child);
        }
    }

    /// The paths of this one that `other` does not have.
    pub fn difference(&self, other: &FieldSet) -> FieldSet {
        let mut rest = FieldSet { member: self.member && !other.member, children: BTreeMap::new() };
        for (element, child) in &self.children {
            let child = other.children.get(element).map_or_else(|| child.clone(), |other| child.difference(other));
            rest.put(element.clone(), child);
        }
        rest
    }

    /// The paths of both.
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        let mut both = FieldSet { member: self.member && other.member, children: BTreeMap::new() };
        for (element, child) in &self.children {
            if let Some(other) = other.children.get(element) {
                both.put(element.clone(), child.intersection(other));
            }
        }
        both
    }

    /// The paths of this one that are in `other` or lie below a path of `other`: what removing those paths takes along.
    pub fn below(&self, other: &FieldSet) -> FieldSet {
        if other.member {
            return self.clone();
        }
        let mut found = FieldSet::default();
        for (element, child) in &self.children {
            if let Some(other) = other.children.get(element) {
                found.put(element.clone(), child.below(other));
            }
        }
        found
    }

    /// Keeps only what lies under these top-level fields, or drops exactly those.
    pub fn without(&self, elements: &[&str]) -> FieldSet {
        let mut rest = self.clone();
        rest.children.retain(|element, _| !elements.contains(&element.as_str()));
        rest
    }

    /// Every path as people read it: `.spec.template.spec.containers[name="web"].image`.
    pub fn paths(&self) -> Vec<String> {
        fn walk(set: &FieldSet, path: &str, found: &mut Vec<String>) {
            if set.member {
                found.push(path.to_owned());
            }
            for (element, child) in &set.children {
                walk(child, &format!("{path}{}", shown(element)), found);
            }
        }
        let mut found = Vec::new();
        walk(self, "", &mut found);
        found
    }

    /// The wire form.
    pub fn to_fields_v1(&self) -> Value {
        let mut fields = Map::new();
        if self.member && !self.children.is_empty() {
            fields.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (element, child) in &self.children {
            fields.insert(element.clone(), child.to_fields_v1());
        }
        Value::Object(fields)
    }

    /// Reads the wire form.
    pub fn from_fields_v1(fields: &Value) -> FieldSet {
        let mut set = FieldSet::default();
        for (element, child) in fields.as_object().into_iter().flatten() {
            if element == "." {
                set.member = true;
                continue;
            }
            let mut inner = FieldSet::from_fields_v1(child);
            if child.as_object().is_none_or(Map::is_empty) {
                inner.member = true;
            }
            set.children.insert(element.clone(), inner);
        }
        set
    }
}

fn shown(element: &str) -> String {
    match element.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("k", key)) => {
            let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
            let pairs: Vec<String> = key.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("[{}]", pairs.join(","))
        }
        Some(("v", value)) => format!("[={value}]"),
        Some((_, index)) => format!("[{index}]"),
        None => element.to_owned(),
    }
}
