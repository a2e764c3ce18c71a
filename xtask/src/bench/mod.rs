//! `cargo xtask bench`: how long the main job's steps take on this machine, from the outside, also when a process dies; and how fast and how well the
//! scheduler's engine decides, from the inside (`scheduler.rs`).
//!
//! The one thing to know of the main job: a moment is when somebody asked (by our clock) and when the cluster had it (by
//! its audit log, which is this machine's clock as well); beside the figures stand one fsynced commit and one round trip
//! of the same run.

mod failover;
mod figure;
mod jobs;
mod machine;
mod policy;
mod real;
mod releases;
mod scheduler;
mod service;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use muster_integration_tests::parts::postgres::{Durability, Postgres};
use muster_integration_tests::patience::look;
use muster_integration_tests::platform::Pace;
use muster_integration_tests::process::Leash;
use muster_integration_tests::{Platform, Setup, eventually_within};
use muster_proto::registry::v1 as registry;
use serde_json::Value;

use self::figure::Figure;
use crate::doctor::{self, For};
use crate::setup::build::{self, Profile};
use crate::setup::kustomize;
use crate::setup::postgres;

/// What is measured.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Jobs to their clusters, commits to health, events to canaries, rollbacks; memory
    MainJob {
        #[command(flatten)]
        programs: Programs,
        /// Once more on a real Kafka and real Kubernetes clusters, beside the embedded ones
        #[arg(long)]
        real: bool,
        /// Jobs submitted
        #[arg(long, default_value_t = 500)]
        jobs: u32,
        /// Clusters of the large fleet; the small one has five
        #[arg(long, default_value_t = 100)]
        clusters: u32,
    },
    /// How long a user waits when one of a service's two processes is killed
    Failover {
        #[command(flatten)]
        programs: Programs,
        /// Kills of each service
        #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=100))]
        times: u32,
    },
    /// Decisions a second of the scheduler's engine, and a real trace beside the baselines
    Scheduler(scheduler::Arguments),
    /// Verdicts a second of the policy evaluator, and generated workloads beside Kyverno's own command line tool
    Policy(policy::Arguments),
}

/// Which programs are measured, and for whom.
#[derive(clap::Args)]
pub struct Programs {
    /// Use the programs as they were built last
    #[arg(long)]
    no_build: bool,
    /// Programs built as they are deployed, instead of as they are developed
    #[arg(long)]
    release: bool,
    /// Print the figures as JSON, for programs
    #[arg(long)]
    json: bool,
}

/// Measures and prints.
///
/// # Errors
/// Something could not be set up, or did not happen.
pub async fn run(command: Command) -> Result<()> {
    match command {
        Command::MainJob { programs, real, jobs, clusters } => {
            let surroundings = Surroundings::start(&programs, if real { For::Tests } else { For::Demo }).await?;
            figure::print(&main_job(&surroundings, real, jobs, clusters).await?, programs.json)
        }
        Command::Failover { programs, times } => {
            let surroundings = Surroundings::start(&programs, For::Demo).await?;
            let mut figures = machine::measure(&surroundings.postgres).await?;
            let setup = Setup { balanced: true, ..surroundings.setup(failover::simulation(times))? };
            figures.extend(failover::measure(setup, times).await?);
            figure::print(&figures, programs.json)
        }
        Command::Policy(arguments) => policy::run(arguments).await,
        Command::Scheduler(arguments) => scheduler::run(arguments).await,
    }
}

/// What a platform that is measured runs on.
struct Surroundings {
    profile: Profile,
    kustomize: PathBuf,
    postgres: Postgres,
}

impl Surroundings {
    async fn start(programs: &Programs, needs: For) -> Result<Self> {
        let profile = if programs.release { Profile::Release } else { Profile::Dev };
        doctor::check(needs)?;
        let kustomize = kustomize::program().await?;
        let postgres = postgres::start(Durability::Full).await?;
        if !programs.no_build {
            build::programs(profile).await?;
        }
        Ok(Self { profile, kustomize, postgres })
    }

    fn setup(&self, simulation: Value) -> Result<Setup> {
        let database = self.postgres.server().url("postgres");
        Ok(Setup {
            simulation,
            pace: Pace { heartbeat_ms: 5_000, suspect_after_ms: 60_000, ..Pace::default() },
            ..Setup::embedded(self.profile.folder()?, Leash::this_program(), database, self.kustomize.clone())
        })
    }
}

async fn main_job(surroundings: &Surroundings, real: bool, jobs: u32, clusters: u32) -> Result<Vec<Figure>> {
    let setup = |simulation| surroundings.setup(simulation);
    let mut figures = machine::measure(&surroundings.postgres).await?;
    figures.extend(jobs::measure(setup(jobs::simulation(jobs))?, jobs).await?);
    let fleets = if real { vec![real::CLUSTERS, 5, clusters] } else { vec![5, clusters] };
    for size in fleets {
        figures.extend(releases::measure(setup(releases::simulation(size))?, size).await?);
    }
    if real {
        figures.extend(real::Parts::start().await?.measure(|| setup(Value::Null), jobs).await?);
    }
    Ok(figures)
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
