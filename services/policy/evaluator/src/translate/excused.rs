//! Exceptions as conditions: a translated policy is not about what an exception excuses from it.
//!
//! An exception's condition that goes wrong excuses nothing in Kyverno; in an API server it counts as the policy's failure
//! policy says, which is the stricter of both.

use super::{Refusal, matching, refuse, validating::kubernetes_knows};
use crate::{Policy, PolicyException, exception::Asked, rule::Rule};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What an exception makes of a rule.
pub enum Excused {
    /// It does not name it.
    No,
    /// Objects for which this holds are not asked.
    Where(String),
    /// Nothing is asked.
    Always,
}

/// Whether, and where, the exception excuses from the rule.
pub fn excused(policy: &Policy, rule: &Rule, exception: &PolicyException, document: &Value) -> Result<Excused, Refusal> {
    let kind = policy.document()["kind"].as_str().unwrap_or_default();
    if !exception.names(&Asked { kind, namespace: policy.namespace(), policy: policy.name(), rule: &rule.name }) {
        return Ok(Excused::No);
    }
    let at = |field: String| format!("exception {}: {field}", exception.name());
    let spec = &document["spec"];
    let is_given = |key: &str| match &spec[key] {
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => fields.values().any(|list| list.as_array().is_none_or(|items| !items.is_empty())),
        _ => false,
    };
    if document["apiVersion"].as_str().is_some_and(|version| version.starts_with("policies.kyverno.io/")) {
        let mut terms = Vec::new();
        for (index, condition) in spec["matchConditions"].as_array().into_iter().flatten().enumerate() {
            let text = condition["expression"].as_str().unwrap_or_default();
            kubernetes_knows(&at(format!("spec.matchConditions[{index}].expression")), text, &BTreeSet::new())?;
            terms.push(format!("({text})"));
        }
        return Ok(if terms.is_empty() { Excused::Always } else { Excused::Where(terms.join(" && ")) });
    }
    if is_given("conditions") {
        return refuse(at("spec.conditions".to_owned()), "JMESPath has no counterpart");
    }
    if is_given("podSecurity") {
        return refuse(at("spec.podSecurity".to_owned()), "has no counterpart");
    }
    match matching::holds(&spec["match"], "spec.match").map_err(|(field, reason)| (at(field), reason))? {
        Some(expression) => Ok(Excused::Where(expression)),
        None => Ok(Excused::Always),
    }
}

/// A condition that keeps a policy out of where an exception excuses.
pub fn condition(number: usize, expression: &str) -> Value {
    json!({"name": format!("excused-{number}"), "expression": format!("!({expression})")})
}
