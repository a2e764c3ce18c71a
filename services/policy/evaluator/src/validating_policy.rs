//! `ValidatingPolicy` and `NamespacedValidatingPolicy` of `policies.kyverno.io`, read as rules.
//!
//! A policy is one rule of its own name; where it is about Pods and nothing else, autogen adds one for their
//! controllers and one for CronJobs.

use crate::{
    autogen::{Template, replace_texts},
    body::{BodyKind, cel::CelBody},
    constraints::Constraints,
    field::{Field, PolicyError},
    policy::FailureAction,
    rule::{About, Rule},
};
use serde_json::Value;

/// The controllers of autogen: group, resource, and where the Pod's template is.
pub const CONTROLLERS: [(&str, &str, Template); 6] = [
    ("apps", "daemonsets", Template::Controller),
    ("apps", "deployments", Template::Controller),
    ("batch", "jobs", Template::Controller),
    ("apps", "replicasets", Template::Controller),
    ("apps", "statefulsets", Template::Controller),
    ("batch", "cronjobs", Template::CronJob),
];

/// Whether it is a version these kinds are served in.
pub fn is_served(api_version: &str) -> bool {
    matches!(api_version, "policies.kyverno.io/v1" | "policies.kyverno.io/v1beta1" | "policies.kyverno.io/v1alpha1")
}

/// What becomes of a violation: refused where `validationActions` names `Deny`, which is the default.
pub fn action(spec: &Field<'_>) -> Result<FailureAction, PolicyError> {
    let actions = spec.get("validationActions").texts()?;
    for (index, action) in actions.iter().enumerate() {
        if !matches!(action.as_str(), "Deny" | "Audit" | "Warn") {
            return Err(spec.get("validationActions").error(format!("entry {index}, {action:?}, is not Deny, Audit or Warn")));
        }
    }
    let refuses = actions.is_empty() || actions.iter().any(|action| action == "Deny");
    Ok(if refuses { FailureAction::Enforce } else { FailureAction::Audit })
}

/// The rule of the policy and those of autogen.
pub fn rules(name: &str, spec: &Field<'_>) -> Result<Vec<Rule>, PolicyError> {
    let constraints = spec.get("matchConstraints");
    if constraints.value().is_none() {
        return Err(constraints.error("is missing"));
    }
    if spec.get("validations").list()?.is_empty() {
        return Err(spec.get("validations").error("must hold at least one"));
    }
    let constraints = Constraints::parse(&constraints)?;
    let mut rules = vec![rule(name.to_owned(), constraints.clone(), spec)?];
    let is_wanted = wanted_controllers(spec)?;
    for (template, suffix) in [(Template::Controller, "defaults"), (Template::CronJob, "cronjobs")] {
        let controllers: Vec<(&str, &str)> = CONTROLLERS
            .into_iter()
            .filter(|(_, resource, place)| *place == template && is_wanted(resource))
            .map(|(group, resource, _)| (group, resource))
            .collect();
        let Some(constraints) = constraints.for_controllers(&controllers).filter(|_| !controllers.is_empty()) else {
            continue;
        };
        let value = rewritten(spec.value().unwrap_or(&Value::Null), template);
        let mut generated = rule(format!("autogen-{suffix}-{name}"), constraints, &spec.with_value(&value))?;
        generated.template = Some(template);
        rules.push(generated);
    }
    Ok(rules)
}

/// The spec as it is for what makes Pods; what it is about stays as it is.
pub fn rewritten(spec: &Value, template: Template) -> Value {
    let mut spec = spec.clone();
    for key in ["matchConditions", "variables", "validations", "auditAnnotations"] {
        if let Some(part) = spec.get_mut(key) {
            replace_texts(part, &replaced(template));
        }
    }
    spec
}

/// Which controllers autogen adds rules for; all where the policy does not say.
pub fn wanted_controllers(spec: &Field<'_>) -> Result<impl Fn(&str) -> bool, PolicyError> {
    let named = spec.get("autogen").get("podControllers").get("controllers");
    let wanted = named.value().is_some().then(|| named.texts()).transpose()?;
    Ok(move |resource: &str| wanted.as_ref().is_none_or(|wanted| wanted.iter().any(|name| name == resource)))
}

/// `object.spec` becomes the template's, and so does `object.metadata`, except name and namespace, which a template does
/// not have.
fn replaced(template: Template) -> Vec<(String, String)> {
    let path = template.path();
    let mut replaced = Vec::new();
    for root in ["object", "oldObject"] {
        replaced.push((format!("{root}.spec"), format!("{root}.{path}.spec")));
        replaced.push((format!("{root}.metadata"), format!("{root}.{path}.metadata")));
        for kept in ["namespace", "name"] {
            replaced.push((format!("{root}.{path}.metadata.{kept}"), format!("{root}.metadata.{kept}")));
        }
    }
    replaced
}

fn rule(name: String, constraints: Constraints, spec: &Field<'_>) -> Result<Rule, PolicyError> {
    Ok(Rule::in_cel(name, About::Constraints(constraints), BodyKind::ValidatingPolicy, CelBody::of_policy(spec)?))
}
