//! `cargo xtask bench`: how long the main job's steps take on this machine, from the outside; and how fast and how well the
//! scheduler's engine decides, from the inside (`scheduler.rs`).
//!
//! The one thing to know of the main job: a moment is when somebody asked (by our clock) and when the cluster had it (by
//! its audit log, which is this machine's clock as well); beside the figures stand one fsynced commit and one round trip
//! of the same run.

mod figure;
mod jobs;
mod machine;
mod policy;
mod real;
mod releases;
mod scheduler;
mod service;

use std::time::Duration;

use anyhow::Result;
use muster_integration_tests::parts::postgres::Durability;
use muster_integration_tests::patience::look;
use muster_integration_tests::platform::Pace;
use muster_integration_tests::process::Leash;
use muster_integration_tests::{Platform, Setup, eventually_within};
use muster_proto::registry::v1 as registry;
use serde_json::Value;

use crate::doctor;
use crate::setup::build::{self, Profile};
use crate::setup::kustomize;
use crate::setup::postgres;

/// What is measured.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Jobs to their clusters, commits to health, events to canaries, rollbacks; memory
    MainJob {
        /// Use the programs as they were built last
        #[arg(long)]
        no_build: bool,
        /// Programs built as they are deployed, instead of as they are developed
        #[arg(long)]
        release: bool,
        /// Once more on a real Kafka and real Kubernetes clusters, beside the embedded ones
        #[arg(long)]
        real: bool,
        /// Print the figures as JSON, for programs
        #[arg(long)]
        json: bool,
        /// Jobs submitted
        #[arg(long, default_value_t = 500)]
        jobs: u32,
        /// Clusters of the large fleet; the small one has five
        #[arg(long, default_value_t = 100)]
        clusters: u32,
    },
    /// Decisions a second of the scheduler's engine, and a real trace beside the baselines
    Scheduler(scheduler::Arguments),
    /// Verdicts a second of the policy evaluator, and generated workloads beside Kyverno's own command line tool
    Policy(policy::Arguments),
}

/// Measures and prints.
///
/// # Errors
/// Something could not be set up, or did not happen.
pub async fn run(command: Command) -> Result<()> {
    let (no_build, release, real, json, jobs, clusters) = match command {
        Command::MainJob { no_build, release, real, json, jobs, clusters } => (no_build, release, real, json, jobs, clusters),
        Command::Policy(arguments) => return policy::run(arguments).await,
        Command::Scheduler(arguments) => return scheduler::run(arguments).await,
    };
    let profile = if release { Profile::Release } else { Profile::Dev };
    doctor::check(if real { doctor::For::Tests } else { doctor::For::Demo })?;
    let kustomize = kustomize::program().await?;
    let postgres = postgres::start(Durability::Full).await?;
    if !no_build {
        build::programs(profile).await?;
    }
    let setup = |simulation: Value| -> Result<Setup> {
        Ok(Setup {
            simulation,
            pace: Pace { heartbeat_ms: 5_000, suspect_after_ms: 60_000, ..Pace::default() },
            ..Setup::embedded(profile.folder()?, Leash::this_program(), postgres.server().url("postgres"), kustomize.clone())
        })
    };
    let mut figures = machine::measure(&postgres).await?;
    figures.extend(jobs::measure(setup(jobs::simulation(jobs))?, jobs).await?);
    let fleets = if real { vec![real::CLUSTERS, 5, clusters] } else { vec![5, clusters] };
    for size in fleets {
        figures.extend(releases::measure(setup(releases::simulation(size))?, size).await?);
    }
    if real {
        figures.extend(real::Parts::start().await?.measure(|| setup(Value::Null), jobs).await?);
    }
    figure::print(&figures, json)
}

/// Declares and joins clusters, and returns when all are live.
async fn join(platform: &mut Platform, names: &[String], tier: &str) -> Result<()> {
    for name in names {
        let request = registry::CreateClusterRequest {
            cluster_id: name.clone(),
            cluster: Some(registry::Cluster {
                labels: [("tier".to_owned(), tier.to_owned())].into(),
                takes_jobs: tier == "train",
                ..Default::default()
            }),
            ..Default::default()
        };
        platform.clients()?.clusters().create_cluster(request).await?;
        platform.join(name).await?;
    }
    eventually_within(Duration::from_secs(300), "every cluster is live", async || {
        let request = registry::ListClustersRequest { page_size: 1_000, ..Default::default() };
        let list = platform.clients()?.clusters().list_clusters(request).await?.into_inner().clusters;
        let live = list
            .iter()
            .filter(|cluster| cluster.state() == registry::cluster::State::Live && cluster.inventory.is_some())
            .count();
        Ok(look(live == names.len(), (), || format!("{live} of {} are live", names.len())))
    })
    .await
}

/// The value below which this share of the sorted measurements lies (nearest rank).
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}
