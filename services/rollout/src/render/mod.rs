//! From a commit to a target's objects: kustomize overlays, or plain manifests where there is no kustomization.
//!
//! Hermetic: only the files that the target's folder leads to are exported, kustomize runs without a `PATH`, plugins or
//! Helm, and whatever lies outside of the repository is refused before it runs. The same tree gives the same objects.

mod cache;
mod closure;
mod kustomize;
mod manifests;

pub use cache::Renderer;
pub use closure::{Closure, closure};
pub use kustomize::Kustomize;

use crate::git::GitError;
use muster_core::Digest;
use serde_json::Value;
use std::sync::Arc;

/// A target's objects before traffic is composed.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// In kustomize's order, or file by file.
    pub objects: Arc<Vec<Value>>,
    /// Over the objects: equal digests mean that nothing changes.
    pub digest: Digest,
    /// Folders and files that lead to it, relative to the repository's root: a commit that leaves them alone changes
    /// nothing.
    pub paths: Vec<String>,
}

/// Why a target cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// Reading the commit failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A kustomization names something outside of the repository, or a feature that runs programs.
    #[error("{file}: {reason}")]
    Refused {
        /// The file that names it.
        file: String,
        /// What and why.
        reason: String,
    },
    /// A file is not a manifest.
    #[error("{file}: {message}")]
    Malformed {
        /// The file.
        file: String,
        /// With line and column.
        message: String,
    },
    /// Kustomize's own words.
    #[error("kustomize build {path}: {message}")]
    Kustomize {
        /// The folder.
        path: String,
        /// Its words, shortened.
        message: String,
    },
    /// Nothing comes of it: releasing nothing would remove everything.
    #[error("{0} renders no objects")]
    Empty(String),
    /// More than a bundle may hold.
    #[error("{0} renders more than {limit} bytes", limit = muster_core::bundle::MAX_BYTES)]
    TooLarge(String),
    /// Kustomize is not there, or took too long.
    #[error("kustomize cannot be run: {0}")]
    Unavailable(String),
}

impl RenderError {
    /// Whether another try may succeed without a new commit.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Git(error) => matches!(error, GitError::Unreachable(_) | GitError::Timeout(_)),
            Self::Refused { .. } | Self::Malformed { .. } | Self::Kustomize { .. } | Self::Empty(_) | Self::TooLarge(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
