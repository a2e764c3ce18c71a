//! What a simulator is told: clusters with their nodes, and what images do. Unknown keys are errors.

use crate::images::ImageRule;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The whole configuration.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SimConfig {
    /// The clusters to run.
    pub clusters: Vec<ClusterConfig>,
    /// What images do, in every cluster.
    #[serde(default)]
    pub images: Vec<ImageRule>,
}

/// One cluster.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterConfig {
    /// Its name, in file names and in `clusters` of an image rule.
    pub name: String,
    /// The UID of its `kube-system` namespace; made from name and seed where it is absent.
    #[serde(default)]
    pub uid: Option<String>,
    /// Its Kubernetes version.
    #[serde(default = "default_version")]
    pub version: String,
    /// Its nodes by shape.
    #[serde(default)]
    pub nodes: Vec<NodeGroup>,
    /// Sets of custom kinds to serve from the start: `istio`, `volcano`, `kyverno`.
    #[serde(default)]
    pub crds: Vec<CrdPreset>,
    /// The GPUs are run by the GPU operator; otherwise by a bare device plugin.
    #[serde(default)]
    pub gpu_operator: bool,
    /// Simulated requests to every Service with ready or unready pods, per second.
    #[serde(default = "default_requests")]
    pub requests_per_second: f64,
    /// Serve a Prometheus API.
    #[serde(default = "default_true")]
    pub prometheus: bool,
    /// Decides every name and UID.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// The port of the Kubernetes API; 0 takes a free one.
    #[serde(default)]
    pub api_port: u16,
    /// The port of the Prometheus API; 0 takes a free one.
    #[serde(default)]
    pub prometheus_port: u16,
    /// The port of the control API; 0 takes a free one.
    #[serde(default)]
    pub control_port: u16,
    /// How long things take.
    #[serde(default)]
    pub delays: Delays,
    /// Changes kept of each kind for watches; an older watch gets 410. etcd keeps five minutes; here a number keeps
    /// memory bounded whatever the rate.
    #[serde(default = "default_history")]
    pub history_limit: usize,
}

/// Nodes of one shape.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeGroup {
    /// How many.
    pub count: u32,
    /// Their names are `<prefix>-<n>` from 0; the cluster's name and the number of the group where it is absent.
    #[serde(default)]
    pub prefix: Option<String>,
    /// The label `nvidia.com/gpu.product`.
    #[serde(default)]
    pub gpu_model: Option<String>,
    /// GPUs of each.
    #[serde(default)]
    pub gpus: u32,
    /// Cores of each, a quantity.
    #[serde(default = "default_cpu")]
    pub cpu: String,
    /// Memory of each, a quantity.
    #[serde(default = "default_memory")]
    pub memory: String,
    /// More labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A set of custom kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CrdPreset {
    /// VirtualService, DestinationRule, Gateway and their neighbours.
    Istio,
    /// Volcano's Job, Queue, PodGroup.
    Volcano,
    /// Kyverno's policies and reports.
    Kyverno,
}

/// How long things take, milliseconds.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Delays {
    /// From bound to running: pull and start.
    pub start_ms: u64,
    /// From deletion to gone.
    pub terminate_ms: u64,
    /// How long a container of a job runs where its image does not say.
    pub job_run_ms: u64,
    /// The first pause before a container that ended is started again; it doubles, up to a minute.
    pub restart_ms: u64,
    /// Between two bookmarks on a watch that asked for them.
    pub bookmark_ms: u64,
    /// Between two rounds of simulated requests, each of which is scraped.
    pub scrape_ms: u64,
    /// A cron job's minute.
    pub cron_minute_ms: u64,
}

impl Default for Delays {
    fn default() -> Self {
        Self {
            start_ms: 50,
            terminate_ms: 50,
            job_run_ms: 2_000,
            restart_ms: 500,
            bookmark_ms: 10_000,
            scrape_ms: 500,
            cron_minute_ms: 60_000,
        }
    }
}

fn default_version() -> String {
    "1.37.2".to_owned()
}
fn default_requests() -> f64 {
    20.0
}
fn default_true() -> bool {
    true
}
fn default_seed() -> u64 {
    1
}
fn default_history() -> usize {
    2_000
}
fn default_cpu() -> String {
    "64".to_owned()
}
fn default_memory() -> String {
    "512Gi".to_owned()
}

/// A configuration that cannot be run: the field and what is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct ConfigError {
    /// The field at fault.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl SimConfig {
    /// Reads YAML (or JSON, which is YAML) and checks it.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = serde_saphyr::from_str(text)
            .map_err(|error| ConfigError { field: "configuration".to_owned(), problem: error.to_string() })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let mut names = std::collections::BTreeSet::new();
        for (index, cluster) in self.clusters.iter().enumerate() {
            if !names.insert(&cluster.name) {
                let problem = format!("{:?} is already the name of another cluster", cluster.name);
                return Err(ConfigError { field: format!("clusters[{index}].name"), problem });
            }
            cluster.check().map_err(|error| ConfigError { field: format!("clusters[{index}].{}", error.field), ..error })?;
        }
        check_images(&self.images)
    }
}

/// Refuses image rules whose numbers mean nothing.
pub fn check_images(rules: &[ImageRule]) -> Result<(), ConfigError> {
    for (index, rule) in rules.iter().enumerate() {
        if rule.error_rate.is_some_and(|rate| !(0.0..=1.0).contains(&rate)) {
            let problem = "is a share, from 0 to 1".to_owned();
            return Err(ConfigError { field: format!("images[{index}].errorRate"), problem });
        }
        if rule.latency_ms.is_some_and(|latency| !latency.is_finite() || latency < 0.0) {
            let problem = "is a number of milliseconds, not negative".to_owned();
            return Err(ConfigError { field: format!("images[{index}].latencyMs"), problem });
        }
    }
    Ok(())
}

impl ClusterConfig {
    /// A cluster with every default.
    pub fn named(name: &str) -> Self {
        serde_json::from_value(serde_json::json!({"name": name})).expect("every other field has a default")
    }

    /// Refuses what cannot be run.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |field: &str, problem: &str| Err(ConfigError { field: field.to_owned(), problem: problem.to_owned() });
        if !crate::names::is_label(&self.name) {
            return wrong("name", "is a lower-case name of letters, digits and '-', at most 63 long");
        }
        let mut parts = self.version.split('.');
        let number = |part: Option<&str>| part.is_some_and(|part| part.parse::<u32>().is_ok());
        if !(number(parts.next()) && number(parts.next()) && number(parts.next()) && parts.next().is_none()) {
            return wrong("version", "is major.minor.patch");
        }
        if !self.requests_per_second.is_finite() || self.requests_per_second < 0.0 {
            return wrong("requestsPerSecond", "is a number, not negative");
        }
        if self.history_limit == 0
            || self.delays.scrape_ms == 0
            || self.delays.bookmark_ms == 0
            || self.delays.cron_minute_ms == 0
        {
            return wrong("delays", "historyLimit, scrapeMs, bookmarkMs and cronMinuteMs are above 0");
        }
        for (index, group) in self.nodes.iter().enumerate() {
            for (field, quantity) in [("cpu", &group.cpu), ("memory", &group.memory)] {
                if crate::quantity::parse_nanos(quantity).is_none_or(|nanos| nanos < 0) {
                    return wrong(&format!("nodes[{index}].{field}"), "is a quantity, not negative");
                }
            }
        }
        Ok(())
    }
}
