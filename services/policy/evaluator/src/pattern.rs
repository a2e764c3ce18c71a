//! A `validate.pattern` against a document: anchors, lists, maps, scalars.
//!
//! A map is judged in two phases. First its anchored keys in key order: a condition that is not met skips the map.
//! Then the rest, keys with anchors below them first, so that a condition deep down can still skip before a plain
//! field fails. The pattern's depth bounds the recursion (`body::pattern`).

mod compile;

pub use compile::Node;

use crate::{
    anchor::Kind,
    evaluate::Details,
    facts::field,
    path::{Path, Step},
};
use compile::{Entry, ListNode, MapNode, Wanted};
use serde_json::{Map, Value};
use std::{borrow::Cow, sync::Arc};

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

/// Where the walk is; made a path only where something does not fit.
#[derive(Clone, Copy)]
enum Place<'p> {
    Root,
    Key(&'p Place<'p>, &'p Arc<str>),
    Index(&'p Place<'p>, usize),
}

impl Place<'_> {
    fn path(&self) -> Path {
        let mut steps = Vec::with_capacity(self.depth());
        let mut place = self;
        loop {
            place = match place {
                Self::Root => break,
                Self::Key(outer, key) => {
                    steps.push(Step::Key(Arc::clone(key)));
                    outer
                }
                Self::Index(outer, index) => {
                    steps.push(Step::Index(*index));
                    outer
                }
            };
        }
        steps.reverse();
        Path::from(steps)
    }

    fn depth(&self) -> usize {
        let (mut depth, mut place) = (0, self);
        while let Self::Key(outer, _) | Self::Index(outer, _) = place {
            depth += 1;
            place = outer;
        }
        depth
    }
}

/// Whether a whole document fits. Nobody hears why it does not, so nothing is made to say it.
pub fn fits(document: &Value, pattern: &Node) -> bool {
    let mut walk = Walk { anchors_found: Vec::new(), words: Words::Unsaid };
    walk.element(document, pattern, &Place::Root).is_ok()
}

/// Matches a whole document. What does not fit has a path; its detail is empty where none is wanted.
pub fn match_document(document: &Value, pattern: &Node, details: Details) -> Verdict {
    let words = match details {
        Details::Told => Words::Said,
        Details::Untold => Words::Placed,
    };
    let mut walk = Walk { anchors_found: Vec::new(), words };
    match (walk.element(document, pattern, &Place::Root), words) {
        (Ok(()), _) => Verdict::Pass,
        (Err(Mismatch::Forbidden { path, detail }), _) => Verdict::Fail { path, detail },
        (Err(Mismatch::Value { path: Some(path), detail }), _) if walk.anchors_found.iter().all(|(_, found)| *found) => {
            Verdict::Fail { path, detail }
        }
        // Skips and errors are rare, and consist of what is said of them.
        (Err(_), Words::Placed | Words::Unsaid) => match_document(document, pattern, Details::Told),
        (Err(mismatch), Words::Said) if mismatch.is_skip() => Verdict::Skip { detail: mismatch.into_detail() },
        (Err(mismatch), Words::Said) => Verdict::Error { detail: mismatch.into_detail() },
    }
}

struct Walk<'p> {
    /// Condition, existence and negation anchors met on the way, and whether their key was ever in the document.
    anchors_found: Vec<(Cow<'p, str>, bool)>,
    words: Words,
}

/// Whether places and details are put into words.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Words {
    Said,
    /// Where something does not fit, and no more.
    Placed,
    Unsaid,
}

type Outcome = Result<(), Mismatch>;

impl<'p> Walk<'p> {
    fn mismatch(&self, place: &Place<'_>, detail: impl FnOnce(&Path) -> String) -> Mismatch {
        match self.words {
            Words::Said => {
                let path = place.path();
                Mismatch::Value { detail: detail(&path), path: Some(path) }
            }
            Words::Placed => Mismatch::Value { detail: String::new(), path: Some(place.path()) },
            Words::Unsaid => Mismatch::Value { path: None, detail: String::new() },
        }
    }

    fn said(&self, detail: impl FnOnce() -> String) -> String {
        match self.words {
            Words::Said => detail(),
            Words::Placed | Words::Unsaid => String::new(),
        }
    }

    fn element(&mut self, value: &Value, pattern: &'p Node, place: &Place<'_>) -> Outcome {
        match pattern {
            Node::Map(pattern) => {
                let Value::Object(fields) = value else {
                    return Err(self.mismatch(place, |path| format!("{path} is {}, a mapping is expected", name_of(value))));
                };
                self.note_anchors(fields, pattern);
                let metadata = || field(fields, "metadata").and_then(Value::as_object);
                let expanded = pattern.wildcards.as_ref().and_then(|wildcards| wildcards.expanded(metadata()?));
                let Some(expanded) = expanded else { return self.map(fields, pattern, place) };
                let mut inner = Walk { anchors_found: Vec::new(), words: self.words };
                let outcome = inner.map(fields, &expanded, place);
                for (key, is_there) in inner.anchors_found {
                    self.note(Cow::Owned(key.into_owned()), is_there);
                }
                outcome
            }
            Node::List(pattern) => {
                let Value::Array(items) = value else {
                    return Err(self.mismatch(place, |path| format!("{path} is {}, a list is expected", name_of(value))));
                };
                self.list(items, pattern, place)
            }
            Node::Scalar(scalar) => {
                let fits = match value {
                    Value::Array(items) => items.iter().all(|item| scalar.matches(item)),
                    single => scalar.matches(single),
                };
                if fits {
                    return Ok(());
                }
                Err(self.mismatch(place, |path| format!("{path} is {}, expected {}", shown(value), scalar.written())))
            }
        }
    }

    /// Only a failure asks which anchors were found.
    fn note_anchors(&mut self, fields: &Map<String, Value>, pattern: &'p MapNode) {
        if self.words == Words::Unsaid {
            return;
        }
        for entry in &pattern.anchored {
            if entry.kind != Some(Kind::Equality) {
                self.note(Cow::Borrowed(&entry.key), field(fields, &entry.field).is_some());
            }
        }
    }

    fn note(&mut self, anchor: Cow<'p, str>, is_there: bool) {
        match self.anchors_found.iter_mut().find(|(key, _)| *key == anchor) {
            Some((_, found)) => *found |= is_there,
            None => self.anchors_found.push((anchor, is_there)),
        }
    }

    fn map(&mut self, fields: &Map<String, Value>, pattern: &'p MapNode, place: &Place<'_>) -> Outcome {
        self.anchored_keys(fields, &pattern.anchored, place)?;
        pattern.plain.iter().try_for_each(|entry| self.key(fields, entry, place))
    }

    fn anchored_keys(&mut self, fields: &Map<String, Value>, entries: &'p [Entry], place: &Place<'_>) -> Outcome {
        let mut skipped = Skipped::default();
        let mut condition_unmet = false;
        let mut applied = 0_usize;
        for entry in entries {
            match self.key(fields, entry, place) {
                Ok(()) => applied += 1,
                Err(mismatch) if mismatch.is_skip() => {
                    condition_unmet |= matches!(mismatch, Mismatch::Condition(_));
                    skipped.add(mismatch);
                }
                // A condition beside it is not met, so nothing of this map counts.
                Err(_) if condition_unmet => {}
                Err(mismatch) => return Err(mismatch),
            }
        }
        if skipped.count > 0 && (applied == 0 || condition_unmet) {
            return Err(Mismatch::AllSkipped(skipped.details));
        }
        Ok(())
    }

    fn key(&mut self, fields: &Map<String, Value>, entry: &'p Entry, place: &Place<'_>) -> Outcome {
        let place = &Place::Key(place, &entry.field);
        let found = field(fields, &entry.field);
        let Some(kind) = entry.kind else {
            let value = found.unwrap_or(&Value::Null);
            return match &entry.wanted {
                Wanted::Presence if !value.is_null() => Ok(()),
                Wanted::Presence => Err(self.mismatch(place, |path| format!("{path} is missing"))),
                wanted => self.wanted(value, wanted, place),
            };
        };
        let Some(value) = found else {
            return match kind {
                Kind::Condition => {
                    Err(Mismatch::Condition(self.said(|| format!("the condition on {} is not met: it is missing", place.path()))))
                }
                _ => Ok(()),
            };
        };
        match kind {
            Kind::Negation => {
                if self.words == Words::Unsaid {
                    return Err(Mismatch::Forbidden { path: Path::root(), detail: String::new() });
                }
                let path = place.path();
                Err(Mismatch::Forbidden { detail: self.said(|| format!("{path} is not allowed")), path })
            }
            Kind::Condition | Kind::Global => self.wanted(value, &entry.wanted, place).map_err(|mismatch| {
                let detail = || format!("the condition on {} is not met: {}", place.path(), mismatch.into_detail());
                Mismatch::Condition(self.said(detail))
            }),
            Kind::Existence | Kind::Equality | Kind::AddIfAbsent => self.wanted(value, &entry.wanted, place),
        }
    }

    fn wanted(&mut self, value: &Value, wanted: &'p Wanted, place: &Place<'_>) -> Outcome {
        match wanted {
            Wanted::Presence => Ok(()),
            Wanted::Like(node) => self.element(value, node, place),
            Wanted::Elements(elements) => self.some_element_each(value, Some(elements), place),
            Wanted::NoElements => self.some_element_each(value, None, place),
        }
    }

    fn some_element_each(&mut self, value: &Value, wanted: Option<&'p Vec<Option<(Node, Value)>>>, place: &Place<'_>) -> Outcome {
        let Value::Array(items) = value else {
            return Err(self.mismatch(place, |path| format!("{path} is {}, ^() is for lists", name_of(value))));
        };
        let Some(wanted) = wanted else {
            return Err(self.mismatch(place, |path| format!("the pattern of ^() at {path} is no list")));
        };
        for element in wanted {
            let Some((pattern, written)) = element else {
                return Err(self.mismatch(place, |path| format!("the pattern of ^() at {path} is no list of mappings")));
            };
            let mut items = items.iter().enumerate();
            if !items.any(|(index, item)| self.element(item, pattern, &Place::Index(place, index)).is_ok()) {
                return Err(self.mismatch(place, |path| format!("no element of {path} fits {}", shown(written))));
            }
        }
        Ok(())
    }

    fn list(&mut self, items: &[Value], pattern: &'p ListNode, place: &Place<'_>) -> Outcome {
        match pattern {
            ListNode::Empty => Err(self.mismatch(place, |path| format!("the pattern at {path} is an empty list"))),
            ListNode::Each(each) => self.elements(items.iter().map(|item| (item, &**each)), place),
            ListNode::Positional(wanted) if items.len() < wanted.len() => {
                let (path, found, least) = (place.path(), items.len(), wanted.len());
                let detail = format!("{path} has {found} elements, at least {least} are expected");
                Err(Mismatch::Value { path: None, detail })
            }
            ListNode::Positional(wanted) => self.elements(items.iter().zip(wanted), place),
            ListNode::EachScalar(scalar) => match items.iter().position(|item| !scalar.matches(item)) {
                None => Ok(()),
                Some(index) => Err(self.mismatch(&Place::Index(place, index), |path| {
                    format!("{path} is {}, expected {}", shown(&items[index]), scalar.written())
                })),
            },
        }
    }

    fn elements<'v>(&mut self, pairs: impl Iterator<Item = (&'v Value, &'p Node)>, place: &Place<'_>) -> Outcome {
        let mut skipped = Skipped::default();
        let mut applied = 0_usize;
        for (index, (item, wanted)) in pairs.enumerate() {
            match self.element(item, wanted, &Place::Index(place, index)) {
                Ok(()) => applied += 1,
                Err(mismatch) if mismatch.is_skip() => skipped.add(mismatch),
                Err(mismatch) => return Err(mismatch),
            }
        }
        if applied == 0 && skipped.count > 0 {
            return Err(Mismatch::AllSkipped(skipped.details));
        }
        Ok(())
    }
}

/// Parts of a document that a pattern does not apply to.
#[derive(Default)]
struct Skipped {
    count: usize,
    details: String,
}

impl Skipped {
    fn add(&mut self, mismatch: Mismatch) {
        let detail = mismatch.into_detail();
        if self.count > 0 && !detail.is_empty() {
            self.details.push_str("; ");
        }
        self.details.push_str(&detail);
        self.count += 1;
    }
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
