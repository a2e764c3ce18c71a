//! The agent's configuration: a TOML file, then the environment (`MUSTER_HUB__ADDRESS`). Unknown keys are errors.

use muster_kit::{config::TelemetryConfig, crash::CrashConfig};
use serde::Deserialize;
use std::{net::SocketAddr, path::PathBuf};

/// Everything the agent is told by its own side. How often it sends heartbeats and how long its lease lasts the hub says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The name it expects the hub to know the cluster by; an enrolment under another is an error. May be left out.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Where it keeps what it must not forget.
    pub state_dir: PathBuf,
    /// How to reach the cluster's API server; left out, the pod's service account or the user's own kubeconfig.
    #[serde(default)]
    pub kubeconfig: Option<PathBuf>,
    /// The cluster's own Prometheus, as in `http://prometheus.monitoring:9090`; left out, it answers no metric gates.
    #[serde(default)]
    pub prometheus_url: Option<String>,
    /// `/metrics`, `/healthz`, `/readyz`; left out, they are not served.
    #[serde(default)]
    pub http_address: Option<SocketAddr>,
    /// Where the hub is.
    pub hub: HubConfig,
    /// What it shows of itself.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// Where it is to end, when crashes are tried.
    #[serde(default)]
    pub crash: CrashConfig,
}

/// Where the hub is, whom to trust, how to enrol.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubConfig {
    /// As in `https://hub.example.com:7401`.
    pub address: String,
    /// The authority of the hub's certificate, PEM.
    pub ca_file: PathBuf,
    /// A file with the one-time token; read only until the agent is enrolled.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
}
