//! The simulated member clusters: one process, an API server, a Prometheus and an audit log for each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Setup;
use crate::audit::AuditLog;
use crate::cluster_api::ClusterApi;
use crate::patience::{Look, eventually_within};
use crate::process::{Process, Program};

/// How long the simulator may take to listen.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The running simulator.
#[derive(Debug)]
pub struct Simulator {
    clusters: BTreeMap<String, Cluster>,
    process: Process,
}

/// One simulated cluster, from the outside.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its Kubernetes API.
    pub api: ClusterApi,
    /// URL of its Prometheus.
    pub prometheus: String,
    /// URL at which its images, faults and traffic are changed.
    pub control: String,
    /// A kubeconfig for it.
    pub kubeconfig: PathBuf,
    /// What was written to it.
    pub audit: AuditLog,
}

/// What the simulator says of itself once it listens.
#[derive(Deserialize)]
struct Endpoint {
    api: String,
    prometheus: String,
    control: String,
    kubeconfig: PathBuf,
}

impl Simulator {
    pub(super) async fn start(setup: &Setup, folder: &Path) -> Result<Self> {
        let own = folder.join("clusters");
        std::fs::create_dir(&own)?;
        let config = folder.join("config/simulator.json");
        std::fs::write(&config, serde_json::to_vec_pretty(&setup.simulation)?)?;
        let mut process = Program::new("simulator", setup.programs.join("muster-simcluster"))
            .argument("--config")
            .argument(config.display().to_string())
            .argument("--state-dir")
            .argument(own.display().to_string())
            .log(folder.join("logs/simulator.log"))
            .start(&setup.leash)?;
        let file = own.join("endpoints.json");
        let endpoints = eventually_within(READY_WITHIN, "the simulator listens", async || {
            process.expect_running()?;
            let Ok(text) = std::fs::read(&file) else {
                return Ok(Look::NotYet(format!("no {}", file.display())));
            };
            let endpoints: BTreeMap<String, Endpoint> = serde_json::from_slice(&text)?;
            Ok(Look::Is(endpoints))
        })
        .await?;
        let clusters = endpoints
            .into_iter()
            .map(|(name, endpoint)| {
                let cluster = Cluster {
                    name: name.clone(),
                    api: ClusterApi::new(endpoint.api),
                    prometheus: endpoint.prometheus,
                    control: endpoint.control,
                    kubeconfig: endpoint.kubeconfig,
                    audit: AuditLog::new(own.join(format!("{name}.audit.jsonl"))),
                };
                (name, cluster)
            })
            .collect();
        Ok(Self { clusters, process })
    }

    /// What the images do from now on, in every cluster.
    ///
    /// # Errors
    /// The simulator refuses the list.
    pub async fn set_images(&self, images: &serde_json::Value) -> Result<()> {
        let http = reqwest::Client::new();
        for cluster in self.clusters.values() {
            let response = http.put(format!("{}/images", cluster.control)).json(images).send().await?;
            let status = response.status();
            anyhow::ensure!(status.is_success(), "{}: {status} {}", cluster.name, response.text().await?);
        }
        Ok(())
    }

    /// Simulated requests to every Service of a cluster, per second, from now on.
    ///
    /// # Errors
    /// The simulator refuses it.
    pub async fn set_traffic(&self, cluster: &str, requests_per_second: f64) -> Result<()> {
        let control = &self.cluster(cluster)?.control;
        let response = reqwest::Client::new()
            .put(format!("{control}/traffic"))
            .json(&serde_json::json!({"requestsPerSecond": requests_per_second}))
            .send()
            .await?;
        response.error_for_status()?;
        Ok(())
    }

    /// A cluster by name.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn cluster(&self, name: &str) -> Result<&Cluster> {
        self.clusters.get(name).with_context(|| format!("no cluster {name} is simulated"))
    }

    /// The names of all clusters, in order.
    pub fn names(&self) -> Vec<String> {
        self.clusters.keys().cloned().collect()
    }

    /// Its process id.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }
}
