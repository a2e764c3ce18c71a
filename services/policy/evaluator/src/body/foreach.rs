//! `validate.foreach`: every element of a list is judged by a `deny`, a pattern, or the elements below it.

use super::{
    BodyKind, deny,
    pattern::{self, Patterns},
};
use crate::{
    Operation,
    conditions::Conditions,
    evaluate::Outcome,
    expression::NoValue,
    field::{Field, PolicyError},
    gate::Gate,
    jmespath::{JmesError, Program},
    path::Path,
    rule::Rule,
    variables::Context,
};
use serde_json::Value;
use std::{borrow::Cow, rc::Rc};

/// `foreach` inside of `foreach`.
const MAX_DEPTH: usize = 8;
/// Lists of one `foreach`.
const MAX_LISTS: usize = 100;

/// One list and what its elements are judged by.
#[derive(Debug, Clone, PartialEq)]
pub struct Foreach {
    list: Program,
    text: String,
    gate: Gate,
    judge: Judge,
    /// Whether patterns are about the element; mappings are judged themselves where it is not said.
    element_scope: Option<bool>,
    depth: usize,
}

#[derive(Debug, Clone, PartialEq)]
enum Judge {
    Deny(Conditions),
    Pattern(Patterns),
    AnyPattern(Patterns),
    Below(Vec<Foreach>),
    Nothing,
}

/// What a list's elements say together.
enum Elements {
    /// None of them is wrong; so many were judged.
    Right(usize),
    Decided(Outcome),
}

impl Foreach {
    /// Reads a `foreach`. The inner error is the reason why an expression of it can't be read.
    pub fn parse_all(field: &Field<'_>, depth: usize) -> Result<Result<Vec<Self>, String>, PolicyError> {
        let listed = field.list()?;
        if depth >= MAX_DEPTH {
            return Err(field.error(format!("is nested deeper than {MAX_DEPTH} levels")));
        }
        if listed.len() > MAX_LISTS {
            return Err(field.error(format!("holds more than {MAX_LISTS} lists")));
        }
        listed.iter().map(|each| Self::parse(each, depth)).collect()
    }

    fn parse(each: &Field<'_>, depth: usize) -> Result<Result<Self, String>, PolicyError> {
        let Some(text) = each.get("list").text()? else { return Ok(Err("a foreach has no list".to_owned())) };
        let has = |key: &str| each.get(key).value().is_some();
        let judge = if has("deny") {
            Conditions::parse(&each.get("deny").get("conditions"))?.map(Judge::Deny)
        } else if has("pattern") {
            Patterns::parse(&each.get("pattern"), BodyKind::Pattern)?.map(Judge::Pattern)
        } else if has("anyPattern") {
            Patterns::parse(&each.get("anyPattern"), BodyKind::AnyPattern)?.map(Judge::AnyPattern)
        } else if has("foreach") {
            Self::parse_all(&each.get("foreach"), depth + 1)?.map(Judge::Below)
        } else {
            Ok(Judge::Nothing)
        };
        let gate = Gate::parse(each)?;
        let list = Program::compile(text.trim()).map_err(|error| error.to_string());
        let element_scope = each.get("elementScope").value().and_then(Value::as_bool);
        Ok(judge.and_then(|judge| Ok(Self { list: list?, text, gate: gate?, judge, element_scope, depth })))
    }

    fn elements<'a>(&self, context: &mut Context<'a>) -> Result<Vec<Cow<'a, Value>>, JmesError> {
        // The list is asked for as it is written, and a deletion has no object.
        let asks_object = self.list.names().contains("request") && self.list.names().contains("object");
        if asks_object && context.request().operation == Operation::Delete {
            return Err(JmesError::NotFound("object".to_owned()));
        }
        context.elements(&self.list)
    }

    fn judge<'a>(&'a self, rule: &'a Rule, context: &mut Context<'a>, subject: &Value) -> Elements {
        let elements = match self.elements(context) {
            Ok(elements) => elements,
            Err(error @ JmesError::NoValue(NoValue::NotGiven(_) | NoValue::TooCostly)) => return Elements::Decided(error.into()),
            // A list that is not there has no elements.
            Err(_) => return Elements::Right(0),
        };
        let (last, mut judged) = (elements.len().saturating_sub(1), 0);
        for (index, element) in elements.into_iter().enumerate() {
            if element.is_null() {
                continue;
            }
            if self.element_scope == Some(true) && !element.is_object() {
                let message = "failed to process foreach: elementScope is for elements that are mappings".to_owned();
                return Elements::Decided(Outcome::Error { message });
            }
            let is_subject = self.element_scope.unwrap_or(element.is_object());
            let element = Rc::new(element);
            context.enter(Rc::clone(&element), index, self.depth);
            let subject = if is_subject { &**element } else { subject };
            let outcome = self.gate.judge(context).or_else(|| self.judge_one(rule, context, subject));
            context.leave();
            match outcome {
                None | Some(Outcome::Skip { .. }) => {}
                Some(Outcome::Pass) => judged += 1,
                // As in Kyverno, one that goes wrong counts only where none follows.
                Some(Outcome::Error { .. }) if index < last && context.charge(0).is_ok() => {}
                Some(Outcome::Error { message }) => {
                    return Elements::Decided(Outcome::Error { message: format!("validation failure: {message}") });
                }
                Some(Outcome::Fail { message, detail, path }) => {
                    let path = if is_subject { self.place(index, &path) } else { path };
                    let detail = format!("element {index} of {}: {detail}", self.text.trim());
                    let message = format!("validation failure: {message}");
                    return Elements::Decided(Outcome::Fail { path, message, detail });
                }
                Some(outcome @ Outcome::NotEvaluated { .. }) => return Elements::Decided(outcome),
            }
        }
        Elements::Right(judged)
    }

    /// Where in the object an element is, or something in it; the object itself where the list is more than a path.
    fn place(&self, index: usize, within: &Path) -> Path {
        let plain = |key: &str| key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let list = self.text.trim().strip_prefix("request.object.").map(|list| list.strip_suffix("[]").unwrap_or(list));
        match list {
            Some(list) if list.split('.').all(plain) => Path::of_keys(list).index(index).join(within),
            _ => Path::root(),
        }
    }

    fn judge_one<'a>(&'a self, rule: &'a Rule, context: &mut Context<'a>, subject: &Value) -> Option<Outcome> {
        match &self.judge {
            Judge::Deny(conditions) => Some(deny::judge(rule, context, conditions)),
            Judge::Pattern(patterns) => Some(pattern::one_pattern(rule, context, subject, patterns)),
            Judge::AnyPattern(patterns) => Some(pattern::any_pattern(rule, context, subject, patterns)),
            Judge::Below(all) => all_of(rule, context, all, subject),
            Judge::Nothing => None,
        }
    }
}

pub fn judge<'a>(rule: &'a Rule, context: &mut Context<'a>, all: &'a [Foreach]) -> Option<Outcome> {
    let subject = context.request().object;
    all_of(rule, context, all, subject)
}

fn all_of<'a>(rule: &'a Rule, context: &mut Context<'a>, all: &'a [Foreach], subject: &Value) -> Option<Outcome> {
    let mut judged = 0;
    for each in all {
        match each.judge(rule, context, subject) {
            Elements::Right(count) => judged += count,
            Elements::Decided(outcome) => return Some(outcome),
        }
    }
    if judged == 0 {
        return Some(Outcome::Skip { reason: "there is no element to judge".to_owned() });
    }
    Some(Outcome::Pass)
}
