//! Where things are: the tree, what is built, what is cached outside the tree.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The root of the tree this program was built from.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace")
}

/// The folder for what a developer's machine keeps between commands; git ignores it.
///
/// # Errors
/// It can't be made.
pub fn dev() -> Result<PathBuf> {
    let folder = root().join(".dev");
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

/// The folder for what is downloaded or built once per machine: `muster` in `$XDG_CACHE_HOME`, or in `~/.cache`.
/// For root it is `/var/cache/muster` where others may not enter the former: Postgres refuses to run as root, and the
/// user it runs as must be able to read its programs.
///
/// # Errors
/// Neither variable is set, or the folder can't be made.
pub fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(base) => PathBuf::from(base),
        None => PathBuf::from(std::env::var_os("HOME").context("$HOME is not set")?).join(".cache"),
    };
    let own = base.join("muster");
    let folder =
        if nix::unistd::geteuid().is_root() && !others_may_enter(&base) { PathBuf::from("/var/cache/muster") } else { own };
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

/// Whether every folder on the way that exists lets other users pass.
fn others_may_enter(folder: &Path) -> bool {
    folder.ancestors().filter_map(|ancestor| ancestor.metadata().ok()).all(|metadata| metadata.permissions().mode() & 0o001 != 0)
}

/// The cargo that runs us, so that a build we start uses the same toolchain; else the one in the path.
///
/// What it told us of our own package it is not told again: some build scripts (ring's) ask for that, and would have half of
/// the tree compiled once more.
pub fn cargo() -> tokio::process::Command {
    unburdened(tokio::process::Command::new(cargo_program()))
}

/// The same cargo, with what it starts, for what others on the machine come before (`nice`).
pub fn cargo_in_the_background() -> tokio::process::Command {
    let mut command = tokio::process::Command::new("nice");
    command.args(["-n", "19"]).arg(cargo_program());
    unburdened(command)
}

fn cargo_program() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn unburdened(mut command: tokio::process::Command) -> tokio::process::Command {
    for (name, _) in std::env::vars_os() {
        let of_our_package =
            name.to_str().is_some_and(|name| name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_PKG_"));
        if of_our_package {
            command.env_remove(name);
        }
    }
    command
}
