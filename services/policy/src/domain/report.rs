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

/// One member of a fleet under one policy: how many objects fail, or `None` while it has not reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The fleet.
    pub fleet: String,
    /// The policy.
    pub policy: String,
    /// Objects that fail.
    pub failing: Option<u32>,
}

/// How a fleet stands to a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComplianceRow {
    /// The fleet.
    pub fleet: String,
    /// The policy.
    pub policy: String,
    /// Members that reported no failure.
    pub compliant: u32,
    /// Members that reported failures.
    pub violating: u32,
    /// Members that have not reported.
    pub silent: u32,
    /// Objects that fail, over all members.
    pub violations: u32,
}

/// Members counted by fleet and policy; `standings` come in that order.
pub fn compliance(standings: &[Standing]) -> Vec<ComplianceRow> {
    let mut rows: Vec<ComplianceRow> = Vec::new();
    for standing in standings {
        if rows.last().is_none_or(|row| (&row.fleet, &row.policy) != (&standing.fleet, &standing.policy)) {
            rows.push(ComplianceRow {
                fleet: standing.fleet.clone(),
                policy: standing.policy.clone(),
                compliant: 0,
                violating: 0,
                silent: 0,
                violations: 0,
            });
        }
        let row = rows.last_mut().expect("one was just made sure of");
        match standing.failing {
            None => row.silent += 1,
            Some(0) => row.compliant += 1,
            Some(failing) => {
                row.violating += 1;
                row.violations = row.violations.saturating_add(failing);
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_counted_by_fleet_and_policy() {
        let standing =
            |fleet: &str, policy: &str, failing| Standing { fleet: fleet.to_owned(), policy: policy.to_owned(), failing };
        let rows = compliance(&[
            standing("a", "p", Some(0)),
            standing("a", "p", Some(3)),
            standing("a", "p", None),
            standing("a", "q", Some(0)),
            standing("b", "p", Some(2)),
        ]);
        let counts: Vec<_> = rows.iter().map(|row| (row.compliant, row.violating, row.silent, row.violations)).collect();
        assert_eq!(counts, [(1, 1, 1, 3), (1, 0, 0, 0), (0, 1, 0, 2)]);
    }
}
