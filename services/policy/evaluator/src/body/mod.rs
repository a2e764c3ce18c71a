//! What a rule is judged by: one module a kind of body.
//!
//! A body is read and compiled once, with the policy, and never changes; what is not understood is held as
//! [`Body::Unknown`] with the reason. To add a kind: a variant here, a module that parses and judges it.

pub(crate) mod cel;
mod deny;
mod foreach;
pub(crate) mod pattern;
mod pod_security;

pub(crate) use pod_security::Exemption;

use crate::{
    conditions::Conditions,
    evaluate::{Details, Outcome, Request},
    exception::PolicyException,
    field::{Field, PolicyError},
    rule::Rule,
    variables::Context,
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
    /// Kubernetes' own `ValidatingAdmissionPolicy`
    ValidatingAdmissionPolicy,
    /// `MutatingPolicy` of `policies.kyverno.io`
    MutatingPolicy,
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
        !matches!(self, Self::Mutate | Self::MutatingPolicy | Self::Generate)
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
            Self::ValidatingAdmissionPolicy => "ValidatingAdmissionPolicy",
            Self::MutatingPolicy => "MutatingPolicy",
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
    Pattern(pattern::Patterns),
    /// The object must fit one of them.
    AnyPattern(pattern::Patterns),
    /// The conditions must not hold.
    Deny(Conditions),
    /// Every element of the lists must be as it should.
    Foreach(Vec<foreach::Foreach>),
    /// The Pod must keep a standard.
    PodSecurity(pod_security::PodSecurity),
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
    ///
    /// `excused` are the exceptions that take back a part of what it asks.
    pub fn judge<'a>(&'a self, rule: &'a Rule, context: &mut Context<'a>, excused: &[&PolicyException]) -> Option<Outcome> {
        let request = *context.request();
        match self {
            Self::Unknown(reason) => Some(Outcome::NotEvaluated { reason: reason.clone() }),
            // A pattern says nothing about what is being removed, and nor do the standards.
            Self::Pattern(_) | Self::AnyPattern(_) | Self::PodSecurity(_) if request.operation == crate::Operation::Delete => {
                None
            }
            Self::Pattern(patterns) => Some(pattern::one_pattern(rule, context, request.object, patterns)),
            Self::AnyPattern(patterns) => Some(pattern::any_pattern(rule, context, request.object, patterns)),
            Self::Deny(conditions) => Some(deny::judge(rule, context, conditions)),
            Self::Foreach(all) => foreach::judge(rule, context, all),
            Self::PodSecurity(security) => security.judge(rule, request.object, excused),
            Self::Cel(body) => body.judge(&request),
        }
    }

    /// What it says of an object, as far as that can be said without variables and exceptions; where it is not, [`Body::judge`]
    /// decides.
    pub fn judge_as_written(&self, rule: &Rule, request: &Request<'_>) -> Option<Outcome> {
        match self {
            Self::Pattern(_) | Self::AnyPattern(_) if request.operation == crate::Operation::Delete => None,
            Self::Pattern(patterns) if request.details == Details::Untold => patterns.said_as_written(rule, request.object),
            Self::Pattern(patterns) | Self::AnyPattern(patterns) => {
                patterns.fit_as_written(request.object).then_some(Outcome::Pass)
            }
            Self::Deny(_) | Self::Foreach(_) | Self::PodSecurity(_) | Self::Cel(_) | Self::Unknown(_) => None,
        }
    }

    /// The patterns, for questions about what a rule covers.
    pub fn patterns(&self) -> &[Value] {
        match self {
            Self::Pattern(patterns) | Self::AnyPattern(patterns) => patterns.written(),
            Self::Deny(_) | Self::Foreach(_) | Self::PodSecurity(_) | Self::Cel(_) | Self::Unknown(_) => &[],
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
        BodyKind::Pattern => Ok((kind, understood(pattern::Patterns::parse(&field, kind)?, Body::Pattern))),
        BodyKind::AnyPattern => Ok((kind, understood(pattern::Patterns::parse(&field, kind)?, Body::AnyPattern))),
        BodyKind::Deny => Ok((kind, understood(Conditions::parse(&field.get("conditions"))?, Body::Deny))),
        BodyKind::Foreach => Ok((kind, understood(foreach::Foreach::parse_all(&field, 0)?, Body::Foreach))),
        BodyKind::Cel => cel::CelBody::of_rule(&rule.get("celPreconditions"), &field).map(|body| (kind, body)),
        BodyKind::PodSecurity => Ok((kind, Body::PodSecurity(pod_security::PodSecurity::parse(&field)?))),
        BodyKind::Manifests
        | BodyKind::Assert
        | BodyKind::ValidatingPolicy
        | BodyKind::ValidatingAdmissionPolicy
        | BodyKind::MutatingPolicy
        | BodyKind::Mutate
        | BodyKind::Generate
        | BodyKind::VerifyImages => unknown(kind),
    }
}

/// A body, or the reason why it can't be read.
fn understood<T>(parsed: Result<T, String>, body: impl FnOnce(T) -> Body) -> Body {
    parsed.map_or_else(Body::Unknown, body)
}

#[cfg(test)]
mod variables_tests;
