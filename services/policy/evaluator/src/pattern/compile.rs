//! Patterns read once: keys in the order they are judged in, scalars taken apart.

use crate::{
    anchor::{self, Kind},
    facts::field,
    scalar::Scalar,
    wildcard,
};
use serde_json::{Map, Value};
use std::sync::Arc;

/// A pattern, read.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Map(MapNode),
    List(ListNode),
    Scalar(Scalar),
}

/// A mapping of a pattern.
#[derive(Debug, Clone, PartialEq)]
pub struct MapNode {
    /// Conditions, existence, equality and negation anchors, in key order.
    pub anchored: Vec<Entry>,
    /// The rest, those with anchors below first.
    pub plain: Vec<Entry>,
    /// Set where keys of labels or annotations hold wildcards: what those ask depends on the document.
    pub wildcards: Option<Wildcards>,
}

/// A mapping whose `metadata` has wildcards among its keys.
#[derive(Debug, Clone, PartialEq)]
pub struct Wildcards {
    /// The mapping as it is written.
    written: Map<String, Value>,
    /// The wildcards, each with the part of `metadata` it stands in.
    keys: Vec<(String, String)>,
}

impl Wildcards {
    fn of(pattern: &Map<String, Value>) -> Option<Self> {
        let mut keys = Vec::new();
        let metadata = pattern.iter().filter(|(key, _)| field_of(key) == "metadata").filter_map(|(_, value)| value.as_object());
        for (part, wanted) in metadata.flatten().filter(|(part, _)| is_keyed_freely(part)) {
            let fields = wanted.as_object().into_iter().flat_map(Map::keys).map(|key| field_of(key));
            let wildcards = fields.filter(|field| wildcard::is_pattern(field));
            keys.extend(wildcards.map(|field| (field_of(part).to_owned(), field.to_owned())));
        }
        (!keys.is_empty()).then(|| Self { written: pattern.clone(), keys })
    }

    /// The mapping with the document's own keys in place of the wildcards that match them; `None` where none does.
    pub fn expanded(&self, metadata: &Map<String, Value>) -> Option<MapNode> {
        let is_there = |(part, pattern): &(String, String)| {
            let entries = field(metadata, part).and_then(Value::as_object);
            entries.is_some_and(|entries| entries.keys().any(|key| wildcard::matches(pattern, key)))
        };
        self.keys.iter().any(is_there).then(|| MapNode::compile(&expand_metadata_wildcards(metadata, &self.written)))
    }
}

/// A key and what is asked below it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// As it is written.
    pub key: String,
    /// What its anchor asks; `None` for a plain key.
    pub kind: Option<Kind>,
    /// The field's name, which the paths of what does not fit share.
    pub field: Arc<str>,
    pub wanted: Wanted,
}

/// What a key asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Wanted {
    /// `*` under a plain key: to be there.
    Presence,
    /// To be as this.
    Like(Node),
    /// Under `^()`: an element like each of these; `None` for what is no mapping.
    Elements(Vec<Option<(Node, Value)>>),
    /// Under `^()`: no list is given.
    NoElements,
}

/// A list of a pattern, by its first element.
#[derive(Debug, Clone, PartialEq)]
pub enum ListNode {
    Empty,
    /// Every element has to be like this.
    Each(Box<Node>),
    /// Element by element.
    Positional(Vec<Node>),
    /// Every element has to be like this, lists in it excepted.
    EachScalar(Scalar),
}

impl Node {
    /// Reads a pattern, whose depth is bounded by whoever holds it.
    pub fn compile(pattern: &Value) -> Self {
        match pattern {
            Value::Object(fields) => Self::Map(MapNode::compile(fields)),
            Value::Array(items) => Self::List(match items.first() {
                None => ListNode::Empty,
                Some(each @ Value::Object(_)) => ListNode::Each(Box::new(Self::compile(each))),
                Some(Value::Array(_)) => ListNode::Positional(items.iter().map(Self::compile).collect()),
                Some(scalar) => ListNode::EachScalar(Scalar::compile(scalar)),
            }),
            scalar => Self::Scalar(Scalar::compile(scalar)),
        }
    }
}

impl MapNode {
    /// Reads a mapping.
    pub fn compile(pattern: &Map<String, Value>) -> Self {
        let (mut anchored, mut plain) = (Vec::new(), Vec::new());
        for (key, value) in pattern {
            let entry = Entry::compile(key, value);
            match entry.kind {
                Some(Kind::Condition | Kind::Existence | Kind::Equality | Kind::Negation) => anchored.push(entry),
                _ => plain.push((is_early(key, value), entry)),
            }
        }
        anchored.sort_by(|a, b| a.key.cmp(&b.key));
        plain.sort_by(|a, b| a.1.key.cmp(&b.1.key));
        // Later of those with anchors first, as Kyverno pushes each to the front of its list.
        let (mut early, late): (Vec<_>, Vec<_>) = plain.into_iter().partition(|(is_early, _)| *is_early);
        early.reverse();
        let plain = early.into_iter().chain(late).map(|(_, entry)| entry).collect();
        Self { anchored, plain, wildcards: Wildcards::of(pattern) }
    }
}

impl Entry {
    fn compile(key: &str, value: &Value) -> Self {
        let parsed = anchor::parse(key).filter(|(kind, _)| *kind != Kind::AddIfAbsent);
        let (kind, field) = parsed.map_or((None, key), |(kind, field)| (Some(kind), field));
        let wanted = match (kind, value) {
            (None, Value::String(text)) if text == "*" => Wanted::Presence,
            (Some(Kind::Existence), Value::Array(items)) => {
                let read = |item: &Value| item.is_object().then(|| (Node::compile(item), item.clone()));
                Wanted::Elements(items.iter().map(read).collect())
            }
            (Some(Kind::Existence), _) => Wanted::NoElements,
            _ => Wanted::Like(Node::compile(value)),
        };
        Self { key: key.to_owned(), kind, field: field.into(), wanted }
    }
}

fn is_early(key: &str, value: &Value) -> bool {
    matches!(anchor::parse(key), Some((Kind::Global, _))) || has_anchors(value)
}

fn has_anchors(pattern: &Value) -> bool {
    match pattern {
        Value::Object(fields) => fields
            .iter()
            .any(|(key, value)| matches!(anchor::parse(key), Some((kind, _)) if kind != Kind::AddIfAbsent) || has_anchors(value)),
        Value::Array(items) => items.iter().any(has_anchors),
        _ => false,
    }
}

/// Replaces wildcard keys under `metadata.labels` and `metadata.annotations` by the document's own keys they match.
///
/// Kyverno takes one match, whichever its map yields first; here every match is taken, so that the verdict does not
/// depend on chance and is the stricter of those Kyverno may give.
fn expand_metadata_wildcards(found: &Map<String, Value>, pattern: &Map<String, Value>) -> Map<String, Value> {
    let mut expanded = pattern.clone();
    for (_, value) in expanded.iter_mut().filter(|(key, _)| field_of(key) == "metadata") {
        let Value::Object(metadata) = value else { continue };
        for (key, value) in metadata.iter_mut().filter(|(key, _)| is_keyed_freely(key)) {
            let (Some(Value::Object(entries)), Value::Object(wanted)) = (found.get(field_of(key)), &*value) else { continue };
            *value = Value::Object(expand_keys(entries, wanted));
        }
    }
    expanded
}

/// The parts of `metadata` whose keys users choose.
fn is_keyed_freely(key: &str) -> bool {
    matches!(field_of(key), "labels" | "annotations")
}

fn expand_keys(entries: &Map<String, Value>, wanted: &Map<String, Value>) -> Map<String, Value> {
    let mut expanded = Map::new();
    for (key, value) in wanted {
        let field = field_of(key);
        let matching: Vec<&String> = if wildcard::is_pattern(field) {
            entries.keys().filter(|entry| wildcard::matches(field, entry)).collect()
        } else {
            Vec::new()
        };
        if matching.is_empty() {
            expanded.insert(key.clone(), value.clone());
        }
        for entry in matching {
            let key = if anchor::parse(key).is_some() { anchor::rename(key, entry) } else { entry.clone() };
            expanded.insert(key, value.clone());
        }
    }
    expanded
}

fn field_of(key: &str) -> &str {
    anchor::parse(key).map_or(key, |(_, field)| field)
}
