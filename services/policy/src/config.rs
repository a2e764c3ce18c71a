//! The service's own configuration, `[service]`. Unknown keys are errors.

use serde::Deserialize;

/// `[service]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How often fleets are listed at the registry. Members change seldom; two seconds is what a person waits gladly.
    pub fleets_interval_ms: u64,
    /// How often files in git are read again; a repository is itself polled by the rollout service.
    pub sources_interval_ms: u64,
    /// How often ramps are looked at. Soaks are minutes to days; two seconds is what a person waits gladly.
    pub ramps_interval_ms: u64,
    /// How often clusters are compared with what they should hold, beside every wake-up.
    pub distribute_interval_ms: u64,
    /// How often the registry's numbers are compared with ours: what a restore of its database may cost.
    pub verify_interval_ms: u64,
    /// How often the metrics of compliance are counted anew: as often as Prometheus usually asks for them.
    pub compliance_interval_ms: u64,
    /// How long a replica leads without renewing.
    pub lease_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            fleets_interval_ms: 2_000,
            sources_interval_ms: 2_000,
            ramps_interval_ms: 2_000,
            distribute_interval_ms: 5_000,
            verify_interval_ms: 30_000,
            compliance_interval_ms: 15_000,
            lease_ms: 6_000,
        }
    }
}
