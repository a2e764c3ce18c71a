//! What clusters report, and who complies.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Counts of a rule in a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSummary {
    /// The rule.
    pub rule: String,
    /// Objects that pass.
    pub pass: u32,
    /// Objects that fail.
    pub fail: u32,
    /// Objects it could not be evaluated for.
    pub not_evaluated: u32,
}

/// A live object that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedViolation {
    /// The rule.
    pub rule: String,
    /// The object's kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub object: String,
    /// Where.
    pub path: String,
    /// The rule's message.
    pub message: String,
}

/// What one cluster reports of one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyReport {
    /// The cluster.
    pub cluster: String,
    /// The policy.
    pub policy: String,
    /// Per rule.
    pub rules: Vec<RuleSummary>,
    /// What breaks it.
    pub violations: Vec<ReportedViolation>,
    /// When it was seen.
    pub observed_at: Timestamp,
}

impl PolicyReport {
    /// Objects that fail, over all rules.
    pub fn failing(&self) -> i64 {
        self.rules.iter().map(|rule| i64::from(rule.fail)).sum()
    }
}

/// What a row of a summary is about, in a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupBy {
    /// Everything that is bound.
    Fleet,
    /// A policy.
    Policy,
    /// A policy and a cluster.
    Cluster,
    /// A policy and a namespace with violations.
    Namespace,
    /// A policy, a cluster and a workload with violations.
    Workload,
}

/// What a row of a summary is about; empty parts are not what it is about. Rows come in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ComplianceKey {
    /// The fleet.
    pub fleet: String,
    /// The policy.
    pub policy: String,
    /// The cluster.
    pub cluster: String,
    /// The namespace.
    pub namespace: String,
    /// Kind and name.
    pub workload: String,
}

/// How a fleet stands, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComplianceRow {
    /// What it is about.
    pub key: ComplianceKey,
    /// Members that reported no failure.
    pub compliant: u32,
    /// Members that reported failures.
    pub violating: u32,
    /// Members that have not reported.
    pub silent: u32,
    /// Objects that fail, once a rule.
    pub violations: u32,
}

/// How a fleet stood to a policy at the end of an hour in which that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompliancePoint {
    /// The policy.
    pub policy: String,
    /// The hour's start.
    pub hour: Timestamp,
    /// Members with violations.
    pub violating: u32,
    /// Objects that failed, once a rule.
    pub violations: u32,
}
