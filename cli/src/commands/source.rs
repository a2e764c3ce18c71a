//! `muster source`: git repositories as the releases see them.

use super::App;
use crate::{
    client::Peer,
    error::Result,
    kinds::{find, object, resource_name, sized},
    output::format::text,
};
use muster_proto::rollout::v1::{
    FetchGitRepositoryRequest, ReadFileRequest, git_repository_service_client::GitRepositoryServiceClient,
};

const EXAMPLES: &str = "\
Examples:
  muster source fetch mlops-gitops -n kurator-system
  muster source read mlops-gitops ./policies/require-gpu-limits.yaml -n kurator-system";

/// Git repositories: look for commits now, read a file
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Look for new commits now instead of at the next interval
    #[command(after_help = "Examples:\n  muster source fetch mlops-gitops -n kurator-system")]
    Fetch {
        /// The repository
        repository: String,
    },
    /// Print a file at the commit seen last
    #[command(after_help = "Examples:\n  muster source read mlops-gitops models/resnet50/version.yaml -n kurator-system")]
    Read {
        /// The repository
        repository: String,
        /// Path within it
        path: String,
    },
}

/// Runs it.
pub async fn run(args: Args, app: &App) -> Result<()> {
    let session = app.session()?;
    let spec = find("gitRepositories")?.spec();
    match args.verb {
        Verb::Fetch { repository } => {
            let name = resource_name(spec, &repository, session.target.namespace())?;
            let fetched = session
                .call(Peer::Rollout, "FetchGitRepository", |link| {
                    let request = FetchGitRepositoryRequest { name: name.clone() };
                    async move { sized!(GitRepositoryServiceClient, link).fetch_git_repository(request).await }
                })
                .await?;
            app.printer.one(spec, &object(&fetched))
        }
        Verb::Read { repository, path } => {
            let name = resource_name(spec, &repository, session.target.namespace())?;
            let file = session
                .call(Peer::Rollout, "ReadFile", |link| {
                    let request = ReadFileRequest { name: name.clone(), path: path.clone() };
                    async move { sized!(GitRepositoryServiceClient, link).read_file(request).await }
                })
                .await?;
            eprintln!("at {}", file.commit);
            text(&file.content)
        }
    }
}
