//! The main job's platform on real parts: a real Kafka, a real ssh server before git, real clusters to train in, and simulated ones that
//! serve, because their requests are what a real Prometheus scrapes and a gate asks for. It is started once and shared; one
//! story plays on it at a time, since each wants the GPUs.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context, Result, bail};
use muster_integration_tests::kafka::MadeTopics;
use muster_integration_tests::main_job::scene::SHORT_SOAK;
use muster_integration_tests::main_job::simulation::{self, CLUSTERS, TRAIN_CLOUD, TRAIN_IDC};
use muster_integration_tests::main_job::{self, Cause, Scene, TITLES};
use muster_integration_tests::parts::kafka::Access;
use muster_integration_tests::parts::prometheus::Prometheus;
use muster_integration_tests::parts::ssh::SshServer;
use muster_integration_tests::parts::volcano;
use muster_integration_tests::platform::{Cluster, Git};
use muster_integration_tests::{Platform, Setup};
use muster_simcluster::CrdPreset;
use muster_simcluster::presets;
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, OnceCell};

use crate::parts;

/// What the stories play on.
pub struct World {
    /// The platform, with what the main job has in it.
    pub scene: Scene,
    /// The steps of the main job that were played.
    played: u8,
    // What judges the gates, one a serving cluster.
    _prometheuses: Vec<Prometheus>,
    // Through what releases come.
    _ssh: SshServer,
    // The broker goes with its topics.
    _topics: MadeTopics,
}

/// Outlives every story, as does what runs on it: a test's own runtime would end with the test.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("threads"));
static WORLD: OnceCell<Mutex<World>> = OnceCell::const_new();

/// Plays a story once the others are done, with the clusters joined and the team's folder applied.
pub fn play(story: impl AsyncFnOnce(&mut World) -> Result<()>) -> Result<()> {
    RUNTIME.block_on(async {
        let world = WORLD.get_or_try_init(async || World::start().await.map(Mutex::new)).await?;
        let mut world = world.lock().await;
        world.played(2).await?;
        story(&mut world).await
    })
}

impl World {
    /// Plays the main job up to a step, where that was not done before. Prints what was checked.
    pub async fn played(&mut self, until: u8) -> Result<()> {
        for step in self.played + 1..=until {
            let title = TITLES[usize::from(step) - 1];
            let checked = main_job::play(step, &mut self.scene, Cause::Whole).await;
            for line in checked.with_context(|| format!("step {step}: {title}"))? {
                println!("{step}  {line}");
            }
            self.played = step;
        }
        Ok(())
    }

    async fn start() -> Result<Self> {
        let brokers = parts::brokers()?;
        let topics = MadeTopics::make(&brokers).await?;
        let real = real_clusters().await?;
        let simulated: Vec<&str> = CLUSTERS.into_iter().filter(|name| !real.iter().any(|real| real.name == *name)).collect();
        let mut setup = Setup::for_tests(env!("CARGO_BIN_EXE_leash"), simulation::simulation(&simulated))?;
        setup.brokers = Some(brokers);
        setup.guarded_brokers = Some(Access::in_folder(&PathBuf::from(parts::variable("MUSTER_TEST_KAFKA_FOLDER")?))?);
        setup.real = real;
        let leash = setup.leash.clone();
        let ssh = SshServer::start(&PathBuf::from(parts::variable("MUSTER_TEST_SSHD")?), &leash).await?;
        setup.git = Git::Ssh(ssh.access().clone());
        let mut platform = Platform::start(setup).await?;
        let mut prometheuses = Vec::new();
        for name in simulated {
            let exported = platform.cluster(name)?.prometheus.clone().context("simulated clusters export their requests")?;
            let program = PathBuf::from(parts::variable("MUSTER_TEST_PROMETHEUS")?);
            let prometheus = Prometheus::start(&program, name, &format!("{exported}/metrics"), &leash).await?;
            platform.observe(name, prometheus.url())?;
            prometheuses.push(prometheus);
        }
        let scene = Scene::new(platform, &CLUSTERS, SHORT_SOAK).await?;
        Ok(Self { scene, played: 0, _prometheuses: prometheuses, _ssh: ssh, _topics: topics })
    }
}

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// The clusters to train in, with what those who run them have installed: Volcano and the GPU operator, Istio, and in one of
/// them Kyverno.
async fn real_clusters() -> Result<Vec<Cluster>> {
    let mut clusters = Vec::new();
    for (name, folder) in [TRAIN_IDC, TRAIN_CLOUD].into_iter().zip(parts::clusters()?) {
        let cluster = Cluster::real(name, &folder)?;
        for definition in presets::definitions(CrdPreset::Volcano).into_iter().chain(presets::gpu_operator()) {
            let made = cluster.api.create(DEFINITIONS, &definition).await;
            made.with_context(|| format!("{name}: {}", definition["metadata"]["name"]))?;
        }
        let crds = PathBuf::from(parts::variable("MUSTER_TEST_CRDS")?);
        install(&cluster, &crds.join("istio")).await?;
        if name == TRAIN_CLOUD {
            install(&cluster, &crds.join("kyverno")).await?;
        }
        tokio::spawn(volcano::run(cluster.api.clone()));
        clusters.push(cluster);
    }
    if clusters.len() != 2 {
        bail!("{} real clusters were started, not two", clusters.len());
    }
    Ok(clusters)
}

/// Makes the definitions of a folder's files.
async fn install(cluster: &Cluster, folder: &Path) -> Result<()> {
    for file in std::fs::read_dir(folder)? {
        let file = file?.path();
        let text = std::fs::read_to_string(&file)?;
        for document in text.split("\n---\n").filter(|document| document.contains("\nkind: CustomResourceDefinition")) {
            let made = cluster.api.create_from_yaml(DEFINITIONS, document).await;
            made.with_context(|| format!("{}: {}", cluster.name, file.display()))?;
        }
    }
    Ok(())
}
