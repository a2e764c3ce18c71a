//! What a cluster is given: each policy once, worded so that Kyverno there refuses what the bindings refuse, and the
//! exceptions from them.

use super::PolicyDocument;
use muster_core::bundle;
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// A binding as one cluster sees it.
#[derive(Debug, Clone)]
pub struct Held {
    /// The policy.
    pub document: Arc<PolicyDocument>,
    /// Overrides the policy's own action.
    pub enforce: Option<bool>,
    /// Where it holds; empty: everywhere.
    pub namespaces: Vec<String>,
}

/// Where a policy holds in the cluster, for its agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyBinding {
    /// The policy's name.
    pub policy: String,
    /// Namespaces; empty: all.
    pub namespaces: Vec<String>,
    /// Whether violations are refused.
    pub enforce: bool,
}

/// All a cluster holds of policies.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterContent {
    /// The policies in name order, and then the exceptions.
    pub manifests: Vec<Value>,
    /// Where they hold.
    pub bindings: Vec<PolicyBinding>,
    /// Whether the documents are applied to the cluster, which runs Kyverno.
    pub install: bool,
}

impl ClusterContent {
    /// From what holds in the cluster, and what is excused from it. Exceptions without policies excuse from nothing.
    pub fn of(held: Vec<Held>, exceptions: Vec<Arc<PolicyDocument>>, runs_kyverno: bool) -> Self {
        let mut by_name: BTreeMap<String, Vec<Held>> = BTreeMap::new();
        for entry in held {
            by_name.entry(entry.document.name().to_owned()).or_default().push(entry);
        }
        let mut content = Self { manifests: Vec::new(), bindings: Vec::new(), install: runs_kyverno };
        for (name, held) in by_name {
            content.manifests.push(worded(&held));
            for entry in held {
                let enforce = entry.enforce.unwrap_or_else(|| entry.document.enforces());
                content.bindings.push(PolicyBinding { policy: name.clone(), namespaces: entry.namespaces, enforce });
            }
        }
        if !content.manifests.is_empty() {
            let by_name: BTreeMap<String, Arc<PolicyDocument>> =
                exceptions.into_iter().map(|document| (document.name().to_owned(), document)).collect();
            content.manifests.extend(by_name.into_values().map(|document| document.value().clone()));
        }
        content
    }

    /// Names of the policies, in order, each once.
    pub fn policies(&self) -> Vec<String> {
        let mut names: Vec<String> = self.bindings.iter().map(|binding| binding.policy.clone()).collect();
        names.dedup();
        names
    }

    /// Digest over all of it: equal for what needs no sending.
    pub fn digest(&self) -> String {
        let bindings: Vec<Value> =
            self.bindings.iter().map(|binding| json!([binding.policy, binding.namespaces, binding.enforce])).collect();
        bundle::digest(&[json!(self.manifests), json!(bindings), json!(self.install)]).to_string()
    }
}

/// The document with the bindings' actions written into it, where they differ from its own.
///
/// Kyverno knows an action for the whole policy and overrides by namespace, so a binding to some namespaces that
/// refuses becomes *audit* everywhere and *enforce* there.
fn worded(held: &[Held]) -> Value {
    let Some(first) = held.first() else { return Value::Null };
    let mut document = first.document.value().clone();
    let is_own = held.iter().all(|entry| entry.enforce.is_none() && entry.namespaces.is_empty());
    if is_own || first.document.judged().is_none() {
        return document;
    }
    let enforces = |entry: &&Held| entry.enforce.unwrap_or_else(|| entry.document.enforces());
    let everywhere = held.iter().filter(enforces).any(|entry| entry.namespaces.is_empty());
    let somewhere: Vec<&String> = held.iter().filter(enforces).flat_map(|entry| &entry.namespaces).collect();
    let is_classic = document["apiVersion"].as_str().is_some_and(|version| version.starts_with("kyverno.io/"));
    if let Some(Value::Object(spec)) = document.get_mut("spec").filter(|_| !is_classic) {
        let audits_somewhere = held.iter().any(|entry| !enforces(&entry));
        word_actions(spec, everywhere, audits_somewhere, &somewhere);
    } else if let Some(Value::Object(spec)) = document.get_mut("spec") {
        spec.insert("validationFailureAction".to_owned(), json!(if everywhere { "Enforce" } else { "Audit" }));
        spec.remove("validationFailureActionOverrides");
        if !everywhere && !somewhere.is_empty() {
            let overrides = json!([{"action": "Enforce", "namespaces": somewhere}]);
            spec.insert("validationFailureActionOverrides".to_owned(), overrides);
        }
        for rule in spec.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(Value::Object(validate)) = rule.get_mut("validate") {
                validate.remove("failureAction");
                validate.remove("failureActionOverrides");
            }
        }
    }
    document
}

/// Kyverno's kinds in CEL know their actions and nothing by namespace: where a policy is bound to some namespaces only, and
/// refuses there, a condition keeps it out of the others. Where it is also to be reported elsewhere the cluster reports
/// everywhere, and what refuses is the check before delivery.
fn word_actions(spec: &mut Map<String, Value>, everywhere: bool, audits_somewhere: bool, somewhere: &[&String]) {
    let refuses = everywhere || (!somewhere.is_empty() && !audits_somewhere);
    spec.insert("validationActions".to_owned(), json!([if refuses { "Deny" } else { "Audit" }]));
    if refuses && !everywhere {
        let alternatives: Vec<String> = somewhere.iter().map(|pattern| expression_of(pattern)).collect();
        let expression = format!("request.namespace.matches('^({})$')", alternatives.join("|"));
        let condition = json!({"name": "bound-namespaces", "expression": expression});
        if let Value::Array(conditions) = spec.entry("matchConditions").or_insert_with(|| json!([])) {
            conditions.push(condition);
        }
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
        ClusterContent::of(held, vec![], true).manifests[0]["spec"].clone()
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

    #[test]
    fn equal_content_has_equal_digests_and_any_difference_another() {
        let one = ClusterContent::of(vec![held(None, &[])], vec![], true);
        assert_eq!(one.digest(), ClusterContent::of(vec![held(None, &[])], vec![], true).digest());
        assert_ne!(one.digest(), ClusterContent::of(vec![held(None, &[])], vec![], false).digest());
        assert_ne!(one.digest(), ClusterContent::of(vec![held(None, &["ml"])], vec![], true).digest());
        assert_eq!(one.policies(), ["p"]);
    }
}
