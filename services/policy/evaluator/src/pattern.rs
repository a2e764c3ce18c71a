//! A `validate.pattern` against a document: anchors, lists, maps, scalars.
//!
//! A map is judged in two phases. First its anchored keys in key order: a condition that is not met skips the map.
//! Then the rest, keys with anchors below them first, so that a condition deep down can still skip before a plain
//! field fails. The pattern's depth bounds the recursion (`policy::MAX_PATTERN_DEPTH`).

use crate::{
    anchor::{self, Kind},
    path::Path,
    scalar, wildcard,
};
use serde_json::{Map, Value};
use std::{borrow::Cow, collections::BTreeMap};

/// What a pattern says of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It fits.
    Pass,
    /// A field at this place does not fit.
    Fail {
        /// Where.
        path: Path,
        /// What was found and what was wanted.
        detail: String,
    },
    /// A conditional or global anchor is not met: the pattern does not apply.
    Skip {
        /// Which condition.
        detail: String,
    },
    /// It does not fit, and an anchor of the pattern was never found: Kyverno answers *error*, not *fail*.
    Error {
        /// What did not fit.
        detail: String,
    },
}

/// Why a part of the document does not fit.
enum Mismatch {
    /// A condition on this very level is not met.
    Condition(String),
    /// Everything below was skipped.
    AllSkipped(String),
    /// A key that must be absent is there.
    Forbidden { path: Path, detail: String },
    /// A value does not fit. Without a path Kyverno answers *error*.
    Value { path: Option<Path>, detail: String },
}

impl Mismatch {
    fn value(path: &Path, detail: impl Into<String>) -> Self {
        Self::Value { path: Some(path.clone()), detail: detail.into() }
    }

    fn is_skip(&self) -> bool {
        matches!(self, Self::Condition(_) | Self::AllSkipped(_))
    }

    fn into_detail(self) -> String {
        match self {
            Self::Condition(detail) | Self::AllSkipped(detail) | Self::Forbidden { detail, .. } | Self::Value { detail, .. } => {
                detail
            }
        }
    }
}

/// Matches a whole document.
pub fn match_document(document: &Value, pattern: &Value) -> Verdict {
    let mut walk = Walk { anchors_found: BTreeMap::new() };
    match walk.element(document, pattern, &Path::root()) {
        Ok(()) => Verdict::Pass,
        Err(mismatch) if mismatch.is_skip() => Verdict::Skip { detail: mismatch.into_detail() },
        Err(Mismatch::Forbidden { path, detail }) => Verdict::Fail { path, detail },
        Err(Mismatch::Value { path: Some(path), detail }) if walk.anchors_found.values().all(|&found| found) => {
            Verdict::Fail { path, detail }
        }
        Err(mismatch) => Verdict::Error { detail: mismatch.into_detail() },
    }
}

struct Walk {
    /// Condition, existence and negation anchors met on the way, and whether their key was ever in the document.
    anchors_found: BTreeMap<String, bool>,
}

type Outcome = Result<(), Mismatch>;

impl Walk {
    fn element(&mut self, value: &Value, pattern: &Value, path: &Path) -> Outcome {
        match pattern {
            Value::Object(pattern) => {
                let Value::Object(fields) = value else {
                    return Err(Mismatch::value(path, format!("{path} is {}, a mapping is expected", name_of(value))));
                };
                self.note_anchors(fields, pattern);
                self.map(fields, pattern, path)
            }
            Value::Array(pattern) => {
                let Value::Array(items) = value else {
                    return Err(Mismatch::value(path, format!("{path} is {}, a list is expected", name_of(value))));
                };
                self.list(items, pattern, path)
            }
            scalar => {
                let fits = match value {
                    Value::Array(items) => items.iter().all(|item| scalar::matches(item, scalar)),
                    single => scalar::matches(single, scalar),
                };
                if fits { Ok(()) } else { Err(Mismatch::value(path, format!("{path} is {}, expected {scalar}", shown(value)))) }
            }
        }
    }

    fn note_anchors(&mut self, fields: &Map<String, Value>, pattern: &Map<String, Value>) {
        for key in pattern.keys() {
            if let Some((Kind::Condition | Kind::Existence | Kind::Negation, field)) = anchor::parse(key) {
                let found = self.anchors_found.entry(key.clone()).or_insert(false);
                *found |= fields.contains_key(field);
            }
        }
    }

    fn map(&mut self, fields: &Map<String, Value>, pattern: &Map<String, Value>, path: &Path) -> Outcome {
        let pattern = expand_metadata_wildcards(fields, pattern);
        let mut anchored = Vec::new();
        let mut plain = Vec::new();
        for (key, value) in pattern.iter() {
            match anchor::parse(key) {
                Some((Kind::Condition | Kind::Existence | Kind::Equality | Kind::Negation, _)) => anchored.push((key, value)),
                _ => plain.push((key, value)),
            }
        }
        anchored.sort_by(|a, b| a.0.cmp(b.0));
        self.anchored_keys(fields, &anchored, path)?;
        plain.sort_by(|a, b| a.0.cmp(b.0));
        // Later of those with anchors first, as Kyverno pushes each to the front of its list.
        let is_early = |key: &str, value: &Value| matches!(anchor::parse(key), Some((Kind::Global, _))) || has_anchors(value);
        let early = plain.iter().rev().filter(|(key, value)| is_early(key, value));
        let late = plain.iter().filter(|(key, value)| !is_early(key, value));
        for (key, value) in early.chain(late) {
            self.key(fields, key, value, path)?;
        }
        Ok(())
    }

    fn anchored_keys(&mut self, fields: &Map<String, Value>, keys: &[(&String, &Value)], path: &Path) -> Outcome {
        let mut skipped: Vec<String> = Vec::new();
        let mut condition_unmet = false;
        let mut applied = 0_usize;
        for (key, value) in keys {
            match self.key(fields, key, value, path) {
                Ok(()) => applied += 1,
                Err(mismatch) if mismatch.is_skip() => {
                    condition_unmet |= matches!(mismatch, Mismatch::Condition(_));
                    skipped.push(mismatch.into_detail());
                }
                // A condition beside it is not met, so nothing of this map counts.
                Err(_) if condition_unmet => {}
                Err(mismatch) => return Err(mismatch),
            }
        }
        if !skipped.is_empty() && (applied == 0 || condition_unmet) {
            return Err(Mismatch::AllSkipped(skipped.join("; ")));
        }
        Ok(())
    }

    fn key(&mut self, fields: &Map<String, Value>, key: &str, pattern: &Value, path: &Path) -> Outcome {
        let Some((kind, field)) = anchor::parse(key).filter(|(kind, _)| *kind != Kind::AddIfAbsent) else {
            let path = path.key(key);
            let value = fields.get(key).unwrap_or(&Value::Null);
            return match (pattern.as_str() == Some("*"), value.is_null()) {
                (true, false) => Ok(()),
                (true, true) => Err(Mismatch::value(&path, format!("{path} is missing"))),
                (false, _) => self.element(value, pattern, &path),
            };
        };
        let path = path.key(field);
        let Some(value) = fields.get(field) else {
            return match kind {
                Kind::Condition => Err(Mismatch::Condition(format!("the condition on {path} is not met: it is missing"))),
                _ => Ok(()),
            };
        };
        match kind {
            Kind::Negation => {
                let detail = format!("{path} is not allowed");
                Err(Mismatch::Forbidden { path, detail })
            }
            Kind::Existence => self.some_element_each(value, pattern, &path),
            Kind::Condition | Kind::Global => self.element(value, pattern, &path).map_err(|mismatch| {
                Mismatch::Condition(format!("the condition on {path} is not met: {}", mismatch.into_detail()))
            }),
            Kind::Equality | Kind::AddIfAbsent => self.element(value, pattern, &path),
        }
    }

    fn some_element_each(&mut self, value: &Value, pattern: &Value, path: &Path) -> Outcome {
        let Value::Array(items) = value else {
            return Err(Mismatch::value(path, format!("{path} is {}, ^() is for lists", name_of(value))));
        };
        let Value::Array(wanted) = pattern else {
            return Err(Mismatch::value(path, format!("the pattern of ^() at {path} is no list")));
        };
        for pattern in wanted {
            if !pattern.is_object() {
                return Err(Mismatch::value(path, format!("the pattern of ^() at {path} is no list of mappings")));
            }
            let found = items.iter().enumerate().any(|(index, item)| self.element(item, pattern, &path.index(index)).is_ok());
            if !found {
                return Err(Mismatch::value(path, format!("no element of {path} fits {}", shown(pattern))));
            }
        }
        Ok(())
    }

    fn list(&mut self, items: &[Value], pattern: &[Value], path: &Path) -> Outcome {
        let pairs: Vec<(usize, &Value, &Value)> = match pattern.first() {
            None => return Err(Mismatch::value(path, format!("the pattern at {path} is an empty list"))),
            Some(each @ Value::Object(_)) => items.iter().enumerate().map(|(index, item)| (index, item, each)).collect(),
            Some(Value::Array(_)) if items.len() < pattern.len() => {
                let detail = format!("{path} has {} elements, at least {} are expected", items.len(), pattern.len());
                return Err(Mismatch::Value { path: None, detail });
            }
            Some(Value::Array(_)) => {
                items.iter().zip(pattern).enumerate().map(|(index, (item, wanted))| (index, item, wanted)).collect()
            }
            Some(scalar) => {
                let wrong = items.iter().position(|item| !scalar::matches(item, scalar));
                return wrong.map_or(Ok(()), |index| {
                    let path = path.index(index);
                    let detail = format!("{path} is {}, expected {scalar}", shown(&items[index]));
                    Err(Mismatch::value(&path, detail))
                });
            }
        };
        let mut skipped = Vec::new();
        let mut applied = 0_usize;
        for (index, item, wanted) in pairs {
            match self.element(item, wanted, &path.index(index)) {
                Ok(()) => applied += 1,
                Err(mismatch) if mismatch.is_skip() => skipped.push(mismatch.into_detail()),
                Err(mismatch) => return Err(mismatch),
            }
        }
        if applied == 0 && !skipped.is_empty() {
            return Err(Mismatch::AllSkipped(skipped.join("; ")));
        }
        Ok(())
    }
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
fn expand_metadata_wildcards<'a>(fields: &Map<String, Value>, pattern: &'a Map<String, Value>) -> Cow<'a, Map<String, Value>> {
    let Some(Value::Object(found)) = fields.get("metadata") else { return Cow::Borrowed(pattern) };
    if !pattern.iter().any(|(key, value)| field_of(key) == "metadata" && value.as_object().is_some_and(has_wildcard_keys)) {
        return Cow::Borrowed(pattern);
    }
    let mut expanded = pattern.clone();
    for (_, value) in expanded.iter_mut().filter(|(key, _)| field_of(key) == "metadata") {
        let Value::Object(metadata) = value else { continue };
        for (key, value) in metadata.iter_mut().filter(|(key, _)| is_keyed_freely(key)) {
            let (Some(Value::Object(entries)), Value::Object(wanted)) = (found.get(field_of(key)), &*value) else { continue };
            *value = Value::Object(expand_keys(entries, wanted));
        }
    }
    Cow::Owned(expanded)
}

/// The parts of `metadata` whose keys users choose.
fn is_keyed_freely(key: &str) -> bool {
    matches!(field_of(key), "labels" | "annotations")
}

fn has_wildcard_keys(metadata: &Map<String, Value>) -> bool {
    let parts = metadata.iter().filter(|(key, _)| is_keyed_freely(key)).filter_map(|(_, value)| value.as_object());
    parts.flat_map(Map::keys).any(|key| wildcard::is_pattern(field_of(key)))
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

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "missing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// A value in a message, cut so that a message stays readable.
fn shown(value: &Value) -> String {
    const MAX_CHARS: usize = 120;
    if value.is_null() {
        return "missing".to_owned();
    }
    let text = value.to_string();
    if text.chars().count() <= MAX_CHARS {
        return text;
    }
    text.chars().take(MAX_CHARS).chain("…".chars()).collect()
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod tests;
