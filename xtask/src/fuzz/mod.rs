//! `cargo xtask fuzz`: the evaluator's fuzz targets, each for so long, begun with what suites hold.
//!
//! The one thing to know: the corpus grows from run to run beside what is built, outside the tree; what was found stands in
//! `services/policy/evaluator/fuzz/artifacts`, which git ignores.

mod seeds;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::workspace;

/// What there is to fuzz, in `services/policy/evaluator/fuzz/fuzz_targets`.
const TARGETS: [&str; 6] = ["yaml", "policy", "suite", "jmespath", "cel", "values"];
/// Longer texts tell nothing that shorter ones do not, and take longer.
const MAX_BYTES: usize = 8 * 1024;
/// Bounds of one input, and of the program.
const INPUT_SECONDS: usize = 10;
const MEMORY_MIB: usize = 2_048;

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
    ensure!(
        cargo_fuzz().arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success()),
        "cargo-fuzz or a nightly compiler is missing: `rustup toolchain install nightly && cargo install cargo-fuzz`"
    );
    let corpora = workspace::dev()?.join("fuzz");
    if let Some(folder) = seeds {
        let written = seeds::write(folder, &corpora, MAX_BYTES)?;
        println!("{written} seeds from {}", folder.display());
    }
    let wanted = TARGETS.iter().filter(|name| target.as_ref().is_none_or(|target| target == *name));
    let mut found = Vec::new();
    for name in wanted {
        let corpus = corpora.join(name);
        fs::create_dir_all(&corpus).with_context(|| format!("make {}", corpus.display()))?;
        println!("{name}: {minutes} minutes");
        let status = cargo_fuzz()
            .args(["run", name])
            .arg(&corpus)
            .arg("--")
            .arg(format!("-max_total_time={}", minutes * 60))
            .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
            .arg(format!("-timeout={INPUT_SECONDS}"))
            .arg(format!("-max_len={MAX_BYTES}"))
            .args(["-fork=0", "-print_final_stats=1"])
            .status()
            .context("run cargo fuzz")?;
        if !status.success() {
            found.push(*name);
        }
    }
    if !found.is_empty() {
        bail!("something was found by: {}", found.join(", "));
    }
    Ok(())
}

/// `cargo fuzz` of the nightly toolchain, without what the cargo that runs us has told us.
fn cargo_fuzz() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo", "fuzz"]).current_dir(workspace::root().join("services/policy/evaluator"));
    for (name, _) in std::env::vars_os() {
        let is_told = name.to_str().is_some_and(|name| name.starts_with("CARGO") || name.starts_with("RUSTUP_TOOLCHAIN"));
        if is_told && name != "CARGO_TARGET_DIR" && name != "CARGO_HOME" {
            command.env_remove(name);
        }
    }
    command
}
