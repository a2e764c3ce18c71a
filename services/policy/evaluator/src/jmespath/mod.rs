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

use crate::{expression::NoValue, stack::with_room};
use jmespath::ast::Ast;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The longest expression that is read.
pub const MAX_EXPRESSION_BYTES: usize = 16 * 1024;
/// Characters that may nest or chain: what is read and run recursively is at most this deep.
const MAX_OPERATORS: usize = 256;
/// So many that every stack has room for them.
const FEW_OPERATORS: usize = 40;
/// Nodes above each other.
const MAX_DEPTH: usize = 100;
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
    /// What may befall any expression.
    #[error(transparent)]
    NoValue(#[from] NoValue),
}

impl JmesError {
    pub fn failed(message: impl Into<String>) -> Self {
        NoValue::failed(message).into()
    }

    pub fn not_given(reason: impl Into<String>) -> Self {
        NoValue::NotGiven(reason.into()).into()
    }
}

/// An expression, read once.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    text: String,
    ast: Ast,
    names: BTreeSet<String>,
    /// Literals by where they stand.
    literals: BTreeMap<usize, Value>,
}

impl Program {
    /// Reads an expression.
    pub fn compile(text: &str) -> Result<Self, JmesError> {
        if text.len() > MAX_EXPRESSION_BYTES {
            return Err(JmesError::failed(format!("the expression is longer than {MAX_EXPRESSION_BYTES} bytes")));
        }
        // What the reader would call itself for; it has no bound of its own.
        match text.bytes().filter(|byte| b"([{!&|.*<>=?".contains(byte)).count() {
            few if few <= FEW_OPERATORS => Self::read(text),
            many if many <= MAX_OPERATORS => {
                let unreadable = || Err(JmesError::failed("the expression can't be read"));
                with_room(|| Self::read(text)).unwrap_or_else(unreadable)
            }
            _ => Err(JmesError::failed(format!("the expression has more than {MAX_OPERATORS} operators"))),
        }
    }

    fn read(text: &str) -> Result<Self, JmesError> {
        let ast = jmespath::parse(text).map_err(|error| JmesError::failed(format!("{text:?}: {}", error.reason)))?;
        let mut program = Self { text: text.to_owned(), ast: ast.clone(), names: BTreeSet::new(), literals: BTreeMap::new() };
        program.collect(&ast, 0)?;
        Ok(program)
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

    /// Collects names and literals, and refuses functions that are not known.
    fn collect(&mut self, ast: &Ast, depth: usize) -> Result<(), JmesError> {
        if depth > MAX_DEPTH {
            return Err(JmesError::failed(format!("the expression is nested deeper than {MAX_DEPTH} levels")));
        }
        let below = depth + 1;
        let mut each = |nodes: &[&Ast]| nodes.iter().try_for_each(|node| self.collect(node, below));
        match ast {
            Ast::Field { name, .. } => {
                self.names.insert(name.clone());
                Ok(())
            }
            Ast::Literal { offset, value } => {
                let value = serde_json::to_value(&**value).map_err(|error| JmesError::failed(error.to_string()))?;
                self.literals.insert(*offset, value);
                Ok(())
            }
            Ast::Comparison { lhs, rhs, .. }
            | Ast::Projection { lhs, rhs, .. }
            | Ast::And { lhs, rhs, .. }
            | Ast::Or { lhs, rhs, .. }
            | Ast::Subexpr { lhs, rhs, .. } => each(&[lhs, rhs]),
            Ast::Condition { predicate, then, .. } => each(&[predicate, then]),
            Ast::Expref { ast: node, .. }
            | Ast::Flatten { node, .. }
            | Ast::Not { node, .. }
            | Ast::ObjectValues { node, .. } => each(&[node]),
            Ast::Function { name, .. } if !functions::is_known(name) => {
                Err(JmesError::not_given(format!("the function {name} is not known here")))
            }
            Ast::Function { args, .. } => args.iter().try_for_each(|arg| self.collect(arg, below)),
            Ast::MultiList { elements, .. } => elements.iter().try_for_each(|element| self.collect(element, below)),
            Ast::MultiHash { elements, .. } => elements.iter().try_for_each(|pair| self.collect(&pair.value, below)),
            Ast::Identity { .. } | Ast::Index { .. } | Ast::Slice { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
