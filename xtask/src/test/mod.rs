//! `cargo xtask test`: every test, with what they need brought up first.
//!
//! The one thing to know: there are four kinds of stories, a binary each. Those on embedded parts come first, then those on real
//! parts that stay well, which want the machine. At last three lanes run side by side: the stories whose real parts are broken,
//! which start parts of their own and wait for most of their time; those that stop servers and processes; and the tests of the
//! crates, which take the processor when nobody else does.

mod floor;
mod real;
mod tally;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use muster_integration_tests::parts::postgres::{Durability, Postgres};
use serde_json::Value;
use tempfile::TempDir;

use self::floor::Floor;
use self::real::{RealParts, RealPrograms};
use self::tally::Tally;
use crate::setup::build::{self, Cargo, Profile};
use crate::setup::kustomize;
use crate::setup::postgres;
use crate::{doctor, workspace};

/// The package of the stories.
const STORIES: &str = "muster-integration-tests";

/// The test program of the stories on embedded parts.
const EMBEDDED: &str = "stories";

/// The test program of those that stop servers and processes.
const OUTAGES: &str = "outages";

/// The test program of the stories on real parts.
const REAL: &str = "real";

/// The test program of the stories whose parts are broken: it starts its own.
const RECOVERY: &str = "recovery";

/// How many stories of a program run at once, where that is more than there are processors: they wait for most of their time.
const AT_ONCE: [(&str, u32); 2] = [(EMBEDDED, 4), (REAL, 3)];

/// What to run.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only these packages; all of them when none is named
    #[arg(short, long = "package")]
    packages: Vec<String>,
    /// Only these test programs, as in `real`: the stories on real parts
    #[arg(long = "test", value_name = "NAME", conflicts_with = "packages")]
    tests: Vec<String>,
    /// Only tests whose names contain one of these, and other arguments of the test harness
    #[arg(last = true)]
    harness: Vec<String>,
}

/// Runs them, and prints one summary last.
///
/// # Errors
/// A test failed, or its surroundings could not be brought up.
pub async fn run(arguments: Arguments) -> Result<()> {
    doctor::check(doctor::For::Tests)?;
    let stages = stages(&arguments).await?;
    let selections = stages.iter().flatten().flat_map(|lane| &lane.selections);
    let surroundings = Surroundings::made(&arguments, selections).await?;
    let started = Instant::now();
    let tally = RefCell::new(Tally::default());
    for lanes in stages {
        let floor = Floor::new(lanes.len());
        try_join_all(lanes.iter().enumerate().map(|(turn, lane)| surroundings.play(lane, turn, &floor, &tally))).await?;
    }
    let tally = tally.into_inner();
    tally.print(started.elapsed());
    tally.verdict()
}

/// The arguments of one `cargo test`.
type Selection = Vec<String>;

/// Selections one after another.
struct Lane {
    selections: Vec<Selection>,
    pace: Pace,
}

/// Whether a lane yields the processor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// It takes its part.
    Usual,
    /// It runs when nobody else does.
    InTheBackground,
}

impl Lane {
    fn of(selection: Selection) -> Self {
        Self { selections: vec![selection], pace: Pace::Usual }
    }
}

/// What the tests run on.
struct Surroundings {
    kustomize: PathBuf,
    postgres: Postgres,
    // What an interrupted test leaves in its temporary folder goes with this one.
    temporary: TempDir,
    /// Of others; only where a selection wants them.
    programs: Option<RealPrograms>,
    harness: Vec<String>,
}

impl Surroundings {
    async fn made(arguments: &Arguments, mut selections: impl Iterator<Item = &Selection>) -> Result<Self> {
        let kustomize = kustomize::program().await?;
        let postgres = postgres::start(Durability::None).await?;
        let temporary = tempfile::Builder::new().prefix("muster-test-").tempdir()?;
        // Only the stories start programs; cargo builds those of the package under test by itself.
        if arguments.packages.is_empty() || arguments.packages.iter().any(|name| name == STORIES) {
            build::programs(Profile::Dev).await?;
        }
        let real = selections.any(|selection| wants(selection, REAL) || wants(selection, RECOVERY));
        let programs = if real { Some(RealPrograms::made().await?) } else { None };
        Ok(Self { kustomize, postgres, temporary, programs, harness: arguments.harness.clone() })
    }

    /// Runs a lane to its end.
    async fn play(&self, lane: &Lane, turn: usize, floor: &Floor, tally: &RefCell<Tally>) -> Result<()> {
        for selection in &lane.selections {
            let heard = |line: &str| {
                floor.say(turn, line);
                tally.borrow_mut().read(line);
            };
            if !self.test(selection, lane.pace, heard).await? {
                tally.borrow_mut().broke();
            }
        }
        floor.leave(turn);
        Ok(())
    }

    /// Runs one `cargo test`, and answers whether it succeeded.
    async fn test(&self, selection: &Selection, pace: Pace, line: impl FnMut(&str)) -> Result<bool> {
        let mut command = match pace {
            Pace::Usual => workspace::cargo(),
            Pace::InTheBackground => workspace::cargo_in_the_background(),
        };
        let said = self.harness.iter().any(|argument| argument.starts_with("--test-threads"));
        let at_once = AT_ONCE.iter().find(|(program, _)| !said && wants(selection, program));
        command
            .args(["test", "--no-fail-fast"])
            .args(selection)
            .arg("--")
            .args(at_once.map(|(_, stories)| format!("--test-threads={stories}")))
            .args(&self.harness)
            .env("MUSTER_TEST_DATABASE_URL", self.postgres.server().url("postgres"))
            .env(kustomize::PATH_VARIABLE, &self.kustomize)
            .env("TMPDIR", self.temporary.path());
        let mut parts = None;
        if let Some(programs) = &self.programs {
            if wants(selection, RECOVERY) {
                command.env("MUSTER_TEST_PROGRAMS", serde_json::to_string(&programs.to_break().await?)?);
            }
            if wants(selection, REAL) {
                let started = parts.insert(RealParts::start(programs).await?);
                command.envs(started.variables(programs)?);
            }
        }
        Cargo::start(&mut command)?.lines(line).await
    }
}

/// Whether a selection names a test program.
fn wants(selection: &Selection, program: &str) -> bool {
    selection.iter().any(|word| word == program)
}

/// What is run one after another, and in it what runs side by side. All selections are of the whole workspace where no package
/// is named: of a part of it cargo would unite features otherwise, and compile half of the tree once more.
async fn stages(arguments: &Arguments) -> Result<Vec<Vec<Lane>>> {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Selection>();
    let alone = |selection: Selection| vec![Lane::of(selection)];
    if !arguments.tests.is_empty() {
        return Ok(arguments.tests.iter().map(|name| alone(words(&format!("--workspace --test {name}")))).collect());
    }
    let stories = |scope: &str| {
        let story = |name: &str| words(&format!("{scope} --test {name}"));
        vec![alone(story(EMBEDDED)), alone(story(REAL)), vec![Lane::of(story(OUTAGES)), Lane::of(story(RECOVERY))]]
    };
    let packages = &arguments.packages;
    if packages.is_empty() {
        let names =
            test_targets().await?.into_iter().filter(|name| ![EMBEDDED, REAL, OUTAGES, RECOVERY].contains(&name.as_str()));
        let crates = words("--workspace --lib --bins").into_iter().chain(names.flat_map(|name| ["--test".to_owned(), name]));
        let crates = Lane { selections: vec![crates.collect()], pace: Pace::InTheBackground };
        let mut stages = stories("--workspace");
        // Their output comes first, as it comes.
        stages.last_mut().expect("there are stories").insert(0, crates);
        return Ok(stages);
    }
    let mut stages = Vec::new();
    let others: Vec<String> = packages.iter().filter(|name| *name != STORIES).cloned().collect();
    if !others.is_empty() {
        stages.push(alone(others.into_iter().flat_map(|name| ["--package".to_owned(), name]).collect()));
    }
    if packages.iter().any(|name| name == STORIES) {
        stages.push(alone(words(&format!("--package {STORIES} --lib --bins"))));
        stages.extend(stories(&format!("--package {STORIES}")));
    }
    Ok(stages)
}

/// The names of the workspace's integration tests.
async fn test_targets() -> Result<BTreeSet<String>> {
    let output = workspace::cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(workspace::root())
        .output()
        .await?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("read what cargo metadata says")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let targets = packages.flat_map(|package| package["targets"].as_array().into_iter().flatten());
    let tests = targets.filter(|target| target["kind"][0] == "test");
    Ok(tests.filter_map(|target| Some(target["name"].as_str()?.to_owned())).collect())
}
