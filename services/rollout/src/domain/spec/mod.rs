//! What people write: applications and git repositories, read strictly into types that need no further checks.
//!
//! Three document shapes of an application (`fleet.kurator.dev FleetApplication`, `apps.kurator.dev Application`,
//! `muster.dev Application`) become one [`ApplicationSpec`]. An unknown field is refused by name, line and column.

mod application;
mod document;
mod git;
mod proportion;
mod rollout;

pub use application::{ApplicationDocument, ApplicationSpec, Selection, Source, TargetSpec, parse_application};
pub use git::{GitReference, GitRepositoryDocument, GitRepositorySpec, parse_git_repository};
pub use proportion::Proportion;
pub use rollout::{GateSpec, RolloutSpec, TrafficSpec, WaveSelector, WaveSpec};

/// Why a document is refused: the field at fault and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct SpecError {
    /// The field's path in the document, such as `spec.rollout.waves[0].weights`; `line 3, column 5` where only that is known.
    pub field: String,
    /// What is wrong, in words for the person who wrote it.
    pub message: String,
}

impl SpecError {
    fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl From<muster_core::ManifestError> for SpecError {
    fn from(error: muster_core::ManifestError) -> Self {
        Self::new(format!("line {}, column {}", error.line, error.column), error.message)
    }
}

#[cfg(test)]
mod tests;
