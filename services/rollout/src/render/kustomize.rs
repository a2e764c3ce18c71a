//! The official kustomize, run on an exported folder: no `PATH`, no plugins, no Helm, bounded in time and output.

use super::{Closure, RenderError};
use crate::git::Mirror;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

/// Bytes of files one target may lead to: a bundle's limit with room for what kustomize leaves out.
const MAX_EXPORT: usize = 16 * 1024 * 1024;
/// Bytes of what kustomize prints.
const MAX_OUTPUT: u64 = 16 * 1024 * 1024;

/// The kustomize program.
#[derive(Debug, Clone)]
pub struct Kustomize {
    program: PathBuf,
    timeout: Duration,
}

impl Kustomize {
    /// The program at an absolute path, given so long for one build.
    pub fn new(program: impl Into<PathBuf>, timeout: Duration) -> Self {
        Self { program: program.into(), timeout }
    }

    /// Where `cargo xtask` puts it unless `MUSTER_KUSTOMIZE` says otherwise.
    pub fn default_program() -> PathBuf {
        let cache = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"));
        std::env::var_os("MUSTER_KUSTOMIZE").map_or_else(|| cache.join("muster/kustomize-v5.8.1/kustomize"), PathBuf::from)
    }

    /// The YAML that kustomize makes of a folder.
    pub(super) async fn build(&self, folder: &Path, path: &str) -> Result<String, RenderError> {
        let unavailable = |error: std::io::Error| RenderError::Unavailable(format!("{}: {error}", self.program.display()));
        let mut child = tokio::process::Command::new(&self.program)
            .arg("build")
            .arg("--load-restrictor=LoadRestrictionsRootOnly")
            .arg(folder.join(path))
            .env_clear()
            .env("HOME", folder)
            .env("HTTPS_PROXY", "http://127.0.0.1:9")
            .env("HTTP_PROXY", "http://127.0.0.1:9")
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(unavailable)?;
        let (mut stdout, mut stderr) =
            (child.stdout.take().expect("stdout is piped"), child.stderr.take().expect("stderr is piped"));
        let work = async {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut bounded_out = (&mut stdout).take(MAX_OUTPUT + 1);
            let mut bounded_err = (&mut stderr).take(64 * 1024);
            tokio::try_join!(bounded_out.read_to_end(&mut out), bounded_err.read_to_end(&mut err))?;
            if out.len() as u64 > MAX_OUTPUT {
                child.start_kill()?;
            }
            Ok::<_, std::io::Error>((child.wait().await?, out, err))
        };
        let (status, out, err) = tokio::time::timeout(self.timeout, work)
            .await
            .map_err(|_| RenderError::Unavailable(format!("{path} took longer than {:?}", self.timeout)))?
            .map_err(unavailable)?;
        if out.len() as u64 > MAX_OUTPUT {
            return Err(RenderError::TooLarge(path.to_owned()));
        }
        if !status.success() {
            let shown = folder.to_string_lossy().into_owned();
            let message = String::from_utf8_lossy(&err).replace(&format!("{shown}/"), "").replace(&shown, ".");
            let message = message.trim().trim_start_matches("Error: ").chars().take(2_000).collect();
            return Err(RenderError::Kustomize { path: path.to_owned(), message });
        }
        String::from_utf8(out).map_err(|_| RenderError::Malformed { file: path.to_owned(), message: "is not UTF-8".to_owned() })
    }
}

/// Writes the closure's files into a folder.
pub(super) async fn export(mirror: &Mirror, closure: &Closure, folder: &Path) -> Result<(), RenderError> {
    let total: usize = closure.files.values().map(|(_, size)| size).sum();
    if total > MAX_EXPORT {
        return Err(crate::git::GitError::TooLarge { what: "what the target leads to".to_owned(), limit: MAX_EXPORT }.into());
    }
    let objects: Vec<&str> = closure.files.values().map(|(object, _)| object.as_str()).collect();
    let contents = mirror.objects(&objects, MAX_EXPORT).await?;
    let unavailable = |error: std::io::Error| RenderError::Unavailable(error.to_string());
    for (path, content) in closure.files.keys().zip(contents) {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            tokio::fs::create_dir_all(parent).await.map_err(unavailable)?;
        }
        tokio::fs::write(path, content).await.map_err(unavailable)?;
    }
    Ok(())
}
