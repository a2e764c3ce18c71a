//! `cargo xtask test`: every test, with what they need brought up first.
//!
//! The one thing to know: the stories that stop servers and processes are a binary of their own, run alone after all
//! the others, because they need the machine's attention and take services away.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::process::Command;

use crate::setup::build::{self, Cargo, Profile};
use crate::setup::kustomize;
use crate::setup::postgres::{Durability, Postgres};
use crate::{doctor, workspace};

/// The package of the stories.
const STORIES: &str = "muster-integration-tests";

/// What to run.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only these packages; all of them when none is named
    #[arg(short, long = "package")]
    packages: Vec<String>,
    /// Only tests whose names contain one of these, and other arguments of the test harness
    #[arg(last = true)]
    harness: Vec<String>,
}

/// Runs them, and prints one summary last.
///
/// # Errors
/// A test failed, or its surroundings could not be brought up.
pub async fn run(arguments: Arguments) -> Result<()> {
    doctor::check()?;
    let kustomize = kustomize::program().await?;
    let postgres = Postgres::start(Durability::None).await?;
    // What an interrupted test leaves in its temporary folder goes with this one.
    let temporary = tempfile::Builder::new().prefix("muster-test-").tempdir()?;
    // Only the stories start programs; cargo builds those of the package under test by itself.
    let stories = arguments.packages.is_empty() || arguments.packages.iter().any(|p| p == STORIES);
    if stories {
        build::programs(Profile::Dev).await?;
    }
    let started = Instant::now();
    let mut tally = Tally::default();
    for selection in selections(&arguments.packages) {
        let mut command = Command::new(workspace::cargo());
        command
            .args(["test", "--no-fail-fast"])
            .args(selection)
            .arg("--")
            .args(&arguments.harness)
            .env("MUSTER_TEST_DATABASE_URL", postgres.server().url("postgres"))
            .env(kustomize::PATH_VARIABLE, &kustomize)
            .env("TMPDIR", temporary.path());
        let success = Cargo::start(&mut command)?
            .lines(|line| {
                println!("{line}");
                tally.read(line);
            })
            .await?;
        if !success {
            tally.broken = true;
        }
    }
    tally.print(started.elapsed());
    if tally.broken || tally.failed > 0 {
        bail!("tests failed");
    }
    // A filter that matches nothing must not look like success.
    if tally.passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

/// The runs of `cargo test`, in order.
fn selections(packages: &[String]) -> Vec<Vec<String>> {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    if packages.is_empty() {
        return vec![
            words(&format!("--workspace --exclude {STORIES}")),
            words(&format!("--package {STORIES} --lib --bins --test stories")),
            words(&format!("--package {STORIES} --test outages")),
        ];
    }
    let mut others = Vec::new();
    let mut runs = Vec::new();
    for package in packages {
        if package == STORIES {
            runs.push(words(&format!("--package {STORIES} --lib --bins --test stories")));
            runs.push(words(&format!("--package {STORIES} --test outages")));
        } else {
            others.extend(["--package".to_owned(), package.clone()]);
        }
    }
    if !others.is_empty() {
        runs.insert(0, others);
    }
    runs
}

/// The sum over all test binaries.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    filtered: u64,
    failures: Vec<String>,
    broken: bool,
}

impl Tally {
    /// Takes in a line of a test harness, as in `test name ... FAILED` and
    /// `test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.12s`.
    fn read(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failures.push(name.to_owned());
        }
        let Some(counts) = line.strip_prefix("test result: ") else {
            return;
        };
        let counts = counts.split_once(". ").map_or(counts, |(_, counts)| counts);
        for part in counts.split("; ") {
            let Some((number, what)) = part.split_once(' ') else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                "filtered out" => self.filtered += number,
                _ => {}
            }
        }
    }

    fn print(&self, took: Duration) {
        println!();
        if !self.failures.is_empty() {
            println!("failures:");
            for name in &self.failures {
                println!("    {name}");
            }
            println!();
        }
        if self.broken && self.failed == 0 {
            println!("a test binary did not build, or ended before its last test");
        }
        println!(
            "test result: {}. {} passed; {} failed; {} ignored; {} filtered out; finished in {:.1}s",
            if self.broken || self.failed > 0 { "FAILED" } else { "ok" },
            self.passed,
            self.failed,
            self.ignored,
            self.filtered,
            took.as_secs_f64()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn the_results_of_all_binaries_are_added_up() {
        let mut tally = Tally::default();
        for line in [
            "test one ... ok",
            "test two ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 3 filtered out; finished in 0.01s",
            "something a test printed. 7 passed; not a result",
            "test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        ] {
            tally.read(line);
        }
        assert_eq!(
            tally,
            Tally { passed: 5, failed: 1, ignored: 2, filtered: 3, failures: vec!["two".to_owned()], broken: false }
        );
    }
}
