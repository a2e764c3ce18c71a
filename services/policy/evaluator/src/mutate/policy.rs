//! `MutatingPolicy` of `policies.kyverno.io`: changes written in CEL.
//!
//! An *apply configuration* is merged into the object, a *JSON patch* is applied to it; each change sees what the one
//! before it made. Where a policy is about Pods and nothing else, autogen's rules change the template of a controller as
//! if it were a Pod.

use super::{json_patch, merge};
use crate::{
    autogen::Template,
    body::{Body, BodyKind, cel::CelBody},
    cel::Program,
    constraints::Constraints,
    evaluate::{Outcome, Request},
    expression::NoValue,
    facts,
    field::{Field, PolicyError},
    rule::{About, Rule},
    validating_policy::{CONTROLLERS, wanted_controllers},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// Changes of one policy.
const MAX_CHANGES: usize = 100;

/// A compiled `MutatingPolicy`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CelMutation {
    body: Arc<CelBody>,
    changes: Arc<Vec<Change>>,
    template: Option<Template>,
}

#[derive(Debug, PartialEq)]
enum Change {
    Apply(Program),
    Patch(Program),
}

/// The rule of the policy and those of autogen.
pub fn rules(name: &str, spec: &Field<'_>) -> Result<Vec<Rule>, PolicyError> {
    let constraints = spec.get("matchConstraints");
    if constraints.value().is_none() {
        return Err(constraints.error("is missing"));
    }
    let constraints = Constraints::parse(&constraints)?;
    let mutation = CelMutation::parse(spec)?;
    let mut rules = vec![rule(name.to_owned(), constraints.clone(), mutation.clone())];
    let is_wanted = wanted_controllers(spec)?;
    for (template, suffix) in [(Template::Controller, "defaults"), (Template::CronJob, "cronjobs")] {
        let controllers: Vec<(&str, &str)> = CONTROLLERS
            .into_iter()
            .filter(|(_, resource, place)| *place == template && is_wanted(resource))
            .map(|(group, resource, _)| (group, resource))
            .collect();
        if controllers.is_empty() {
            continue;
        }
        if let Some(constraints) = constraints.for_controllers(&controllers) {
            let mutation = mutation.clone().map(|mutation| CelMutation { template: Some(template), ..mutation });
            rules.push(rule(format!("autogen-{suffix}-{name}"), constraints, mutation));
        }
    }
    Ok(rules)
}

fn rule(name: String, constraints: Constraints, mutation: Result<CelMutation, String>) -> Rule {
    let (reason, mutation) = match mutation {
        Ok(mutation) => ("mutating policies change objects and are not evaluated".to_owned(), Some(mutation)),
        Err(reason) => (reason, None),
    };
    let mut rule = Rule::in_cel(name, About::Constraints(constraints), BodyKind::MutatingPolicy, Body::Unknown(reason));
    rule.mutation = mutation.map(super::Mutation::Cel);
    rule
}

impl CelMutation {
    /// Reads the `spec`. The inner error is the reason why an expression of it can't be read.
    fn parse(spec: &Field<'_>) -> Result<Result<Self, String>, PolicyError> {
        let listed = spec.get("mutations").list()?;
        if listed.is_empty() || listed.len() > MAX_CHANGES {
            return Err(spec.get("mutations").error(format!("must hold 1 to {MAX_CHANGES} entries")));
        }
        let mut changes = Vec::with_capacity(listed.len());
        for entry in &listed {
            let (apply, patch) = (entry.get("applyConfiguration"), entry.get("jsonPatch"));
            let expression = if apply.value().is_some() { &apply } else { &patch }.get("expression").required_text()?;
            match Program::compile(&expression) {
                Ok(program) if apply.value().is_some() => changes.push(Change::Apply(program)),
                Ok(program) => changes.push(Change::Patch(program)),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        let programs = changes.iter().map(|change| match change {
            Change::Apply(program) | Change::Patch(program) => program,
        });
        let body = CelBody::of_changes(spec, programs)?;
        Ok(body.map(|body| Self { body, changes: Arc::new(changes), template: None }))
    }

    /// Changes the object; `None` where a match condition keeps it out.
    pub fn run(&self, request: &Request<'_>, object: &mut Value) -> Option<Outcome> {
        let before = object.clone();
        let mut pod = match self.template {
            None => before.clone(),
            Some(template) => pod_of(&before, template)?,
        };
        let untouched = pod.clone();
        if let Some(outcome) = self.conditions(request, &pod) {
            return outcome;
        }
        for change in self.changes.iter() {
            let program = match change {
                Change::Apply(program) | Change::Patch(program) => program,
            };
            let seen = pod.clone();
            let made = match self.body.value(&Request { object: &seen, ..*request }, program) {
                Ok(made) => made,
                Err(NoValue::NotGiven(reason)) => return Some(Outcome::NotEvaluated { reason }),
                Err(error) => return Some(Outcome::Error { message: error.to_string() }),
            };
            match change {
                Change::Apply(_) => {
                    let named_lists = merge::has_named_lists(&pod);
                    merge::merge(&mut pod, &made, named_lists, merge::New::Last);
                }
                Change::Patch(_) => {
                    if let Err(message) = json_patch::apply(&mut pod, &made) {
                        return Some(Outcome::Error { message });
                    }
                }
            }
        }
        if pod == untouched {
            return Some(Outcome::Skip { reason: "nothing is changed".to_owned() });
        }
        match self.template {
            None => *object = pod,
            Some(template) => put_back(object, &pod, template),
        }
        Some(Outcome::Pass)
    }

    /// What the match conditions answer instead of the changes, if anything.
    fn conditions(&self, request: &Request<'_>, pod: &Value) -> Option<Option<Outcome>> {
        match self.body.judge(&Request { object: pod, ..*request }) {
            Some(Outcome::Pass) => None,
            other => Some(other),
        }
    }
}

/// A controller's template as the Pod it makes.
fn pod_of(object: &Value, template: Template) -> Option<Value> {
    let place = facts::at(object, &format!("/{}", template.path().replace('.', "/")))?;
    let mut metadata = place.get("metadata").cloned().filter(Value::is_object).unwrap_or_else(|| json!({}));
    for key in ["name", "namespace"] {
        if let Some(value) = object.pointer(&format!("/metadata/{key}")) {
            metadata[key] = value.clone();
        }
    }
    Some(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": place.get("spec")?}))
}

fn put_back(object: &mut Value, pod: &Value, template: Template) {
    let Some(place) = object.pointer_mut(&format!("/{}", template.path().replace('.', "/"))) else { return };
    let Value::Object(place) = place else { return };
    let mut metadata = pod.get("metadata").cloned().unwrap_or_default();
    if let Value::Object(fields) = &mut metadata {
        fields.retain(|key, _| key != "name" && key != "namespace");
        if !fields.is_empty() {
            place.insert("metadata".to_owned(), metadata);
        }
    }
    place.insert("spec".to_owned(), pod.get("spec").cloned().unwrap_or_default());
}
