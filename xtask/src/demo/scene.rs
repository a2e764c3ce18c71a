//! What the steps share: the platform, the repository, and what earlier steps left behind.

use std::path::PathBuf;

use anyhow::{Context, Result};
use muster_integration_tests::Platform;
use muster_integration_tests::clients::Clients;
use muster_integration_tests::kafka::Topics;
use muster_integration_tests::muster::Muster;
use muster_integration_tests::repository::Repository;

use super::{documents, layout};

/// The name of the demo's application.
pub const APPLICATION: &str = "namespaces/kurator-system/applications/resnet50-serving";

/// A play on its way.
pub struct Scene {
    /// Readers of every topic; before the platform, because its broker goes with it.
    pub topics: Topics,
    /// Git, as the team has it.
    pub repository: Repository,
    /// Everything that runs.
    pub platform: Platform,
    sabotage: Option<u8>,
    fast: bool,
}

impl Scene {
    /// Makes the repository and starts reading the topics.
    ///
    /// # Errors
    /// Git or the broker fail.
    pub async fn new(platform: Platform, fast: bool, sabotage: Option<u8>) -> Result<Self> {
        let soak = if fast { "1s" } else { "5s" };
        let tree = layout::tree(&documents::application(soak), documents::POLICY);
        let repository = Repository::create(&platform.folder().join("git"), &tree).await?;
        let topics = Topics::read(platform.brokers())?;
        Ok(Self { topics, repository, platform, sabotage, fast })
    }

    /// Whether the cause behind this step is to be broken.
    pub fn is_sabotaged(&self, step: u8) -> bool {
        self.sabotage == Some(step)
    }

    /// How long a wave must stay well, as a document says it.
    pub fn soak(&self) -> &'static str {
        if self.fast { "1s" } else { "5s" }
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
        let muster = self.platform.muster();
        // Sabotage: where every trace begins, nobody sends a span.
        if self.is_sabotaged(9) { muster.without_spans() } else { muster }
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

    /// What to paste while everything is up.
    pub fn what_to_try(&self) -> String {
        let config = self.platform.context_file();
        let token = self.platform.token_file();
        let ca = self.platform.pki().ca();
        let scheduler = self.platform.addresses().scheduler.replace("https://", "");
        let kubeconfig =
            self.platform.cluster("train-idc").map(|cluster| cluster.kubeconfig.display().to_string()).unwrap_or_default();
        format!(
            "Everything is up. Ctrl-C ends it. To try:\n\
             \n  export MUSTER_CONFIG={config}\n\
             \n  muster get clusters\n  muster get jobs -n ml\n  muster cost\n\
             \n  grpcurl -cacert {ca} -H \"authorization: Bearer $(cat {token})\" {scheduler} list\n\
             \n  kubectl --kubeconfig {kubeconfig} get pods -A\n",
            config = config.display(),
            ca = ca.display(),
            token = token.display(),
        )
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
