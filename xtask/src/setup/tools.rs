//! Programs of other projects that tests want real, built or fetched once from what `tools/` pins.
//!
//! The one thing to know: the cache is keyed by a digest of the files that pin a tool, and a folder appears in it whole: what
//! an interrupted build leaves has another name.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use muster_core::bundle::Digest;
use muster_integration_tests::process::finished;

use crate::workspace;

/// A folder under `tools/` and what is made of it.
#[derive(Debug, Clone, Copy)]
pub struct Tool {
    /// The folder's name.
    pub name: &'static str,
    /// The files that say which versions; a change of one makes the tool anew.
    pub pins: &'static [&'static str],
}

impl Tool {
    /// Where it is pinned.
    pub fn source(&self) -> PathBuf {
        workspace::root().join("tools").join(self.name)
    }

    /// The folder that `make` fills, given an empty one; from the cache where it was made before.
    ///
    /// # Errors
    /// A pin can't be read, or it can't be made.
    pub async fn made(&self, make: impl AsyncFnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let folder = workspace::cache()?.join(format!("{}-{}", self.name, self.version()?));
        if folder.exists() {
            return Ok(folder);
        }
        eprintln!("making {} (once, into {})", self.name, folder.display());
        let new = folder.with_extension(format!("new-{}", std::process::id()));
        std::fs::create_dir_all(&new)?;
        let outcome = make(&new).await.with_context(|| format!("make {}", self.name));
        if let Err(error) = outcome {
            std::fs::remove_dir_all(&new).ok();
            return Err(error);
        }
        if let Err(error) = std::fs::rename(&new, &folder) {
            // Somebody else was quicker.
            std::fs::remove_dir_all(&new)?;
            if !folder.exists() {
                return Err(error).with_context(|| format!("keep {}", folder.display()));
            }
        }
        Ok(folder)
    }

    fn version(&self) -> Result<String> {
        let mut pinned = Vec::new();
        for pin in self.pins {
            let file = self.source().join(pin);
            pinned.extend(std::fs::read(&file).with_context(|| format!("read {}", file.display()))?);
        }
        Ok(Digest::of(&pinned).hex()[..12].to_owned())
    }
}

/// Builds packages of a Go module under `tools/` into a folder.
///
/// # Errors
/// Go is missing, or something can't be fetched or built.
pub async fn go_build(tool: &Tool, packages: &[&str], flags: &[String], into: &Path) -> Result<()> {
    let mut command = tokio::process::Command::new("go");
    command
        .arg("build")
        .args(["-trimpath", "-buildvcs=false", "-mod=readonly", "-o"])
        .arg(into)
        .args(flags)
        .args(packages)
        .current_dir(tool.source())
        .env("GOFLAGS", "")
        .env("GOWORK", "off")
        .env("CGO_ENABLED", "0");
    finished(command, "go build").await
}
