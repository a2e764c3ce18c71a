//! What clusters report, and who complies.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

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

/// A live object that breaks a rule. Violations come in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReportedViolation {
    /// The rule.
    pub rule: String,
    /// The object's API group; empty for the core group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
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

/// One thing that a cluster reports of a policy. One that reads otherwise is another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportRow {
    /// Counts.
    Rule(RuleSummary),
    /// A violation.
    Violation(ReportedViolation),
}

/// How what a cluster reports of a policy changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportChange {
    /// What came. What is known already may be among it.
    pub added: Vec<ReportRow>,
    /// What went. What is not known may be among it.
    pub removed: Vec<ReportRow>,
}

impl PolicyReport {
    /// The report of a policy that no live object meets.
    pub fn empty(cluster: &str, policy: &str, observed_at: Timestamp) -> Self {
        Self { cluster: cluster.to_owned(), policy: policy.to_owned(), rules: vec![], violations: vec![], observed_at }
    }

    /// Applies a change: a set is left, so that the same change again changes nothing.
    pub fn apply(&mut self, change: ReportChange) {
        let mut rules: BTreeMap<String, RuleSummary> =
            std::mem::take(&mut self.rules).into_iter().map(|rule| (rule.rule.clone(), rule)).collect();
        let mut violations: BTreeSet<ReportedViolation> = std::mem::take(&mut self.violations).into_iter().collect();
        for row in change.removed {
            match row {
                ReportRow::Rule(rule) => {
                    if rules.get(&rule.rule) == Some(&rule) {
                        rules.remove(&rule.rule);
                    }
                }
                ReportRow::Violation(violation) => {
                    violations.remove(&violation);
                }
            }
        }
        for row in change.added {
            match row {
                ReportRow::Rule(rule) => {
                    rules.insert(rule.rule.clone(), rule);
                }
                ReportRow::Violation(violation) => {
                    violations.insert(violation);
                }
            }
        }
        self.rules = rules.into_values().collect();
        self.violations = violations.into_iter().collect();
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    fn count(fail: u32) -> ReportRow {
        ReportRow::Rule(RuleSummary { rule: "r".to_owned(), pass: 1, fail, not_evaluated: 0 })
    }

    fn violation(object: &str) -> ReportRow {
        let [rule, group, kind, namespace, path, message] = ["r", "", "Service", "ml", "spec", "no"].map(str::to_owned);
        ReportRow::Violation(ReportedViolation { rule, group, kind, namespace, object: object.to_owned(), path, message })
    }

    #[test]
    fn the_same_change_twice_changes_once() {
        let mut report = PolicyReport::empty("one", "p", Timestamp::UNIX_EPOCH);
        report.apply(ReportChange { added: vec![violation("b"), count(2), violation("a")], removed: vec![] });
        let change = ReportChange { added: vec![count(1)], removed: vec![count(2), violation("a"), violation("unknown")] };
        report.apply(change.clone());
        let once = report.clone();
        report.apply(change);
        assert_eq!(report, once);
        assert_eq!((report.failing(), report.violations.len()), (1, 1));
        assert_eq!(report.violations[0].object, "b");
    }
}
