//! The running service's speed, without the rest of the platform: `cargo run --release -p muster-policy --example service_bench --
//! DATABASE_URL POLICIES…`, where the URL is that of a Postgres server on which databases may be made, and the policies are
//! files or folders, as those of Kyverno's pod-security.
//!
//! The service is a process of its own with its TLS and its database; its peers and Kafka are away, which no verdict asks for.
//! Beside each figure stands the processor time that the service took for it: what else runs on the machine counts there
//! only as far as it shares caches and memory.

mod agents;
mod breadth;
mod load;
mod policies;
mod server;
mod storage;

use anyhow::{Context, bail};
use std::{path::PathBuf, process::ExitCode};

/// That of the service, which is this program too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // The service is this program, too.
    if arguments.first().is_some_and(|word| word == "run") {
        return muster_kit::boot::main::<muster_policy::PolicyBook>();
    }
    let measured =
        tokio::runtime::Runtime::new().context("the runtime").and_then(|runtime| runtime.block_on(measure(&arguments)));
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &[String]) -> anyhow::Result<()> {
    let [url, places @ ..] = arguments else { bail!("usage: bench DATABASE_URL POLICIES…") };
    if places.is_empty() {
        bail!("usage: bench DATABASE_URL POLICIES…");
    }
    let places: Vec<PathBuf> = places.iter().map(PathBuf::from).collect();
    println!("load of the machine: {}", std::fs::read_to_string("/proc/loadavg")?.trim());
    let server = server::Server::start(url, "few").await?;
    let policies = policies::read(&places)?;
    load::measure(&server, &policies).await?;
    storage::measure(&server, &policies).await?;
    drop(server);
    let server = server::Server::start(url, "many").await?;
    breadth::measure(&server).await?;
    drop(server);
    println!("load of the machine: {}", std::fs::read_to_string("/proc/loadavg")?.trim());
    Ok(())
}

/// The value below which this share of the measurements lies (nearest rank).
fn percentile(measured: &mut [f64], share: f64) -> f64 {
    measured.sort_by(f64::total_cmp);
    let rank = (share * measured.len() as f64).ceil() as usize;
    measured[rank.clamp(1, measured.len()) - 1]
}
