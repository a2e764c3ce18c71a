//! `validate.deny`: what the conditions say must not be.

use crate::{
    conditions::Conditions, evaluate::Outcome, expression::NoValue, jmespath::JmesError, path::Path, rule::Rule,
    variables::Context,
};
use std::borrow::Cow;

pub fn judge(rule: &Rule, context: &mut Context<'_>, conditions: &Conditions) -> Outcome {
    match conditions.evaluate(context) {
        Ok(answer) if !answer.holds => Outcome::Pass,
        Ok(answer) => {
            let said = match rule.message.text.as_str() {
                "" => format!("validation error: rule {} failed", rule.name),
                // A variable without a value leaves the message as it is written.
                text => rule.message.resolve(context).map_or_else(|_| text.to_owned(), Cow::into_owned),
            };
            let message = std::iter::once(said).chain(answer.messages).collect::<Vec<_>>().join("; ");
            Outcome::Fail { path: Path::root(), message, detail: format!("{} holds", answer.decided_by) }
        }
        Err(error @ JmesError::NoValue(NoValue::NotGiven(_))) => error.into(),
        Err(error) => Outcome::Error { message: format!("failed to check deny conditions: {error}") },
    }
}
