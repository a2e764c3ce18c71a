//! What the service is about, without I/O: policies, bindings, verdicts, and what a cluster is given.

mod admission;
mod binding;
mod catalog;
mod composed;
mod distribution;
mod document;
mod installation;
mod plan;
mod ramp;
mod report;
mod served;
mod verdict;
mod wording;

pub use binding::{Entry, FleetPolicySpec, Source};
pub use catalog::{Binding, Catalog, Exception, Members, Ramped};
pub use composed::Composed;
pub use distribution::{ClusterContent, Form, Held, PolicyBinding, PolicyForm};
pub use document::{PolicyDocument, RuleInfo};
pub use installation::{FleetPolicyCluster, Installation, Stage};
pub use ramp::{MemberSeen, Ramp, RampSpec, RampState, RampWave, Seen, WaveSelector};
pub use report::{
    ComplianceKey, CompliancePoint, ComplianceRow, GroupBy, PolicyReport, ReportChange, ReportRow, ReportedViolation, RuleSummary,
};
pub use served::Served;
pub use verdict::{Broken, Verdict};

/// Why a document is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct DocumentError {
    /// The field at fault, within the document.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

impl DocumentError {
    fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}
