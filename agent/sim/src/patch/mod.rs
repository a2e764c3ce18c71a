//! The three patches of the Kubernetes API that are not an apply.

mod json_patch;
mod merge;
mod strategic;

pub use json_patch::json_patch;
pub use merge::merge_patch;
pub use strategic::strategic_patch;

/// Why a patch could not be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is malformed: 400.
    #[error("{0}")]
    Malformed(String),
    /// It does not fit the object it met: 422.
    #[error("{0}")]
    DoesNotFit(String),
}
