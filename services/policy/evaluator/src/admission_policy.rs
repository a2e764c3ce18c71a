//! Kubernetes' own `ValidatingAdmissionPolicy` with its bindings.
//!
//! A policy is one rule of its own name. In a cluster it asks nothing without a binding; here a policy to which none was
//! added is taken as bound everywhere, since the binding of what is being written is often not written yet.

use crate::{
    body::{Body, BodyKind, cel::CelBody},
    constraints::Constraints,
    evaluate::{Outcome, Request},
    facts::{Facts, Truth},
    field::{Field, PolicyError},
    parameters::ParamRef,
    policy::FailureAction,
    rule::{About, Rule},
};
use serde_json::Value;

/// Bindings of one policy.
pub const MAX_BINDINGS: usize = 200;

/// Whether it is a version these kinds are served in.
pub fn is_served(api_version: &str) -> bool {
    matches!(
        api_version,
        "admissionregistration.k8s.io/v1" | "admissionregistration.k8s.io/v1beta1" | "admissionregistration.k8s.io/v1alpha1"
    )
}

/// Where a policy holds, with which parameters, and what becomes of a violation there.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    constraints: Option<Constraints>,
    parameters: Option<ParamRef>,
    action: FailureAction,
}

impl Binding {
    /// Reads a `ValidatingAdmissionPolicyBinding` of the policy of this name.
    pub fn parse(document: &Value, policy: &str) -> Result<Self, PolicyError> {
        let root = Field::root(document);
        let (api_version, kind) = (root.get("apiVersion").required_text()?, root.get("kind").required_text()?);
        if !is_served(&api_version) || kind != "ValidatingAdmissionPolicyBinding" {
            return Err(root.get("kind").error(format!("{api_version} {kind} is no ValidatingAdmissionPolicyBinding")));
        }
        let spec = root.get("spec");
        let named = spec.get("policyName").required_text()?;
        if named != policy {
            return Err(spec.get("policyName").error(format!("{named:?} is not the policy {policy:?}")));
        }
        let resources = spec.get("matchResources");
        Ok(Self {
            constraints: resources.value().map(|_| Constraints::parse_for_binding(&resources)).transpose()?,
            parameters: ParamRef::parse(&spec.get("paramRef"))?,
            action: crate::validating_policy::action(&spec)?,
        })
    }
}

/// The rule of a `ValidatingAdmissionPolicy`.
pub fn rule(name: &str, spec: &Field<'_>) -> Result<Rule, PolicyError> {
    let constraints = spec.get("matchConstraints");
    if constraints.value().is_none() {
        return Err(constraints.error("is missing"));
    }
    let constraints = Constraints::parse(&constraints)?;
    Ok(Rule::in_cel(
        name.to_owned(),
        About::Constraints(constraints),
        BodyKind::ValidatingAdmissionPolicy,
        CelBody::of_admission_policy(spec)?,
    ))
}

/// What a rule answers under its bindings, and what becomes of a violation: the strictest answer counts.
pub fn judge(rule: &Rule, bindings: &[Binding], facts: &Facts<'_>, request: &Request<'_>) -> Option<(Outcome, FailureAction)> {
    let mut strictest: Option<(Outcome, FailureAction)> = None;
    for binding in bindings {
        let holds = binding.constraints.as_ref().map_or(Truth::Yes, |constraints| constraints.match_object(facts));
        let outcome = match (holds.and(rule.is_about(facts)), &rule.body) {
            (Truth::No, _) => continue,
            (Truth::Unknown, _) => Some(Outcome::NotEvaluated { reason: crate::evaluate::UNKNOWN_NAMESPACE.to_owned() }),
            (Truth::Yes, Body::Cel(body)) => body.judge_with(request, binding.parameters.as_ref()),
            (Truth::Yes, Body::Unknown(reason)) => Some(Outcome::NotEvaluated { reason: reason.clone() }),
            (Truth::Yes, _) => None,
        };
        let Some(outcome) = outcome else { continue };
        let weight = |(outcome, action): &(Outcome, FailureAction)| (severity(outcome), *action);
        let answer = (outcome, binding.action);
        if strictest.as_ref().is_none_or(|found| weight(found) < weight(&answer)) {
            strictest = Some(answer);
        }
    }
    strictest
}

fn severity(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Skip { .. } => 0,
        Outcome::Pass => 1,
        Outcome::NotEvaluated { .. } => 2,
        Outcome::Fail { .. } | Outcome::Error { .. } => 3,
    }
}

#[cfg(test)]
#[path = "admission_policy_tests.rs"]
mod tests;
