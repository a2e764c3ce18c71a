//! The platform of the faults, and how each thing is broken and mended.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use muster_proto::registry::v1 as registry;
use muster_simcluster::{CrdPreset, presets};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::clock::Clock;
use super::{CLOCK_OFF, Fault};
use crate::eventually_within;
use crate::kafka::MadeTopics;
use crate::main_job::scene::SHORT_SOAK;
use crate::main_job::simulation::{self, EDGES, IDC_GPUS, SERVE_ONLINE, TRAIN_IDC};
use crate::main_job::{Scene, apply, join};
use crate::parts::kafka::Kafka;
use crate::parts::kubernetes::{self, Kubernetes};
use crate::parts::postgres::{Durability, Postgres};
use crate::parts::volcano;
use crate::patience::look;
use crate::platform::{Agent, Cluster, Git, Platform, Service, Setup, Surroundings};
use crate::process::finished;
use crate::proxy::Weather;

/// The clusters that play: a real one trains, simulated ones serve, because their requests are what a gate measures.
const CLUSTERS: [&str; 4] = [TRAIN_IDC, SERVE_ONLINE, EDGES[0], EDGES[2]];

/// How long it may take until everything says that it is well.
const WELL_WITHIN: Duration = Duration::from_secs(120);

/// A wrapper in which a write beyond the limit of a file's size fails, in place of ending the process.
const LIMITED: [&str; 4] = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"];

/// Where the programs of the parts are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Programs {
    /// The folder with `bin/postgres`.
    pub postgres: PathBuf,
    /// The folder of Kafka's jars.
    pub kafka: PathBuf,
    /// Kubernetes'.
    pub kubernetes: kubernetes::Programs,
}

/// The main job's platform, on parts that can be broken.
pub struct Ground {
    /// The platform, with what the main job has in it.
    pub scene: Scene,
    cluster: Kubernetes,
    postgres: Postgres,
    kafka: Kafka,
    clock: Clock,
    controller: JoinHandle<()>,
    _folder: TempDir,
}

impl Ground {
    /// Starts everything, with two processes of every service, and plays the main job until its first release is complete.
    /// `setup` says where Muster's programs are; its parts are replaced.
    ///
    /// # Errors
    /// A part does not come up.
    pub async fn start(mut setup: Setup, programs: &Programs) -> Result<Self> {
        let folder = TempDir::with_prefix("muster-faults-")?;
        let leash = setup.leash.clone();
        let (postgres, kafka, cluster) = tokio::try_join!(
            // It is killed: what it has acknowledged must be on disk.
            Postgres::start(&programs.postgres, Durability::Full, &leash),
            Kafka::start(programs.kafka.clone(), &leash),
            Kubernetes::start(&programs.kubernetes, &leash, TRAIN_IDC, IDC_GPUS / 8, "V100"),
        )?;
        let clock = Clock::right(folder.path()).await?;
        let real = Cluster::real(TRAIN_IDC, cluster.folder())?;
        for definition in presets::definitions(CrdPreset::Volcano).into_iter().chain(presets::gpu_operator()) {
            real.api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await?;
        }
        let controller = tokio::spawn(volcano::run(real.api.clone()));
        // They go with the broker.
        std::mem::forget(MadeTopics::make(kafka.address()).await?);
        let simulated: Vec<&str> = CLUSTERS.into_iter().filter(|name| *name != TRAIN_IDC).collect();
        setup.simulation = simulation::simulation(&simulated);
        setup.database_url = postgres.server().url("postgres");
        setup.brokers = Some(kafka.address().to_owned());
        setup.real = vec![real];
        setup.git = Git::Password("of a team that trains".to_owned());
        setup.agents = Surroundings { wrapper: LIMITED.map(str::to_owned).to_vec(), variables: clock.variables() };
        let mut platform = Platform::start(setup).await?;
        for service in Service::ALL {
            platform.add_replica(service).await?;
        }
        let mut scene = Scene::new(platform, &CLUSTERS, SHORT_SOAK).await?;
        join::all(&mut scene).await?;
        apply::for_training(&scene).await?;
        apply::for_releases(&scene).await?;
        Ok(Self { scene, cluster, postgres, kafka, clock, controller, _folder: folder })
    }

    /// Breaks it.
    ///
    /// # Errors
    /// It can't be broken.
    pub async fn break_it(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Service(service) => self.scene.platform.crash_all(service),
            Fault::Agents => self.agents(|agent| agent.process().crash()),
            Fault::Kafka => self.kafka.broker().process().crash(),
            Fault::Postgres => self.postgres.process().process().crash(),
            Fault::ApiServer => self.cluster.server().process().crash(),
            Fault::Etcd => self.cluster.etcd().process().crash(),
            Fault::Network(weather) => self.agents(|agent| {
                agent.weather(weather);
                Ok(())
            }),
            Fault::FullDisk => self.disk("0").await,
            Fault::Clock => self.clock.set(CLOCK_OFF.as_secs().cast_signed()),
        }
    }

    /// Mends all of it, what others run on first, and returns when every process is ready and every cluster live.
    ///
    /// # Errors
    /// Something does not come up.
    pub async fn mend(&mut self, faults: &[Fault]) -> Result<()> {
        for fault in faults {
            self.mend_part(*fault)?;
        }
        self.postgres.ready().await?;
        self.kafka.ready().await?;
        if faults.iter().any(|fault| matches!(fault, Fault::ApiServer | Fault::Etcd)) {
            self.cluster.recover().await?;
        }
        for fault in faults {
            self.mend_process(*fault).await?;
        }
        self.well().await
    }

    fn mend_part(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Kafka => self.kafka.broker().start_again(),
            Fault::Postgres => self.postgres.process().start_again(),
            Fault::ApiServer => self.cluster.server().start_again(),
            Fault::Etcd => self.cluster.etcd().start_again(),
            Fault::Service(_) | Fault::Agents | Fault::Network(_) | Fault::FullDisk | Fault::Clock => Ok(()),
        }
    }

    async fn mend_process(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Service(service) => self.scene.platform.start_all_again(service),
            Fault::Agents => self.agents(Agent::start_again),
            Fault::Network(_) => self.agents(|agent| {
                agent.weather(Weather::Clear);
                Ok(())
            }),
            Fault::FullDisk => self.disk("unlimited").await,
            Fault::Clock => self.clock.set(0),
            Fault::Kafka | Fault::Postgres | Fault::ApiServer | Fault::Etcd => Ok(()),
        }
    }

    /// Returns when every process runs and is ready, and every cluster is live.
    async fn well(&mut self) -> Result<()> {
        for service in Service::ALL {
            for replica in self.scene.platform.replicas(service) {
                replica.wait_until_ready().await?;
            }
        }
        self.agents(|agent| agent.process().expect_running())?;
        let scene = &self.scene;
        eventually_within(WELL_WITHIN, "every cluster is live", async || {
            let request = registry::ListClustersRequest { page_size: 100, ..Default::default() };
            let clusters = scene.clients()?.clusters().list_clusters(request).await?.into_inner().clusters;
            let not_live: Vec<String> = clusters
                .iter()
                .filter(|cluster| cluster.state() != registry::cluster::State::Live)
                .map(|cluster| format!("{} is {:?}: {}", cluster.name, cluster.state(), cluster.reason))
                .collect();
            Ok(look(not_live.is_empty() && clusters.len() == CLUSTERS.len(), (), || not_live.join(", ")))
        })
        .await
    }

    fn agents(&mut self, mut each: impl FnMut(&mut Agent) -> Result<()>) -> Result<()> {
        for cluster in CLUSTERS {
            each(self.scene.platform.agent(cluster)?)?;
        }
        Ok(())
    }

    /// How large a file of the training cluster's agent may become, in bytes.
    async fn disk(&mut self, limit: &str) -> Result<()> {
        let agent = self.scene.platform.agent(TRAIN_IDC)?.process().id().to_string();
        let mut command = tokio::process::Command::new("prlimit");
        command.args(["--pid", &agent, &format!("--fsize={limit}:unlimited")]);
        finished(command, "prlimit").await.context("limit the size of an agent's files")
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.controller.abort();
    }
}
