//! A real Postgres 17 from its Maven artifact, on a free loopback port.
//!
//! The one thing to know: Postgres refuses to run as root, so that as root its programs and its data belong to the
//! user `nobody`, and it is started as that user.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;

use super::Part;
use crate::patience::STARTS_WITHIN;
use crate::process::{Leash, Program, free_port};

const SUPERUSER: &str = "muster";

/// Eight services, pools of ten, and as many test processes again.
const CONNECTIONS: u32 = 400;

/// Whether a commit is on disk when it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// As in production.
    Full,
    /// For tests, which never crash Postgres: several times faster.
    None,
}

/// A server that ends with this process, and whose data go with it.
pub struct Postgres {
    server: Server,
    // Fields are dropped in order: first the process ends, then its folder goes.
    process: Part,
    _folder: TempDir,
}

/// Where a server listens and how to get in.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Server {
    /// Port on 127.0.0.1.
    pub port: u16,
    /// Of the superuser `muster`; new for every server.
    pub password: String,
}

impl Server {
    /// The URL of one of its databases.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// Options to connect to one of its databases.
    pub fn options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new().host("127.0.0.1").port(self.port).username(SUPERUSER).password(&self.password).database(database)
    }

    /// Whether it answers a query now.
    pub async fn answers(&self) -> bool {
        self.options("postgres").connect().await.is_ok()
    }
}

impl Postgres {
    /// Makes an empty cluster in a temporary folder and starts it. `programs` is the folder with `bin/postgres`.
    ///
    /// # Errors
    /// The server doesn't come up within 30 seconds.
    pub async fn start(programs: &Path, durability: Durability, leash: &Leash) -> Result<Self> {
        let folder = TempDir::with_prefix("muster-postgres-")?;
        let password = initialise(programs, folder.path())?;
        // The port is only known to be free, not reserved: another process may be quicker.
        let mut last_error = None;
        for _ in 0..3 {
            let port = free_port()?;
            let mut process = Part::start(server(programs, folder.path(), port, durability), leash)?;
            let server = Server { port, password: password.clone() };
            match wait_until_ready(&server, || process.process().expect_running()).await {
                Ok(()) => {
                    return Ok(Self { server, process, _folder: folder });
                }
                Err(error) => last_error = Some(error),
            }
        }
        Err(last_error.expect("three attempts were made"))
    }

    /// Where it listens.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Its first process, which the others end with.
    pub fn process(&mut self) -> &mut Part {
        &mut self.process
    }

    /// Returns when it answers.
    ///
    /// # Errors
    /// It has ended, or does not answer within 30 seconds.
    pub async fn ready(&mut self) -> Result<()> {
        let process = &mut self.process;
        wait_until_ready(&self.server, || process.process().expect_running()).await
    }
}

/// Starts a server that outlives this process, with its data in `folder`, which is made where it is missing. `programs` is
/// the folder with `bin/postgres`. Answers where it listens and its process id.
///
/// # Errors
/// As [`Postgres::start`].
pub async fn start_detached(programs: &Path, folder: &Path) -> Result<(Server, u32)> {
    let password_file = folder.join("password");
    let password = if folder.join("data").exists() {
        fs::read_to_string(&password_file).with_context(|| format!("read {}", password_file.display()))?
    } else {
        fs::create_dir_all(folder)?;
        initialise(programs, folder)?
    };
    let port = free_port()?;
    let log = fs::File::create(folder.join("postgres.log"))?;
    let mut command = Command::new(programs.join("bin/postgres"));
    command
        .args(server_arguments(folder, port, Durability::Full))
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    as_other_user(&mut command);
    let mut child = command.spawn().context("start Postgres")?;
    let server = Server { port, password };
    wait_until_ready(&server, || match child.try_wait()? {
        Some(status) => bail!("Postgres has ended: {status}; its log is {}", folder.join("postgres.log").display()),
        None => Ok(()),
    })
    .await?;
    Ok((server, child.id()))
}

/// Makes an empty database cluster in `folder/data`; answers the superuser's password.
fn initialise(programs: &Path, folder: &Path) -> Result<String> {
    let password = uuid::Uuid::new_v4().simple().to_string();
    let password_file = folder.join("password");
    fs::write(&password_file, &password)?;
    fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600))?;
    if let Some(uid) = other_user() {
        chown(folder, Some(uid), Some(uid))?;
        chown(&password_file, Some(uid), Some(uid))?;
    }
    let mut command = Command::new(programs.join("bin/initdb"));
    command
        .args(["--username", SUPERUSER, "--auth=scram-sha-256"])
        .args(["--encoding=UTF8", "--locale=C", "--no-sync"])
        .arg("--pwfile")
        .arg(&password_file)
        .arg("--pgdata")
        .arg(folder.join("data"))
        .current_dir(folder);
    as_other_user(&mut command);
    let output = command.output().context("run initdb")?;
    if !output.status.success() {
        bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(password)
}

fn server(programs: &Path, folder: &Path, port: u16, durability: Durability) -> Program {
    let program = Program::new("postgres", programs.join("bin/postgres"))
        .arguments(server_arguments(folder, port, durability))
        .folder(folder)
        .log(folder.join("postgres.log"))
        // Postgres' "fast shutdown": SIGTERM would wait for every client to leave.
        .stop_signal(Signal::SIGINT);
    match other_user() {
        Some(uid) => program.uid(uid),
        None => program,
    }
}

fn server_arguments(folder: &Path, port: u16, durability: Durability) -> Vec<String> {
    let mut arguments = vec!["-D".to_owned(), folder.join("data").display().to_string(), "-p".to_owned(), port.to_string()];
    let mut settings = vec![
        ("listen_addresses", Ipv4Addr::LOCALHOST.to_string()),
        ("unix_socket_directories", String::new()),
        ("max_connections", CONNECTIONS.to_string()),
        ("timezone", "UTC".to_owned()),
        ("log_timezone", "UTC".to_owned()),
    ];
    if durability == Durability::None {
        settings.extend(["fsync", "synchronous_commit", "full_page_writes"].map(|name| (name, "off".to_owned())));
    }
    for (name, value) in settings {
        arguments.extend(["-c".to_owned(), format!("{name}={value}")]);
    }
    arguments
}

async fn wait_until_ready(server: &Server, mut still_running: impl FnMut() -> Result<()>) -> Result<()> {
    let deadline = Instant::now() + STARTS_WITHIN;
    loop {
        still_running()?;
        if server.answers().await {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("Postgres does not answer on port {} within 30 s", server.port);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whom Postgres runs as when we are root: `nobody`, by its customary number.
fn other_user() -> Option<u32> {
    const NOBODY: u32 = 65534;
    nix::unistd::geteuid().is_root().then_some(NOBODY)
}

fn as_other_user(command: &mut Command) {
    if let Some(uid) = other_user() {
        command.uid(uid).gid(uid);
    }
}
