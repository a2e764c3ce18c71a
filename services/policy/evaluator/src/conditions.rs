//! Conditions of preconditions and `deny`: `any` of some, `all` of others.

use crate::{
    field::{Field, PolicyError},
    jmespath::{JmesError, go_json},
    operator::Operator,
    variables::{Context, Template},
};
use serde_json::Value;

/// Conditions of one block.
const MAX_CONDITIONS: usize = 500;

/// One comparison.
#[derive(Debug, Clone, PartialEq)]
struct Condition {
    key: Template,
    operator: Operator,
    value: Template,
    message: String,
    /// As it is written, for messages.
    text: String,
}

/// `any` and `all`; a plain list is `all`.
#[derive(Debug, Clone, PartialEq, Default)]
struct Block {
    any: Option<Vec<Condition>>,
    all: Vec<Condition>,
}

/// Conditions, all blocks of which have to hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Conditions(Vec<Block>);

/// What conditions say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub holds: bool,
    /// The messages of the conditions that decided, for the report.
    pub messages: Vec<String>,
    /// The comparison that decided, as it is written.
    pub decided_by: String,
}

impl Conditions {
    /// Reads conditions. The inner error is the reason why an expression of them can't be read.
    pub fn parse(field: &Field<'_>) -> Result<Result<Self, String>, PolicyError> {
        let mut blocks = Vec::new();
        let read = match field.value() {
            None => Ok(()),
            Some(Value::Array(_)) => {
                let mut plain = Vec::new();
                let mut outcome = Ok(());
                for item in field.list()? {
                    if item.get("any").value().is_some() || item.get("all").value().is_some() {
                        outcome = outcome.and(Block::parse(&item)?.map(|block| blocks.push(block)));
                    } else {
                        outcome = outcome.and(Condition::parse(&item)?.map(|condition| plain.push(condition)));
                    }
                }
                blocks.push(Block { any: None, all: plain });
                outcome
            }
            Some(_) => Block::parse(field)?.map(|block| blocks.push(block)),
        };
        if blocks.iter().map(|block| block.all.len() + block.any.as_ref().map_or(0, Vec::len)).sum::<usize>() > MAX_CONDITIONS {
            return Err(field.error(format!("holds more than {MAX_CONDITIONS} conditions")));
        }
        Ok(read.map(|()| Self(blocks)))
    }

    /// Whether there is nothing to hold.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What they say.
    pub fn evaluate(&self, context: &mut Context<'_>) -> Result<Answer, JmesError> {
        let mut whole = Answer { holds: true, messages: Vec::new(), decided_by: String::new() };
        for block in &self.0 {
            let answer = block.evaluate(context)?;
            if !answer.holds {
                return Ok(answer);
            }
            whole.messages.extend(answer.messages);
            if whole.decided_by.is_empty() {
                whole.decided_by = answer.decided_by;
            }
        }
        Ok(whole)
    }
}

impl Block {
    fn parse(field: &Field<'_>) -> Result<Result<Self, String>, PolicyError> {
        let list = |name: &str| -> Result<Result<Vec<Condition>, String>, PolicyError> {
            field.get(name).list()?.iter().map(Condition::parse).collect()
        };
        let any = field.get("any").value().is_some().then(|| list("any")).transpose()?.transpose();
        let all = list("all")?;
        Ok(any.and_then(|any| Ok(Self { any, all: all? })))
    }

    fn evaluate(&self, context: &mut Context<'_>) -> Result<Answer, JmesError> {
        let (mut held, mut broken) = (Vec::new(), Vec::new());
        let mut decided_by = String::new();
        if let Some(any) = &self.any {
            let mut found = false;
            for condition in any {
                if condition.evaluate(context)? {
                    found = true;
                    held.push(condition.message.clone());
                    decided_by.clone_from(&condition.text);
                    break;
                }
                broken.push(condition.message.clone());
            }
            if !found {
                let decided_by = any.first().map_or_else(String::new, |condition| condition.text.clone());
                return Ok(Answer { holds: false, messages: said(broken), decided_by });
            }
        }
        for condition in &self.all {
            if !condition.evaluate(context)? {
                let messages = said(vec![condition.message.clone()]);
                return Ok(Answer { holds: false, messages, decided_by: condition.text.clone() });
            }
            held.push(condition.message.clone());
            if decided_by.is_empty() {
                decided_by.clone_from(&condition.text);
            }
        }
        Ok(Answer { holds: true, messages: said(held), decided_by })
    }
}

fn said(messages: Vec<String>) -> Vec<String> {
    messages.into_iter().filter(|message| !message.is_empty()).collect()
}

impl Condition {
    fn parse(field: &Field<'_>) -> Result<Result<Self, String>, PolicyError> {
        let operator = field.get("operator");
        let name = operator.text()?.unwrap_or_default();
        let Some(parsed) = Operator::parse(&name) else {
            return Err(operator.error(format!("{name:?} is no operator of conditions")));
        };
        let at = |key: &str| field.get(key).value().cloned().unwrap_or_default();
        let (key, value) = (at("key"), at("value"));
        let text = format!("{} {name} {}", shown(&key), shown(&value));
        let message = field.get("message").text()?.unwrap_or_default();
        let templates = Template::compile(&key).and_then(|key| Ok((key, Template::compile(&value)?)));
        Ok(templates.map(|(key, value)| Self { key, operator: parsed, value, message, text }).map_err(|error| error.to_string()))
    }

    fn evaluate(&self, context: &mut Context<'_>) -> Result<bool, JmesError> {
        let key = self.key.resolve(context)?;
        let value = self.value.resolve(context)?;
        self.operator.holds(&key, &value, &|cost| context.charge(cost))
    }
}

/// A value of a condition in a message, cut so that a message stays readable.
fn shown(value: &Value) -> String {
    const MAX_CHARS: usize = 120;
    let text = value.as_str().map_or_else(|| go_json(value), str::to_owned);
    if text.chars().count() <= MAX_CHARS { text } else { text.chars().take(MAX_CHARS).chain("…".chars()).collect() }
}
