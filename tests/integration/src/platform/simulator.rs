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
    kubeconfig: PathBuf,
    audit: PathBuf,
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
            .argument("--dir")
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
                    kubeconfig: endpoint.kubeconfig,
                    audit: AuditLog::new(endpoint.audit),
                };
                (name, cluster)
            })
            .collect();
        Ok(Self { clusters, process })
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
