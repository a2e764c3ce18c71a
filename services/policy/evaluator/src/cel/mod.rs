//! CEL with the libraries of Kubernetes and Kyverno, over documents as they are.
//!
//! The language is read by the crate `cel`; what it reads is compiled once into a tree of our own and run here, because
//! three things are needed that its interpreter does not offer: optional chaining that stays optional (`a.?b.c`), a
//! bound on the work of an expression, and values borrowed from the document.

mod arithmetic;
mod compile;
mod evaluate;
mod functions;
mod kubernetes;
mod lists;
mod network;
mod optional;
mod strings;
mod time;
mod tree;
mod value;
mod work;

pub use compile::Program;
pub use evaluate::{Evaluation, Roots};
pub use network::Version;
pub use value::Val;

use crate::expression::NoValue;

/// The longest expression that is read.
pub const MAX_EXPRESSION_BYTES: usize = 16 * 1024;
/// Steps of one evaluation: nodes visited, elements and characters produced. Kubernetes stops an expression at
/// 1,000,000 of its own units, and those of a policy together at ten times that.
pub const MAX_STEPS: u64 = 4_000_000;
/// Size of a compiled regular expression.
pub const MAX_REGEX_BYTES: usize = 256 * 1024;

impl NoValue {
    /// A function was called with types it does not take.
    pub(in crate::cel) fn overload(name: &str, args: &[Val<'_>]) -> Self {
        let types: Vec<&str> = args.iter().map(Val::type_name).collect();
        Self::Failed(format!("no such overload: {name}({})", types.join(", ")))
    }
}

#[cfg(test)]
mod tests;
