//! The four services: their configuration, and when they are ready.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use toml::{Table, Value, toml};

use crate::patience::{self, STARTS_WITHIN, eventually_within};
use crate::process::{Crash, Leash, Process, Program, free_port};

/// A service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// fleet-registry.
    Registry,
    /// scheduler.
    Scheduler,
    /// rollout.
    Rollout,
    /// policy.
    Policy,
}

impl Service {
    /// In the order of their ports.
    pub const ALL: [Self; 4] = [Self::Registry, Self::Scheduler, Self::Rollout, Self::Policy];

    /// Its name, as in its certificate.
    pub fn name(self) -> &'static str {
        match self {
            Self::Registry => "fleet-registry",
            Self::Scheduler => "scheduler",
            Self::Rollout => "rollout",
            Self::Policy => "policy",
        }
    }

    /// Its key among the peers of a configuration.
    pub fn key(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Scheduler | Self::Rollout | Self::Policy => self.name(),
        }
    }

    /// Its program.
    pub fn program(self) -> String {
        format!("muster-{}", self.name())
    }

    /// Its database's name.
    pub fn database(self) -> &'static str {
        match self {
            Self::Registry => "muster_registry",
            Self::Scheduler => "muster_scheduler",
            Self::Rollout => "muster_rollout",
            Self::Policy => "muster_policy",
        }
    }

    /// The port its gRPC listens on by default; `/metrics` and health are a hundred above.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Registry => 7401,
            Self::Scheduler => 7402,
            Self::Rollout => 7403,
            Self::Policy => 7404,
        }
    }
}

/// Where a service listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// gRPC.
    pub grpc: u16,
    /// `/metrics`, `/healthz`, `/readyz`.
    pub http: u16,
}

impl Ports {
    /// The documented ones.
    pub fn documented(service: Service) -> Self {
        let grpc = service.default_port();
        Self { grpc, http: grpc + 100 }
    }

    /// Two that are free at this moment.
    ///
    /// # Errors
    /// There are none.
    pub fn free() -> Result<Self> {
        Ok(Self { grpc: free_port()?, http: free_port()? })
    }

    /// The gRPC address.
    pub fn address(self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.grpc))
    }

    /// The gRPC URL.
    pub fn url(self) -> String {
        format!("https://{}", self.address())
    }
}

/// What all services' configurations have in common.
pub(super) struct Common<'a> {
    pub(super) pki: &'a Pki,
    pub(super) database_url: String,
    pub(super) kafka: Table,
    pub(super) otlp_endpoint: String,
    pub(super) peers: [(Service, String); 4],
    /// The service's own section.
    pub(super) settings: Table,
}

/// The files the registry's `bootstrap-pki` made.
#[derive(Debug, Clone)]
pub struct Pki {
    pub(super) folder: PathBuf,
}

impl Pki {
    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// The authority's key.
    pub fn ca_key(&self) -> PathBuf {
        self.folder.join("ca.key")
    }

    /// A service's certificate.
    pub fn certificate(&self, service: Service) -> PathBuf {
        self.folder.join(format!("{}.crt", service.name()))
    }

    /// A service's key.
    pub fn key(&self, service: Service) -> PathBuf {
        self.folder.join(format!("{}.key", service.name()))
    }
}

/// The text of a service's configuration file.
pub(super) fn configuration(service: Service, ports: Ports, common: Common<'_>) -> Result<String> {
    let path = |path: PathBuf| path.display().to_string();
    let address = ports.address().to_string();
    let http_address = SocketAddr::from(([127, 0, 0, 1], ports.http)).to_string();
    let certificate = path(common.pki.certificate(service));
    let key = path(common.pki.key(service));
    let ca = path(common.pki.ca());
    let url = common.database_url;
    let otlp_endpoint = common.otlp_endpoint;
    let mut table = toml! {
        [server]
        address = address
        http_address = http_address
        certificate_file = certificate
        key_file = key
        ca_file = ca

        [database]
        url = url

        [telemetry]
        otlp_endpoint = otlp_endpoint
    };
    table.insert("kafka".to_owned(), Value::Table(common.kafka));
    let peers = common.peers.into_iter().filter(|(peer, _)| *peer != service);
    let peers = peers.map(|(peer, url)| (peer.key().to_owned(), Value::String(url)));
    table.insert("peers".to_owned(), Value::Table(Table::from_iter(peers)));
    table.insert("service".to_owned(), Value::Table(common.settings));
    toml::to_string(&table).with_context(|| format!("the configuration of {}", service.name()))
}

/// Runs one of a program's commands to its end.
pub(super) async fn run_to_end(program: &Path, arguments: &[&str]) -> Result<String> {
    let output = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("run {}", program.display()))?;
    if !output.status.success() {
        bail!(
            "{} {}: {}{}",
            program.display(),
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// One process of a service.
#[derive(Debug)]
pub struct Replica {
    /// Which service.
    pub service: Service,
    /// Where it listens.
    pub ports: Ports,
    configuration: PathBuf,
    log: PathBuf,
    process: Process,
}

impl Replica {
    pub(super) fn start(
        service: Service,
        ports: Ports,
        programs: &Path,
        configuration: PathBuf,
        log: PathBuf,
        leash: &Leash,
    ) -> Result<Self> {
        let process = start(service, programs, &configuration, &log, leash, Crash::Never)?;
        Ok(Self { service, ports, configuration, log, process })
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Starts it again after it has ended, on the same ports, with the same configuration.
    pub(super) fn start_again(&mut self, programs: &Path, leash: &Leash, crash: Crash<'_>) -> Result<()> {
        self.process = start(self.service, programs, &self.configuration, &self.log, leash, crash)?;
        Ok(())
    }

    /// Returns when it answers that it is ready.
    ///
    /// # Errors
    /// It ends, or is not ready in time.
    pub async fn wait_until_ready(&mut self) -> Result<()> {
        let url = format!("http://127.0.0.1:{}/readyz", self.ports.http);
        let what = format!("{} is ready", self.service.name());
        let process = &mut self.process;
        let http = reqwest::Client::new();
        let ready = eventually_within(STARTS_WITHIN, &what, async || {
            process.expect_running()?;
            let response = http.get(&url).send().await?;
            let status = response.status();
            let text = response.text().await?;
            Ok(patience::look(status.is_success(), (), || text))
        })
        .await;
        ready.with_context(|| self.process.log_tail())
    }

    /// The status and text of `/readyz`: each part that it needs, and what is wrong with it.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn health(&self) -> Result<(u16, String)> {
        let response = reqwest::get(format!("http://127.0.0.1:{}/readyz", self.ports.http)).await?;
        Ok((response.status().as_u16(), response.text().await?))
    }

    /// What it has logged.
    ///
    /// # Errors
    /// It has no log.
    pub fn logged(&self) -> Result<String> {
        std::fs::read_to_string(&self.log).with_context(|| format!("read {}", self.log.display()))
    }

    /// The text of `/metrics`.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn metrics(&self) -> Result<String> {
        let url = format!("http://127.0.0.1:{}/metrics", self.ports.http);
        Ok(reqwest::get(url).await?.text().await?)
    }
}

fn start(
    service: Service,
    programs: &Path,
    configuration: &Path,
    log: &Path,
    leash: &Leash,
    crash: Crash<'_>,
) -> Result<Process> {
    Program::new(service.name(), programs.join(service.program()))
        .arguments(["run", "--config"])
        .argument(configuration.display().to_string())
        .fails(crash)
        .log(log)
        .start(leash)
}
