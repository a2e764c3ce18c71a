//! Something wrong with what a caller sent, by field.

use muster_core::ManifestError;

/// A field and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct Fault {
    /// Path of the field: a manifest's own path (`spec.tasks[0].replicas`), or the request's.
    pub field: String,
    /// What is wrong, for people.
    pub why: String,
}

impl Fault {
    /// A fault of one field.
    pub fn new(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { field: field.into(), why: why.into() }
    }
}

impl From<ManifestError> for Fault {
    fn from(error: ManifestError) -> Self {
        Self::new("manifest", error.to_string())
    }
}

impl From<muster_scheduler_engine::Refused> for Fault {
    fn from(refused: muster_scheduler_engine::Refused) -> Self {
        Self { field: refused.field, why: refused.why }
    }
}
