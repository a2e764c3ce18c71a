//! `cargo xtask bench scheduler --service`: jobs through the running service, from the RPC that submits one to its lease at an
//! agent; with `--kueue`, the workloads of Kueue's own performance test.
//!
//! The one thing to know: everything shares this machine, the load and the agents too. Beside the waits stands one fsynced commit,
//! measured alone and during the load, and what each process took of the processors.

mod agent;
mod commits;
mod fleet;
mod generator;
mod ideal;
mod kueue;
mod load;
mod parts;
mod slurm;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::setup::build::{Cargo, Profile};
use crate::workspace;
use parts::Parts;

/// Submits that wait for their answer at a time: fewer than their client's patience lasts for. Beyond that the load itself waits, which
/// counts in its figures.
const IN_FLIGHT: usize = 2_000;

/// What is submitted.
#[derive(clap::Args)]
pub struct ServiceArguments {
    /// The running service, on a Postgres of its own and with simulated agents
    #[arg(long)]
    service: bool,
    /// Jobs submitted each second
    #[arg(long, default_value_t = 1_000, requires = "service")]
    rate: u32,
    /// For so many seconds
    #[arg(long, default_value_t = 60, requires = "service")]
    seconds: u32,
    /// Clusters that they go to
    #[arg(long, default_value_t = 8, requires = "service")]
    clusters: u32,
    /// A workload of Kueue's performance test too (a folder with baseline.yaml and large-scale.yaml, or one such file)
    #[arg(long, value_name = "PATH", requires = "service")]
    kueue: Vec<PathBuf>,
    /// Only the workloads given by --kueue, and Slurm's if that is asked for
    #[arg(long, requires = "service")]
    without_load: bool,
    /// The same jobs through Slurm too, from Debian's packages
    #[arg(long, requires = "service")]
    slurm: bool,
    /// Use the services as they were built last
    #[arg(long, requires = "service")]
    no_build: bool,
}

impl ServiceArguments {
    /// Whether the running service is asked for.
    pub fn service(&self) -> bool {
        self.service
    }
}

/// Measures and prints.
///
/// # Errors
/// A workload that can't be read, a service that does not come up, or a job that is refused or never leased.
pub async fn run(arguments: &ServiceArguments) -> Result<()> {
    if cfg!(debug_assertions) {
        return as_released(!arguments.no_build).await;
    }
    // Two TLS libraries' defaults would otherwise be a run-time choice.
    rustls::crypto::ring::default_provider().install_default().ok();
    // What can't be read is said before anything is built.
    let workloads = generator::read_all(&arguments.kueue)?;
    if !arguments.without_load {
        let mut parts = Parts::start(!arguments.no_build).await?;
        load::measure(&mut parts, arguments.rate, arguments.seconds, arguments.clusters).await?;
    }
    for workload in workloads {
        let mut parts = Parts::start(!arguments.no_build).await?;
        kueue::measure(&mut parts, &workload).await?;
    }
    if arguments.slurm {
        slurm::measure(Parts::start(!arguments.no_build).await?).await?;
    }
    Ok(())
}

/// Does the same in this program as it is released: the load and the agents share the processors with what they measure.
async fn as_released(build: bool) -> Result<()> {
    if build {
        let mut command = workspace::cargo();
        command.args(["build", "--release", "--quiet", "--package", "xtask"]);
        ensure!(Cargo::start(&mut command)?.lines(|_| ()).await?, "the bench does not build");
    }
    let program = Profile::Release.folder()?.join("xtask");
    let mut command = tokio::process::Command::new(&program);
    command.args(std::env::args_os().skip(1)).kill_on_drop(true);
    let status = command.status().await.with_context(|| format!("run {}", program.display()))?;
    ensure!(status.success(), "the bench has failed");
    Ok(())
}

/// The load of the machine, as its kernel counts it.
fn load_of_the_machine() -> Result<String> {
    Ok(std::fs::read_to_string("/proc/loadavg")?.trim().to_owned())
}
