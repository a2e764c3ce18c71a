//! The cluster's API server as the agent uses it: objects as JSON, kinds by discovery, server-side apply with one field
//! manager per owner, and every refusal word for word.

mod client;
mod kinds;

pub use client::{Cluster, Write};
pub use kinds::KindInfo;

/// Why the cluster did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// The cluster serves no such kind, perhaps not yet.
    #[error("the cluster does not serve {kind} of {api_version}")]
    NoSuchKind {
        /// As in `batch.volcano.sh/v1alpha1`.
        api_version: String,
        /// As in `Job`.
        kind: String,
    },
    /// The API server refused; its own words.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        code: u16,
        /// One word, as in `Conflict`.
        reason: String,
        /// The API server's message, unchanged.
        message: String,
    },
    /// No answer.
    #[error("the cluster's API server does not answer: {0}")]
    Unreachable(String),
    /// The manifest cannot be sent at all.
    #[error("{0}")]
    Malformed(String),
}

impl ClusterError {
    /// Whether trying the same again soon may succeed without anybody's doing.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::NoSuchKind { .. } => true,
            // A server-side apply with a field that the schema does not have is answered with 500, and will be for ever.
            Self::Refused { code: 500, message, .. } => !message.contains("failed to create typed patch object"),
            Self::Refused { code, .. } => *code == 429 || *code > 500,
            Self::Malformed(_) => false,
        }
    }

    /// One word for an observation.
    pub fn reason(&self) -> &str {
        match self {
            Self::NoSuchKind { .. } => "NoSuchKind",
            Self::Refused { reason, .. } if reason.is_empty() => "Refused",
            Self::Refused { reason, .. } => reason,
            Self::Unreachable(_) => "Unreachable",
            Self::Malformed(_) => "Malformed",
        }
    }
}

impl From<kube::Error> for ClusterError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => {
                Self::Refused { code: status.code, reason: status.reason.clone(), message: status.message.clone() }
            }
            other => Self::Unreachable(other.to_string()),
        }
    }
}
