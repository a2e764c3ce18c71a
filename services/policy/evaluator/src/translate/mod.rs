//! A `ClusterPolicy` in the words of its successors: `ValidatingPolicy`, or Kubernetes' own `ValidatingAdmissionPolicy`; and a
//! `ValidatingPolicy` in those of the latter.
//!
//! A rule becomes a policy, and so does each of those that autogen adds. The verdicts are the same or the rule is refused
//! with the field that has no such words; nothing is translated in part.

mod excused;
mod matching;
mod pattern;
mod selector;
mod validating;

use crate::{
    Policy, PolicyException,
    autogen::{self, Template, rewritten},
    body::BodyKind,
    field::Field,
    policy::FailureAction,
    rule::Rule,
    validating_policy,
};
use excused::{Excused, excused};
use matching::Scope;
use serde_json::{Map, Value, json};
use std::{collections::BTreeSet, fmt};

/// What a policy is translated into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// `policies.kyverno.io/v1 ValidatingPolicy`.
    ValidatingPolicy,
    /// `admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy`, with a binding each.
    ValidatingAdmissionPolicy,
}

/// Why a policy has no translation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untranslatable {
    /// The rule; empty where it is the policy as a whole.
    pub rule: String,
    /// The field without a counterpart, within the rule or the policy.
    pub field: String,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Untranslatable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.rule.is_empty() {
            write!(f, "rule {}: ", self.rule)?;
        }
        write!(f, "{}: {}", self.field, self.reason)
    }
}

/// A field, and why it has no counterpart.
type Refusal = (String, String);

fn refuse<T>(field: impl Into<String>, reason: impl Into<String>) -> Result<T, Refusal> {
    Err((field.into(), reason.into()))
}

/// The policy in other words.
///
/// # Errors
/// Everything that has none.
pub fn translate(policy: &Policy, target: Target) -> Result<Vec<Value>, Vec<Untranslatable>> {
    translate_excusing(policy, target, &[])
}

/// The policy in other words, without what these `PolicyException`s excuse from it: a `ValidatingAdmissionPolicy` knows none.
/// Nothing, where they excuse from all of it.
///
/// # Errors
/// Everything that has none.
pub fn translate_excusing(policy: &Policy, target: Target, exceptions: &[&Value]) -> Result<Vec<Value>, Vec<Untranslatable>> {
    let document = policy.document();
    let whole = |(field, reason): Refusal| vec![Untranslatable { rule: String::new(), field, reason }];
    check_policy(policy, target).map_err(whole)?;
    let mut excusing = Vec::new();
    for document in exceptions {
        let exception = PolicyException::parse(document).map_err(|error| whole((error.field, error.message)))?;
        excusing.push((exception, *document));
    }
    if policy.document()["kind"] == "ValidatingPolicy" {
        return of_validating_policy(policy, &excusing).map_err(whole);
    }
    let root = Field::root(document);
    let written = root.get("spec").get("rules").list().unwrap_or_default();
    let (mut documents, mut refused, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
    for rule in policy.all_rules() {
        let base = autogen::base_name(&rule.name, rule.kind);
        let name_in = |field: &Field<'_>| field.get("name").text().ok().flatten().unwrap_or_default();
        // A generated name is cut to what Kyverno allows.
        let exact = written.iter().find(|field| name_in(field) == base);
        let Some(field) = exact.or_else(|| written.iter().find(|field| name_in(field).starts_with(base))) else { continue };
        let spec = one(policy, rule, field, target);
        match spec.and_then(|spec| without_excused(policy, rule, spec, &excusing)) {
            Ok(None) => {}
            Ok(Some(spec)) => {
                let name = name_of(policy.name(), (written.len() > 1).then_some(base), rule.template, &mut names);
                documents.extend(worded(document, &name, spec, target));
            }
            Err((field, reason)) => {
                let new = Untranslatable { rule: base.to_owned(), field, reason };
                if !refused.contains(&new) {
                    refused.push(new);
                }
            }
        }
    }
    if refused.is_empty() { Ok(documents) } else { Err(refused) }
}

/// A `ValidatingPolicy` and what autogen makes of it.
fn of_validating_policy(policy: &Policy, exceptions: &[(PolicyException, &Value)]) -> Result<Vec<Value>, Refusal> {
    let (mut documents, mut names) = (Vec::new(), BTreeSet::new());
    for rule in policy.all_rules() {
        let spec = validating::one(policy, rule)?;
        if let Some(spec) = without_excused(policy, rule, spec, exceptions)? {
            let name = name_of(policy.name(), None, rule.template, &mut names);
            documents.extend(worded(policy.document(), &name, spec, Target::ValidatingAdmissionPolicy));
        }
    }
    Ok(documents)
}

/// The same about what no exception excuses; `None` where that is nothing.
fn without_excused(
    policy: &Policy,
    rule: &Rule,
    mut spec: Spec,
    exceptions: &[(PolicyException, &Value)],
) -> Result<Option<Spec>, Refusal> {
    for (number, (exception, document)) in exceptions.iter().enumerate() {
        match excused(policy, rule, exception, document)? {
            Excused::No => {}
            Excused::Always => return Ok(None),
            Excused::Where(expression) => spec.scope.conditions.push(excused::condition(number, &expression)),
        }
    }
    Ok(Some(spec))
}

fn check_policy(policy: &Policy, target: Target) -> Result<(), Refusal> {
    let document = policy.document();
    if document["apiVersion"].as_str().is_some_and(validating_policy::is_served) {
        return match (document["kind"].as_str(), target) {
            (Some("ValidatingPolicy" | "NamespacedValidatingPolicy"), Target::ValidatingAdmissionPolicy) => {
                validating::check(policy)
            }
            (Some("ValidatingPolicy"), Target::ValidatingPolicy) => refuse("kind", "is a ValidatingPolicy already"),
            _ => refuse("kind", "has no counterpart"),
        };
    }
    let is_classic = document["apiVersion"].as_str().is_some_and(|version| version.starts_with("kyverno.io/"));
    match document["kind"].as_str() {
        Some("ClusterPolicy") if is_classic => {}
        Some("Policy") if is_classic => return refuse("kind", "a Policy is about one namespace"),
        _ => return refuse("kind", "is no ClusterPolicy of kyverno.io"),
    }
    let spec = &document["spec"];
    if policy.applies_one_rule() {
        return refuse("spec.applyRules", "that the first rule ends the others has no counterpart");
    }
    if spec["validationFailureActionOverrides"].as_array().is_some_and(|overrides| !overrides.is_empty()) {
        return refuse("spec.validationFailureActionOverrides", "an action by namespace has no counterpart");
    }
    Ok(())
}

/// A rule's part of a policy, for either target.
struct Spec {
    scope: Scope,
    /// `validationActions`.
    actions: Value,
    failure_policy: Option<Value>,
    variables: Option<Value>,
    validations: Vec<Value>,
    audit_annotations: Option<Value>,
    params: Option<(Value, Value)>,
}

fn one(policy: &Policy, rule: &Rule, field: &Field<'_>, target: Target) -> Result<Spec, Refusal> {
    for key in ["context", "preconditions"] {
        let is_given = match field.get(key).value() {
            Some(Value::Array(items)) => !items.is_empty(),
            Some(Value::Object(fields)) => !fields.is_empty(),
            other => other.is_some(),
        };
        if is_given {
            return refuse(key, "JMESPath has no counterpart");
        }
    }
    let validate = field.get("validate");
    if validate.get("failureActionOverrides").value().is_some() {
        return refuse("validate.failureActionOverrides", "an action by namespace has no counterpart");
    }
    if validate.get("allowExistingViolations").value() == Some(&Value::Bool(false)) {
        return refuse("validate.allowExistingViolations", "has no counterpart");
    }
    let document = match rule.template {
        Some(template) => rewritten(field, template),
        None => field.value().cloned().unwrap_or_default(),
    };
    let mut scope = matching::scope(rule, &document)?;
    let message = document["validate"]["message"].as_str().filter(|message| !message.contains("{{"));
    let cel = &document["validate"]["cel"];
    let mut spec = Spec {
        actions: json!([if rule.action.unwrap_or(policy.action()) == FailureAction::Enforce { "Deny" } else { "Audit" }]),
        failure_policy: policy.document()["spec"].get("failurePolicy").cloned(),
        variables: cel.get("variables").cloned(),
        validations: Vec::new(),
        audit_annotations: cel.get("auditAnnotations").cloned(),
        params: None,
        scope: Scope::default(),
    };
    match rule.kind {
        BodyKind::Cel => {
            scope.conditions.extend(document["celPreconditions"].as_array().into_iter().flatten().cloned());
            spec.validations = cel["expressions"].as_array().into_iter().flatten().map(|each| said(each, message)).collect();
            if let Some(kind) = cel.get("paramKind").filter(|kind| !kind.is_null()) {
                if target == Target::ValidatingPolicy {
                    return refuse("validate.cel.paramKind", "a ValidatingPolicy has no parameters");
                }
                spec.params = Some((kind.clone(), cel.get("paramRef").cloned().unwrap_or_default()));
            }
        }
        BodyKind::Pattern => {
            scope.check_builtin()?;
            let expression = pattern::expression(&document["validate"]["pattern"], "validate.pattern")?;
            spec.validations.push(said(&json!({"expression": expression}), message));
        }
        BodyKind::AnyPattern => {
            scope.check_builtin()?;
            let mut any = Vec::new();
            for (index, each) in document["validate"]["anyPattern"].as_array().into_iter().flatten().enumerate() {
                any.push(format!("({})", pattern::expression(each, &format!("validate.anyPattern[{index}]"))?));
            }
            spec.validations.push(said(&json!({"expression": any.join(" || ")}), message));
        }
        other => return refuse(other.to_string(), "has no counterpart in CEL here"),
    }
    Ok(Spec { scope, ..spec })
}

/// A validation with the rule's message, where it has none of its own.
///
/// Kubernetes takes no message of several lines, and wants one beside an expression of several lines.
fn said(validation: &Value, message: Option<&str>) -> Value {
    let mut validation = validation.clone();
    let Some(fields) = validation.as_object_mut() else { return validation };
    let own = fields.get("message").and_then(Value::as_str).filter(|message| !message.trim().is_empty());
    let is_computed = fields.contains_key("messageExpression");
    let has_lines = fields.get("expression").and_then(Value::as_str).is_some_and(|text| text.trim().contains('\n'));
    let fallback = has_lines.then_some("the object breaks the rule");
    let message = own.or(message.filter(|_| !is_computed)).or(fallback);
    if let Some(message) =
        message.map(|message| message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" "))
    {
        fields.insert("message".to_owned(), message.into());
    }
    validation
}

/// A name that no other of the policies has.
fn name_of(policy: &str, rule: Option<&str>, template: Option<Template>, names: &mut BTreeSet<String>) -> String {
    let suffix = match template {
        None => "",
        Some(Template::Controller) => "-controllers",
        Some(Template::CronJob) => "-cronjobs",
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let rule =
        rule.map_or_else(String::new, |rule| format!("-{}", rule.chars().map(plain).collect::<String>().trim_matches('-')));
    let name = format!("{policy}{rule}{suffix}");
    let mut free = name.clone();
    let mut number = 2;
    while !names.insert(free.clone()) {
        free = format!("{name}-{number}");
        number += 1;
    }
    free
}

fn worded(document: &Value, name: &str, spec: Spec, target: Target) -> Vec<Value> {
    let Spec { scope, actions, failure_policy, variables, validations, audit_annotations, params } = spec;
    let mut metadata = Map::from_iter([("name".to_owned(), json!(name))]);
    for key in ["labels", "annotations"] {
        let Some(Value::Object(entries)) = document.pointer(&format!("/metadata/{key}")) else { continue };
        let kept: Map<String, Value> = entries
            .iter()
            .filter(|(key, _)| *key != autogen::ANNOTATION)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if !kept.is_empty() {
            metadata.insert(key.to_owned(), kept.into());
        }
    }
    let mut body = Map::new();
    if target == Target::ValidatingPolicy {
        body.insert("validationActions".to_owned(), actions.clone());
        // What autogen would add is here already.
        body.insert("autogen".to_owned(), json!({"podControllers": {"controllers": []}}));
    }
    body.insert("failurePolicy".to_owned(), failure_policy.unwrap_or_else(|| json!("Fail")));
    if let Some((kind, _)) = &params {
        body.insert("paramKind".to_owned(), kind.clone());
    }
    body.insert("matchConstraints".to_owned(), scope.constraints);
    if !scope.conditions.is_empty() {
        body.insert("matchConditions".to_owned(), scope.conditions.into());
    }
    body.extend(variables.map(|variables| ("variables".to_owned(), variables)));
    body.insert("validations".to_owned(), validations.into());
    body.extend(audit_annotations.map(|annotations| ("auditAnnotations".to_owned(), annotations)));
    match target {
        Target::ValidatingPolicy => vec![json!({
            "apiVersion": "policies.kyverno.io/v1", "kind": "ValidatingPolicy", "metadata": metadata, "spec": body,
        })],
        Target::ValidatingAdmissionPolicy => {
            let mut binding = json!({"policyName": name, "validationActions": actions});
            if let Some((_, reference)) = params {
                binding["paramRef"] = reference;
            }
            let version = "admissionregistration.k8s.io/v1";
            vec![
                json!({"apiVersion": version, "kind": "ValidatingAdmissionPolicy", "metadata": metadata, "spec": body}),
                json!({
                    "apiVersion": version, "kind": "ValidatingAdmissionPolicyBinding",
                    "metadata": {"name": name}, "spec": binding,
                }),
            ]
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
#[cfg(test)]
#[path = "validating_tests.rs"]
mod validating_tests;
