//! Prometheus as Debian packages it, unpacked and not installed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use muster_integration_tests::process::finished;
use tokio::process::Command;

use super::tools::Tool;

const TOOL: Tool = Tool { name: "prometheus", pins: &["package"] };

/// The program, fetched where it is missing.
///
/// # Errors
/// The package can't be fetched or unpacked.
pub async fn program() -> Result<PathBuf> {
    Ok(TOOL.made(fetch).await?.join("usr/bin/prometheus"))
}

/// Asks the archive anew: a machine's own lists may be missing, and are not ours to write.
async fn fetch(into: &Path) -> Result<()> {
    let name = std::fs::read_to_string(TOOL.source().join("package")).context("the package's name")?;
    let work = tempfile::Builder::new().prefix("muster-apt-").tempdir()?;
    for folder in ["lists/partial", "archives/partial"] {
        std::fs::create_dir_all(work.path().join(folder))?;
    }
    let apt = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .args(["-qq", "-o", &format!("Dir::State::lists={}", work.path().join("lists").display())])
            .args(["-o", &format!("Dir::Cache={}", work.path().display()), "-o", "APT::Sandbox::User=root"])
            .args(words)
            .current_dir(work.path());
        command
    };
    finished(apt(&["update"]), "apt-get update").await?;
    finished(apt(&["download", name.trim()]), "apt-get download prometheus").await?;
    let package = std::fs::read_dir(work.path())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get download left no package")?;
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("-x").arg(package).arg(into);
    finished(unpack, "dpkg-deb -x").await
}
