//! `muster-agent`: run it, look a cluster over, hold it, let it leave.

use anyhow::Context;
use clap::{Parser, Subcommand};
use muster_agent::{agent, config::Config, control, inventory::Preflight, ledger::Leaving};
use muster_kit::{
    config::{self, TelemetryConfig},
    telemetry,
};
use std::{path::PathBuf, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The agent of a member cluster.
#[derive(Parser)]
#[command(name = "muster-agent", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs until SIGTERM, or until the cluster has left the fleet.
    Run {
        /// The configuration, TOML.
        #[arg(long)]
        config: PathBuf,
    },
    /// Says what is there and what is wrong; exit status 1 where something is wrong. Enrols nothing.
    Preflight {
        /// The configuration, TOML.
        #[arg(long)]
        config: PathBuf,
    },
    /// Puts the cluster on hold: nothing is written to it until it is released.
    Hold {
        /// The configuration, TOML.
        #[arg(long)]
        config: PathBuf,
        /// Ends the hold instead.
        #[arg(long)]
        release: bool,
    },
    /// Asks the running agent to leave the fleet; workloads stay unless told otherwise.
    Leave {
        /// The configuration, TOML.
        #[arg(long)]
        config: PathBuf,
        /// Removes what was applied first.
        #[arg(long)]
        remove_workloads: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime");
    match runtime.and_then(|runtime| runtime.block_on(dispatch(arguments.command))) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("muster-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run { config } => run(config::load(&config)?).await,
        Command::Preflight { config } => {
            let config: Config = config::load(&config)?;
            let found = agent::look_over(agent::client(config.kubeconfig.as_deref()).await?).await?;
            print(&found);
            Ok(if found.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Hold { config, release } => {
            let config: Config = config::load(&config)?;
            control::hold(&config.state_dir, !release).with_context(|| format!("state_dir: {}", config.state_dir.display()))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Leave { config, remove_workloads } => {
            let config: Config = config::load(&config)?;
            control::leave(&config.state_dir, Leaving { remove_workloads })
                .with_context(|| format!("state_dir: {}", config.state_dir.display()))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn run(config: Config) -> anyhow::Result<ExitCode> {
    // The client logs every failed request; the agent logs it once, where it is handled.
    let filter = format!("{},kube_client=off,kube_runtime=error", config.telemetry.log_filter);
    let telemetry_config = TelemetryConfig { log_filter: filter, ..config.telemetry.clone() };
    let _telemetry = telemetry::start("agent", &telemetry_config)?;
    muster_kit::crash::arm(&config.crash, muster_agent::crash::POINTS)?;
    let client = agent::client(config.kubeconfig.as_deref()).await?;
    let stop = CancellationToken::new();
    let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let signalled = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        signalled.cancel();
    });
    agent::run(config, client, stop).await?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

fn print(found: &Preflight) {
    println!("Kubernetes   {}", found.kubernetes_version);
    println!("round trip   {} ms", found.api_round_trip.as_millis());
    println!("clock        {:+.1} s", found.clock_offset.as_secs_f64());
    println!("GPU stack    {}", if found.gpu_stack_present { "present" } else { "absent" });
    println!("API groups   {}", found.api_groups.len());
    for (name, versions) in &found.crds {
        println!("  {name} {}", versions.join(","));
    }
    match found.problems.as_slice() {
        [] => println!("all is well"),
        problems => problems.iter().for_each(|problem| println!("problem      {problem}")),
    }
}
