//! What the bench runs: a Postgres that keeps what it was told, and the registry, the scheduler and the policy service as they are
//! deployed, each with its TLS and its database. No Kafka and no collector: none of what is measured waits for either.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use muster_integration_tests::clients::{Addresses, Clients};
use muster_integration_tests::parts::postgres::{Durability, Postgres};
use muster_integration_tests::platform::{Databases, Ports, Service};
use muster_integration_tests::process::{Leash, Process, Program, printed};
use tempfile::TempDir;
use toml::{Table, toml};

use crate::setup::build::{Cargo, Profile};
use crate::setup::postgres;
use crate::workspace;

const SERVICES: [Service; 3] = [Service::Registry, Service::Policy, Service::Scheduler];
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Everything that is measured. Fields are dropped in order: services before their databases.
pub struct Parts {
    processes: Vec<(Service, Process)>,
    ports: BTreeMap<Service, Ports>,
    token: String,
    databases: Databases,
    postgres: Postgres,
    folder: TempDir,
}

impl Parts {
    /// Builds the services, unless told not to, and starts them; returns when they are ready.
    ///
    /// # Errors
    /// A service does not build or does not come up.
    pub async fn start(build: bool) -> Result<Self> {
        if build {
            let mut command = workspace::cargo();
            command.args(["build", "--release", "--quiet"]);
            for service in SERVICES {
                command.args(["--package", &service.program()]);
            }
            ensure!(Cargo::start(&mut command)?.lines(|_| ()).await?, "the services do not build");
        }
        let postgres = postgres::start(Durability::Full).await?;
        let databases = Databases::create(&postgres.server().url("postgres")).await?;
        let folder = TempDir::with_prefix("muster-bench-")?;
        let mut ports = BTreeMap::new();
        for service in Service::ALL {
            ports.insert(service, Ports::free()?);
        }
        let mut parts = Self { processes: Vec::new(), ports, token: String::new(), databases, postgres, folder };
        parts.make_identities().await?;
        for service in SERVICES {
            parts.start_service(service).await?;
        }
        for (service, process) in &mut parts.processes {
            wait_until_ready(*service, parts.ports[service], process).await?;
        }
        Ok(parts)
    }

    /// Clients with the administrator's token.
    ///
    /// # Errors
    /// The authority's certificate can't be read.
    pub fn clients(&self) -> Result<Clients> {
        let url = |service| self.ports[&service].url();
        let addresses = Addresses {
            registry: url(Service::Registry),
            scheduler: url(Service::Scheduler),
            rollout: url(Service::Rollout),
            policy: url(Service::Policy),
        };
        Clients::new(&addresses, &self.ca_file(), Some(&self.token))
    }

    /// Where agents dial.
    pub fn hub(&self) -> String {
        self.ports[&Service::Registry].url()
    }

    /// The authority's certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.file("pki/ca.crt")
    }

    /// The server.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// Processor time so far, by process; Postgres with all its backends.
    ///
    /// # Errors
    /// A process has ended.
    pub fn processor_time(&mut self) -> Result<Vec<(&'static str, Duration)>> {
        let mut times = Vec::new();
        for (service, process) in &self.processes {
            times.push((service.name(), processor_time(process.id())?));
        }
        let server = self.postgres.process().process().id();
        let mut all = processor_time(server)?;
        for child in children(server)? {
            // A backend may end at any time.
            all += processor_time(child).unwrap_or_default();
        }
        times.push(("postgres", all));
        Ok(times)
    }

    async fn make_identities(&self) -> Result<()> {
        let folder = self.text("pki")?;
        self.run(Service::Registry, &["bootstrap-pki", "--dir", &folder]).await?;
        for service in SERVICES {
            self.run(Service::Registry, &["issue-service-certificate", service.name(), "--dir", &folder]).await?;
        }
        Ok(())
    }

    async fn start_service(&mut self, service: Service) -> Result<()> {
        let configuration = self.file(&format!("{}.toml", service.name()));
        fs::write(&configuration, toml::to_string(&self.configuration(service)?)?)?;
        let configuration = configuration.to_str().context("a folder that is no UTF-8")?.to_owned();
        self.run(service, &["migrate", "--config", &configuration]).await?;
        if service == Service::Registry {
            let token = self.text("admin.token")?;
            self.run(service, &["bootstrap-admin", "--config", &configuration, "--token-file", &token]).await?;
            self.token = fs::read_to_string(token)?.trim().to_owned();
        }
        let process = Program::new(service.name(), program(service)?)
            .arguments(["run", "--config", &configuration])
            .log(self.file(&format!("{}.log", service.name())))
            .start(&Leash::this_program())?;
        self.processes.push((service, process));
        Ok(())
    }

    fn configuration(&self, service: Service) -> Result<Table> {
        let ports = self.ports[&service];
        let (address, http_address) = (ports.address().to_string(), format!("127.0.0.1:{}", ports.http));
        let certificate = self.text(&format!("pki/{}.crt", service.name()))?;
        let key = self.text(&format!("pki/{}.key", service.name()))?;
        let (ca, ca_key, url) = (self.text("pki/ca.crt")?, self.text("pki/ca.key")?, self.databases.url(service));
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
            log_filter = "warn"
        };
        let peers = Service::ALL.into_iter().filter(|peer| *peer != service);
        let peers = peers.map(|peer| (peer.key().to_owned(), self.ports[&peer].url().into()));
        table.insert("peers".to_owned(), Table::from_iter(peers).into());
        let mut settings = Table::new();
        if service == Service::Registry {
            settings.insert("ca_certificate_file".to_owned(), self.text("pki/ca.crt")?.into());
            settings.insert("ca_key_file".to_owned(), ca_key.into());
            // A machine with two cores that is overloaded on purpose starves heartbeats; that is not what is measured.
            settings.insert("suspect_after_ms".to_owned(), 60_000.into());
            settings.insert("lost_after_ms".to_owned(), 120_000.into());
        }
        table.insert("service".to_owned(), settings.into());
        Ok(table)
    }

    async fn run(&self, service: Service, arguments: &[&str]) -> Result<()> {
        let mut command = tokio::process::Command::new(program(service)?);
        command.args(arguments);
        printed(command, &format!("{} {}", service.program(), arguments[0])).await.map(drop)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> Result<String> {
        Ok(self.file(name).to_str().context("a folder that is no UTF-8")?.to_owned())
    }
}

fn program(service: Service) -> Result<PathBuf> {
    Ok(Profile::Release.folder()?.join(service.program()))
}

async fn wait_until_ready(service: Service, ports: Ports, process: &mut Process) -> Result<()> {
    let what = format!("{} is ready", service.name());
    let address = ports.address();
    let ready = muster_integration_tests::eventually_within(READY_WITHIN, &what, async || {
        process.expect_running()?;
        let connected = tokio::net::TcpStream::connect(address).await.is_ok();
        Ok(muster_integration_tests::patience::look(connected, (), || "it does not listen yet".to_owned()))
    })
    .await;
    ready.with_context(|| process.log_tail())
}

/// User and system time of a process.
fn processor_time(id: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name, in parentheses, may hold spaces; utime and stime are fields 14 and 15, in hundredths of a second.
    let fields: Vec<&str> = stat.rsplit_once(')').context("a stat line")?.1.split_whitespace().collect();
    let hundredths: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(hundredths * 10))
}

fn children(parent: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(id) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
        if parent_of(&path) == Some(parent) {
            children.push(id);
        }
    }
    Ok(children)
}

fn parent_of(process: &Path) -> Option<u32> {
    fs::read_to_string(process.join("stat")).ok()?.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
