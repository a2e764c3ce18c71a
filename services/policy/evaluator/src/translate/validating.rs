//! A `ValidatingPolicy` of Kyverno's as `ValidatingAdmissionPolicy`: the same fields, where its expressions keep to what an API
//! server knows.

use super::{Refusal, Spec, matching::Scope, refuse, said};
use crate::{Policy, autogen::Template, field::Field, policy::FailureAction, rule::Rule, validating_policy};
use regex::Regex;
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::LazyLock};

/// What Kyverno adds to the language: names of values, of libraries and of functions.
const KYVERNO_ONLY: [&str; 21] = [
    "base64",
    "cel",
    "exceptions",
    "generator",
    "globalContext",
    "gzip",
    "hash",
    "http",
    "image",
    "images",
    "json",
    "math",
    "parseImageReference",
    "parseServiceAccount",
    "random",
    "resource",
    "time",
    "transform",
    "user",
    "x509",
    "yaml",
];

/// A name that begins a term.
static ROOT: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?:^|[^\w.?])([A-Za-z_]\w*)"));
/// A name that a comprehension gives.
static BOUND: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?:all|exists|exists_one|existsOne|map|filter|optMap|optFlatMap|transformList|transformMap|transformMapEntry|sortBy)\(\s*(\w+)\s*,(?:\s*(\w+)\s*,)?",
    )
});
static TEXT: LazyLock<Regex> = LazyLock::new(|| pattern(r#""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'"#));
static VARIABLE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\bvariables\s*\.\s*(\w+)"));
/// `orValue` of what is no optional: that value in Kyverno, an error in Kubernetes.
static PLAIN_OR_VALUE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?:^|[^\w.?\])])(?:object|oldObject|request|namespaceObject)(?:\.\w+)+\.orValue\("));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern of this file")
}

/// Whether the policy as a whole has a counterpart.
pub fn check(policy: &Policy) -> Result<(), Refusal> {
    let spec = &policy.document()["spec"];
    if policy.namespace().is_some() {
        return refuse("kind", "a NamespacedValidatingPolicy is about one namespace");
    }
    if spec["evaluation"]["mode"].as_str().is_some_and(|mode| mode != "Kubernetes") {
        return refuse("spec.evaluation.mode", "is about no objects of Kubernetes");
    }
    if spec["evaluation"]["admission"]["enabled"] == false {
        return refuse("spec.evaluation.admission.enabled", "nothing is asked before it is made");
    }
    Ok(())
}

/// The policy itself, or what autogen makes of it.
pub fn one(policy: &Policy, rule: &Rule) -> Result<Spec, Refusal> {
    let document = policy.document();
    let written = &document["spec"];
    let spec = match rule.template {
        None => written.clone(),
        Some(template) => for_controllers(written, template)?,
    };
    operations_are_said(&spec["matchConstraints"])?;
    let mut known = BTreeSet::new();
    let check = |field: String, text: &Value, known: &BTreeSet<String>| match text.as_str() {
        Some(text) => kubernetes_knows(&field, text, known),
        None => Ok(()),
    };
    for (index, variable) in spec["variables"].as_array().into_iter().flatten().enumerate() {
        check(format!("spec.variables[{index}].expression"), &variable["expression"], &known)?;
        known.extend(variable["name"].as_str().map(str::to_owned));
    }
    let conditions = spec["matchConditions"].as_array().cloned().unwrap_or_default();
    for (index, condition) in conditions.iter().enumerate() {
        let field = format!("spec.matchConditions[{index}].expression");
        if condition["expression"].as_str().is_some_and(|text| VARIABLE.is_match(&TEXT.replace_all(text, "''"))) {
            return refuse(field, "a condition knows no variables");
        }
        check(field, &condition["expression"], &known)?;
    }
    let validations = spec["validations"].as_array().into_iter().flatten();
    for (index, validation) in validations.clone().enumerate() {
        for key in ["expression", "messageExpression"] {
            check(format!("spec.validations[{index}].{key}"), &validation[key], &known)?;
        }
    }
    for (index, annotation) in spec["auditAnnotations"].as_array().into_iter().flatten().enumerate() {
        check(format!("spec.auditAnnotations[{index}].valueExpression"), &annotation["valueExpression"], &known)?;
    }
    let optional = |key: &str| spec.get(key).filter(|value| value.as_array().is_some_and(|list| !list.is_empty())).cloned();
    Ok(Spec {
        scope: Scope::written(spec["matchConstraints"].clone(), conditions),
        actions: actions(policy),
        failure_policy: spec.get("failurePolicy").filter(|text| text.is_string()).cloned(),
        variables: optional("variables"),
        validations: validations.map(|validation| said(validation, None)).collect(),
        audit_annotations: optional("auditAnnotations"),
        params: None,
    })
}

/// What becomes of a violation: beside a refusal nobody is warned.
fn actions(policy: &Policy) -> Value {
    let written = policy.document()["spec"]["validationActions"].as_array().cloned().unwrap_or_default();
    match policy.action() {
        FailureAction::Enforce => json!(["Deny"]),
        FailureAction::Audit => Value::Array(written),
    }
}

fn for_controllers(spec: &Value, template: Template) -> Result<Value, Refusal> {
    let field = Field::root(spec);
    let is_wanted = validating_policy::wanted_controllers(&field).map_err(|error| (error.field, error.message))?;
    let mut spec = validating_policy::rewritten(spec, template);
    let rule = spec.pointer("/matchConstraints/resourceRules/0").cloned().unwrap_or_default();
    let rules: Vec<Value> = validating_policy::CONTROLLERS
        .into_iter()
        .filter(|(_, resource, place)| *place == template && is_wanted(resource))
        .map(|(group, resource, _)| {
            let mut rule = rule.clone();
            rule["apiGroups"] = json!([group]);
            rule["resources"] = json!([resource]);
            rule
        })
        .collect();
    spec["matchConstraints"]["resourceRules"] = rules.into();
    Ok(spec)
}

fn operations_are_said(constraints: &Value) -> Result<(), Refusal> {
    for (index, rule) in constraints["resourceRules"].as_array().into_iter().flatten().enumerate() {
        if rule["operations"].as_array().is_none_or(Vec::is_empty) {
            let field = format!("spec.matchConstraints.resourceRules[{index}].operations");
            return refuse(field, "an admission policy has to say them");
        }
    }
    Ok(())
}

/// Whether the expression keeps to what an API server knows, and to variables that stand before it.
pub fn kubernetes_knows(field: &str, expression: &str, known: &BTreeSet<String>) -> Result<(), Refusal> {
    let code = TEXT.replace_all(expression, "''");
    let bound: BTreeSet<&str> =
        BOUND.captures_iter(&code).flat_map(|found| [found.get(1), found.get(2)]).flatten().map(|name| name.as_str()).collect();
    // A value is looked into, a function called; alone a name may be that of a field in a map.
    let is_used = |end: usize| code[end..].trim_start().starts_with(['.', '(', '[']);
    let found = ROOT.captures_iter(&code).filter_map(|found| found.get(1));
    let mut roots = found.filter(|name| is_used(name.end())).map(|name| name.as_str());
    if let Some(name) = roots.find(|name| KYVERNO_ONLY.contains(name) && !bound.contains(name)) {
        return refuse(field, format!("{name} is Kyverno's, and no API server knows it"));
    }
    if PLAIN_OR_VALUE.is_match(&code) {
        return refuse(field, "orValue is asked of what is no optional");
    }
    let mut variables = VARIABLE.captures_iter(&code).filter_map(|found| found.get(1)).map(|name| name.as_str());
    match variables.find(|name| !known.contains(*name)) {
        Some(name) => refuse(field, format!("the variable {name} stands behind it")),
        None => Ok(()),
    }
}
