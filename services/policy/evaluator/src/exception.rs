//! `PolicyException`: objects that named rules do not ask, of Kyverno's own kinds and of those in CEL.
//!
//! Kyverno's documents know neither an owner nor an end; both stand in annotations. Whoever judges asks
//! [`PolicyException::holds_at`] first.

use crate::{
    body::{Exemption, cel::CelBody},
    conditions::Conditions,
    evaluate::{Outcome, Request},
    facts::{Facts, Truth},
    field::{Field, PolicyError},
    matching::MatchBlock,
    policy::MAX_WILDCARD_CHARS,
    validating_policy,
    variables::Context,
    wildcard,
};
use jiff::Timestamp;
use muster_core::labels::{EXCEPTION_ENDS, EXCEPTION_OWNER};
use serde_json::Value;
use std::sync::Arc;

/// Policies, and rules of one policy, that an exception names.
const MAX_NAMES: usize = 500;

/// What becomes of a rule that an exception excuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reported {
    Skip,
    Pass,
}

/// Objects that some rules do not ask.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyException {
    name: String,
    namespace: String,
    owner: Option<String>,
    ends: Option<Timestamp>,
    content: Content,
}

#[derive(Debug, Clone, PartialEq)]
enum Content {
    /// Of `kyverno.io`: names rules.
    Rules(Box<Rules>),
    /// Of `policies.kyverno.io`: names policies.
    Policies { named: Vec<(String, String)>, conditions: Option<Arc<CelBody>>, reported: Reported },
}

#[derive(Debug, Clone, PartialEq)]
struct Rules {
    named: Vec<Named>,
    matching: MatchBlock,
    conditions: Conditions,
    exemptions: Vec<Exemption>,
}

/// A policy and those of its rules, as wildcards.
#[derive(Debug, Clone, PartialEq)]
struct Named {
    policy: String,
    rules: Vec<String>,
}

/// What is known of a rule that may be excused.
pub(crate) struct Asked<'r> {
    pub kind: &'r str,
    pub namespace: Option<&'r str>,
    pub policy: &'r str,
    pub rule: &'r str,
}

impl PolicyException {
    /// Reads a `PolicyException` of either group.
    pub fn parse(document: &Value) -> Result<Self, PolicyError> {
        let root = Field::root(document);
        let (api_version, kind) = (root.get("apiVersion").required_text()?, root.get("kind").required_text()?);
        if kind != "PolicyException" {
            return Err(root.get("kind").error(format!("{kind:?} is not PolicyException")));
        }
        let metadata = root.get("metadata");
        let spec = root.get("spec");
        let content = match api_version.as_str() {
            "kyverno.io/v2" | "kyverno.io/v2beta1" | "kyverno.io/v2alpha1" => rules(&spec)?,
            version if validating_policy::is_served(version) => policies(&spec)?,
            other => {
                let message = format!("{other:?} is neither kyverno.io/v2 nor policies.kyverno.io");
                return Err(root.get("apiVersion").error(message));
            }
        };
        let annotations = metadata.get("annotations");
        let ends = annotations.get(EXCEPTION_ENDS);
        Ok(Self {
            name: metadata.get("name").required_text()?,
            namespace: metadata.get("namespace").text()?.unwrap_or_default(),
            owner: annotations.get(EXCEPTION_OWNER).text()?.filter(|owner| !owner.is_empty()),
            ends: ends
                .text()?
                .map(|text| text.parse().map_err(|_| ends.error(format!("{text:?} is no time as in 2027-01-31T00:00:00Z"))))
                .transpose()?,
            content,
        })
    }

    /// Who answers for it, by its annotation `muster.dev/exception-owner`.
    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// When it ends, by its annotation `muster.dev/exception-ends`; `None`: never.
    pub fn ends(&self) -> Option<Timestamp> {
        self.ends
    }

    /// Whether it has not ended by then.
    pub fn holds_at(&self, now: Timestamp) -> bool {
        self.ends.is_none_or(|ends| now < ends)
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `metadata.namespace`, empty where it names none.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Whether it names the rule.
    pub(crate) fn names(&self, asked: &Asked<'_>) -> bool {
        let is_it = |named: &str| {
            named == asked.policy || asked.namespace.is_some_and(|namespace| named == format!("{namespace}/{}", asked.policy))
        };
        match &self.content {
            Content::Rules(rules) => rules
                .named
                .iter()
                .any(|named| is_it(&named.policy) && named.rules.iter().any(|pattern| wildcard::matches(pattern, asked.rule))),
            Content::Policies { named, .. } => named.iter().any(|(name, kind)| is_it(name) && kind == asked.kind),
        }
    }

    /// Whether it is about the object, and so excuses the rule, wholly or in part.
    pub(crate) fn applies(&self, facts: &Facts<'_>, context: &mut Context<'_>) -> bool {
        match &self.content {
            Content::Rules(rules) => {
                let Rules { matching, conditions, .. } = &**rules;
                matching.includes(facts) == Truth::Yes
                    // What cannot be known excuses nothing.
                    && (conditions.is_empty() || conditions.evaluate(context).is_ok_and(|answer| answer.holds))
            }
            Content::Policies { conditions: None, .. } => true,
            Content::Policies { conditions: Some(conditions), .. } => {
                let request: &Request<'_> = context.request();
                conditions.judge(request) == Some(Outcome::Pass)
            }
        }
    }

    /// What a rule of `podSecurity` does not ask; empty where it is excused as a whole.
    pub(crate) fn exemptions(&self) -> &[Exemption] {
        match &self.content {
            Content::Rules(rules) => &rules.exemptions,
            Content::Policies { .. } => &[],
        }
    }

    /// What an excused rule answers.
    pub(crate) fn excuse(&self) -> Outcome {
        match &self.content {
            Content::Policies { reported: Reported::Pass, .. } => Outcome::Pass,
            Content::Policies { .. } | Content::Rules(_) => {
                let place = if self.namespace.is_empty() { String::new() } else { format!("{}/", self.namespace) };
                Outcome::Skip { reason: format!("rule skipped due to policy exception {place}{}", self.name) }
            }
        }
    }
}

fn rules(spec: &Field<'_>) -> Result<Content, PolicyError> {
    let listed = spec.get("exceptions").list()?;
    if listed.is_empty() || listed.len() > MAX_NAMES {
        return Err(spec.get("exceptions").error(format!("must hold 1 to {MAX_NAMES} entries")));
    }
    let mut named = Vec::with_capacity(listed.len());
    for entry in &listed {
        let rules = entry.get("ruleNames").texts()?;
        if rules.len() > MAX_NAMES || rules.iter().any(|rule| rule.len() > MAX_WILDCARD_CHARS) {
            return Err(entry.get("ruleNames").error("holds too many names, or too long ones"));
        }
        named.push(Named { policy: entry.get("policyName").required_text()?, rules });
    }
    let matching = spec.get("match");
    if matching.value().is_none() {
        return Err(matching.error("is missing"));
    }
    let conditions = Conditions::parse(&spec.get("conditions"))?.map_err(|reason| spec.get("conditions").error(reason))?;
    let exemptions = Exemption::parse_all(&spec.get("podSecurity"))?;
    Ok(Content::Rules(Box::new(Rules { named, matching: MatchBlock::parse(&matching)?, conditions, exemptions })))
}

fn policies(spec: &Field<'_>) -> Result<Content, PolicyError> {
    let listed = spec.get("policyRefs").list()?;
    if listed.is_empty() || listed.len() > MAX_NAMES {
        return Err(spec.get("policyRefs").error(format!("must hold 1 to {MAX_NAMES} entries")));
    }
    for unknown in ["images", "allowedValues"] {
        if !spec.get(unknown).list()?.is_empty() {
            return Err(spec.get(unknown).error("is for the policy's own expressions, which are not told of exceptions yet"));
        }
    }
    let named = listed.iter().map(|entry| {
        let kind = entry.get("kind").text()?.unwrap_or_else(|| "ValidatingPolicy".to_owned());
        Ok((entry.get("name").required_text()?, kind))
    });
    let named = named.collect::<Result<_, PolicyError>>()?;
    let conditions = spec.get("matchConditions");
    let conditions = if conditions.list()?.is_empty() {
        None
    } else {
        Some(CelBody::of_conditions(&conditions)?.map_err(|reason| conditions.error(reason))?)
    };
    let reported = match spec.get("reportResult").text()?.as_deref() {
        Some("pass") => Reported::Pass,
        _ => Reported::Skip,
    };
    Ok(Content::Policies { named, conditions, reported })
}

#[cfg(test)]
#[path = "exception_tests.rs"]
mod tests;
