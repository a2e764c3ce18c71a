//! JMESPath with Kyverno's functions, over documents as they are.
//!
//! The language is read by the crate `jmespath`; what it reads is run here, because Kyverno's dialect differs where it
//! matters: a field that is missing is an error that some operators overlook and others don't, and because the work of
//! an expression is bounded and values are borrowed from the document.

mod arithmetic;
mod evaluate;
mod functions;
mod number;
mod text;
mod time;

pub use evaluate::{Evaluation, Item, Scope, weight};
pub use number::{go_json, go_text, same};

use jmespath::ast::Ast;
use std::collections::BTreeSet;

/// The longest expression that is read.
pub const MAX_EXPRESSION_BYTES: usize = 16 * 1024;
/// Characters that may nest or chain: what is read and run recursively is at most this deep.
const MAX_OPERATORS: usize = 256;
/// Steps of all expressions of one rule over one object: nodes visited, elements and characters produced.
pub const MAX_STEPS: u64 = 2_000_000;
/// Size of a compiled regular expression.
pub const MAX_REGEX_BYTES: usize = 256 * 1024;

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JmesError {
    /// A field is missing. Most operators take it for null.
    #[error("unknown key {0:?} in path")]
    NotFound(String),
    /// Types do not fit, a function is unknown, a number cannot be read.
    #[error("{0}")]
    Failed(String),
    /// It took more than [`MAX_STEPS`].
    #[error("the expression takes too many steps")]
    TooCostly,
    /// It asks for something that was not given.
    #[error("{0}")]
    NotGiven(String),
}

impl JmesError {
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }
}

/// An expression, read once.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    text: String,
    ast: Ast,
    names: BTreeSet<String>,
}

impl Program {
    /// Reads an expression.
    pub fn compile(text: &str) -> Result<Self, JmesError> {
        if text.len() > MAX_EXPRESSION_BYTES {
            return Err(JmesError::failed(format!("the expression is longer than {MAX_EXPRESSION_BYTES} bytes")));
        }
        // What the reader would call itself for; it has no bound of its own.
        if text.bytes().filter(|byte| b"([{!&|.*<>=?".contains(byte)).count() > MAX_OPERATORS {
            return Err(JmesError::failed(format!("the expression has more than {MAX_OPERATORS} operators")));
        }
        let ast = jmespath::parse(text).map_err(|error| JmesError::failed(format!("{text:?}: {}", error.reason)))?;
        let mut names = BTreeSet::new();
        collect_names(&ast, &mut names)?;
        Ok(Self { text: text.to_owned(), ast, names })
    }

    /// Every field name in it: those of a context's entries have to be there before it runs.
    pub fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// Whether the node that joins two others at this place is a pipe: the reader makes one node of `a.b` and `a | b`,
    /// which differ in what they do about a field that is missing.
    fn is_pipe(&self, offset: usize) -> bool {
        self.text.as_bytes().get(offset) == Some(&b'|')
    }
}

/// Collects the names of fields, and refuses functions that are not known.
fn collect_names(ast: &Ast, names: &mut BTreeSet<String>) -> Result<(), JmesError> {
    let mut each = |nodes: &[&Ast]| nodes.iter().try_for_each(|node| collect_names(node, names));
    match ast {
        Ast::Field { name, .. } => {
            names.insert(name.clone());
            Ok(())
        }
        Ast::Comparison { lhs, rhs, .. }
        | Ast::Projection { lhs, rhs, .. }
        | Ast::And { lhs, rhs, .. }
        | Ast::Or { lhs, rhs, .. }
        | Ast::Subexpr { lhs, rhs, .. } => each(&[lhs, rhs]),
        Ast::Condition { predicate, then, .. } => each(&[predicate, then]),
        Ast::Expref { ast: node, .. } | Ast::Flatten { node, .. } | Ast::Not { node, .. } | Ast::ObjectValues { node, .. } => {
            each(&[node])
        }
        Ast::Function { name, .. } if !functions::is_known(name) => {
            Err(JmesError::NotGiven(format!("the function {name} is not known here")))
        }
        Ast::Function { args, .. } => args.iter().try_for_each(|arg| collect_names(arg, names)),
        Ast::MultiList { elements, .. } => elements.iter().try_for_each(|element| collect_names(element, names)),
        Ast::MultiHash { elements, .. } => elements.iter().try_for_each(|pair| collect_names(&pair.value, names)),
        Ast::Identity { .. } | Ast::Index { .. } | Ast::Literal { .. } | Ast::Slice { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests;
