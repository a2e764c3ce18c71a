//! `muster-simcluster`: runs the clusters of a configuration until it is told to end.

use anyhow::Context as _;
use clap::Parser;
use muster_simcluster::{SimConfig, server};
use std::path::PathBuf;
use tokio::{
    io::AsyncReadExt as _,
    signal::unix::{SignalKind, signal},
};

/// Simulated Kubernetes clusters behind sockets of the loopback interface.
#[derive(Debug, Parser)]
#[command(
    name = "muster-simcluster",
    version,
    after_help = "Example:\n  muster-simcluster --config sim.yaml --state-dir /tmp/sim\n  KUBECONFIG=/tmp/sim/edge-01.kubeconfig kubectl get nodes"
)]
struct Arguments {
    /// The configuration, YAML.
    #[arg(long)]
    config: PathBuf,
    /// Where kubeconfigs, endpoints.json and audit logs are written.
    #[arg(long)]
    state_dir: PathBuf,
    /// End when standard input is closed and when the parent process dies.
    #[arg(long)]
    exit_with_parent: bool,
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(run());
    // A read of standard input cannot be called off; it must not hold the end up.
    runtime.shutdown_background();
    result
}

async fn run() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .init();
    let arguments = Arguments::parse();
    if arguments.exit_with_parent {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM).context("asking to end with the parent")?;
    }
    let text = std::fs::read_to_string(&arguments.config).with_context(|| format!("reading {}", arguments.config.display()))?;
    let config = SimConfig::parse(&text).with_context(|| format!("in {}", arguments.config.display()))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let served = server::start_all(config, &arguments.state_dir).await?;
    for one in &served {
        tracing::info!(cluster.name = one.cluster.name(), api = %one.endpoints.api, control = %one.endpoints.control, "cluster is up");
    }
    let input_closed = async {
        if !arguments.exit_with_parent {
            return std::future::pending().await;
        }
        let mut input = tokio::io::stdin();
        let mut bytes = [0; 256];
        while input.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
        () = input_closed => {}
    }
    for one in &served {
        one.cluster.stop().await;
    }
    Ok(())
}
