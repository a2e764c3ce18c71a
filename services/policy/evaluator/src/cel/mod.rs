//! CEL with the libraries of Kubernetes and Kyverno, over documents as they are.
//!
//! The language is read by the crate `cel`; what it reads is compiled once into a tree of our own and run here, because
//! three things are needed that its interpreter does not offer: optional chaining that stays optional (`a.?b.c`), a
//! bound on the work of an expression, and values borrowed from the document.

mod compile;
mod evaluate;
mod functions;
mod kubernetes;
mod lists;
mod network;
mod strings;
mod time;
mod tree;
mod value;

pub use compile::Program;
pub use evaluate::{Evaluation, Roots};
pub use network::Version;
pub use value::Val;

/// The longest expression that is read.
pub const MAX_EXPRESSION_BYTES: usize = 16 * 1024;
/// Steps of one evaluation: nodes visited, elements and characters produced. Kubernetes stops an expression at
/// 1,000,000 of its own units, and those of a policy together at ten times that.
pub const MAX_STEPS: u64 = 4_000_000;
/// Size of a compiled regular expression.
pub const MAX_REGEX_BYTES: usize = 256 * 1024;

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CelError {
    /// It went wrong as it would in the cluster: a key is missing, types do not fit. `&&`, `||`, `all` and `exists`
    /// overlook it where the other side decides.
    #[error("{0}")]
    Failed(String),
    /// It took more than [`MAX_STEPS`].
    #[error("the expression takes too many steps")]
    TooCostly,
    /// It asks for something that was not given.
    #[error("{0}")]
    NotGiven(String),
}

impl CelError {
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// A function was called with types it does not take.
    fn overload(name: &str, args: &[Val<'_>]) -> Self {
        let types: Vec<&str> = args.iter().map(Val::type_name).collect();
        Self::Failed(format!("no such overload: {name}({})", types.join(", ")))
    }
}

#[cfg(test)]
mod tests;
