//! A `ClusterPolicy` or `Policy`, read once: its rules, those autogen adds, and what each can be judged by.
//!
//! Unknown but legal fields are kept: the document is what clusters are given. A rule with a body or a feature this
//! crate does not judge is held with the reason, and every match of it is *not evaluated*.

use crate::{
    autogen,
    field::{Field, PolicyError},
    matching::{Facts, MatchBlock, namespace_matches, selector, selector_matches},
};
use muster_core::selector::{LabelSelector, Labels};
use serde_json::Value;
use std::fmt;

/// A single wildcard text longer than this is refused: matching costs pattern × text.
pub const MAX_WILDCARD_CHARS: usize = 512;
/// A whole string of a pattern, alternatives included.
const MAX_PATTERN_TEXT: usize = 64 * 1024;
/// Nesting of a pattern; Kubernetes' own documents stay below 30.
const MAX_PATTERN_DEPTH: usize = 64;
/// Rules of one policy.
const MAX_RULES: usize = 500;
/// A rule's name, as in Kyverno.
const MAX_RULE_NAME: usize = 63;

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
            Self::Mutate => "mutate",
            Self::Generate => "generate",
            Self::VerifyImages => "verifyImages",
        })
    }
}

/// What a rule is judged by.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Check {
    /// The object must fit one of the patterns; `pattern` is one, `anyPattern` several.
    Patterns(Vec<Value>),
    /// Not judged, and why.
    Unknown(String),
}

/// An action for some namespaces.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ActionOverride {
    action: FailureAction,
    namespaces: Vec<String>,
    namespace_selector: Option<LabelSelector>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    pub name: String,
    pub matching: MatchBlock,
    pub exclude: Option<MatchBlock>,
    pub body: BodyKind,
    pub check: Check,
    pub message: String,
    action: Option<FailureAction>,
    overrides: Vec<ActionOverride>,
    /// A mutation by JSON patch, which switches autogen off for the policy.
    pub patches_json: bool,
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
}

impl Policy {
    /// Reads a `kyverno.io` `ClusterPolicy` or `Policy`.
    pub fn parse(document: &Value) -> Result<Self, PolicyError> {
        let root = Field::root(document);
        let api_version = root.get("apiVersion").required_text()?;
        if !matches!(api_version.as_str(), "kyverno.io/v1" | "kyverno.io/v2beta1" | "kyverno.io/v2") {
            return Err(root.get("apiVersion").error(format!("{api_version:?} is not kyverno.io/v1 or v2beta1")));
        }
        let kind = root.get("kind").required_text()?;
        let metadata = root.get("metadata");
        let namespace = match kind.as_str() {
            "ClusterPolicy" => None,
            "Policy" => Some(metadata.get("namespace").text()?.filter(|text| !text.is_empty()).unwrap_or("default".to_owned())),
            _ => return Err(root.get("kind").error(format!("{kind:?} is not ClusterPolicy or Policy"))),
        };
        let name = metadata.get("name").required_text()?;
        let annotations = metadata.get("annotations").text_map()?.unwrap_or_default();
        let spec = root.get("spec");
        let listed = spec.get("rules").list()?;
        if listed.is_empty() || listed.len() > MAX_RULES {
            return Err(spec.get("rules").error(format!("must hold 1 to {MAX_RULES} rules")));
        }
        let mut rules: Vec<Rule> = Vec::with_capacity(listed.len());
        for field in &listed {
            let rule = parse_rule(field)?;
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
        Ok(Self {
            rules: autogen::with_generated(rules, annotations.get(autogen::ANNOTATION).map(String::as_str)),
            action: action(&spec.get("validationFailureAction"))?.unwrap_or_default(),
            overrides: overrides(&spec.get("validationFailureActionOverrides"))?,
            name,
            namespace,
            document: document.clone(),
            applies_one_rule,
        })
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

    /// Each rule, those of autogen included: its name, its body, and why it is not evaluated if it is not.
    pub fn rules(&self) -> impl Iterator<Item = (&str, BodyKind, Option<&str>)> {
        self.rules.iter().map(|rule| {
            let reason = match &rule.check {
                Check::Patterns(_) => None,
                Check::Unknown(reason) => Some(reason.as_str()),
            };
            (rule.name.as_str(), rule.body, reason)
        })
    }

    pub(crate) fn all_rules(&self) -> &[Rule] {
        &self.rules
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

impl ActionOverride {
    fn applies(&self, facts: &Facts<'_>) -> bool {
        let none = Labels::new();
        let labels = facts.namespace_labels.unwrap_or(&none);
        let selected = self.namespace_selector.as_ref().map(|selector| selector_matches(selector, labels));
        if self.namespaces.is_empty() {
            return selected == Some(true);
        }
        namespace_matches(&self.namespaces, facts.namespace()) && selected != Some(false)
    }
}

fn action(field: &Field<'_>) -> Result<Option<FailureAction>, PolicyError> {
    let Some(text) = field.text()?.filter(|text| !text.is_empty()) else { return Ok(None) };
    FailureAction::parse(&text).map(Some).ok_or_else(|| field.error(format!("{text:?} is not Audit or Enforce")))
}

fn overrides(field: &Field<'_>) -> Result<Vec<ActionOverride>, PolicyError> {
    field
        .list()?
        .iter()
        .map(|entry| {
            Ok(ActionOverride {
                action: action(&entry.get("action"))?.ok_or_else(|| entry.get("action").error("is missing"))?,
                namespaces: entry.get("namespaces").texts()?,
                namespace_selector: selector(&entry.get("namespaceSelector"))?,
            })
        })
        .collect()
}

fn parse_rule(rule: &Field<'_>) -> Result<Rule, PolicyError> {
    let name = rule.get("name").required_text()?;
    if name.len() > MAX_RULE_NAME {
        return Err(rule.get("name").error(format!("is longer than {MAX_RULE_NAME} characters")));
    }
    let matching = rule.get("match");
    if matching.value().is_none() {
        return Err(matching.error("is missing"));
    }
    let validate = rule.get("validate");
    let bodies: Vec<&str> =
        ["validate", "mutate", "generate", "verifyImages"].into_iter().filter(|body| rule.get(body).value().is_some()).collect();
    let (body, check) = match bodies[..] {
        ["validate"] => validation(rule, &validate)?,
        ["mutate"] => (BodyKind::Mutate, Check::Unknown("mutate rules change objects and are not evaluated".to_owned())),
        ["generate"] => (BodyKind::Generate, Check::Unknown("generate rules make objects and are not evaluated".to_owned())),
        ["verifyImages"] => {
            (BodyKind::VerifyImages, Check::Unknown("image signatures are checked in the cluster only".to_owned()))
        }
        _ => return Err(rule.error("must have exactly one of validate, mutate, generate, verifyImages")),
    };
    let mutate = rule.get("mutate");
    let patches_json = mutate.get("patchesJson6902").value().is_some()
        || mutate.get("foreach").list()?.iter().any(|each| each.get("patchesJson6902").value().is_some());
    let exclude = rule.get("exclude");
    Ok(Rule {
        name,
        matching: MatchBlock::parse(&matching)?,
        exclude: exclude.value().map(|_| MatchBlock::parse(&exclude)).transpose()?,
        body,
        check,
        message: validate.get("message").text()?.unwrap_or_default(),
        action: action(&validate.get("failureAction"))?,
        overrides: overrides(&validate.get("failureActionOverrides"))?,
        patches_json,
    })
}

fn validation(rule: &Field<'_>, validate: &Field<'_>) -> Result<(BodyKind, Check), PolicyError> {
    let unknown = |kind: BodyKind| (kind, Check::Unknown(format!("{kind} is not evaluated yet")));
    let others = [
        ("deny", BodyKind::Deny),
        ("podSecurity", BodyKind::PodSecurity),
        ("cel", BodyKind::Cel),
        ("manifests", BodyKind::Manifests),
        ("assert", BodyKind::Assert),
    ];
    // In the order of Kyverno: deny goes before the patterns, foreach after them.
    if let Some((_, kind)) = others.into_iter().find(|(key, _)| validate.get(key).value().is_some()) {
        return Ok(unknown(kind));
    }
    let (kind, patterns) = if let Some(pattern) = validate.get("pattern").value() {
        (BodyKind::Pattern, vec![pattern.clone()])
    } else if validate.get("anyPattern").value().is_some() {
        let list = validate.get("anyPattern").list()?;
        (BodyKind::AnyPattern, list.iter().filter_map(Field::value).cloned().collect())
    } else if validate.get("foreach").value().is_some() {
        return Ok(unknown(BodyKind::Foreach));
    } else {
        return Err(validate.error("must have one of pattern, anyPattern, deny, foreach, cel, podSecurity, manifests, assert"));
    };
    let field = validate.get(if kind == BodyKind::Pattern { "pattern" } else { "anyPattern" });
    let mut has_variables = false;
    for pattern in &patterns {
        inspect(pattern, 0, &field, &mut has_variables)?;
    }
    for feature in ["preconditions", "celPreconditions", "context"] {
        let value = rule.get(feature).value();
        if value.is_some_and(|value| value.as_array().is_none_or(|list| !list.is_empty())) {
            return Ok((kind, Check::Unknown(format!("{feature} are not evaluated yet"))));
        }
    }
    if has_variables {
        return Ok((kind, Check::Unknown("the pattern has variables, which are not evaluated yet".to_owned())));
    }
    Ok((kind, Check::Patterns(patterns)))
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

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
