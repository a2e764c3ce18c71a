//! `cargo xtask fuzz`: the evaluator's fuzz targets, each for so long, begun with what suites hold.
//!
//! The one thing to know: it takes the workspace's own compiler, with libFuzzer's coverage and without a sanitizer, since the
//! workspace has no unsafe code. The corpus grows from run to run beside what is built, outside the tree; what was found stands
//! in `services/policy/evaluator/fuzz/artifacts`, which git ignores. `cargo fuzz` works there too, with a nightly compiler.

mod seeds;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::workspace;

/// What there is to fuzz, in `services/policy/evaluator/fuzz/fuzz_targets`.
const TARGETS: [&str; 6] = ["yaml", "policy", "suite", "jmespath", "cel", "values"];
/// Longer texts tell nothing that shorter ones do not, and take longer.
const MAX_BYTES: usize = 8 * 1024;
/// Bounds of one input, and of the program.
const INPUT_SECONDS: usize = 10;
const MEMORY_MIB: usize = 2_048;
/// What libFuzzer wants of the compiler: a counter at every edge, and the values that are compared. Sums are checked.
const COVERAGE: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=3",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "--cfg=fuzzing",
];

/// What is fuzzed.
#[derive(clap::Args)]
pub struct Arguments {
    /// One target; without it all, one after the other
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(TARGETS))]
    target: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_440))]
    minutes: u64,
    /// A folder with policies and kyverno-test.yaml suites, from which the first corpus is made
    #[arg(long)]
    seeds: Option<PathBuf>,
}

/// Builds the targets and runs them.
///
/// # Errors
/// A tool is missing, the seeds can't be read, or a target found something, whose input is then named on standard error.
pub fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { target, minutes, seeds } = arguments;
    let corpora = workspace::dev()?.join("fuzz");
    if let Some(folder) = seeds {
        let written = seeds::write(folder, &corpora, MAX_BYTES)?;
        println!("{written} seeds from {}", folder.display());
    }
    let wanted: Vec<&str> = TARGETS.into_iter().filter(|name| target.as_ref().is_none_or(|target| target == *name)).collect();
    let folder = workspace::root().join("services/policy/evaluator/fuzz");
    let programs = build(&folder, &corpora.join("target"), &wanted)?;
    let mut found = Vec::new();
    for name in wanted {
        let (corpus, artifacts) = (corpora.join(name), folder.join("artifacts").join(name));
        for folder in [&corpus, &artifacts] {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        println!("{name}: {minutes} minutes");
        let status = Command::new(programs.join(name))
            .arg(&corpus)
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .arg(format!("-max_total_time={}", minutes * 60))
            .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
            .arg(format!("-timeout={INPUT_SECONDS}"))
            .arg(format!("-max_len={MAX_BYTES}"))
            .arg("-print_final_stats=1")
            .status()
            .with_context(|| format!("run {name}"))?;
        if !status.success() {
            found.push(name);
        }
    }
    if !found.is_empty() {
        bail!("something was found by: {}", found.join(", "));
    }
    Ok(())
}

/// Builds some targets; gives the folder they are in. Coverage is of what is built for the machine that runs it, and of no build
/// script, which is why the target is named.
fn build(folder: &Path, into: &Path, targets: &[&str]) -> Result<PathBuf> {
    let told = Command::new("rustc").arg("-vV").output().context("ask the compiler what it is")?;
    let told = String::from_utf8_lossy(&told.stdout);
    let host = told.lines().find_map(|line| line.strip_prefix("host: ")).context("the compiler does not say its host")?;
    let mut command = Command::new("cargo");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_") && name != "CARGO_HOME") {
            command.env_remove(name);
        }
    }
    command.args(["build", "--release", "--target", host]).current_dir(folder);
    command.env("CARGO_TARGET_DIR", into).env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f"));
    for target in targets {
        command.args(["--bin", target]);
    }
    ensure!(command.status().context("run cargo")?.success(), "the targets can't be built");
    Ok(into.join(host).join("release"))
}
