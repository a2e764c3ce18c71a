//! The rollout service holds the git repositories: files are read through it.

use async_trait::async_trait;
use muster_kit::peer::{self, PeerChannel};
use muster_proto::rollout::v1::{ReadFileRequest, git_repository_service_client::GitRepositoryServiceClient};
use std::time::Duration;

/// A file at a repository's current commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The commit it was read at.
    pub commit: String,
    /// Its text.
    pub content: String,
}

/// Where files of git repositories are read.
#[async_trait]
pub trait Repositories: Send + Sync + 'static {
    /// A file, or for people why it cannot be read.
    async fn read_file(&self, repository: &str, path: &str) -> Result<File, String>;
}

/// Asks the rollout service.
pub struct RolloutClient(GitRepositoryServiceClient<PeerChannel>);

impl RolloutClient {
    /// A client over `channel`.
    pub fn new(channel: PeerChannel) -> Self {
        Self(GitRepositoryServiceClient::new(channel).max_decoding_message_size(peer::MAX_MESSAGE_BYTES))
    }
}

#[async_trait]
impl Repositories for RolloutClient {
    async fn read_file(&self, repository: &str, path: &str) -> Result<File, String> {
        let message = ReadFileRequest { name: repository.to_owned(), path: path.to_owned() };
        match self.0.clone().read_file(peer::request(message, Duration::from_secs(5))).await {
            Ok(response) => {
                let response = response.into_inner();
                Ok(File { commit: response.commit, content: response.content })
            }
            Err(status) => match status.code() {
                tonic::Code::Unavailable | tonic::Code::DeadlineExceeded | tonic::Code::Cancelled => {
                    Err("the rollout service, which holds the repositories, is away".to_owned())
                }
                _ => Err(status.message().to_owned()),
            },
        }
    }
}
