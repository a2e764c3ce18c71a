//! What the steps share: the platform, the repository, and what earlier steps left behind.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use super::simulation::{self, EDGES, SERVE_ONLINE, TRAIN_CLOUD, TRAIN_IDC};
use super::{documents, layout};
use crate::Platform;
use crate::clients::Clients;
use crate::kafka::Topics;
use crate::muster::Muster;
use crate::platform::{GIT_SECRET, Git};
use crate::repository::Repository;

/// The name of the team's application.
pub const APPLICATION: &str = "namespaces/kurator-system/applications/resnet50-serving";

/// How long a wave must stay well where nobody wants to wait.
pub const SHORT_SOAK: &str = "1s";

/// How a step is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// As it is meant.
    Whole,
    /// What makes it true is broken, to see it fail.
    Broken,
    /// Once more after that, with the cause mended. What was made the first time is there already.
    Mended,
}

/// A play on its way.
pub struct Scene {
    /// Readers of every topic; before the platform, because its broker goes with it.
    pub topics: Topics,
    /// Git, as the team has it.
    pub repository: Repository,
    /// Everything that runs.
    pub platform: Platform,
    /// How the present step is played.
    pub cause: Cause,
    /// The version of the model that serves everywhere.
    pub serving: String,
    /// What all seeded choices begin from: a round that failed can be played again.
    pub seed: u64,
    clusters: Vec<&'static str>,
    soak: &'static str,
    images: Vec<Value>,
}

impl Scene {
    /// Makes the repository and starts reading the topics. `clusters` are the simulated ones that play, and `soak` is how
    /// long a wave must stay well.
    ///
    /// # Errors
    /// Git or the broker fail.
    pub async fn new(platform: Platform, clusters: &[&'static str], soak: &'static str) -> Result<Self> {
        let tree = layout::tree(&documents::application(clusters, soak), documents::POLICY);
        let mut repository = Repository::create(&platform.folder().join("git"), &tree).await?;
        repository.serve(platform.git()).await?;
        let topics = Topics::read(platform.brokers())?;
        Ok(Self {
            topics,
            repository,
            platform,
            cause: Cause::Whole,
            serving: "v1".to_owned(),
            seed: 20_26,
            clusters: clusters.to_vec(),
            soak,
            images: Vec::new(),
        })
    }

    /// Whether the cause behind the present step is to be broken.
    pub fn is_broken(&self) -> bool {
        self.cause == Cause::Broken
    }

    /// A name of the present step; another one when it is played again, and none that begins as the first: a job's pods
    /// are found by how their names begin.
    pub fn name(&self, name: &str) -> String {
        match self.cause {
            Cause::Whole | Cause::Broken => name.to_owned(),
            Cause::Mended => format!("again-{name}"),
        }
    }

    /// The clusters that play.
    pub fn clusters(&self) -> &[&'static str] {
        &self.clusters
    }

    /// Those that train, the cheap one first.
    pub fn training(&self) -> Vec<&'static str> {
        self.playing(&[TRAIN_IDC, TRAIN_CLOUD])
    }

    /// Those that serve the model.
    pub fn serving(&self) -> Vec<&'static str> {
        self.playing(&[SERVE_ONLINE, EDGES[0], EDGES[1], EDGES[2]])
    }

    /// The edge sites: the canaries, and one that is none.
    pub fn edges(&self) -> Vec<&'static str> {
        self.playing(&EDGES)
    }

    fn playing(&self, names: &[&'static str]) -> Vec<&'static str> {
        names.iter().copied().filter(|name| self.clusters.contains(name)).collect()
    }

    /// The team's application document.
    pub fn application(&self) -> String {
        documents::application(&self.clusters, self.soak)
    }

    /// The team's repository, as a document.
    pub fn git_repository(&self) -> String {
        let secret = (!matches!(self.platform.git(), Git::Folder)).then_some(GIT_SECRET);
        documents::repository(&self.repository.url(), secret)
    }

    /// From now on an image behaves by this rule, in every cluster.
    ///
    /// # Errors
    /// The simulator refuses it.
    pub async fn behaves(&mut self, rule: Value) -> Result<()> {
        self.images.push(rule);
        self.platform.simulator().set_images(&simulation::images(&self.images)).await
    }

    /// The administrator's clients.
    ///
    /// # Errors
    /// The authority's certificate can't be read.
    pub fn clients(&self) -> Result<Clients> {
        self.platform.clients()
    }

    /// The command line.
    pub fn muster(&self) -> Muster {
        self.platform.muster()
    }

    /// Writes a document into the play's folder and answers its path.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write(&self, name: &str, content: &str) -> Result<PathBuf> {
        let file = self.platform.folder().join("documents").join(name);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&file, content).with_context(|| format!("write {}", file.display()))?;
        Ok(file)
    }

    /// `muster apply -f` of one document.
    ///
    /// # Errors
    /// It is refused.
    pub async fn apply(&self, name: &str, content: &str) -> Result<String> {
        let file = self.write(name, content)?;
        self.muster().succeed(&["apply", "-f", path(&file)?]).await
    }
}

/// A path as an argument.
///
/// # Errors
/// It is no UTF-8.
pub fn path(path: &std::path::Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is no UTF-8", path.display()))
}

/// A new request id.
pub fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
