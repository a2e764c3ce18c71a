//! `cargo xtask test`: every test, with what they need brought up first.
//!
//! The one thing to know: there are four kinds of stories, a binary each. Those on embedded parts run beside everything
//! else; those on real parts have Kafka and two Kubernetes clusters, started for them alone; those that stop servers and
//! processes come last, because they need the machine's attention and take services away; so do those that break real parts,
//! which they start themselves.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use muster_integration_tests::faults;
use muster_integration_tests::main_job::simulation::{CLOUD_GPUS, IDC_GPUS, TRAIN_CLOUD, TRAIN_IDC};
use muster_integration_tests::parts::kafka::Kafka;
use muster_integration_tests::parts::kubernetes::{Kubernetes, Programs};
use muster_integration_tests::parts::postgres::Durability;
use muster_integration_tests::process::Leash;
use serde_json::Value;

use crate::setup::build::{self, Cargo, Profile};
use crate::setup::kustomize;
use crate::setup::{clients, compose, crds, debian, kafka, kubernetes, postgres};
use crate::{doctor, workspace};

/// The package of the stories.
const STORIES: &str = "muster-integration-tests";

/// The test program of the stories on real parts.
const REAL: &str = "real";

/// The test program of the stories whose parts are broken: it starts its own.
const RECOVERY: &str = "recovery";

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
    let kustomize = kustomize::program().await?;
    let postgres = postgres::start(Durability::None).await?;
    // What an interrupted test leaves in its temporary folder goes with this one.
    let temporary = tempfile::Builder::new().prefix("muster-test-").tempdir()?;
    // Only the stories start programs; cargo builds those of the package under test by itself.
    let stories = arguments.packages.is_empty() || arguments.packages.iter().any(|p| p == STORIES);
    if stories {
        build::programs(Profile::Dev).await?;
    }
    let selections = selections(&arguments).await?;
    let needs = |selection: &[String], program: &str| selection.iter().any(|word| word == program);
    let programs = match selections.iter().any(|selection| needs(selection, REAL) || needs(selection, RECOVERY)) {
        true => Some(RealPrograms::made().await?),
        false => None,
    };
    let started = Instant::now();
    let mut tally = Tally::default();
    for selection in selections {
        let real = match &programs {
            Some(programs) if needs(&selection, REAL) => Some((RealParts::start(programs).await?, programs)),
            _ => None,
        };
        let own = match &programs {
            Some(programs) if needs(&selection, RECOVERY) => Some(programs.to_break().await?),
            _ => None,
        };
        let mut command = workspace::cargo();
        command
            .args(["test", "--no-fail-fast"])
            .args(selection)
            .arg("--")
            .args(&arguments.harness)
            .env("MUSTER_TEST_DATABASE_URL", postgres.server().url("postgres"))
            .env(kustomize::PATH_VARIABLE, &kustomize)
            .env("TMPDIR", temporary.path());
        if let Some(programs) = &own {
            command.env("MUSTER_TEST_PROGRAMS", serde_json::to_string(programs)?);
        }
        if let Some((real, programs)) = &real {
            command.envs(real.variables(programs)?);
        }
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

/// The programs of others that the stories on real parts want.
struct RealPrograms {
    kafka: PathBuf,
    kubernetes: Programs,
    crds: PathBuf,
    prometheus: PathBuf,
    sshd: PathBuf,
    grpcurl: PathBuf,
    python: PathBuf,
    compose: PathBuf,
}

impl RealPrograms {
    async fn made() -> Result<Self> {
        Ok(Self {
            kafka: kafka::jars().await?,
            kubernetes: kubernetes::programs().await?,
            crds: crds::folder().await?,
            prometheus: debian::prometheus().await?,
            sshd: debian::sshd().await?,
            grpcurl: clients::grpcurl().await?,
            python: clients::python().await?,
            compose: compose::program().await?,
        })
    }
}

impl RealPrograms {
    /// Those of the parts that are broken.
    async fn to_break(&self) -> Result<faults::Programs> {
        let postgres = postgres::programs().await?;
        Ok(faults::Programs { postgres, kafka: self.kafka.clone(), kubernetes: self.kubernetes.clone() })
    }
}

/// What the stories on real parts run on; it ends with them.
struct RealParts {
    kafka: Kafka,
    clusters: Vec<Kubernetes>,
}

impl RealParts {
    async fn start(programs: &RealPrograms) -> Result<Self> {
        let leash = Leash::this_program();
        let (kafka, idc, cloud) = tokio::try_join!(
            Kafka::start(programs.kafka.clone(), &leash),
            Kubernetes::start(&programs.kubernetes, &leash, TRAIN_IDC, IDC_GPUS / 8, "V100"),
            Kubernetes::start(&programs.kubernetes, &leash, TRAIN_CLOUD, CLOUD_GPUS / 8, "A100")
        )?;
        Ok(Self { kafka, clusters: vec![idc, cloud] })
    }

    /// Tells tests where they are.
    fn variables(&self, programs: &RealPrograms) -> Result<Vec<(&'static str, OsString)>> {
        let folders = std::env::join_paths(self.clusters.iter().map(Kubernetes::folder))?;
        Ok(vec![
            ("MUSTER_TEST_KUBERNETES", folders),
            ("MUSTER_TEST_KAFKA", self.kafka.address().into()),
            ("MUSTER_TEST_KAFKA_FOLDER", self.kafka.folder().into()),
            ("MUSTER_TEST_KAFKA_JARS", self.kafka.jars().into()),
            ("MUSTER_TEST_KUBECTL", programs.kubernetes.kubectl().into()),
            ("MUSTER_TEST_CRDS", programs.crds.clone().into()),
            ("MUSTER_TEST_PROMETHEUS", programs.prometheus.clone().into()),
            ("MUSTER_TEST_SSHD", programs.sshd.clone().into()),
            ("MUSTER_TEST_GRPCURL", programs.grpcurl.clone().into()),
            ("MUSTER_TEST_PYTHONPATH", programs.python.clone().into()),
            ("MUSTER_TEST_COMPOSE", programs.compose.clone().into()),
        ])
    }
}

/// The runs of `cargo test`, in order. All are of the whole workspace where no package is named: of a part of it cargo would
/// unite features otherwise, and compile half of the tree once more.
async fn selections(arguments: &Arguments) -> Result<Vec<Vec<String>>> {
    let packages = &arguments.packages;
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    if !arguments.tests.is_empty() {
        return Ok(arguments.tests.iter().map(|name| words(&format!("--workspace --test {name}"))).collect());
    }
    let stories = ["stories", REAL, "outages", RECOVERY];
    let only_stories = |scope: &str| stories.map(|name| words(&format!("{scope} --test {name}")));
    if packages.is_empty() {
        let others = test_targets().await?.into_iter().filter(|name| !stories.contains(&name.as_str()));
        let first = words("--workspace --lib --bins").into_iter().chain(others.flat_map(|name| ["--test".to_owned(), name]));
        return Ok([first.collect()].into_iter().chain(only_stories("--workspace")).collect());
    }
    let mut runs = Vec::new();
    let others: Vec<String> = packages.iter().filter(|name| *name != STORIES).cloned().collect();
    if !others.is_empty() {
        runs.push(others.into_iter().flat_map(|name| ["--package".to_owned(), name]).collect());
    }
    if packages.iter().any(|name| name == STORIES) {
        runs.push(words(&format!("--package {STORIES} --lib --bins")));
        runs.extend(only_stories(&format!("--package {STORIES}")));
    }
    Ok(runs)
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
