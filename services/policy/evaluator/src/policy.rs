//! A policy, read and compiled once: its rules, those autogen adds, and what each can be judged by.
//!
//! Unknown but legal fields are kept: the document is what clusters are given. A rule with a body or a feature this
//! crate does not judge is held with the reason, and every match of it is *not evaluated*.

use crate::{
    admission_policy::{self, Binding},
    autogen,
    body::{Body, BodyKind},
    facts::Facts,
    field::{Field, PolicyError},
    mutate,
    rule::{self, ActionOverride, Rule},
    validating_policy,
};
use serde_json::Value;

/// A single wildcard text longer than this is refused: matching costs pattern × text.
pub const MAX_WILDCARD_CHARS: usize = 512;
/// Rules of one policy.
const MAX_RULES: usize = 500;

/// What becomes of a violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum FailureAction {
    /// It is reported.
    #[default]
    Audit,
    /// It is refused.
    Enforce,
}

impl FailureAction {
    /// Reads `audit` or `enforce` in any case.
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "audit" => Some(Self::Audit),
            "enforce" => Some(Self::Enforce),
            _ => None,
        }
    }
}

/// A policy, read and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    name: String,
    namespace: Option<String>,
    document: Value,
    rules: Vec<Rule>,
    action: FailureAction,
    overrides: Vec<ActionOverride>,
    applies_one_rule: bool,
    /// Of a `ValidatingAdmissionPolicy`.
    bindings: Vec<Binding>,
}

impl Policy {
    /// Whether a document of this version and kind is one that [`Policy::parse`] reads and that has verdicts.
    pub fn reads(api_version: &str, kind: &str) -> bool {
        match kind {
            "ClusterPolicy" | "Policy" => is_classic(api_version),
            "ValidatingPolicy" | "NamespacedValidatingPolicy" => validating_policy::is_served(api_version),
            "ValidatingAdmissionPolicy" => admission_policy::is_served(api_version),
            _ => false,
        }
    }

    /// Reads a `ClusterPolicy` or `Policy` of `kyverno.io`, a `ValidatingPolicy` or `NamespacedValidatingPolicy` of
    /// `policies.kyverno.io`, or a `ValidatingAdmissionPolicy` of `admissionregistration.k8s.io`; also a `MutatingPolicy`,
    /// which has no verdict but [`Policy::mutate`].
    pub fn parse(document: &Value) -> Result<Self, PolicyError> {
        let root = Field::root(document);
        let api_version = root.get("apiVersion").required_text()?;
        let kind = root.get("kind").required_text()?;
        let wrong_kind = |kinds: &str| root.get("kind").error(format!("{kind:?} is not {kinds}"));
        let is_namespaced = match (api_version.as_str(), kind.as_str()) {
            ("kyverno.io/v1" | "kyverno.io/v2beta1" | "kyverno.io/v2", "ClusterPolicy") => false,
            ("kyverno.io/v1" | "kyverno.io/v2beta1" | "kyverno.io/v2", "Policy") => true,
            ("kyverno.io/v1" | "kyverno.io/v2beta1" | "kyverno.io/v2", _) => return Err(wrong_kind("ClusterPolicy or Policy")),
            (version, "ValidatingAdmissionPolicy") if admission_policy::is_served(version) => false,
            (version, _) if admission_policy::is_served(version) => return Err(wrong_kind("ValidatingAdmissionPolicy")),
            (version, "ValidatingPolicy" | "MutatingPolicy") if validating_policy::is_served(version) => false,
            (version, "NamespacedValidatingPolicy" | "NamespacedMutatingPolicy") if validating_policy::is_served(version) => true,
            (version, _) if validating_policy::is_served(version) => return Err(wrong_kind("ValidatingPolicy")),
            _ => {
                let message = format!("{api_version:?} is neither kyverno.io/v1 or v2beta1 nor policies.kyverno.io");
                return Err(root.get("apiVersion").error(message));
            }
        };
        let metadata = root.get("metadata");
        let namespace = is_namespaced.then(|| metadata.get("namespace").text()).transpose()?;
        let namespace = namespace.map(|text| text.filter(|text| !text.is_empty()).unwrap_or("default".to_owned()));
        let name = metadata.get("name").required_text()?;
        let spec = root.get("spec");
        let policy = Self {
            name,
            namespace,
            document: document.clone(),
            rules: Vec::new(),
            action: FailureAction::Audit,
            overrides: Vec::new(),
            applies_one_rule: false,
            bindings: Vec::new(),
        };
        if admission_policy::is_served(&api_version) {
            let rule = admission_policy::rule(&policy.name, &spec)?;
            return Ok(Self { rules: vec![rule], action: FailureAction::Enforce, ..policy });
        }
        if kind.ends_with("MutatingPolicy") {
            return Ok(Self { rules: mutate::policy::rules(&policy.name, &spec)?, ..policy });
        }
        if validating_policy::is_served(&api_version) {
            let rules = validating_policy::rules(&policy.name, &spec)?;
            return Ok(Self { rules, action: validating_policy::action(&spec)?, ..policy });
        }
        let listed = spec.get("rules").list()?;
        if listed.is_empty() || listed.len() > MAX_RULES {
            return Err(spec.get("rules").error(format!("must hold 1 to {MAX_RULES} rules")));
        }
        let mut rules: Vec<Rule> = Vec::with_capacity(listed.len());
        for field in &listed {
            let rule = Rule::parse(field)?;
            if rules.iter().any(|other| other.name == rule.name) {
                return Err(field.get("name").error(format!("{:?} is the name of another rule too", rule.name)));
            }
            rules.push(rule);
        }
        let applies_one_rule = match spec.get("applyRules").text()?.as_deref() {
            None | Some("All" | "") => false,
            Some("One") => true,
            Some(other) => return Err(spec.get("applyRules").error(format!("{other:?} is not All or One"))),
        };
        let annotations = metadata.get("annotations").text_map()?.unwrap_or_default();
        Ok(Self {
            rules: autogen::with_generated(rules, &listed, annotations.get(autogen::ANNOTATION).map(String::as_str))?,
            action: rule::action(&spec.get("validationFailureAction"))?.unwrap_or_default(),
            overrides: rule::overrides(&spec.get("validationFailureActionOverrides"))?,
            applies_one_rule,
            ..policy
        })
    }

    /// The policy, a `ValidatingAdmissionPolicy`, under one more `ValidatingAdmissionPolicyBinding`.
    pub fn bound_by(mut self, binding: &Value) -> Result<Self, PolicyError> {
        let binding = Binding::parse(binding, &self.name)?;
        if self.bindings.len() >= admission_policy::MAX_BINDINGS {
            let message = format!("a policy has at most {} bindings", admission_policy::MAX_BINDINGS);
            return Err(PolicyError { field: "spec.policyName".to_owned(), message });
        }
        self.bindings.push(binding);
        Ok(self)
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace a `Policy` is about; `None` for a `ClusterPolicy`.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The document it was read from, unchanged.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// The policy's own action, where neither a rule nor a namespace nor a binding says otherwise.
    pub fn action(&self) -> FailureAction {
        self.action
    }

    /// Whether a violation of some rule refuses in some namespace, by the policy's own words: those of a rule go before those
    /// of the policy.
    pub fn may_refuse(&self) -> bool {
        let somewhere = |list: &[ActionOverride]| list.iter().any(|entry| entry.action == FailureAction::Enforce);
        let by_itself = self.action == FailureAction::Enforce || somewhere(&self.overrides);
        self.rules
            .iter()
            .any(|rule| somewhere(&rule.overrides) || rule.action.map_or(by_itself, |action| action == FailureAction::Enforce))
    }

    /// Each rule, those of autogen included: its name, its body, and why it is not evaluated if it is not.
    pub fn rules(&self) -> impl Iterator<Item = (&str, BodyKind, Option<&str>)> {
        self.rules.iter().map(|rule| {
            let reason = match &rule.body {
                Body::Unknown(reason) => Some(reason.as_str()),
                Body::Pattern(_)
                | Body::AnyPattern(_)
                | Body::Deny(_)
                | Body::Foreach(_)
                | Body::PodSecurity(_)
                | Body::Cel(_) => None,
            };
            (rule.name.as_str(), rule.kind, reason)
        })
    }

    pub(crate) fn all_rules(&self) -> &[Rule] {
        &self.rules
    }

    pub(crate) fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// Whether only the first rule that applies counts.
    pub(crate) fn applies_one_rule(&self) -> bool {
        self.applies_one_rule
    }

    /// What becomes of a violation of the rule by an object with these facts.
    pub(crate) fn action_for(&self, rule: &Rule, facts: &Facts<'_>) -> FailureAction {
        let overridden = |list: &[ActionOverride]| list.iter().find(|entry| entry.applies(facts)).map(|entry| entry.action);
        overridden(&rule.overrides).or(rule.action).or_else(|| overridden(&self.overrides)).unwrap_or(self.action)
    }
}

fn is_classic(api_version: &str) -> bool {
    matches!(api_version, "kyverno.io/v1" | "kyverno.io/v2beta1" | "kyverno.io/v2")
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
