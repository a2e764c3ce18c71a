//! A real ssh server: OpenSSH's, for one key, through which git's own programs serve the repositories of this machine.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::unistd::{User, geteuid};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;

use super::Part;
use crate::eventually_within;
use crate::patience::{STARTS_WITHIN, look};
use crate::process::{Leash, Program, finished, free_port};

/// The folder that the server wants to be empty and root's, as its package would have made it.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// How a repository is reached over ssh.
#[derive(Debug, Clone)]
pub struct Access {
    /// `ssh://user@host:port`; the path on the server follows.
    pub origin: String,
    /// The private key that is let in.
    pub key_file: PathBuf,
    /// The server's own key, in the form of `known_hosts`.
    pub known_hosts_file: PathBuf,
}

/// A server, and its keys. Dropping it ends it.
#[derive(Debug)]
pub struct SshServer {
    access: Access,
    // Dropped in this order: the process, then its folder.
    _process: Part,
    _folder: TempDir,
}

impl SshServer {
    /// Starts one on a free loopback port, for the user who calls. `programs` is the folder that its packages were unpacked
    /// into.
    ///
    /// # Errors
    /// Keys can't be made, or it does not come up.
    pub async fn start(programs: &Path, leash: &Leash) -> Result<Self> {
        let folder = TempDir::with_prefix("muster-sshd-")?;
        let at = |file: &str| folder.path().join(file);
        for key in ["host", "client"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", key, "-f"]).arg(at(key));
            finished(keygen, "ssh-keygen").await?;
        }
        let port = free_port()?;
        let host_key = std::fs::read_to_string(at("host.pub"))?;
        std::fs::write(at("known_hosts"), format!("[127.0.0.1]:{port} {host_key}"))?;
        std::fs::write(at("sshd_config"), settings(folder.path(), port))?;
        let server = Program::new("sshd", programs.join("usr/sbin/sshd"))
            .arguments(["-D", "-e", "-f"])
            .argument(at("sshd_config").display().to_string())
            .log(at("sshd.log"));
        let mut process = Part::start(surrounded(server, programs, folder.path())?, leash)?;
        eventually_within(STARTS_WITHIN, "the ssh server listens", async || {
            process.process().expect_running()?;
            let answer = TcpStream::connect(("127.0.0.1", port)).await;
            Ok(look(answer.is_ok(), (), || format!("{:?}", answer.err())))
        })
        .await?;
        let user = User::from_uid(geteuid())?.context("who calls has no name")?.name;
        let access = Access {
            origin: format!("ssh://{user}@127.0.0.1:{port}"),
            key_file: at("client"),
            known_hosts_file: at("known_hosts"),
        };
        Ok(Self { access, _process: process, _folder: folder })
    }

    /// How repositories are reached through it.
    pub fn access(&self) -> &Access {
        &self.access
    }
}

fn settings(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "ListenAddress 127.0.0.1:{port}\n\
         HostKey {folder}/host\n\
         AuthorizedKeysFile {folder}/client.pub\n\
         AuthenticationMethods publickey\n\
         PidFile none\n\
         StrictModes no\n\
         UsePAM no\n"
    )
}

/// What its package would have brought: libraries and, where it runs as root, a folder and a user `sshd`. That user is one of
/// this process alone (`nss_wrapper`); the machine's own list of users is not touched.
fn surrounded(server: Program, programs: &Path, folder: &Path) -> Result<Program> {
    let libraries = format!("{}/usr/lib", programs.display());
    let libraries = std::fs::read_dir(&libraries)
        .with_context(|| format!("read {libraries}"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.join("libnss_wrapper.so").exists())
        .context("libnss_wrapper.so is not among the packages")?;
    let server = server.variable("LD_LIBRARY_PATH", libraries.display().to_string());
    if !geteuid().is_root() {
        return Ok(server);
    }
    std::fs::create_dir_all(PRIVILEGE_SEPARATION).with_context(|| format!("make {PRIVILEGE_SEPARATION}"))?;
    let users = std::fs::read_to_string("/etc/passwd").context("read the users")?;
    let users = format!("{users}sshd:x:65533:65534::{PRIVILEGE_SEPARATION}:/usr/sbin/nologin\n");
    std::fs::write(folder.join("passwd"), users)?;
    std::fs::copy("/etc/group", folder.join("group")).context("copy the groups")?;
    Ok(server
        .variable("LD_PRELOAD", libraries.join("libnss_wrapper.so").display().to_string())
        .variable("NSS_WRAPPER_PASSWD", folder.join("passwd").display().to_string())
        .variable("NSS_WRAPPER_GROUP", folder.join("group").display().to_string()))
}
