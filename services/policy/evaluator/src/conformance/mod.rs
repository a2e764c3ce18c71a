//! Kyverno's own test suites (`kyverno-test.yaml`) against this evaluator.
//!
//! Kyverno's CLI counts a rule that answers nothing as passed; here a row passes only on an answer equal to the one
//! expected. A wrong verdict is *failed* and never *not evaluated*. [`run_suite`] gets a function that reads a path relative
//! to the suite; [`find_suites`] and [`run_suites`] do it with folders.

mod documents;
mod folder;
mod summary;

pub use folder::{FolderError, SuiteRun, find_suites, manifests_below, run_suites};
pub use summary::{Summary, Tally};

use crate::{BodyKind, Operation, Outcome, Policy, Request};
use documents::{Entry, Loaded, PolicyDocument, Suite};
use jiff::Timestamp;
use serde_json::Value;

/// How a row ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowVerdict {
    /// Every answer is the expected one, and there is at least one.
    Passed,
    /// An answer differs, or there is none.
    Failed(String),
    /// The rule cannot be judged by this crate.
    NotEvaluated(String),
    /// Nothing can answer, in Kyverno neither: the suite names a rule its policy does not have, or expects *skip* of
    /// one that is not about the resource.
    LeftOut(String),
}

/// One expectation: an entry of a suite and one of the resources it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The policy's name.
    pub policy: String,
    /// The rule's name, empty for all.
    pub rule: String,
    /// The resource as the suite names it.
    pub resource: String,
    /// What the rule is made of, or the policy's kind where it is none of Kyverno's classic two.
    pub body: String,
    /// `pass`, `fail`, `skip`, …
    pub expected: String,
    /// How it ended.
    pub verdict: RowVerdict,
}

/// Why a suite could not be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuiteError {
    /// It names a file that is not there.
    #[error("{0}: no such file")]
    MissingFile(String),
    /// The suite, or a file it names, cannot be read as what it should be.
    #[error("{0}")]
    Malformed(String),
}

/// Runs one suite. `read` reads a file by a path relative to the suite's own folder; `now` is what policies are told the
/// time is.
pub fn run_suite(text: &str, now: Timestamp, read: &dyn Fn(&str) -> Result<String, SuiteError>) -> Result<Vec<Row>, SuiteError> {
    let suite = Suite::load(text, now, read)?;
    let mut rows = Vec::new();
    for entry in &suite.entries {
        let policy = suite.policies.iter().find(|policy| policy.name == entry.policy);
        let resources = suite.named_resources(entry);
        for (name, objects) in resources {
            let (body, verdict) = match policy {
                None => ("unknown".to_owned(), RowVerdict::Failed(format!("the suite has no policy {:?}", entry.policy))),
                Some(policy) => row(&suite, policy, entry, &name, &objects),
            };
            rows.push(Row {
                policy: entry.policy.clone(),
                rule: entry.rule.clone(),
                resource: name,
                body,
                expected: entry.expected.clone(),
                verdict,
            });
        }
    }
    Ok(rows)
}

fn row(suite: &Suite, policy: &PolicyDocument, entry: &Entry, name: &str, objects: &[&Value]) -> (String, RowVerdict) {
    let policy = match &policy.loaded {
        Loaded::Policy(policy) => policy,
        Loaded::OtherKind(kind) => return (kind.clone(), RowVerdict::NotEvaluated(format!("{kind} is not evaluated yet"))),
        Loaded::Refused(error) => return ("refused".to_owned(), RowVerdict::Failed(format!("the policy is refused: {error}"))),
    };
    let names = [entry.rule.clone(), format!("autogen-{}", entry.rule), format!("autogen-cronjob-{}", entry.rule)];
    let is_meant = |rule: &str| entry.rule.is_empty() || names.iter().any(|name| name == rule);
    let Some((_, body, _)) = policy.rules().find(|(rule, _, _)| is_meant(rule)) else {
        return ("no such rule".to_owned(), RowVerdict::LeftOut(format!("the policy has no rule {:?}", entry.rule)));
    };
    if objects.is_empty() {
        return (body.to_string(), RowVerdict::Failed(format!("the suite has no resource {name:?}")));
    }
    if matches!(body, BodyKind::Mutate | BodyKind::MutatingPolicy) {
        return (body.to_string(), mutated(suite, policy, entry, objects, &is_meant));
    }
    let answers: Vec<(BodyKind, Outcome)> = objects
        .iter()
        .flat_map(|object| answers(suite, policy, object, entry.operation))
        .filter(|(rule, _, _)| is_meant(rule))
        .map(|(_, body, outcome)| (body, outcome))
        .collect();
    if answers.is_empty() && entry.expected == "skip" {
        return (body.to_string(), RowVerdict::LeftOut("the rule is not about the resource, and so answers nothing".to_owned()));
    }
    (body.to_string(), verdict(&answers, &entry.expected))
}

fn answers(suite: &Suite, policy: &Policy, object: &Value, operation: Option<Operation>) -> Vec<(String, BodyKind, Outcome)> {
    let judge = |request: &Request<'_>| policy.evaluate(request);
    let results = asked(suite, policy, object, operation, judge);
    results.into_iter().map(|result| (result.rule.to_owned(), result.body, result.outcome)).collect()
}

/// Asks about an object with everything the suite says of it.
fn asked<T>(
    suite: &Suite,
    policy: &Policy,
    object: &Value,
    operation: Option<Operation>,
    ask: impl FnOnce(&Request<'_>) -> T,
) -> T {
    let at = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let labels = suite.namespace_labels(at("/metadata/namespace"));
    let answers = suite.answers(policy.name(), at("/metadata/name"));
    ask(&Request {
        answers: Some(&answers),
        exceptions: &suite.exceptions,
        operation: operation.unwrap_or_else(|| suite.operation(policy.name(), at("/metadata/name"))),
        namespace_labels: Some(&labels),
        user: suite.user.as_ref(),
        inventory: suite.inventory.as_ref(),
        now: Some(suite.now),
        ..Request::create(object)
    })
}

/// A rule that changes objects: its answer, and the object that the policy makes, where the suite says what it is.
fn mutated(suite: &Suite, policy: &Policy, entry: &Entry, objects: &[&Value], is_meant: &impl Fn(&str) -> bool) -> RowVerdict {
    let mut answers = Vec::new();
    for object in objects {
        let made = asked(suite, policy, object, entry.operation, |request| policy.mutate(request));
        let last = made.last().map(|made| made.object.clone());
        for made in made.into_iter().filter(|made| is_meant(&made.rule)) {
            let wanted = entry.patched.iter().find(|wanted| is_same_object(wanted, object));
            if let (Some(wanted), Some(last), Outcome::Pass) = (wanted, &last, &made.outcome)
                && !crate::jmespath::same(&tidied(wanted), &tidied(last))
            {
                return RowVerdict::Failed("the object is changed otherwise".to_owned());
            }
            answers.push((BodyKind::Mutate, made.outcome));
        }
    }
    if answers.is_empty() && entry.expected == "skip" {
        return RowVerdict::LeftOut("the rule is not about the resource, and so answers nothing".to_owned());
    }
    if answers.is_empty() && policy.rules().any(|(name, _, _)| is_meant(name)) && !policy.understands_mutation(is_meant) {
        return RowVerdict::NotEvaluated("what the rule changes is not understood here".to_owned());
    }
    verdict(&answers, &entry.expected)
}

/// An object without what is empty, as Kyverno's CLI compares them.
fn tidied(value: &Value) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    match value {
        Value::Array(items) => items.iter().map(tidied).filter(|item| !is_empty(item)).collect(),
        Value::Object(fields) => {
            let entries = fields.iter().map(|(key, value)| (key.clone(), tidied(value)));
            Value::Object(entries.filter(|(_, value)| !is_empty(value)).collect())
        }
        other => other.clone(),
    }
}

fn is_same_object(a: &Value, b: &Value) -> bool {
    ["/kind", "/metadata/name"].iter().all(|pointer| a.pointer(pointer) == b.pointer(pointer))
}

fn verdict(answers: &[(BodyKind, Outcome)], expected: &str) -> RowVerdict {
    if answers.is_empty() {
        return RowVerdict::Failed(format!("no rule answers, {expected} is expected"));
    }
    let mut not_evaluated = None;
    for (_, outcome) in answers {
        let (found, detail) = match outcome {
            Outcome::Pass => ("pass", String::new()),
            Outcome::Fail { message, .. } => ("fail", message.clone()),
            Outcome::Skip { reason } => ("skip", reason.clone()),
            Outcome::Error { message } => ("error", message.clone()),
            Outcome::NotEvaluated { reason } => {
                not_evaluated = Some(reason.clone());
                continue;
            }
        };
        if found != expected {
            return RowVerdict::Failed(format!("{found} instead of {expected}: {detail}"));
        }
    }
    not_evaluated.map_or(RowVerdict::Passed, RowVerdict::NotEvaluated)
}

#[cfg(test)]
#[path = "../conformance_tests.rs"]
mod tests;
