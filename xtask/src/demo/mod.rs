//! `cargo xtask demo`: the main job, played from an empty machine, every step checked.
//!
//! The one thing to know: a step is a file, and its checks read only what users can read: RPCs, the command line, git,
//! Kafka, the clusters' APIs and their audit logs. Nothing is believed because a service said "done".

mod documents;
pub mod layout;
mod releases;
mod scene;
mod simulation;
mod step01_join;
mod step02_apply;
mod step03_train;
mod step04_event;
mod step05_release;
mod step06_bad;
mod step07_online;
mod step08_drift;
mod step09_reports;
mod step10_crashes;
mod table;

use std::time::Instant;

use anyhow::{Result, bail};
use muster_integration_tests::platform::Pace;
use muster_integration_tests::process::Leash;
use muster_integration_tests::{Platform, Setup};

use crate::setup::build::{self, Profile};
use crate::setup::kustomize;
use crate::setup::postgres::{Durability, Postgres};
use crate::{doctor, setup};
use scene::Scene;
use table::{Outcome, Row};

/// How it is played.
#[derive(clap::Args)]
pub struct Arguments {
    /// Leave everything up after the last step and say what to try; Ctrl-C ends it
    #[arg(long)]
    keep: bool,
    /// Shorter soaks; skips nothing
    #[arg(long)]
    fast: bool,
    /// Break the cause behind a step, which must then fail
    #[arg(long, value_name = "STEP", value_parser = clap::value_parser!(u8).range(1..=10))]
    sabotage: Option<u8>,
    /// End after this step
    #[arg(long, value_name = "STEP", value_parser = clap::value_parser!(u8).range(1..=10))]
    until: Option<u8>,
    /// Use the programs as they were built last
    #[arg(long)]
    no_build: bool,
    /// A Postgres of your own instead of an embedded one; its user may make databases
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// A Kafka of your own, HOST:PORT, instead of an embedded broker
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
}

/// What a step checked, a line each.
pub type Checked = Vec<String>;

/// The steps, in order, with what stands in the table.
const TITLES: [&str; 10] = [
    "clusters join, strangers don't",
    "a folder is applied",
    "jobs fill the cheap cluster and overflow",
    "a training ends: one version, one commit, one release",
    "a release goes wave by wave",
    "a bad version stops at the canary",
    "a bad version is found out at 10 %",
    "drift, pruning, and a site that is away",
    "who complies, what it cost, one trace",
    "everything is killed, and it completes",
];

/// Plays it.
///
/// # Errors
/// Something could not be set up, or a step's check was not true.
pub async fn run(arguments: Arguments) -> Result<()> {
    doctor::check()?;
    let started = Instant::now();
    let kustomize = kustomize::program().await?;
    let postgres = match &arguments.database_url {
        Some(_) => None,
        None => Some(Postgres::start(Durability::Full).await?),
    };
    let database_url = match (&arguments.database_url, &postgres) {
        (Some(url), _) => url.clone(),
        (None, Some(postgres)) => postgres.server().url("postgres"),
        (None, None) => unreachable!("one of them was just made"),
    };
    if !arguments.no_build {
        println!("building");
        build::programs(Profile::Dev).await?;
    }
    let setup = Setup {
        programs: Profile::Dev.folder()?,
        leash: Leash::this_program(),
        database_url,
        kustomize,
        git_config: None,
        brokers: arguments.kafka.clone(),
        documented_ports: arguments.keep,
        simulation: simulation::simulation(),
        pace: Pace::default(),
    };
    println!("starting the services, six clusters and their agents");
    let platform = Platform::start(setup).await?;
    let mut scene = Scene::new(platform, arguments.fast, arguments.sabotage).await?;
    let mut rows = vec![Row {
        number: 0,
        title: "set up",
        outcome: Outcome::True(vec!["Postgres, Kafka, four services, six clusters".to_owned()]),
        took: started.elapsed(),
    }];
    let last = usize::from(arguments.until.unwrap_or(10));
    for (index, title) in TITLES[..last].iter().enumerate() {
        let number = index as u8 + 1;
        println!("step {number}: {title}");
        let began = Instant::now();
        let outcome = match play(number, &mut scene).await {
            Ok(checked) => Outcome::True(checked),
            Err(error) => Outcome::False(format!("{error:#}")),
        };
        let failed = matches!(outcome, Outcome::False(_));
        rows.push(Row { number, title, outcome, took: began.elapsed() });
        if failed {
            break;
        }
    }
    println!("\n{}", table::render(&rows));
    let failure = rows.iter().find_map(|row| match &row.outcome {
        Outcome::False(_) => Some((row.number, row.title)),
        Outcome::True(_) => None,
    });
    if let Some((number, title)) = failure {
        let kept = keep_logs(&scene)?;
        bail!("step {number} is not true: {title}; the logs are in {}", kept.display());
    }
    if arguments.keep {
        println!("{}", scene.what_to_try());
        // Dropping the scene stops everything; it is dropped when this future is.
        setup::interrupted().await?;
    }
    Ok(())
}

async fn play(number: u8, scene: &mut Scene) -> Result<Checked> {
    match number {
        1 => step01_join::play(scene).await,
        2 => step02_apply::play(scene).await,
        3 => step03_train::play(scene).await,
        4 => step04_event::play(scene).await,
        5 => step05_release::play(scene).await,
        6 => step06_bad::play(scene).await,
        7 => step07_online::play(scene).await,
        8 => step08_drift::play(scene).await,
        9 => step09_reports::play(scene).await,
        10 => step10_crashes::play(scene).await,
        _ => bail!("there is no step {number}"),
    }
}

/// The logs of a failed play outlive it, in the target folder.
fn keep_logs(scene: &Scene) -> Result<std::path::PathBuf> {
    let to = crate::workspace::root().join("target/demo-logs");
    if to.exists() {
        std::fs::remove_dir_all(&to)?;
    }
    std::fs::create_dir_all(&to)?;
    for entry in std::fs::read_dir(scene.platform.folder().join("logs"))? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(to)
}
