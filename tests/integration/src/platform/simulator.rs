//! The member clusters: simulated ones, one process with an API server, a Prometheus and an audit log for each; and real ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Setup;
use crate::audit::AuditLog;
use crate::cluster_api::ClusterApi;
use crate::patience::{Look, STARTS_WITHIN, eventually_within};
use crate::process::{Process, Program};

/// The running simulator.
#[derive(Debug)]
pub struct Simulator {
    clusters: BTreeMap<String, Cluster>,
    /// URLs at which a cluster's images, faults and traffic are changed.
    controls: BTreeMap<String, String>,
    process: Process,
}

/// A member cluster, from the outside.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its Kubernetes API.
    pub api: ClusterApi,
    /// URL of its Prometheus; none: it has none.
    pub prometheus: Option<String>,
    /// A kubeconfig for it.
    pub kubeconfig: PathBuf,
    /// What was written to it.
    pub audit: AuditLog,
}

impl Cluster {
    /// A real one, by the folder with its `kubeconfig` (in JSON) and its `audit.jsonl`.
    ///
    /// # Errors
    /// The kubeconfig can't be read.
    pub fn real(name: impl Into<String>, folder: &Path) -> Result<Self> {
        let kubeconfig = folder.join("kubeconfig");
        Ok(Self {
            name: name.into(),
            api: ClusterApi::of_kubeconfig(&kubeconfig)?,
            prometheus: None,
            kubeconfig,
            audit: AuditLog::of_kubernetes(folder.join("audit.jsonl")),
        })
    }
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
        let endpoints = eventually_within(STARTS_WITHIN, "the simulator listens", async || {
            process.expect_running()?;
            let Ok(text) = std::fs::read(&file) else {
                return Ok(Look::NotYet(format!("no {}", file.display())));
            };
            let endpoints: BTreeMap<String, Endpoint> = serde_json::from_slice(&text)?;
            Ok(Look::Is(endpoints))
        })
        .await?;
        let controls = endpoints.iter().map(|(name, endpoint)| (name.clone(), endpoint.control.clone())).collect();
        let clusters = endpoints
            .into_iter()
            .map(|(name, endpoint)| {
                let cluster = Cluster {
                    name: name.clone(),
                    api: ClusterApi::new(endpoint.api),
                    prometheus: Some(endpoint.prometheus),
                    kubeconfig: endpoint.kubeconfig,
                    audit: AuditLog::new(own.join(format!("{name}.audit.jsonl"))),
                };
                (name, cluster)
            })
            .collect();
        Ok(Self { clusters, controls, process })
    }

    /// What the images do from now on, in every cluster.
    ///
    /// # Errors
    /// The simulator refuses the list.
    pub async fn set_images(&self, images: &serde_json::Value) -> Result<()> {
        let http = reqwest::Client::new();
        for (name, control) in &self.controls {
            let response = http.put(format!("{control}/images")).json(images).send().await?;
            let status = response.status();
            anyhow::ensure!(status.is_success(), "{name}: {status} {}", response.text().await?);
        }
        Ok(())
    }

    /// Simulated requests to every Service of a cluster, per second, from now on.
    ///
    /// # Errors
    /// The simulator refuses it.
    pub async fn set_traffic(&self, cluster: &str, requests_per_second: f64) -> Result<()> {
        let control = self.controls.get(cluster).with_context(|| format!("no cluster {cluster} is simulated"))?;
        let response = reqwest::Client::new()
            .put(format!("{control}/traffic"))
            .json(&serde_json::json!({"requestsPerSecond": requests_per_second}))
            .send()
            .await?;
        response.error_for_status()?;
        Ok(())
    }

    /// From now on an agent that joins is told of this Prometheus, which scrapes what the cluster's own exports.
    ///
    /// # Errors
    /// There is no cluster of this name.
    pub(super) fn observe(&mut self, name: &str, url: &str) -> Result<()> {
        let cluster = self.clusters.get_mut(name).with_context(|| format!("no cluster {name} is simulated"))?;
        cluster.prometheus = Some(url.to_owned());
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
