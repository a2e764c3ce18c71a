//! `cargo xtask`: everything that is done to this tree rather than by it.
//!
//! The one thing to know: it depends neither on the kit nor on any service, because it writes the SQL cache without
//! which those don't compile.

mod bench;
mod chaos;
mod conformance;
mod conformance_kyverno;
mod db;
mod demo;
mod doctor;
mod fuzz;
mod setup;
mod test;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Muster's own chores", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    command: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Say what this machine lacks, in one list, with the command that installs it
    Doctor,
    /// The development database and the checked-in SQL cache
    #[command(subcommand)]
    Db(db::Command),
    /// Play the main job on this machine, every step checked
    Demo(demo::Arguments),
    /// Play the main job on real parts while they are killed and cut off at random
    Chaos(chaos::Arguments),
    /// Measure, and print the figures of the README
    #[command(subcommand)]
    Bench(bench::Command),
    /// How far what others wrote is understood
    #[command(subcommand)]
    Conformance(conformance::Command),
    /// Look for inputs that make the policy evaluator panic, hang or swell
    Fuzz(fuzz::Arguments),
    /// Run every test, with what they need; `-- FILTER` runs some
    Test(test::Arguments),
}

fn main() -> ExitCode {
    muster_integration_tests::process::become_program_if_leash();
    let arguments = Arguments::parse();
    match chore(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn chore(chore: Chore) -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        // Whatever is held is dropped when the chore's future is, so Ctrl-C leaves nothing behind.
        tokio::select! {
            result = run(chore) => result,
            signal = setup::interrupted() => Err(signal?.into()),
        }
    })
}

async fn run(chore: Chore) -> Result<()> {
    match chore {
        Chore::Doctor => {
            doctor::check(doctor::For::Tests)?;
            println!("nothing is missing");
            Ok(())
        }
        Chore::Db(command) => db::run(command).await,
        Chore::Demo(arguments) => demo::run(arguments).await,
        Chore::Chaos(arguments) => chaos::run(arguments).await,
        Chore::Bench(command) => bench::run(command).await,
        Chore::Conformance(command) => conformance::run(command).await,
        Chore::Fuzz(arguments) => tokio::task::block_in_place(|| fuzz::run(&arguments)),
        Chore::Test(arguments) => test::run(arguments).await,
    }
}
