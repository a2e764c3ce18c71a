//! One policy, one object: what each rule answers.
//!
//! A rule that is not about the object answers nothing at all, which is not the same as passing.

use crate::{
    matching::{Facts, Operation, Truth, UserInfo},
    path::Path,
    pattern::{self, Verdict},
    policy::{BodyKind, Check, FailureAction, Policy, Rule},
};
use muster_core::selector::Labels;
use serde_json::Value;

/// An object as an admission webhook would see it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The object, with the API's defaults if the verdict is to be that of a cluster ([`crate::with_api_defaults`]).
    pub object: &'a Value,
    /// What is done to it.
    pub operation: Operation,
    /// The subresource, empty for the object itself.
    pub subresource: &'a str,
    /// The labels of its namespace; `None` where they are not known.
    pub namespace_labels: Option<&'a Labels>,
    /// Who asks; `None` where it is not known.
    pub user: Option<&'a UserInfo>,
}

impl<'a> Request<'a> {
    /// The making of an object by somebody unknown in a namespace with unknown labels.
    pub fn create(object: &'a Value) -> Self {
        Self { object, operation: Operation::Create, subresource: "", namespace_labels: None, user: None }
    }
}

/// What a rule answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The object fits.
    Pass,
    /// It does not.
    Fail {
        /// Where, in the object that was judged.
        path: Path,
        /// The rule's message and the place, worded as Kyverno words it.
        message: String,
        /// What was found there and what was wanted.
        detail: String,
    },
    /// A condition of the rule is not met.
    Skip {
        /// Which.
        reason: String,
    },
    /// The rule cannot be applied to this object; Kyverno refuses under *enforce*, as with a failure.
    Error {
        /// Why.
        message: String,
    },
    /// This crate cannot judge the rule.
    NotEvaluated {
        /// Why.
        reason: String,
    },
}

/// A rule's answer to one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleResult {
    /// The rule's name, with the prefix of autogen.
    pub rule: String,
    /// What the rule is made of.
    pub body: BodyKind,
    /// What the policy itself wants to become of a violation here.
    pub action: FailureAction,
    /// The answer.
    pub outcome: Outcome,
}

impl Policy {
    /// What every rule that is about the object answers, in the policy's order.
    pub fn evaluate(&self, request: &Request<'_>) -> Vec<RuleResult> {
        let facts = Facts {
            object: request.object,
            operation: request.operation,
            subresource: request.subresource,
            namespace_labels: request.namespace_labels,
            user: request.user,
        };
        let object_namespace = request.object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
        if self.namespace().is_some_and(|namespace| namespace != object_namespace) {
            return Vec::new();
        }
        let mut results = Vec::new();
        for rule in self.all_rules() {
            let Some(outcome) = judge(rule, &facts) else { continue };
            let is_applied = matches!(outcome, Outcome::Pass | Outcome::Fail { .. });
            let action = self.action_for(rule, &facts);
            results.push(RuleResult { rule: rule.name.clone(), body: rule.body, action, outcome });
            if self.applies_one_rule() && is_applied {
                break;
            }
        }
        results
    }

    /// The patterns of an evaluated rule, for questions about what it covers.
    pub(crate) fn patterns_of(&self, rule: &str) -> &[Value] {
        match self.all_rules().iter().find(|other| other.name == rule).map(|rule| &rule.check) {
            Some(Check::Patterns(patterns)) => patterns,
            Some(Check::Unknown(_)) | None => &[],
        }
    }
}

fn judge(rule: &Rule, facts: &Facts<'_>) -> Option<Outcome> {
    let included = rule.matching.includes(facts);
    let excluded = rule.exclude.as_ref().map_or(Truth::No, |exclude| exclude.excludes(facts));
    match (included, excluded) {
        (Truth::No, _) | (_, Truth::Yes) => return None,
        (Truth::Yes, Truth::No) => {}
        (Truth::Unknown, _) | (_, Truth::Unknown) => {
            let reason = "it depends on the labels of the namespace, which are not known".to_owned();
            return Some(Outcome::NotEvaluated { reason });
        }
    }
    match &rule.check {
        Check::Unknown(reason) => Some(Outcome::NotEvaluated { reason: reason.clone() }),
        // A pattern says nothing about what is being removed.
        Check::Patterns(_) if facts.operation == Operation::Delete => None,
        Check::Patterns(patterns) if rule.body == BodyKind::Pattern => {
            patterns.first().map(|pattern| one_pattern(rule, facts.object, pattern))
        }
        Check::Patterns(patterns) => Some(any_pattern(rule, facts.object, patterns)),
    }
}

fn one_pattern(rule: &Rule, object: &Value, pattern: &Value) -> Outcome {
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

fn any_pattern(rule: &Rule, object: &Value, patterns: &[Value]) -> Outcome {
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
