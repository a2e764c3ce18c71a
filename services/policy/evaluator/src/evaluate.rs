//! One policy, one object: what each rule answers.
//!
//! A rule that is not about the object answers nothing at all, which is not the same as passing.

use crate::{
    admission_policy,
    body::BodyKind,
    exception::{Asked, PolicyException},
    expression::NoValue,
    facts::{Facts, Operation, Truth, UserInfo, at},
    inventory::Inventory,
    jmespath::JmesError,
    path::Path,
    policy::{FailureAction, Policy},
    rule::Rule,
    variables::Answers,
};
use jiff::Timestamp;
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
    /// The object before a change; `None` where it is made, or not known.
    pub old_object: Option<&'a Value>,
    /// What rules may ask the cluster and the registry; `None`: nothing is known of them.
    pub inventory: Option<&'a Inventory>,
    /// Values told beforehand for what rules ask the outside for.
    pub answers: Option<&'a Answers>,
    /// Exceptions, of whatever policies and objects.
    pub exceptions: &'a [PolicyException],
    /// What time it is, for the rules that ask; `None`: they are not evaluated.
    pub now: Option<Timestamp>,
    /// How much a failure says.
    pub details: Details,
}

/// Whether a failure says what was found and what was wanted ([`Outcome::Fail::detail`]), beside its place and message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Details {
    /// It does.
    Told,
    /// A pattern leaves it empty.
    Untold,
}

impl<'a> Request<'a> {
    /// The making of an object by somebody unknown in a namespace with unknown labels.
    pub fn create(object: &'a Value) -> Self {
        Self {
            object,
            operation: Operation::Create,
            subresource: "",
            namespace_labels: None,
            user: None,
            old_object: None,
            inventory: None,
            answers: None,
            exceptions: &[],
            now: None,
            details: Details::Told,
        }
    }

    /// What rules ask before they look into the object.
    pub(crate) fn facts(&self) -> Facts<'a> {
        Facts {
            operation: self.operation,
            subresource: self.subresource,
            namespace_labels: self.namespace_labels,
            user: self.user,
            ..Facts::of(self.object)
        }
    }

    pub(crate) fn text(&self, pointer: &str) -> &'a str {
        at(self.object, pointer).and_then(Value::as_str).unwrap_or_default()
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
        /// What was found there and what was wanted; may be empty where the request wants none.
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

impl Outcome {
    /// The word in Kyverno's reports, and ours for what it has none for.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail { .. } => "fail",
            Self::Skip { .. } => "skip",
            Self::Error { .. } => "error",
            Self::NotEvaluated { .. } => "not evaluated",
        }
    }
}

/// A rule's answer to one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleResult<'p> {
    /// The rule's name, with the prefix of autogen.
    pub rule: &'p str,
    /// What the rule is made of.
    pub body: BodyKind,
    /// What the policy itself wants to become of a violation here.
    pub action: FailureAction,
    /// The answer.
    pub outcome: Outcome,
}

impl From<JmesError> for Outcome {
    /// What a rule answers whose expression has no value.
    fn from(error: JmesError) -> Self {
        match error {
            JmesError::NoValue(NoValue::NotGiven(reason)) => Self::NotEvaluated { reason },
            error @ (JmesError::NotFound(_) | JmesError::NoValue(NoValue::Failed(_) | NoValue::TooCostly)) => {
                Self::Error { message: error.to_string() }
            }
        }
    }
}

impl Policy {
    /// What every rule that is about the object answers, in the policy's order.
    pub fn evaluate<'p>(&'p self, request: &Request<'_>) -> Vec<RuleResult<'p>> {
        let mut results = Vec::new();
        self.each_answer(request, &request.facts(), |result| results.push(result));
        results
    }

    /// As [`Policy::evaluate`], for whoever asks many policies about one object, whose facts stay the same.
    pub(crate) fn each_answer<'p>(&'p self, request: &Request<'_>, facts: &Facts<'_>, mut said: impl FnMut(RuleResult<'p>)) {
        let is_elsewhere =
            |namespace: &str| at(request.object, "/metadata/namespace").and_then(Value::as_str).unwrap_or_default() != namespace;
        if self.namespace().is_some_and(is_elsewhere) {
            return;
        }
        for rule in self.all_rules() {
            let exceptions = self.exceptions_of(rule, request.exceptions);
            let answer = if self.bindings().is_empty() {
                judge(rule, facts, request, &exceptions).map(|outcome| (outcome, self.action_for(rule, facts)))
            } else {
                admission_policy::judge(rule, self.bindings(), facts, request)
            };
            let Some((mut outcome, action)) = answer else { continue };
            if action == FailureAction::Enforce && was_broken_before(rule, &outcome, request, &exceptions) {
                let reason = "the object broke the rule no otherwise before the change".to_owned();
                outcome = Outcome::Skip { reason };
            }
            let is_applied = matches!(outcome, Outcome::Pass | Outcome::Fail { .. });
            said(RuleResult { rule: &rule.name, body: rule.kind, action, outcome });
            if self.applies_one_rule() && is_applied {
                break;
            }
        }
    }

    fn exceptions_of<'a>(&self, rule: &Rule, exceptions: &'a [PolicyException]) -> Vec<&'a PolicyException> {
        if exceptions.is_empty() {
            return Vec::new();
        }
        let kind = self.document().get("kind").and_then(Value::as_str).unwrap_or_default();
        let asked = Asked { kind, namespace: self.namespace(), policy: self.name(), rule: &rule.name };
        exceptions.iter().filter(|exception| exception.names(&asked)).collect()
    }

    /// The patterns of an evaluated rule, for questions about what it covers.
    pub(crate) fn patterns_of(&self, rule: &str) -> &[Value] {
        self.all_rules().iter().find(|other| other.name == rule).map_or(&[], |rule| rule.body.patterns())
    }
}

/// Whether a change breaks the rule no otherwise than the object as it was would, made new.
fn was_broken_before(rule: &Rule, outcome: &Outcome, request: &Request<'_>, exceptions: &[&PolicyException]) -> bool {
    let is_asked = rule.allows_existing_violations
        && request.operation == Operation::Update
        && matches!(rule.kind, BodyKind::Pattern | BodyKind::AnyPattern | BodyKind::Deny | BodyKind::Foreach);
    let (Outcome::Fail { path, message, .. }, Some(old), true) = (outcome, request.old_object, is_asked) else { return false };
    let before = Request { object: old, old_object: None, operation: Operation::Create, ..*request };
    let prior = judge(rule, &before.facts(), &before, exceptions);
    matches!(prior, Some(Outcome::Fail { path: was, message: said, .. }) if (&was, &said) == (path, message))
}

pub(crate) const UNKNOWN_NAMESPACE: &str = "it depends on the labels of the namespace, which are not known";

fn judge(rule: &Rule, facts: &Facts<'_>, request: &Request<'_>, exceptions: &[&PolicyException]) -> Option<Outcome> {
    match rule.is_about(facts) {
        Truth::No => None,
        Truth::Yes => rule.judge(request, facts, exceptions),
        Truth::Unknown => Some(Outcome::NotEvaluated { reason: UNKNOWN_NAMESPACE.to_owned() }),
    }
}
