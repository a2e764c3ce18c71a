//! `cargo xtask conformance kyverno PATH`: every `kyverno-test.yaml` below a folder against the evaluator.
//!
//! Finding, reading and judging is the evaluator's (`muster_policy_evaluator::conformance`); this file counts by folder.

use muster_policy_evaluator::conformance::{Summary, find_suites, run_suites};
use std::{path::Path, thread};

/// Runs all suites below `path`, counted by the folder directly below it. Print the summary, and fail unless it
/// [`Summary::is_success`].
///
/// # Errors
/// Where the folder cannot be read, or holds no suite.
pub fn run(path: &Path) -> anyhow::Result<Summary> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut summary = Summary::default();
    for run in run_suites(&find_suites(path)?, jiff::Timestamp::now(), threads) {
        let relative = run.file.strip_prefix(path).unwrap_or(&run.file);
        let folder =
            relative.components().next().map_or_else(String::new, |first| first.as_os_str().to_string_lossy().into_owned());
        let suite = relative.parent().unwrap_or(relative).to_string_lossy().into_owned();
        match &run.rows {
            Ok(rows) => summary.add(&folder, &suite, rows),
            Err(error) => summary.add_unreadable(&folder, &suite, error),
        }
    }
    Ok(summary)
}
