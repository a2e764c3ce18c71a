//! The registry's own settings, `[service]`.

use serde::Deserialize;
use std::{path::PathBuf, time::Duration};

/// Thresholds and files of the registry.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The certificate authority's key, PEM. Its certificate is `server.ca_file`.
    pub ca_key_file: PathBuf,
    /// The certificate authority's certificate, PEM.
    pub ca_certificate_file: PathBuf,
    /// How often agents send heartbeats.
    #[serde(default = "default_heartbeat_interval_ms")]
    pub heartbeat_interval_ms: u64,
    /// Silent longer: Suspect. Three heartbeats: one lost packet is no verdict.
    #[serde(default = "default_suspect_after_ms")]
    pub suspect_after_ms: u64,
    /// Silent longer: Lost. Fleets may say otherwise.
    #[serde(default = "default_lost_after_ms")]
    pub lost_after_ms: u64,
    /// How long a cluster must be heard without a gap before it is Live again after Lost.
    #[serde(default = "default_steady_after_ms")]
    pub steady_after_ms: u64,
    /// How long a cluster session lasts after an acknowledged heartbeat.
    #[serde(default = "default_lease_ms")]
    pub lease_ms: u64,
    /// How long an agent's certificate is valid.
    #[serde(default = "default_certificate_hours")]
    pub certificate_hours: u32,
    /// How long after its expiry a certificate still proves who asks for a new one.
    #[serde(default = "default_grace_hours")]
    pub renewal_grace_hours: u32,
}

fn default_heartbeat_interval_ms() -> u64 {
    5_000
}
fn default_suspect_after_ms() -> u64 {
    15_000
}
fn default_lost_after_ms() -> u64 {
    60_000
}
fn default_steady_after_ms() -> u64 {
    10_000
}
fn default_lease_ms() -> u64 {
    40_000
}
fn default_certificate_hours() -> u32 {
    24 * 30
}
fn default_grace_hours() -> u32 {
    24 * 14
}

impl Settings {
    /// Heartbeat interval.
    pub fn heartbeat_interval(&self) -> Duration {
        Duration::from_millis(self.heartbeat_interval_ms)
    }

    /// Session lease.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }
}
