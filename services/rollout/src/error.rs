//! What the domain's and git's refusals mean to a caller.

use crate::domain::spec::SpecError;
use crate::domain::traffic::TrafficError;
use crate::git::GitError;
use crate::render::RenderError;
use muster_kit::Error;

/// A document's fault, in the field of the request that brought the document, and at its path where one is known.
pub fn in_field(field: &str, error: &SpecError) -> Error {
    match error.field.as_str() {
        line if line.starts_with("line ") => Error::invalid(field, error.to_string()),
        path => Error::invalid(format!("{field}.{path}"), &error.message),
    }
}

impl From<TrafficError> for Error {
    fn from(error: TrafficError) -> Self {
        Self::precondition("TRAFFIC", error.to_string())
    }
}

impl From<GitError> for Error {
    fn from(error: GitError) -> Self {
        let message = error.to_string();
        match error {
            GitError::Unreachable(_) | GitError::Timeout(_) | GitError::Contended(_) => {
                Self::unavailable("REPOSITORY_AWAY", message)
            }
            GitError::NoSuchReference(_) | GitError::NoSuchPath { .. } => Self::precondition("NOT_IN_REPOSITORY", message),
            GitError::TooLarge { .. } => Self::exhausted("TOO_LARGE", message),
            GitError::PushRefused(_) | GitError::Conflict(_) | GitError::Unwritable { .. } => {
                Self::precondition("REPOSITORY_REFUSES", message)
            }
            GitError::Failed { .. } => Self::internal(anyhow::anyhow!(message)),
        }
    }
}

impl From<RenderError> for Error {
    fn from(error: RenderError) -> Self {
        let message = error.to_string();
        match error {
            RenderError::Git(error) => error.into(),
            RenderError::Unavailable(_) => Self::unavailable("KUSTOMIZE_AWAY", message),
            RenderError::Refused { .. }
            | RenderError::Malformed { .. }
            | RenderError::Kustomize { .. }
            | RenderError::Empty(_)
            | RenderError::TooLarge(_) => Self::precondition("DOES_NOT_RENDER", message),
        }
    }
}
