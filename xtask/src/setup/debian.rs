//! Programs as Debian packages them, unpacked and not installed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use muster_integration_tests::process::finished;
use tokio::process::Command;

use super::tools::Tool;

/// The file that names them, one a line.
const PINS: &[&str] = &["packages"];

const PROMETHEUS: Tool = Tool { name: "prometheus", pins: PINS };
const SSHD: Tool = Tool { name: "sshd", pins: PINS };
const SLURM: Tool = Tool { name: "slurm", pins: PINS };

/// The program of Prometheus, fetched where it is missing.
///
/// # Errors
/// The package can't be fetched or unpacked.
pub async fn prometheus() -> Result<PathBuf> {
    Ok(unpacked(PROMETHEUS).await?.join("usr/bin/prometheus"))
}

/// The folder of OpenSSH's server and the libraries it loads, fetched where it is missing.
///
/// # Errors
/// A package can't be fetched or unpacked.
pub async fn sshd() -> Result<PathBuf> {
    unpacked(SSHD).await
}

/// The folder of Slurm's controller, its commands and the libraries they load, fetched where it is missing.
///
/// # Errors
/// A package can't be fetched or unpacked.
pub async fn slurm() -> Result<PathBuf> {
    unpacked(SLURM).await
}

async fn unpacked(tool: Tool) -> Result<PathBuf> {
    let names = std::fs::read_to_string(tool.source().join(PINS[0])).context("the packages' names")?;
    let names: Vec<&str> = names.lines().map(str::trim).filter(|name| !name.is_empty()).collect();
    tool.made(async |into| fetch(&names, into).await).await
}

/// Asks the archive anew: a machine's own lists may be missing, and are not ours to write.
async fn fetch(names: &[&str], into: &Path) -> Result<()> {
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
    finished(apt(&[&["download"], names].concat()), &format!("apt-get download {}", names.join(" "))).await?;
    let packages: Vec<PathBuf> = std::fs::read_dir(work.path())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    ensure!(packages.len() == names.len(), "apt-get download left {} packages of {}", packages.len(), names.join(" "));
    for package in packages {
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("-x").arg(&package).arg(into);
        finished(unpack, "dpkg-deb -x").await?;
    }
    Ok(())
}
