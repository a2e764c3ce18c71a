//! Containers that are put into Pods inside the cluster, which a verdict given outside cannot see.

use crate::{
    anchor::{self, Kind},
    policy::Policy,
};
use muster_core::selector::Labels;
use serde_json::Value;
use std::fmt;

/// A label asks for injected containers, and a rule is about all containers of the Pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// The policy's name.
    pub policy: String,
    /// The rule's name.
    pub rule: String,
    /// The Pod or what makes it, as `Kind namespace/name`.
    pub resource: String,
    /// The label that asks for injection, with where it is.
    pub label: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, rule, resource, label } = self;
        write!(
            f,
            "{resource}: {label} adds containers in the cluster, and rule {rule} of policy {policy} is about all \
             containers: the verdict does not cover the added ones"
        )
    }
}

/// The label by which containers will be added to this Pod, if one does.
pub fn injection_label(pod: &Value, namespace_labels: Option<&Labels>) -> Option<String> {
    let of_pod = |key: &str| {
        ["labels", "annotations"]
            .into_iter()
            .find_map(|kind| pod.pointer("/metadata").and_then(|metadata| metadata.get(kind)?.get(key)?.as_str()))
    };
    match of_pod("sidecar.istio.io/inject") {
        Some("true") => return Some("label sidecar.istio.io/inject=true".to_owned()),
        Some("false") => return None,
        _ => {}
    }
    if let Some(revision) = of_pod("istio.io/rev") {
        return Some(format!("label istio.io/rev={revision}"));
    }
    let namespace = namespace_labels?;
    if namespace.get("istio-injection").is_some_and(|value| value == "enabled") {
        return Some("label istio-injection=enabled of the namespace".to_owned());
    }
    namespace.get("istio.io/rev").map(|revision| format!("label istio.io/rev={revision} of the namespace"))
}

/// Whether the rule has a pattern that every container of a Pod must fit.
pub fn covers_all_containers(policy: &Policy, rule: &str) -> bool {
    policy.patterns_of(rule).iter().any(|pattern| {
        let specs = fields_named(pattern, "spec");
        specs.into_iter().flat_map(|spec| fields_named(spec, "containers")).next().is_some()
    })
}

/// The values of a field of a pattern, under its plain name or an anchor that asks every element.
fn fields_named<'a>(pattern: &'a Value, name: &str) -> Vec<&'a Value> {
    let Value::Object(fields) = pattern else { return Vec::new() };
    let is_named = |key: &str| match anchor::parse(key) {
        Some((Kind::Existence | Kind::Negation, _)) => false,
        Some((_, field)) => field == name,
        None => key == name,
    };
    fields.iter().filter(|(key, _)| is_named(key)).map(|(_, value)| value).collect()
}
