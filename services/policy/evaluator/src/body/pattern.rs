//! `validate.pattern` and `validate.anyPattern`.

use super::BodyKind;
use crate::{
    evaluate::{Details, Outcome},
    expression::NoValue,
    field::{Field, PolicyError},
    jmespath::JmesError,
    path::Path,
    pattern::{self, Node, Verdict},
    policy::MAX_WILDCARD_CHARS,
    rule::Rule,
    variables::{Context, Template, with_references},
};
use serde_json::Value;
use std::borrow::Cow;

/// A whole string of a pattern, alternatives included.
const MAX_PATTERN_TEXT: usize = 64 * 1024;
/// Nesting of a pattern; Kubernetes' own documents stay below 30.
const MAX_PATTERN_DEPTH: usize = 64;

/// Patterns as they are written, and with their variables to be put in.
#[derive(Debug, Clone, PartialEq)]
pub struct Patterns {
    written: Vec<Value>,
    /// Empty where there are variables.
    compiled: Vec<Node>,
    /// Empty where there are no variables.
    templates: Vec<Template>,
}

impl Patterns {
    /// Reads one pattern or several. The inner error is the reason why something in it can't be read.
    pub fn parse(field: &Field<'_>, kind: BodyKind) -> Result<Result<Self, String>, PolicyError> {
        let written: Vec<Value> = if kind == BodyKind::AnyPattern {
            field.list()?.iter().filter_map(Field::value).cloned().collect()
        } else {
            field.value().into_iter().cloned().collect()
        };
        let mut has_variables = false;
        for pattern in &written {
            has_variables |= inspect(pattern, 0).map_err(|message| field.error(message))?;
        }
        if !has_variables {
            let compiled = written.iter().map(Node::compile).collect();
            return Ok(Ok(Self { written, compiled, templates: Vec::new() }));
        }
        let compile = |pattern| Template::compile(&with_references(pattern)?).map_err(|error| error.to_string());
        let templates: Result<Vec<Template>, String> = written.iter().map(compile).collect();
        Ok(templates.map(|templates| Self { written, compiled: Vec::new(), templates }))
    }

    /// The patterns as they are written.
    pub fn written(&self) -> &[Value] {
        &self.written
    }

    /// Whether the object fits one of them, as far as that can be said without variables.
    pub fn fit_as_written(&self, object: &Value) -> bool {
        self.compiled.iter().any(|pattern| pattern::fits(object, pattern))
    }

    /// What the first of them says, in one walk, as far as that can be said without variables and details.
    pub fn said_as_written(&self, rule: &Rule, object: &Value) -> Option<Outcome> {
        match pattern::match_document(object, self.compiled.first()?, Details::Untold) {
            Verdict::Pass => Some(Outcome::Pass),
            Verdict::Fail { path, detail } => {
                let mut message = worded(rule.message.fixed()?, &["rule ", &rule.name, " failed at path "]);
                path.write_slashed(&mut message);
                Some(Outcome::Fail { path, message, detail })
            }
            Verdict::Skip { detail } => Some(Outcome::Skip { reason: detail }),
            Verdict::Error { .. } => None,
        }
    }

    /// The patterns with everything put in.
    fn resolve(&self, context: &mut Context<'_>) -> Result<Cow<'_, [Node]>, JmesError> {
        if self.templates.is_empty() {
            return Ok(Cow::Borrowed(&self.compiled));
        }
        let mut resolved = Vec::with_capacity(self.templates.len());
        for template in &self.templates {
            let pattern = template.resolve(context)?;
            inspect(&pattern, 0).map_err(JmesError::failed)?;
            resolved.push(Node::compile(&pattern));
        }
        Ok(Cow::Owned(resolved))
    }
}

/// Checks a pattern's bounds and says whether it has `{{ variables }}` or `$( references )`.
fn inspect(pattern: &Value, depth: usize) -> Result<bool, String> {
    if depth > MAX_PATTERN_DEPTH {
        return Err(format!("is nested deeper than {MAX_PATTERN_DEPTH} levels"));
    }
    let check_text = |text: &str| {
        let too_long = text.len() > MAX_PATTERN_TEXT
            || text.split(['|', '&']).any(|part| part.len() > MAX_WILDCARD_CHARS && crate::wildcard::is_pattern(part));
        if too_long {
            return Err(format!("a wildcard in it is longer than {MAX_WILDCARD_CHARS} characters"));
        }
        Ok(text.contains("{{") || text.contains("$("))
    };
    let mut has_variables = false;
    match pattern {
        Value::String(text) => has_variables = check_text(text)?,
        Value::Array(items) => {
            for item in items {
                has_variables |= inspect(item, depth + 1)?;
            }
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                has_variables |= check_text(key)? | inspect(value, depth + 1)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(has_variables)
}

pub fn one_pattern(rule: &Rule, context: &mut Context<'_>, object: &Value, patterns: &Patterns) -> Outcome {
    let name = &rule.name;
    let resolved = match patterns.resolve(context) {
        Ok(resolved) => resolved,
        Err(error) => return unresolved(error),
    };
    let Some(pattern) = resolved.first() else { return Outcome::Pass };
    match pattern::match_document(object, pattern, context.request().details) {
        Verdict::Pass => Outcome::Pass,
        Verdict::Skip { detail } => Outcome::Skip { reason: detail },
        Verdict::Error { detail } => {
            Outcome::Error { message: message(rule, context, &format!("rule {name} execution error: {detail}")) }
        }
        Verdict::Fail { path, detail } => {
            let message = message(rule, context, &format!("rule {name} failed at path {}", path.slashed()));
            Outcome::Fail { path, message, detail }
        }
    }
}

fn unresolved(error: JmesError) -> Outcome {
    match error {
        error @ JmesError::NoValue(NoValue::NotGiven(_)) => error.into(),
        error => Outcome::Error { message: format!("variable substitution failed: {error}") },
    }
}

pub fn any_pattern(rule: &Rule, context: &mut Context<'_>, object: &Value, patterns: &Patterns) -> Outcome {
    let name = &rule.name;
    let resolved = match patterns.resolve(context) {
        Ok(resolved) => resolved,
        Err(error) => return unresolved(error),
    };
    let (mut skips, mut failures, mut details) = (Vec::new(), Vec::new(), Vec::new());
    let mut place: Option<Path> = None;
    for (index, pattern) in resolved.iter().enumerate() {
        match pattern::match_document(object, pattern, context.request().details) {
            Verdict::Pass => return Outcome::Pass,
            Verdict::Skip { detail } => skips.push(format!("rule {name}[{index}] skipped: {detail}")),
            Verdict::Error { detail } => {
                failures.push(format!("rule {name}[{index}] failed: {detail}"));
                details.push(detail);
            }
            Verdict::Fail { path, detail } => {
                failures.push(format!("rule {name}[{index}] failed at path {}", path.slashed()));
                place.get_or_insert(path);
                details.push(detail);
            }
        }
    }
    if failures.is_empty() {
        // Without patterns there is nothing to break, which Kyverno lets pass.
        return if skips.is_empty() { Outcome::Pass } else { Outcome::Skip { reason: skips.join(" ") } };
    }
    let message = message(rule, context, &failures.join(" "));
    Outcome::Fail { path: place.unwrap_or_default(), message, detail: details.join("; or ") }
}

/// `validation error: MESSAGE. WHAT`, as Kyverno words it.
fn message(rule: &Rule, context: &mut Context<'_>, what: &str) -> String {
    let Ok(text) = rule.message.resolve(context) else {
        return format!("validation error: variables substitution error in {what}");
    };
    worded(&text, &[what])
}

/// A policy's message and what failed; there is room for a path behind it.
fn worded(text: &str, what: &[&str]) -> String {
    /// Room for most paths.
    const ROOM: usize = 96;
    let text = text.trim_end();
    let end = match text.as_bytes().last() {
        None => "",
        Some(b'.') => " ",
        Some(_) => ". ",
    };
    let mut message = String::with_capacity("validation error: ".len() + text.len() + ROOM);
    for part in ["validation error: ", text, end].iter().chain(what) {
        message.push_str(part);
    }
    message
}
