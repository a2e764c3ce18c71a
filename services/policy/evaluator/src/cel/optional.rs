//! Fields and elements, and what is optional about them: below an optional everything is, which makes `a.?b.c` safe.
//!
//! A chain of them is followed without an optional being made at each step.

use super::{
    Evaluation, NoValue, Val,
    tree::{Access, Node},
};

/// What stands at the end of a chain.
pub enum Selected<'a> {
    /// No optional.
    Plain(Val<'a>),
    /// An optional that holds this.
    Optional(Val<'a>),
    /// An empty optional.
    Absent,
}

impl<'a> Selected<'a> {
    pub fn into_value(self) -> Val<'a> {
        match self {
            Self::Plain(value) => value,
            Self::Optional(value) => Val::some(value),
            Self::Absent => Val::Optional(None),
        }
    }

    fn of(value: Val<'a>) -> Self {
        match value {
            Val::Optional(Some(value)) => Self::Optional((*value).clone()),
            Val::Optional(None) => Self::Absent,
            plain => Self::Plain(plain),
        }
    }
}

impl<'a> Evaluation<'a> {
    /// The value of a node as what is optional about it.
    pub fn selected(&mut self, node: &'a Node) -> Result<Selected<'a>, NoValue> {
        let missing = |name: &str| NoValue::failed(format!("no such key: {name}"));
        let (operand, access) = match node {
            Node::Field { operand, access, .. } | Node::Index { operand, access, .. } => (operand, *access),
            other => return self.node(other).map(Selected::of),
        };
        self.charge(1)?;
        let (operand, is_optional) = match self.selected(operand)? {
            Selected::Absent => {
                // What stands in the brackets is computed nevertheless, and may go wrong.
                if let Node::Index { index, .. } = node {
                    self.node(index)?;
                }
                return Ok(Selected::Absent);
            }
            Selected::Optional(value) => (value, true),
            Selected::Plain(value) => (value, access == Access::Optional),
        };
        let found = match node {
            Node::Index { index, .. } => {
                let index = self.node(index)?;
                if let Val::Map(pairs) = &operand {
                    self.charge(pairs.len() / 16)?;
                }
                let found = operand.get(&index)?;
                if found.is_none() && !is_optional {
                    return Err(missing(&if index.is_key() { index.shown() } else { index.type_name().into() }));
                }
                found
            }
            Node::Field { name, .. } => {
                let found = operand.field(name)?;
                if found.is_none() && !is_optional {
                    return Err(missing(name));
                }
                found
            }
            _ => return Err(NoValue::failed("neither a field nor an element")),
        };
        Ok(match (found, is_optional) {
            (None, _) => Selected::Absent,
            (Some(found), true) => Selected::Optional(found),
            (Some(found), false) => Selected::of(found),
        })
    }
}
