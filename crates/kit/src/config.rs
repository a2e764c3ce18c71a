//! Configuration: a TOML file, then the environment (`MUSTER_SERVER__ADDRESS`). Unknown keys are errors.

use crate::crash::CrashConfig;
use crate::kafka::KafkaConfig;
use anyhow::Context;
use serde::{Deserialize, de::DeserializeOwned};
use std::{collections::HashMap, net::SocketAddr, path::Path, path::PathBuf};

/// A service's whole configuration; `S` is its own section, `[service]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config<S> {
    /// Where it listens, and as whom.
    pub server: ServerConfig,
    /// Its own database.
    pub database: DatabaseConfig,
    /// Where its events go.
    #[serde(default)]
    pub kafka: KafkaConfig,
    /// What it shows of itself.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// The other services.
    #[serde(default)]
    pub peers: PeersConfig,
    /// Where it is to end, when crashes are tried.
    #[serde(default)]
    pub crash: CrashConfig,
    /// What only this service has.
    pub service: S,
}

/// Addresses and certificates of the server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// gRPC over TLS.
    pub address: SocketAddr,
    /// `/metrics`, `/healthz`, `/readyz` in clear, for the machine's own collectors.
    pub http_address: SocketAddr,
    /// The service's certificate chain, PEM.
    pub certificate_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// The authority of agents and services, PEM.
    pub ca_file: PathBuf,
}

/// The database.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `postgres://…`.
    pub url: String,
    /// Connections at most; 10 keeps four services with two replicas each below Postgres' default of 100 (and watches
    /// hold none).
    #[serde(default = "default_max_connections")]
    pub max_connections: u32,
}

fn default_max_connections() -> u32 {
    10
}

/// Logs and traces.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// OTLP over gRPC, as in `http://127.0.0.1:4317`; none: spans are made and not sent.
    pub otlp_endpoint: Option<String>,
    /// Lines for people or for machines.
    pub log_format: LogFormat,
    /// `tracing-subscriber` directives.
    pub log_filter: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            log_format: LogFormat::Text,
            log_filter: "info,sqlx=warn,rdkafka=error,librdkafka=error".to_owned(),
        }
    }
}

/// Where the other services are, as in `https://scheduler:7402`. What a service does not need may be left out.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeersConfig {
    /// fleet-registry.
    pub registry: Option<String>,
    /// scheduler.
    pub scheduler: Option<String>,
    /// rollout.
    pub rollout: Option<String>,
    /// policy.
    pub policy: Option<String>,
}

/// Reads any configuration: file, then environment variables `MUSTER_<SECTION>__<KEY>`.
pub fn load<C: DeserializeOwned>(file: &Path) -> anyhow::Result<C> {
    // Variables without `__` (MUSTER_CONFIG and the like) belong to other programs.
    let environment: HashMap<String, String> =
        std::env::vars().filter(|(key, _)| key.starts_with("MUSTER_") && key.contains("__")).collect();
    let environment = config::Environment::with_prefix("MUSTER")
        .prefix_separator("_")
        .separator("__")
        .list_separator(",")
        .with_list_parse_key("kafka.brokers")
        .try_parsing(true)
        .source(Some(environment));
    config::Config::builder()
        .add_source(config::File::from(file).required(true).format(config::FileFormat::Toml))
        .add_source(environment)
        .build()
        .and_then(config::Config::try_deserialize)
        .with_context(|| format!("reading the configuration {}", file.display()))
}
