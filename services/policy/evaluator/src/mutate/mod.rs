//! What admission would change: `mutate` rules of `ClusterPolicy` and `Policy`, and `MutatingPolicy`, over an object that is
//! not there yet.
//!
//! Rules run in the policy's order, each over what the one before it made. A rule that changes nothing is skipped, and so
//! is one whose global anchor is not met. Targets that exist already (`mutateExisting`) are not touched.

mod anchors;
mod json_patch;
pub(crate) mod merge;
pub(crate) mod policy;

use crate::{
    evaluate::{Outcome, Request},
    facts::Truth,
    field::{Field, PolicyError},
    gate::Gate,
    jmespath::{JmesError, Program},
    policy::Policy,
    variables::{Context, Template},
};
use anchors::Unmet;
use muster_core::manifest::parse_value;
use serde_json::Value;
use std::{borrow::Cow, rc::Rc};

/// `foreach` inside of `foreach`.
const MAX_DEPTH: usize = 8;
/// Nesting of a patch.
const MAX_PATCH_DEPTH: usize = 64;

/// What a `mutate` rule answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Mutated {
    /// The rule's name, with autogen's prefix.
    pub rule: String,
    /// *Pass* where it changed the object.
    pub outcome: Outcome,
    /// The object after the rule.
    pub object: Value,
}

/// A compiled `mutate`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Mutation {
    Merge(Template),
    /// A text in YAML, variables first, or a list.
    JsonPatch(Template),
    Foreach(Vec<Foreach>),
    /// Of a `MutatingPolicy`.
    Cel(policy::CelMutation),
}

/// A list and what its elements change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Foreach {
    list: Program,
    gate: Gate,
    mutation: Mutation,
    descending: bool,
    depth: usize,
}

/// Why a rule changes nothing.
enum Stop {
    Skipped(&'static str),
    Wrong(JmesError),
}

impl From<JmesError> for Stop {
    fn from(error: JmesError) -> Self {
        Self::Wrong(error)
    }
}

impl Mutation {
    /// Reads a `mutate`. The inner error is the reason why it is not understood.
    pub fn parse(mutate: &Field<'_>, depth: usize) -> Result<Result<Self, String>, PolicyError> {
        if !mutate.get("targets").list()?.is_empty() {
            return Ok(Err("objects that exist already are not changed here".to_owned()));
        }
        let template = |field: &Field<'_>| Template::compile(field.value().unwrap_or(&Value::Null));
        let (merge, patch, foreach) = (mutate.get("patchStrategicMerge"), mutate.get("patchesJson6902"), mutate.get("foreach"));
        if let Some(value) = merge.value() {
            if deeper_than(value, MAX_PATCH_DEPTH) {
                return Err(merge.error(format!("is nested deeper than {MAX_PATCH_DEPTH} levels")));
            }
            return Ok(template(&merge).map(Self::Merge).map_err(|error| error.to_string()));
        }
        if patch.value().is_some() {
            return Ok(template(&patch).map(Self::JsonPatch).map_err(|error| error.to_string()));
        }
        if foreach.value().is_some() {
            if depth >= MAX_DEPTH {
                return Err(foreach.error(format!("is nested deeper than {MAX_DEPTH} levels")));
            }
            let all: Result<Result<Vec<Foreach>, String>, PolicyError> =
                foreach.list()?.iter().map(|each| Foreach::parse(each, depth)).collect();
            return Ok(all?.map(Self::Foreach));
        }
        Ok(Err("it says nothing to change".to_owned()))
    }

    fn run<'a>(&'a self, context: &mut Context<'a>, object: &mut Value) -> Result<(), Stop> {
        match self {
            Self::Merge(template) => {
                let patch = template.resolve(context)?;
                if deeper_than(&patch, MAX_PATCH_DEPTH) {
                    return Err(JmesError::failed("the patch is nested too deep").into());
                }
                context.charge(crate::jmespath::weight(&patch) + crate::jmespath::weight(object))?;
                let patch = anchors::applied(&patch, object).map_err(|unmet| {
                    Stop::Skipped(match unmet {
                        Unmet::Part => "a condition of the patch is not met",
                        Unmet::Whole => "a global condition of the patch is not met",
                    })
                })?;
                let named_lists = merge::has_named_lists(object);
                merge::merge(object, &patch, named_lists, merge::New::First);
                Ok(())
            }
            Self::JsonPatch(template) => {
                let patch = match template.resolve(context)? {
                    Value::String(text) => parse_value(&text).map_err(|error| JmesError::failed(error.to_string()))?,
                    list => list,
                };
                context.charge(crate::jmespath::weight(&patch) + crate::jmespath::weight(object))?;
                json_patch::apply(object, &patch).map_err(|message| JmesError::failed(message).into())
            }
            Self::Foreach(all) => all.iter().try_for_each(|each| each.run(context, object)),
            // Runs by itself, without variables.
            Self::Cel(_) => Ok(()),
        }
    }
}

impl Foreach {
    fn parse(each: &Field<'_>, depth: usize) -> Result<Result<Self, String>, PolicyError> {
        let gate = Gate::parse(each)?;
        let mutation = Mutation::parse(each, depth + 1)?;
        let text = each.get("list").text()?.unwrap_or_default();
        let list = Program::compile(text.trim()).map_err(|error| error.to_string());
        let order = each.get("order").text()?;
        Ok(mutation.and_then(|mutation| {
            // Merges put new elements in front, so that the last goes first where nothing is said.
            let descending = match order.as_deref() {
                Some(order) => order == "Descending",
                None => matches!(mutation, Mutation::Merge(_)),
            };
            Ok(Self { list: list?, gate: gate?, mutation, descending, depth })
        }))
    }

    fn run<'a>(&'a self, context: &mut Context<'a>, object: &mut Value) -> Result<(), Stop> {
        let mut numbered: Vec<(usize, Cow<'_, Value>)> = context.elements(&self.list)?.into_iter().enumerate().collect();
        if self.descending {
            numbered.reverse();
        }
        for (index, element) in numbered {
            if element.is_null() {
                continue;
            }
            context.enter(Rc::new(element), index, self.depth);
            let done = match self.gate.judge(context) {
                None => self.mutation.run(context, object),
                Some(Outcome::NotEvaluated { reason }) => Err(JmesError::not_given(reason).into()),
                Some(Outcome::Error { message }) => Err(JmesError::failed(message).into()),
                Some(_) => Ok(()),
            };
            context.leave();
            match done {
                Ok(()) | Err(Stop::Skipped(_)) => {}
                Err(stop) => return Err(stop),
            }
        }
        Ok(())
    }
}

fn deeper_than(value: &Value, most: usize) -> bool {
    let below = |value: &Value| most.checked_sub(1).is_none_or(|most| deeper_than(value, most));
    match value {
        Value::Array(items) => items.iter().any(below),
        Value::Object(fields) => fields.values().any(below),
        _ => false,
    }
}

impl Policy {
    /// Whether all of the `mutate` rules that are meant can be run here.
    pub(crate) fn understands_mutation(&self, is_meant: impl Fn(&str) -> bool) -> bool {
        self.all_rules().iter().filter(|rule| is_meant(&rule.name)).all(|rule| rule.mutation.is_some())
    }

    /// What every `mutate` rule that is about the object makes of it, in the policy's order.
    pub fn mutate(&self, request: &Request<'_>) -> Vec<Mutated> {
        let mut object = request.object.clone();
        let mut all = Vec::new();
        for rule in self.all_rules() {
            let Some(mutation) = &rule.mutation else { continue };
            let before = object.clone();
            let request = Request { object: &before, ..*request };
            let facts = request.facts();
            let outcome = match rule.is_about(&facts) {
                Truth::No => continue,
                Truth::Unknown => Outcome::NotEvaluated { reason: crate::evaluate::UNKNOWN_NAMESPACE.to_owned() },
                Truth::Yes if let Mutation::Cel(mutation) = mutation => match mutation.run(&request, &mut object) {
                    None => continue,
                    Some(outcome) => outcome,
                },
                Truth::Yes => {
                    let mut context = Context::new(&request, &rule.name);
                    rule.gate.judge(&mut context).unwrap_or_else(|| match mutation.run(&mut context, &mut object) {
                        Ok(()) if object == before => Outcome::Skip { reason: "nothing is changed".to_owned() },
                        Ok(()) => Outcome::Pass,
                        Err(Stop::Skipped(reason)) => Outcome::Skip { reason: reason.to_owned() },
                        Err(Stop::Wrong(error)) => error.into(),
                    })
                }
            };
            if outcome != Outcome::Pass {
                object = before;
            }
            all.push(Mutated { rule: rule.name.clone(), outcome, object: object.clone() });
        }
        all
    }
}

#[cfg(test)]
mod tests;
