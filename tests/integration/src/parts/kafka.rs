//! A real Apache Kafka: one process that is broker and controller, from its Maven artifacts, on free loopback ports.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tempfile::TempDir;

use super::Part;
use crate::process::{Leash, Program, finished, free_port};

const READY_WITHIN: Duration = Duration::from_secs(60);

/// What Java is told: a small heap, and to be up soon rather than fast later.
const JAVA: [&str; 4] = ["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// A broker that ends with this process, and whose data go with it.
pub struct Kafka {
    address: String,
    jars: PathBuf,
    // Fields are dropped in order: first the process ends, then its folder goes.
    broker: Part,
    _folder: TempDir,
}

impl Kafka {
    /// Formats an empty log and starts it. `jars` is the folder of its artifacts.
    ///
    /// # Errors
    /// The broker doesn't come up within a minute.
    pub async fn start(jars: PathBuf, leash: &Leash) -> Result<Self> {
        let folder = TempDir::with_prefix("muster-kafka-")?;
        let (port, controller) = (free_port()?, free_port()?);
        let address = format!("127.0.0.1:{port}");
        let properties = folder.path().join("server.properties");
        std::fs::write(&properties, settings(port, controller, &folder.path().join("data")))?;
        let properties = properties.display().to_string();
        let cluster = URL_SAFE_NO_PAD.encode(uuid::Uuid::new_v4().as_bytes());
        // One word with its option: an id may begin with a dash.
        let mut storage = tokio::process::Command::new("java");
        storage.args(java(&jars, "kafka.tools.StorageTool")).args([
            "format",
            &format!("--cluster-id={cluster}"),
            "--config",
            &properties,
        ]);
        finished(storage, "kafka.tools.StorageTool format").await?;
        let broker = Program::new("kafka", "java")
            .arguments(java(&jars, "kafka.Kafka"))
            .argument(properties)
            .folder(folder.path())
            .log(folder.path().join("kafka.log"));
        let mut kafka = Self { address, jars, broker: Part::start(broker, leash)?, _folder: folder };
        kafka.ready().await?;
        Ok(kafka)
    }

    /// Waits until it listens.
    ///
    /// # Errors
    /// It has ended, or does not listen within a minute.
    pub async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        while tokio::net::TcpStream::connect(&self.address).await.is_err() {
            self.broker.process().expect_running()?;
            if Instant::now() > deadline {
                bail!("Kafka does not listen on {} within {READY_WITHIN:?}", self.address);
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

/// One node that is everything; topics are made by whoever deploys, never by use.
fn settings(port: u16, controller: u16, data: &Path) -> String {
    let data = data.display();
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={data}\n\
         auto.create.topics.enable=false\n\
         offsets.topic.num.partitions=3\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n"
    )
}
