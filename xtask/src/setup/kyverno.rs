//! Kyverno's command line, built from its module.

use std::path::PathBuf;

use anyhow::Result;

use super::tools::{Tool, go_build};

const TOOL: Tool = Tool { name: "kyverno", pins: &["go.mod", "go.sum"] };

/// The program; built where it is missing, some minutes on two cores from nothing.
///
/// # Errors
/// Go is missing, or the module can't be fetched or built.
pub async fn program() -> Result<PathBuf> {
    let flags = ["-ldflags=-s -w".to_owned()];
    let folder = TOOL
        .made(async |into| go_build(&TOOL, &["github.com/kyverno/kyverno/cmd/cli/kubectl-kyverno"], &flags, into).await)
        .await?;
    Ok(folder.join("kubectl-kyverno"))
}
