//! What a rule is judged by: one module a kind of body.
//!
//! A body is read and compiled once, with the policy, and never changes; what is not understood is held as
//! [`Body::Unknown`] with the reason. To add a kind: a variant here, a module that parses and judges it.

pub(crate) mod cel;
pub(crate) mod pattern;

use crate::{
    evaluate::{Outcome, Request},
    field::{Field, PolicyError},
    rule::Rule,
};
use serde_json::Value;
use std::fmt;

/// What a rule is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BodyKind {
    /// `validate.pattern`
    Pattern,
    /// `validate.anyPattern`
    AnyPattern,
    /// `validate.deny`
    Deny,
    /// `validate.foreach`
    Foreach,
    /// `validate.cel`
    Cel,
    /// `validate.podSecurity`
    PodSecurity,
    /// `validate.manifests`
    Manifests,
    /// `validate.assert`
    Assert,
    /// `ValidatingPolicy` of `policies.kyverno.io`
    ValidatingPolicy,
    /// `mutate`
    Mutate,
    /// `generate`
    Generate,
    /// `verifyImages`
    VerifyImages,
}

impl BodyKind {
    /// Whether the cluster may refuse an object by such a rule.
    pub fn can_refuse(self) -> bool {
        !matches!(self, Self::Mutate | Self::Generate)
    }
}

impl fmt::Display for BodyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pattern => "validate.pattern",
            Self::AnyPattern => "validate.anyPattern",
            Self::Deny => "validate.deny",
            Self::Foreach => "validate.foreach",
            Self::Cel => "validate.cel",
            Self::PodSecurity => "validate.podSecurity",
            Self::Manifests => "validate.manifests",
            Self::Assert => "validate.assert",
            Self::ValidatingPolicy => "ValidatingPolicy",
            Self::Mutate => "mutate",
            Self::Generate => "generate",
            Self::VerifyImages => "verifyImages",
        })
    }
}

/// A compiled body.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    /// The object must fit.
    Pattern(Value),
    /// The object must fit one of them.
    AnyPattern(Vec<Value>),
    /// Every expression must hold.
    Cel(std::sync::Arc<cel::CelBody>),
    /// Not judged, and why.
    Unknown(String),
}

impl Body {
    /// Reads the body of a rule of a `ClusterPolicy` or `Policy`.
    pub fn parse(rule: &Field<'_>) -> Result<(BodyKind, Self), PolicyError> {
        let bodies: Vec<&str> = ["validate", "mutate", "generate", "verifyImages"]
            .into_iter()
            .filter(|body| rule.get(body).value().is_some())
            .collect();
        let unknown = |kind: BodyKind, reason: &str| Ok((kind, Self::Unknown(reason.to_owned())));
        match bodies[..] {
            ["validate"] => validation(rule, &rule.get("validate")),
            ["mutate"] => unknown(BodyKind::Mutate, "mutate rules change objects and are not evaluated"),
            ["generate"] => unknown(BodyKind::Generate, "generate rules make objects and are not evaluated"),
            ["verifyImages"] => unknown(BodyKind::VerifyImages, "image signatures are checked in the cluster only"),
            _ => Err(rule.error("must have exactly one of validate, mutate, generate, verifyImages")),
        }
    }

    /// What it says of an object; `None` where it says nothing at all.
    pub fn judge(&self, rule: &Rule, request: &Request<'_>) -> Option<Outcome> {
        match self {
            Self::Unknown(reason) => Some(Outcome::NotEvaluated { reason: reason.clone() }),
            // A pattern says nothing about what is being removed.
            Self::Pattern(_) | Self::AnyPattern(_) if request.operation == crate::Operation::Delete => None,
            Self::Pattern(pattern) => Some(pattern::one_pattern(rule, request.object, pattern)),
            Self::AnyPattern(patterns) => Some(pattern::any_pattern(rule, request.object, patterns)),
            Self::Cel(body) => body.judge(request),
        }
    }

    /// The patterns, for questions about what a rule covers.
    pub fn patterns(&self) -> &[Value] {
        match self {
            Self::Pattern(pattern) => std::slice::from_ref(pattern),
            Self::AnyPattern(patterns) => patterns,
            Self::Cel(_) | Self::Unknown(_) => &[],
        }
    }
}

fn validation(rule: &Field<'_>, validate: &Field<'_>) -> Result<(BodyKind, Body), PolicyError> {
    let unknown = |kind: BodyKind| Ok((kind, Body::Unknown(format!("{kind} is not evaluated yet"))));
    // In the order of Kyverno: deny goes before the patterns, foreach after them.
    let kinds = [
        ("deny", BodyKind::Deny),
        ("podSecurity", BodyKind::PodSecurity),
        ("cel", BodyKind::Cel),
        ("manifests", BodyKind::Manifests),
        ("assert", BodyKind::Assert),
        ("pattern", BodyKind::Pattern),
        ("anyPattern", BodyKind::AnyPattern),
        ("foreach", BodyKind::Foreach),
    ];
    let Some((key, kind)) = kinds.into_iter().find(|(key, _)| validate.get(key).value().is_some()) else {
        return Err(validate.error("must have one of pattern, anyPattern, deny, foreach, cel, podSecurity, manifests, assert"));
    };
    let field = validate.get(key);
    match kind {
        BodyKind::Pattern | BodyKind::AnyPattern => pattern::parse(rule, kind, &field),
        BodyKind::Cel => cel::CelBody::of_rule(rule, &field).map(|body| (kind, body)),
        BodyKind::Deny
        | BodyKind::Foreach
        | BodyKind::PodSecurity
        | BodyKind::Manifests
        | BodyKind::Assert
        | BodyKind::ValidatingPolicy
        | BodyKind::Mutate
        | BodyKind::Generate
        | BodyKind::VerifyImages => unknown(kind),
    }
}

/// The first feature of the rule, of those named, that is used and not understood by its kind of body.
pub(crate) fn unsupported(rule: &Field<'_>, features: &[&str]) -> Option<String> {
    let is_used = |value: &Value| value.as_array().is_none_or(|list| !list.is_empty());
    let used = features.iter().find(|feature| rule.get(feature).value().is_some_and(is_used))?;
    Some(format!("{used} are not evaluated yet"))
}
