//! What stands before a rule's body: `context` and `preconditions`.

use crate::{
    conditions::Conditions,
    evaluate::Outcome,
    expression::NoValue,
    field::{Field, PolicyError},
    jmespath::JmesError,
    variables::{Context, Entries, Entry},
};

/// The names a rule adds, and the conditions without which it skips.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Gate {
    entries: Entries,
    preconditions: Conditions,
}

impl Gate {
    /// Reads `context` and `preconditions` of a rule or of a `foreach`. The inner error is the reason why an expression
    /// of theirs can't be read.
    pub fn parse(rule: &Field<'_>) -> Result<Result<Self, String>, PolicyError> {
        let entries = Entry::parse_all(&rule.get("context"))?;
        let preconditions = Conditions::parse(&rule.get("preconditions"))?;
        Ok(entries.and_then(|entries| Ok(Self { entries, preconditions: preconditions? })))
    }

    /// Whether nothing stands before the body.
    pub fn is_open(&self) -> bool {
        self.entries.is_empty() && self.preconditions.is_empty()
    }

    /// What the rule answers without its body being asked; `None` where the body decides.
    pub fn judge<'a>(&'a self, context: &mut Context<'a>) -> Option<Outcome> {
        context.add_entries(&self.entries);
        if self.preconditions.is_empty() {
            return None;
        }
        match self.preconditions.evaluate(context) {
            Ok(answer) if answer.holds => None,
            Ok(answer) => {
                let messages = answer.messages.iter().map(|message| format!("; {message}")).collect::<String>();
                let reason = format!("a precondition is not met{messages}: {}", answer.decided_by);
                Some(Outcome::Skip { reason })
            }
            Err(error @ JmesError::NoValue(NoValue::NotGiven(_))) => Some(error.into()),
            Err(error) => Some(Outcome::Error { message: format!("failed to evaluate preconditions: {error}") }),
        }
    }
}
