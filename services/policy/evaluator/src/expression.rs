//! Why an expression, of either language, has no value.

/// What the languages share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoValue {
    /// It went wrong as it would in the cluster: types do not fit, a number cannot be read. What a language overlooks of
    /// that, and where, is its own.
    #[error("{0}")]
    Failed(String),
    /// It took more steps than its language allows.
    #[error("the expression takes too many steps")]
    TooCostly,
    /// It asks for something that was not given.
    #[error("{0}")]
    NotGiven(String),
}

impl NoValue {
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }
}
