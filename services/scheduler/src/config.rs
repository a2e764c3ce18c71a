//! The scheduler's own settings, `[service]`.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Times and tables of the scheduler. Unknown keys are errors.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How long the leader's lease lasts; a standby takes over after this at the latest.
    pub lease_ms: u64,
    /// The wait before the first retry of a failed run; doubled with each. The Kubernetes Job controller's value.
    pub retry_base_ms: i64,
    /// The longest wait before a retry. The Kubernetes Job controller's value.
    pub retry_most_ms: i64,
    /// How long the object of a finished run stays in its cluster, for its logs.
    pub keep_finished_ms: i64,
    /// What is added to a lost cluster's lease before a movable run is started elsewhere: the longest grace period of a
    /// pod that is being stopped (Kubernetes' default 30 s) and as much again for clocks that run at different rates.
    pub move_margin_ms: i64,
    /// Values of priority classes; a class that is not named counts as 0. A class of a member cluster has no API here.
    pub priority_classes: BTreeMap<String, i32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease_ms: 4_000,
            retry_base_ms: 10_000,
            retry_most_ms: 360_000,
            keep_finished_ms: 3_600_000,
            move_margin_ms: 60_000,
            priority_classes: BTreeMap::from([
                // Kubernetes' own two classes.
                ("system-cluster-critical".to_owned(), 2_000_000_000),
                ("system-node-critical".to_owned(), 2_000_001_000),
                ("high-priority".to_owned(), 1_000),
                ("low-priority".to_owned(), -1_000),
            ]),
        }
    }
}
