//! A whole Muster: Postgres databases, a broker, four services, a simulator with its clusters, an agent for each.
//!
//! The one thing to know: every part is a process of its own with a log in the platform's folder, and everything ends
//! when the value is dropped: agents first, then services, then the clusters, the databases and the folder.

mod agent;
mod configuration;
mod database;
mod replicas;
mod service;
mod setup;
mod simulator;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use muster_proto::registry::v1 as registry;
use muster_testkit::Broker;
use tempfile::TempDir;

pub use agent::{Agent, Surroundings};
pub use database::Databases;
pub use service::{Pki, Ports, Replica, Service};
pub use setup::{GIT_SECRET, Git, Pace, Setup};
pub use simulator::{Cluster, Simulator};

use crate::clients::{Addresses, Clients};
use crate::kafka::{PARTITIONS, TOPICS};
use crate::muster::Muster;
use crate::proxy::Proxy;
use crate::spans::Spans;

/// A running Muster.
pub struct Platform {
    agents: BTreeMap<String, Agent>,
    replicas: Vec<Replica>,
    simulator: Simulator,
    spans: Spans,
    databases: Databases,
    brokers: String,
    _broker: Option<Broker>,
    ports: BTreeMap<Service, Ports>,
    balancers: BTreeMap<Service, Proxy>,
    pki: Pki,
    token: String,
    setup: Setup,
    folder: TempDir,
}

impl Platform {
    /// Starts everything but the agents, and returns when all of it is ready. Clusters join with [`Platform::join`].
    ///
    /// # Errors
    /// A part doesn't come up; the message holds the end of its log.
    pub async fn start(setup: Setup) -> Result<Self> {
        // Two TLS libraries' defaults would otherwise be a run-time choice; a second platform finds it made.
        rustls::crypto::ring::default_provider().install_default().ok();
        let folder = TempDir::with_prefix("muster-")?;
        for part in ["logs", "config", "agents"] {
            std::fs::create_dir(folder.path().join(part))?;
        }
        let (broker, brokers) = match &setup.brokers {
            Some(brokers) => (None, brokers.clone()),
            None => {
                let broker = Broker::start(&TOPICS, PARTITIONS).map_err(anyhow::Error::msg)?;
                let address = broker.bootstrap_servers().to_owned();
                (Some(broker), address)
            }
        };
        let databases = Databases::create(&setup.database_url).await?;
        let spans = Spans::receive().await?;
        let simulator = Simulator::start(&setup, folder.path()).await?;
        let pki = bootstrap_pki(&setup, folder.path()).await?;
        let mut ports = BTreeMap::new();
        for service in Service::ALL {
            let chosen = if setup.documented_ports { Ports::documented(service) } else { Ports::free()? };
            ports.insert(service, chosen);
        }
        let mut balancers = BTreeMap::new();
        for (service, ports) in ports.iter().filter(|_| setup.balanced) {
            balancers.insert(*service, Proxy::start(ports.address()).await?);
        }
        let mut platform = Self {
            agents: BTreeMap::new(),
            replicas: Vec::new(),
            simulator,
            spans,
            databases,
            brokers,
            _broker: broker,
            ports,
            balancers,
            pki,
            token: String::new(),
            setup,
            folder,
        };
        for service in Service::ALL {
            let ports = platform.ports[&service];
            let configuration = platform.write_configuration(service, ports, "")?;
            service::run_to_end(&platform.program(&service.program()), &["migrate", "--config", text(&configuration)?]).await?;
            if service == Service::Registry {
                platform.token = platform.bootstrap_admin(&configuration).await?;
            }
            platform.start_replica_with(service, ports, configuration, "")?;
        }
        for replica in &mut platform.replicas {
            replica.wait_until_ready().await?;
        }
        platform.write_context()?;
        Ok(platform)
    }

    /// Clients with the administrator's token.
    ///
    /// # Errors
    /// The authority's certificate can't be read.
    pub fn clients(&self) -> Result<Clients> {
        self.clients_as(Some(&self.token))
    }

    /// Clients with another token, or none.
    ///
    /// # Errors
    /// As [`Platform::clients`].
    pub fn clients_as(&self, token: Option<&str>) -> Result<Clients> {
        Clients::new(&self.addresses(), &self.pki.ca(), token)
    }

    /// Clients that call as a service does, with its certificate.
    ///
    /// # Errors
    /// The certificate can't be read.
    pub fn clients_as_service(&self, service: Service) -> Result<Clients> {
        Clients::as_service(&self.addresses(), &self.pki, service)
    }

    /// Where the services listen.
    pub fn addresses(&self) -> Addresses {
        let url = |service| format!("https://{}", self.address(service));
        Addresses {
            registry: url(Service::Registry),
            scheduler: url(Service::Scheduler),
            rollout: url(Service::Rollout),
            policy: url(Service::Policy),
        }
    }

    /// Where a service is reached.
    fn address(&self, service: Service) -> SocketAddr {
        self.balancers.get(&service).map_or_else(|| self.ports[&service].address(), Proxy::address)
    }

    /// The command line, with the administrator's token.
    pub fn muster(&self) -> Muster {
        Muster {
            program: self.program("muster"),
            config: self.context_file(),
            environment: vec![("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), self.spans.endpoint())],
        }
    }

    /// A member cluster.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn cluster(&self, name: &str) -> Result<&Cluster> {
        match self.setup.real.iter().find(|cluster| cluster.name == name) {
            Some(cluster) => Ok(cluster),
            None => self.simulator.cluster(name),
        }
    }

    /// From now on the agent of a simulated cluster that joins asks this Prometheus.
    ///
    /// # Errors
    /// There is no cluster of this name.
    pub fn observe(&mut self, cluster: &str, prometheus: &str) -> Result<()> {
        self.simulator.observe(cluster, prometheus)
    }

    /// The simulator.
    pub fn simulator(&self) -> &Simulator {
        &self.simulator
    }

    /// The names of the simulated clusters.
    pub fn cluster_names(&self) -> Vec<String> {
        self.simulator.names()
    }

    /// The brokers, `host:port`.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// The received spans.
    pub fn spans(&self) -> &Spans {
        &self.spans
    }

    /// Where everything is kept: logs, configurations, ledgers. It goes with the platform.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The files of the internal authority.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// How the team's repository is reached.
    pub fn git(&self) -> &Git {
        &self.setup.git
    }

    /// The databases.
    pub fn databases(&self) -> &Databases {
        &self.databases
    }

    /// A file with the administrator's token, 0600.
    pub fn token_file(&self) -> PathBuf {
        self.folder.path().join("admin.token")
    }

    /// The file of contexts that [`Platform::muster`] uses.
    pub fn context_file(&self) -> PathBuf {
        self.folder.path().join("muster.toml")
    }

    /// A new one-time token for a cluster.
    ///
    /// # Errors
    /// The registry refuses it.
    pub async fn enrolment_token(&self, cluster: &str) -> Result<String> {
        let request = registry::CreateEnrolmentTokenRequest {
            enrolment_token: Some(registry::EnrolmentToken { cluster: format!("clusters/{cluster}"), ..Default::default() }),
            request_id: uuid::Uuid::new_v4().to_string(),
            ..Default::default()
        };
        let token = self
            .clients()?
            .enrolment_tokens()
            .create_enrolment_token(request)
            .await
            .with_context(|| format!("an enrolment token for {cluster}"))?;
        Ok(token.into_inner().secret)
    }

    /// Starts the agent of a cluster with a new token. It has not enrolled yet when this returns.
    ///
    /// # Errors
    /// The registry refuses a token, or the agent can't be started.
    pub async fn join(&mut self, cluster: &str) -> Result<()> {
        let token = self.enrolment_token(cluster).await?;
        let agent = self.agent_with(cluster, cluster, &token).await?;
        self.agents.insert(cluster.to_owned(), agent);
        Ok(())
    }

    /// An agent that says it is `name`, of the cluster `cluster`, with this token. The caller keeps it.
    ///
    /// # Errors
    /// It can't be started.
    pub async fn agent_with(&self, name: &str, cluster: &str, token: &str) -> Result<Agent> {
        Agent::start(
            &self.setup,
            self.folder.path(),
            self.cluster(cluster)?,
            name,
            token,
            self.address(Service::Registry),
            &self.pki.ca(),
            &self.spans.endpoint(),
        )
        .await
    }

    /// A joined cluster's agent.
    ///
    /// # Errors
    /// The cluster has not joined.
    pub fn agent(&mut self, cluster: &str) -> Result<&mut Agent> {
        self.agents.get_mut(cluster).with_context(|| format!("{cluster} has no agent"))
    }

    /// Process ids by name: what the benchmark measures.
    pub fn processes(&mut self) -> Vec<(String, u32)> {
        let mut processes: Vec<(String, u32)> =
            self.replicas.iter_mut().map(|replica| (replica.service.name().to_owned(), replica.process().id())).collect();
        processes.push(("simulator".to_owned(), self.simulator.process_id()));
        for (name, agent) in &mut self.agents {
            processes.push((format!("agent {name}"), agent.process().id()));
        }
        processes
    }

    fn program(&self, name: &str) -> PathBuf {
        self.setup.programs.join(name)
    }

    async fn bootstrap_admin(&self, configuration: &Path) -> Result<String> {
        let file = self.token_file();
        service::run_to_end(
            &self.program(&Service::Registry.program()),
            &["bootstrap-admin", "--config", text(configuration)?, "--token-file", text(&file)?],
        )
        .await?;
        let token = std::fs::read_to_string(&file).context("the administrator's token")?;
        Ok(token.trim().to_owned())
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        // All are asked first, so that they end side by side; the fields' own drops wait for each.
        for agent in self.agents.values_mut() {
            agent.process().ask_to_stop();
        }
        for replica in &mut self.replicas {
            replica.process().ask_to_stop();
        }
    }
}

/// Makes the internal authority and a certificate for each service.
async fn bootstrap_pki(setup: &Setup, folder: &Path) -> Result<Pki> {
    let pki = Pki { folder: folder.join("pki") };
    let program = setup.programs.join(Service::Registry.program());
    let folder = text(&pki.folder)?;
    service::run_to_end(&program, &["bootstrap-pki", "--dir", folder]).await?;
    for service in Service::ALL {
        service::run_to_end(&program, &["issue-service-certificate", service.name(), "--dir", folder]).await?;
    }
    Ok(pki)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is no UTF-8", path.display()))
}
