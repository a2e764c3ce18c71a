//! `cargo xtask conformance`: how far what others wrote is understood: Kyverno's own test suites, users' own documents.

mod documents;

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::conformance_kyverno;

/// Whose documents.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Run every kyverno-test.yaml below a folder against the evaluator
    Kyverno {
        /// The folder
        path: PathBuf,
    },
    /// Apply a folder of users' documents, with the git trees beside them, to simulated clusters of the names it finds
    Documents {
        /// The folder: documents at the top, and for each GitRepository a folder of its name with the tree
        path: PathBuf,
        /// Use the programs as they were built last
        #[arg(long)]
        no_build: bool,
    },
}

/// Runs one of them.
///
/// # Errors
/// Something is judged otherwise than expected, or does not arrive.
pub async fn run(command: Command) -> Result<()> {
    match command {
        Command::Kyverno { path } => {
            let summary = tokio::task::block_in_place(|| conformance_kyverno::run(&path))?;
            println!("{summary}");
            if !summary.is_success() {
                bail!("some verdicts are not Kyverno's");
            }
            Ok(())
        }
        Command::Documents { path, no_build } => documents::run(&path, no_build).await,
    }
}
