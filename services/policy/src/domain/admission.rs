//! Policies for clusters without Kyverno: Kubernetes' own `ValidatingAdmissionPolicy`, with a binding each.

use super::{PolicyDocument, distribution::Held, wording::bound_to};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};

/// The policy as the API server enforces it, where the bindings say and as they say.
///
/// # Errors
/// Why it cannot, by rule and field.
pub(super) fn admission(held: &[Held], exceptions: &[Arc<PolicyDocument>]) -> Result<Vec<Value>, String> {
    let Some(first) = held.first() else { return Ok(Vec::new()) };
    let excusing: Vec<&Value> = exceptions
        .iter()
        .filter(|exception| exception.excuses_from(first.document.name()))
        .map(|exception| exception.value())
        .collect();
    let translated = first.document.translated(&excusing)?;
    let mut documents = Vec::new();
    for pair in translated.chunks(2) {
        let [policy, binding] = pair else { return Err("its translation has no binding".to_owned()) };
        let denies = binding["spec"]["validationActions"].as_array().is_some_and(|actions| actions.contains(&json!("Deny")));
        let (deny, audit) = places(held, denies);
        let name = policy["metadata"]["name"].as_str().unwrap_or_default();
        // Who is refused everywhere need not be told besides.
        let audit = audit.filter(|_| deny != Some(Place::Everywhere));
        let audited = if deny.is_some() { format!("{name}-audit") } else { name.to_owned() };
        if let Some(place) = deny {
            documents.extend(copy(policy, binding, name, &place, &json!(["Deny"])));
        }
        if let Some(place) = audit {
            documents.extend(copy(policy, binding, &audited, &place, &json!(["Audit", "Warn"])));
        }
    }
    Ok(documents)
}

/// Where an action holds.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Everywhere,
    Namespaces(BTreeSet<String>),
}

/// Where is refused and where is reported; `denies` is what the policy says by itself.
fn places(held: &[Held], denies: bool) -> (Option<Place>, Option<Place>) {
    let place = |enforces: bool| {
        let mut entries = held.iter().filter(|entry| entry.enforce.unwrap_or(denies) == enforces).peekable();
        entries.peek()?;
        let mut namespaces = BTreeSet::new();
        for entry in entries {
            if entry.namespaces.is_empty() {
                return Some(Place::Everywhere);
            }
            namespaces.extend(entry.namespaces.iter().cloned());
        }
        Some(Place::Namespaces(namespaces))
    };
    (place(true), place(false))
}

fn copy(policy: &Value, binding: &Value, name: &str, place: &Place, actions: &Value) -> [Value; 2] {
    let (mut policy, mut binding) = (policy.clone(), binding.clone());
    policy["metadata"]["name"] = json!(name);
    if let (Place::Namespaces(namespaces), Some(spec)) = (place, policy["spec"].as_object_mut()) {
        bound_to(spec, &namespaces.iter().collect::<Vec<_>>());
    }
    binding["metadata"]["name"] = json!(name);
    binding["spec"]["policyName"] = json!(name);
    binding["spec"]["validationActions"] = actions.clone();
    [policy, binding]
}
