//! Kyverno's documents, worded so that Kyverno in the cluster refuses what the bindings refuse.

use super::distribution::Held;
use serde_json::{Map, Value, json};

/// The document with the bindings' actions written into it, where they differ from its own.
///
/// Kyverno knows an action for the whole policy and overrides by namespace, so a binding to some namespaces that
/// refuses becomes *audit* everywhere and *enforce* there.
pub(super) fn worded(held: &[Held]) -> Value {
    let Some(first) = held.first() else { return Value::Null };
    let mut document = first.document.value().clone();
    let is_own = held.iter().all(|entry| entry.enforce.is_none() && entry.namespaces.is_empty());
    if is_own || first.document.judged().is_none() {
        return document;
    }
    let is_classic = document["apiVersion"].as_str().is_some_and(|version| version.starts_with("kyverno.io/"));
    if let Some(Value::Object(spec)) = document.get_mut("spec").filter(|_| !is_classic) {
        let (everywhere, somewhere) = places(held, first.document.enforces());
        let audits_somewhere = held.iter().any(|entry| !entry.enforces());
        word_actions(spec, everywhere, audits_somewhere, &somewhere);
    } else if let Some(Value::Object(spec)) = document.get_mut("spec") {
        word_rules(spec, held);
    }
    document
}

/// Whether the bindings refuse everywhere, and the namespaces where they do; `by_itself` is what holds where one says nothing.
fn places(held: &[Held], by_itself: bool) -> (bool, Vec<&String>) {
    let refusing = || held.iter().filter(|entry| entry.enforce.unwrap_or(by_itself));
    (refusing().any(|entry| entry.namespaces.is_empty()), refusing().flat_map(|entry| &entry.namespaces).collect())
}

/// The policy's action, and that of each rule which has one of its own: a binding that says nothing leaves a rule its own.
fn word_rules(spec: &mut Map<String, Value>, held: &[Held]) {
    let is_enforce =
        |value: Option<&Value>| value.and_then(Value::as_str).is_some_and(|text| text.eq_ignore_ascii_case("enforce"));
    let by_itself = is_enforce(spec.get("validationFailureAction"));
    word(spec, ["validationFailureAction", "validationFailureActionOverrides"], &places(held, by_itself));
    let is_said = held.iter().all(|entry| entry.enforce.is_some());
    for rule in spec.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(Value::Object(validate)) = rule.get_mut("validate") else { continue };
        match validate.get("failureAction").filter(|_| !is_said) {
            None => {
                validate.remove("failureAction");
                validate.remove("failureActionOverrides");
            }
            own => {
                let places = places(held, is_enforce(own));
                word(validate, ["failureAction", "failureActionOverrides"], &places);
            }
        }
    }
}

fn word(fields: &mut Map<String, Value>, [action, overrides]: [&str; 2], (everywhere, somewhere): &(bool, Vec<&String>)) {
    fields.insert(action.to_owned(), json!(if *everywhere { "Enforce" } else { "Audit" }));
    fields.remove(overrides);
    if !everywhere && !somewhere.is_empty() {
        fields.insert(overrides.to_owned(), json!([{"action": "Enforce", "namespaces": somewhere}]));
    }
}

/// Kyverno's kinds in CEL know their actions and nothing by namespace: where a policy is bound to some namespaces only, and
/// refuses there, a condition keeps it out of the others. Where it is also to be reported elsewhere the cluster reports
/// everywhere, and what refuses is the check before delivery.
fn word_actions(spec: &mut Map<String, Value>, everywhere: bool, audits_somewhere: bool, somewhere: &[&String]) {
    let refuses = everywhere || (!somewhere.is_empty() && !audits_somewhere);
    spec.insert("validationActions".to_owned(), json!([if refuses { "Deny" } else { "Audit" }]));
    if refuses && !everywhere {
        bound_to(spec, somewhere);
    }
}

/// Keeps a policy in CEL to the namespaces of its bindings, by a condition.
pub(super) fn bound_to(spec: &mut Map<String, Value>, namespaces: &[&String]) {
    let alternatives: Vec<String> = namespaces.iter().map(|pattern| expression_of(pattern)).collect();
    let expression = format!("request.namespace.matches('^({})$')", alternatives.join("|"));
    let condition = json!({"name": "bound-namespaces", "expression": expression});
    if let Value::Array(conditions) = spec.entry("matchConditions").or_insert_with(|| json!([])) {
        conditions.push(condition);
    }
}

/// A wildcard over namespaces as a regular expression.
fn expression_of(pattern: &str) -> String {
    pattern
        .chars()
        .map(|c| match c {
            '*' => "[a-z0-9-]*".to_owned(),
            '?' => "[a-z0-9-]".to_owned(),
            c if c.is_ascii_alphanumeric() || c == '-' => c.to_string(),
            // No namespace has another character.
            _ => "[^a-z0-9-]".to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::PolicyDocument;
    use std::sync::Arc;

    fn held(enforce: Option<bool>, namespaces: &[&str]) -> Held {
        let document = json!({
            "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "p"},
            "spec": {
                "validationFailureAction": "enforce",
                "rules": [{
                    "name": "r", "match": {"any": [{"resources": {"kinds": ["Pod"]}}]},
                    "validate": {"failureAction": "Enforce", "pattern": {"a": "b"}},
                }],
            },
        });
        Held {
            document: Arc::new(PolicyDocument::parse(&document).expect("a policy")),
            enforce,
            namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn spec(held: Vec<Held>) -> Value {
        worded(&held)["spec"].clone()
    }

    #[test]
    fn a_policy_bound_as_it_is_goes_out_as_it_is() {
        let own = held(None, &[]);
        assert_eq!(spec(vec![own.clone(), own.clone()]), own.document.value()["spec"]);
    }

    #[test]
    fn the_bindings_action_is_written_into_the_document() {
        let audited = spec(vec![held(Some(false), &[])]);
        assert_eq!(audited["validationFailureAction"], "Audit");
        assert_eq!(audited["rules"][0]["validate"].get("failureAction"), None);
        assert_eq!(spec(vec![held(Some(false), &[]), held(Some(true), &[])])["validationFailureAction"], "Enforce");
    }

    #[test]
    fn a_binding_to_some_namespaces_refuses_there_only() {
        let spec = spec(vec![held(Some(true), &["ml"]), held(Some(false), &["web"])]);
        assert_eq!(spec["validationFailureAction"], "Audit");
        assert_eq!(spec["validationFailureActionOverrides"], json!([{"action": "Enforce", "namespaces": ["ml"]}]));
    }

    #[test]
    fn a_rule_keeps_its_own_action_where_a_binding_says_none() {
        let mut value = held(None, &[]).document.value().clone();
        value["spec"]["validationFailureAction"] = json!("Audit");
        value["spec"]["rules"][0]["validate"]["failureAction"] = json!("enforce");
        let mut other = value["spec"]["rules"][0].clone();
        other["name"] = json!("s");
        other["validate"]["failureAction"] = json!("Audit");
        value["spec"]["rules"].as_array_mut().expect("rules").push(other);
        let document = Arc::new(PolicyDocument::parse(&value).expect("a policy"));
        assert!(document.enforces());
        let spec = spec(vec![Held { document, enforce: None, namespaces: vec!["ml".to_owned()] }]);
        let overrides = json!([{"action": "Enforce", "namespaces": ["ml"]}]);
        assert_eq!((&spec["validationFailureAction"], spec.get("validationFailureActionOverrides")), (&json!("Audit"), None));
        let actions = |rule: usize| {
            let validate = &spec["rules"][rule]["validate"];
            (validate["failureAction"].clone(), validate.get("failureActionOverrides").cloned())
        };
        assert_eq!(actions(0), (json!("Audit"), Some(overrides)));
        assert_eq!(actions(1), (json!("Audit"), None));
    }

    #[test]
    fn a_validating_policy_says_its_bindings_in_its_own_words() {
        let document = json!({
            "apiVersion": "policies.kyverno.io/v1", "kind": "ValidatingPolicy", "metadata": {"name": "v"},
            "spec": {
                "validationActions": ["Warn"],
                "matchConstraints": {"resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["services"]},
                ]},
                "validations": [{"expression": "true"}],
            },
        });
        let document = Arc::new(PolicyDocument::parse(&document).expect("a policy"));
        let held = |enforce: bool, namespaces: &[&str]| Held {
            document: Arc::clone(&document),
            enforce: Some(enforce),
            namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
        };
        let audited = spec(vec![held(false, &[])]);
        assert_eq!((&audited["validationActions"], audited.get("validationFailureAction")), (&json!(["Audit"]), None));
        assert_eq!(spec(vec![held(true, &[]), held(false, &[])])["validationActions"], json!(["Deny"]));
        let there = spec(vec![held(true, &["ml-*", "web"])]);
        assert_eq!(there["validationActions"], json!(["Deny"]));
        assert_eq!(there["matchConditions"][0]["expression"], "request.namespace.matches('^(ml-[a-z0-9-]*|web)$')");
        assert_eq!(spec(vec![held(true, &["ml"]), held(false, &["web"])])["validationActions"], json!(["Audit"]));
    }
}
