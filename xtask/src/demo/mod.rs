//! `cargo xtask demo`: the main job, played from an empty machine, every step checked.
//!
//! The one thing to know: what is played and checked is `main_job` of the integration tests, which the stories play too;
//! here it is set up, told, and summed up in a table.

mod sabotage;
mod table;
mod what_to_try;

use std::time::Instant;

use anyhow::Result;
use muster_integration_tests::kafka::MadeTopics;
pub use muster_integration_tests::main_job::layout;
use muster_integration_tests::main_job::scene::SHORT_SOAK;
use muster_integration_tests::main_job::{self, Cause, Scene, TITLES, simulation};
use muster_integration_tests::parts::postgres::Durability;
use muster_integration_tests::process::Leash;
use muster_integration_tests::{Platform, Setup};

use crate::setup::build::{self, Profile};
use crate::setup::kustomize;
use crate::setup::postgres;
use crate::{doctor, setup};
use sabotage::Steps;
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
    /// Break the cause behind a step, which must then fail by its name. Of several (3,8, or all) each but the last is then
    /// played again with its cause mended. Ends after the last of them, always with a failure
    #[arg(long, value_name = "STEP")]
    sabotage: Option<Steps>,
    /// End after this step
    #[arg(long, value_name = "STEP", value_parser = clap::value_parser!(u8).range(1..=10))]
    until: Option<u8>,
    /// What the moments and choices of the last step are drawn from
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    seed: Option<u64>,
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

/// Plays it.
///
/// # Errors
/// Something could not be set up, or a step's check was not true.
pub async fn run(arguments: Arguments) -> Result<()> {
    doctor::check(doctor::For::Demo)?;
    let started = Instant::now();
    let kustomize = kustomize::program().await?;
    let postgres = match &arguments.database_url {
        Some(_) => None,
        None => Some(postgres::start(Durability::Full).await?),
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
    // Topics are the deployment's; they go after everything that reads them.
    let _topics = match &arguments.kafka {
        Some(brokers) => Some(MadeTopics::make(brokers).await?),
        None => None,
    };
    let setup = Setup {
        brokers: arguments.kafka.clone(),
        documented_ports: arguments.keep,
        simulation: simulation::simulation(&simulation::CLUSTERS),
        ..Setup::embedded(Profile::Dev.folder()?, Leash::this_program(), database_url, kustomize)
    };
    println!("starting the services, six clusters and their agents");
    let platform = Platform::start(setup).await?;
    let soak = if arguments.fast { SHORT_SOAK } else { "5s" };
    let mut scene = Scene::new(platform, &simulation::CLUSTERS, soak).await?;
    if let Some(seed) = arguments.seed {
        scene.seed = seed;
    }
    let mut rows = vec![Row {
        number: 0,
        title: "set up",
        cause: Cause::Whole,
        outcome: Outcome::True(vec!["Postgres, Kafka, four services, six clusters".to_owned()]),
        took: started.elapsed(),
    }];
    play(&arguments, &mut scene, &mut rows).await;
    println!("\n{}", table::render(&rows));
    if rows.iter().any(Row::is_unexpected) {
        println!("the logs are in {}", keep_logs(&scene)?.display());
    }
    sabotage::verdict(&rows)?;
    if arguments.keep {
        println!("{}", what_to_try::lines(&scene)?);
        // Dropping the scene stops everything; it is dropped when this future is.
        setup::interrupted().await?;
    }
    Ok(())
}

/// Plays step after step, until one does not end as it is to.
async fn play(arguments: &Arguments, scene: &mut Scene, rows: &mut Vec<Row>) {
    let sabotaged = |step| arguments.sabotage.as_ref().is_some_and(|steps| steps.contains(step));
    let last = arguments.until.or(arguments.sabotage.as_ref().map(Steps::last)).unwrap_or(10);
    for (step, title) in (1..=last).zip(TITLES) {
        // A broken step is mended where the play goes on after it.
        let causes: &[Cause] = match (sabotaged(step), step == last) {
            (true, true) => &[Cause::Broken],
            (true, false) => &[Cause::Broken, Cause::Mended],
            (false, _) => &[Cause::Whole],
        };
        for cause in causes {
            println!("step {step}{}: {title}", table::how(*cause));
            let began = Instant::now();
            let outcome = match main_job::play(step, scene, *cause).await {
                Ok(checked) => Outcome::True(checked),
                Err(error) => Outcome::False(format!("{error:#}")),
            };
            let row = Row { number: step, title, cause: *cause, outcome, took: began.elapsed() };
            let ends = row.is_unexpected();
            rows.push(row);
            if ends {
                return;
            }
        }
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
