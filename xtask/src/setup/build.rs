//! Running cargo, and what it builds.
//!
//! The one thing to know: a cargo we start has a process group of its own, which is killed when we stop waiting for
//! it, so that no compiler and no test binary outlives an interrupted chore.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::workspace;

/// A cargo in a process group of its own.
pub struct Cargo {
    child: Child,
    group: Option<Pid>,
}

/// How programs are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// As this one: quickly, with every check.
    Dev,
    /// As they are deployed.
    Release,
}

impl Profile {
    /// Where cargo puts the programs.
    ///
    /// # Errors
    /// This program stands in no folder.
    pub fn folder(self) -> Result<PathBuf> {
        let own = std::env::current_exe()?.parent().context("this program stands in a folder")?.to_path_buf();
        Ok(match self {
            Self::Dev => own,
            Self::Release => own.with_file_name("release"),
        })
    }
}

/// Builds every program of the workspace.
///
/// # Errors
/// Something does not compile.
pub async fn programs(profile: Profile) -> Result<()> {
    let mut command = workspace::cargo();
    command.args(["build", "--workspace", "--bins", "--quiet"]);
    match profile {
        Profile::Dev => {}
        // This one is left out: it runs, and what it measures is elsewhere.
        Profile::Release => _ = command.args(["--release", "--exclude", "xtask"]),
    }
    if !Cargo::start(&mut command)?.lines(|_| ()).await? {
        bail!("the programs do not build");
    }
    Ok(())
}

impl Cargo {
    /// Starts it at the root of the tree, with its output to be read by [`Cargo::lines`].
    ///
    /// # Errors
    /// Cargo can't be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let child = command
            .current_dir(workspace::root())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("run cargo")?;
        let group = child.id().map(|id| Pid::from_raw(id as i32));
        Ok(Self { child, group })
    }

    /// Hands on every line of its output, and answers whether it succeeded.
    ///
    /// # Errors
    /// Its output can't be read.
    pub async fn lines(mut self, mut line: impl FnMut(&str)) -> Result<bool> {
        let output = self.child.stdout.take().context("the output is piped")?;
        let mut reader = BufReader::new(output);
        let mut buffer = Vec::new();
        // A test may print what is no UTF-8.
        while reader.read_until(b'\n', &mut buffer).await? > 0 {
            line(String::from_utf8_lossy(&buffer).trim_end_matches('\n'));
            buffer.clear();
        }
        let success = self.child.wait().await?.success();
        self.group = None;
        Ok(success)
    }
}

impl Drop for Cargo {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // It may have ended by itself in the meantime.
            killpg(group, Signal::SIGKILL).ok();
        }
    }
}
