//! `muster-simcluster`: runs the clusters of a configuration until it is told to end.

use anyhow::Context as _;
use clap::Parser;
use muster_simcluster::{SimConfig, server};
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How often the parent is looked for.
const LOOK_FOR_PARENT: Duration = Duration::from_millis(250);

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
    /// End when the parent process has ended.
    #[arg(long)]
    exit_with_parent: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .init();
    let arguments = Arguments::parse();
    let parent = nix::unistd::getppid();
    let text = std::fs::read_to_string(&arguments.config).with_context(|| format!("reading {}", arguments.config.display()))?;
    let config = SimConfig::parse(&text).with_context(|| format!("in {}", arguments.config.display()))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let served = server::start_all(config, &arguments.state_dir).await?;
    for one in &served {
        tracing::info!(cluster.name = one.cluster.name(), api = %one.endpoints.api, control = %one.endpoints.control, "cluster is up");
    }
    // A signal on the parent's death would follow the thread that started this process, which may end long before it.
    let orphaned = async {
        while !arguments.exit_with_parent || nix::unistd::getppid() == parent {
            tokio::time::sleep(LOOK_FOR_PARENT).await;
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
        () = orphaned => {}
    }
    for one in &served {
        one.cluster.stop().await;
    }
    Ok(())
}
