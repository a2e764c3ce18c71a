//! `cargo xtask chaos`: the main job on real parts, with faults drawn by a seed, until the time is over or something that must
//! hold does not.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use muster_integration_tests::Setup;
use muster_integration_tests::faults::{self, Ground, chaos};
use muster_integration_tests::process::Leash;

use crate::doctor;
use crate::setup::build::{self, Profile};
use crate::setup::{kafka, kubernetes, kustomize, postgres};

/// How long, and which history.
#[derive(clap::Args)]
pub struct Arguments {
    /// How long faults are drawn, in minutes; the last round is played to its end
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=10_080))]
    minutes: u64,
    /// The history: the same seed draws the same faults. Without one it is drawn too, and printed
    #[arg(long)]
    seed: Option<u64>,
}

/// Plays it.
///
/// # Errors
/// The first breach: the message names the seed, the round, and what did not hold.
pub async fn run(arguments: Arguments) -> Result<()> {
    doctor::check(doctor::For::Tests)?;
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    println!("seed {seed}");
    let kustomize = kustomize::program().await?;
    let programs = faults::Programs {
        postgres: postgres::programs().await?,
        kafka: kafka::jars().await?,
        kubernetes: kubernetes::programs().await?,
    };
    build::programs(Profile::Dev).await?;
    // The ground brings a database of its own.
    let setup = Setup::embedded(Profile::Dev.folder()?, Leash::this_program(), String::new(), kustomize);
    let mut ground = Ground::start(setup, &programs).await.context("bring everything up")?;
    let time = Duration::from_secs(arguments.minutes * 60);
    let rounds = chaos::run(&mut ground, seed, time, |number, plan, recovery| {
        println!("{}", recovery.line(number, plan));
    })
    .await?;
    println!("{rounds} rounds of seed {seed} held");
    Ok(())
}
