//! A real Apache Kafka: one process that is broker and controller, from its Maven artifacts, on free loopback ports. It has a
//! listener in clear, and one that is encrypted and asks for a password, as those of a company do.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tempfile::TempDir;

use super::Part;
use super::certificate::Certificate;
use crate::patience::STARTS_WITHIN;
use crate::process::{Leash, Program, finished, free_port};

/// What Java is told: a small heap, and to be up soon rather than fast later.
const JAVA: [&str; 4] = ["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// The user of the guarded listener.
pub const USER: &str = "muster";

/// How the guarded listener is reached.
#[derive(Debug, Clone)]
pub struct Access {
    /// `host:port`.
    pub address: String,
    /// The authority of its certificate.
    pub ca_file: PathBuf,
    /// The password of [`USER`], which is known as SCRAM-SHA-512 has it.
    pub password_file: PathBuf,
}

impl Access {
    /// Of the broker that keeps its files in this folder.
    ///
    /// # Errors
    /// There is none.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        let address = std::fs::read_to_string(folder.join("address")).context("the address of a broker")?;
        Ok(Self { address, ca_file: folder.join("ca.pem"), password_file: folder.join("password") })
    }
}

/// A broker that ends with this process, and whose data go with it.
pub struct Kafka {
    address: String,
    jars: PathBuf,
    // Fields are dropped in order: first the process ends, then its folder goes.
    broker: Part,
    folder: TempDir,
}

impl Kafka {
    /// Formats an empty log and starts it. `jars` is the folder of its artifacts.
    ///
    /// # Errors
    /// The broker doesn't come up.
    pub async fn start(jars: PathBuf, leash: &Leash) -> Result<Self> {
        let folder = TempDir::with_prefix("muster-kafka-")?;
        let ports = Ports { plain: free_port()?, guarded: free_port()?, controller: free_port()? };
        let address = format!("127.0.0.1:{}", ports.plain);
        let password = guard(folder.path(), &ports)?;
        let properties = folder.path().join("server.properties");
        std::fs::write(&properties, settings(&ports, folder.path()))?;
        let properties = properties.display().to_string();
        let cluster = URL_SAFE_NO_PAD.encode(uuid::Uuid::new_v4().as_bytes());
        // One word with its option: an id may begin with a dash.
        let mut storage = tokio::process::Command::new("java");
        storage.args(java(&jars, "kafka.tools.StorageTool")).args([
            "format",
            &format!("--cluster-id={cluster}"),
            "--config",
            &properties,
            "--add-scram",
            &format!("SCRAM-SHA-512=[name={USER},password={password}]"),
        ]);
        finished(storage, "kafka.tools.StorageTool format").await?;
        let broker = Program::new("kafka", "java")
            .arguments(java(&jars, "kafka.Kafka"))
            .argument(properties)
            .folder(folder.path())
            .log(folder.path().join("kafka.log"));
        let mut kafka = Self { address, jars, broker: Part::start(broker, leash)?, folder };
        kafka.ready().await?;
        Ok(kafka)
    }

    /// Waits until it listens.
    ///
    /// # Errors
    /// It has ended, or does not listen in time.
    pub async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + STARTS_WITHIN;
        while tokio::net::TcpStream::connect(&self.address).await.is_err() {
            self.broker.process().expect_running()?;
            if Instant::now() > deadline {
                bail!("Kafka does not listen on {} within {STARTS_WITHIN:?}", self.address);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Its process.
    pub fn broker(&mut self) -> &mut Part {
        &mut self.broker
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The folder with the files of [`Access::in_folder`].
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder with Kafka's own programs, as jars.
    pub fn jars(&self) -> &Path {
        &self.jars
    }
}

/// What Java is given for one of Kafka's programs.
fn java(jars: &Path, class: &str) -> Vec<String> {
    let classes = jars.join("*").display().to_string();
    JAVA.iter().map(|&word| word.to_owned()).chain(["-cp".to_owned(), classes, class.to_owned()]).collect()
}

/// Where it listens.
struct Ports {
    plain: u16,
    guarded: u16,
    controller: u16,
}

/// Writes what guards a listener, and what whoever comes there has to know; answers the password.
fn guard(folder: &Path, ports: &Ports) -> Result<String> {
    let Certificate { authority, certificate, key } = Certificate::for_loopback("kafka")?;
    let password = uuid::Uuid::new_v4().simple().to_string();
    for (file, content) in [
        ("broker.pem", format!("{}{certificate}", key.serialize_pem())),
        ("ca.pem", authority),
        ("address", format!("localhost:{}", ports.guarded)),
        ("password", password.clone()),
    ] {
        std::fs::write(folder.join(file), content)?;
    }
    Ok(password)
}

/// One node that is everything; topics are made by whoever deploys, never by use.
fn settings(ports: &Ports, folder: &Path) -> String {
    let Ports { plain, guarded, controller } = ports;
    let (data, certificate) = (folder.join("data"), folder.join("broker.pem"));
    let (data, certificate) = (data.display(), certificate.display());
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{plain},GUARDED://127.0.0.1:{guarded},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{plain},GUARDED://localhost:{guarded}\n\
         controller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=PLAINTEXT\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,GUARDED:SASL_SSL,CONTROLLER:PLAINTEXT\n\
         listener.name.guarded.sasl.enabled.mechanisms=SCRAM-SHA-512\n\
         listener.name.guarded.scram-sha-512.sasl.jaas.config=\
         org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
         listener.name.guarded.ssl.keystore.type=PEM\n\
         listener.name.guarded.ssl.keystore.location={certificate}\n\
         log.dirs={data}\n\
         auto.create.topics.enable=false\n\
         offsets.topic.num.partitions=3\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n"
    )
}
