//! `validate.pattern` and `validate.anyPattern`.

use super::{Body, BodyKind};
use crate::{
    evaluate::Outcome,
    field::{Field, PolicyError},
    path::Path,
    pattern::{self, Verdict},
    policy::MAX_WILDCARD_CHARS,
    rule::Rule,
};
use serde_json::Value;

/// A whole string of a pattern, alternatives included.
const MAX_PATTERN_TEXT: usize = 64 * 1024;
/// Nesting of a pattern; Kubernetes' own documents stay below 30.
const MAX_PATTERN_DEPTH: usize = 64;

pub fn parse(rule: &Field<'_>, kind: BodyKind, field: &Field<'_>) -> Result<(BodyKind, Body), PolicyError> {
    let mut has_variables = false;
    let body = if kind == BodyKind::Pattern {
        let pattern = field.value().cloned().unwrap_or_default();
        inspect(&pattern, 0, field, &mut has_variables)?;
        Body::Pattern(pattern)
    } else {
        let list = field.list()?;
        let patterns: Vec<Value> = list.iter().filter_map(Field::value).cloned().collect();
        patterns.iter().try_for_each(|pattern| inspect(pattern, 0, field, &mut has_variables))?;
        Body::AnyPattern(patterns)
    };
    if let Some(reason) = super::unsupported(rule, &["preconditions", "celPreconditions", "context"]) {
        return Ok((kind, Body::Unknown(reason)));
    }
    if has_variables {
        return Ok((kind, Body::Unknown("the pattern has variables, which are not evaluated yet".to_owned())));
    }
    Ok((kind, body))
}

/// Checks a pattern's bounds and looks for `{{ variables }}` and `$( references )`.
fn inspect(pattern: &Value, depth: usize, field: &Field<'_>, has_variables: &mut bool) -> Result<(), PolicyError> {
    if depth > MAX_PATTERN_DEPTH {
        return Err(field.error(format!("is nested deeper than {MAX_PATTERN_DEPTH} levels")));
    }
    let mut check_text = |text: &str| {
        *has_variables |= text.contains("{{") || text.contains("$(");
        let too_long = text.len() > MAX_PATTERN_TEXT
            || text.split(['|', '&']).any(|part| part.len() > MAX_WILDCARD_CHARS && crate::wildcard::is_pattern(part));
        if too_long {
            return Err(field.error(format!("a wildcard in it is longer than {MAX_WILDCARD_CHARS} characters")));
        }
        Ok(())
    };
    match pattern {
        Value::String(text) => check_text(text),
        Value::Array(items) => items.iter().try_for_each(|item| inspect(item, depth + 1, field, has_variables)),
        Value::Object(fields) => {
            fields.keys().try_for_each(|key| check_text(key))?;
            fields.values().try_for_each(|value| inspect(value, depth + 1, field, has_variables))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

pub fn one_pattern(rule: &Rule, object: &Value, pattern: &Value) -> Outcome {
    let name = &rule.name;
    match pattern::match_document(object, pattern) {
        Verdict::Pass => Outcome::Pass,
        Verdict::Skip { detail } => Outcome::Skip { reason: detail },
        Verdict::Error { detail } => Outcome::Error { message: message(rule, &format!("rule {name} execution error: {detail}")) },
        Verdict::Fail { path, detail } => {
            let message = message(rule, &format!("rule {name} failed at path {}", path.slashed()));
            Outcome::Fail { path, message, detail }
        }
    }
}

pub fn any_pattern(rule: &Rule, object: &Value, patterns: &[Value]) -> Outcome {
    let name = &rule.name;
    let (mut skips, mut failures, mut details) = (Vec::new(), Vec::new(), Vec::new());
    let mut place: Option<Path> = None;
    for (index, pattern) in patterns.iter().enumerate() {
        match pattern::match_document(object, pattern) {
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
    let message = message(rule, &failures.join(" "));
    Outcome::Fail { path: place.unwrap_or_default(), message, detail: details.join("; or ") }
}

/// `validation error: MESSAGE. WHAT`, as Kyverno words it. Variables in the message are left as they stand.
fn message(rule: &Rule, what: &str) -> String {
    match rule.message.trim_end() {
        "" => format!("validation error: {what}"),
        text if text.ends_with('.') => format!("validation error: {text} {what}"),
        text => format!("validation error: {text}. {what}"),
    }
}
