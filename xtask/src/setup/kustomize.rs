//! The official kustomize, built once with Go.
//!
//! The one thing to know: the version is pinned, since two versions render the same overlay differently, and what is
//! rendered decides what counts as changed. 5.8.3 asks for a Go newer than most machines have.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::workspace;

/// The module's version.
pub const VERSION: &str = "v5.8.1";

/// Tells tests where the program is.
pub const PATH_VARIABLE: &str = "MUSTER_KUSTOMIZE";

/// The program; built where it is missing.
///
/// # Errors
/// Go is missing, or the module can't be fetched or built.
pub async fn program() -> Result<PathBuf> {
    let folder = workspace::cache()?.join(format!("kustomize-{VERSION}"));
    let program = folder.join("kustomize");
    if program.exists() {
        return Ok(program);
    }
    eprintln!("building kustomize {VERSION} (once, into {})", folder.display());
    let output = tokio::process::Command::new("go")
        .arg("install")
        .arg(format!("sigs.k8s.io/kustomize/kustomize/v5@{VERSION}"))
        .env("GOBIN", &folder)
        .env("GOFLAGS", "-mod=mod -buildvcs=false -trimpath")
        .env("GOWORK", "off")
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("run go")?;
    if !output.status.success() {
        bail!("kustomize can't be built: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(program)
}
