//! `cargo xtask conformance kyverno PATH`: every `kyverno-test.yaml` below a folder against the evaluator.
//!
//! The judging is the evaluator's (`muster_policy_evaluator::conformance`); this file walks the folder and reads.

use anyhow::{Context, bail};
use muster_policy_evaluator::conformance::{SuiteError, Summary, run_suite};
use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// Folders deeper than this are not suites but a loop of links.
const MAX_DEPTH: usize = 16;

/// Runs all suites below `path`, counted by the folder directly below it. Print the summary, and fail unless it
/// [`Summary::is_success`].
///
/// # Errors
/// Where the folder cannot be read, or holds no suite.
pub fn run(path: &Path) -> anyhow::Result<Summary> {
    let mut suites = Vec::new();
    find_suites(path, 0, &mut suites)?;
    suites.sort();
    if suites.is_empty() {
        bail!("{}: no kyverno-test.yaml below it", path.display());
    }
    let mut summary = Summary::default();
    for file in suites {
        let relative = file.strip_prefix(path).unwrap_or(&file);
        let folder =
            relative.components().next().map_or_else(String::new, |first| first.as_os_str().to_string_lossy().into_owned());
        let place = file.parent().unwrap_or(path);
        let suite = place.strip_prefix(path).unwrap_or(place).to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let read = |name: &str| {
            fs::read_to_string(place.join(name)).map_err(|error| match error.kind() {
                ErrorKind::NotFound => SuiteError::MissingFile(name.to_owned()),
                _ => SuiteError::Malformed(format!("{name}: {error}")),
            })
        };
        match run_suite(&text, jiff::Timestamp::now(), &read) {
            Ok(rows) => summary.add(&folder, &suite, &rows),
            Err(error) => summary.add_unreadable(&folder, &suite, &error),
        }
    }
    Ok(summary)
}

fn find_suites(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if depth > MAX_DEPTH {
        bail!("{}: nested deeper than {MAX_DEPTH} folders", folder.display());
    }
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            find_suites(&path, depth + 1, found)?;
        } else if path.file_name().is_some_and(|name| name == "kyverno-test.yaml") {
            found.push(path);
        }
    }
    Ok(())
}
