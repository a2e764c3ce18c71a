//! `cargo run -p muster-policy-evaluator --example conformance -- FOLDER`: Kyverno's test suites below a folder, judged
//! without anything else of the workspace being built. `cargo xtask conformance kyverno` prints the same.

use muster_policy_evaluator::conformance::{SuiteError, Summary, run_suite};
use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

/// Folders deeper than this are not suites but a loop of links.
const MAX_DEPTH: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("say the folder with the suites")?;
    let folder = Path::new(&folder);
    let mut suites = Vec::new();
    find_suites(folder, 0, &mut suites)?;
    suites.sort();
    let seconds = UNIX_EPOCH.elapsed()?.as_secs();
    let now = jiff::Timestamp::from_second(i64::try_from(seconds)?)?;
    let mut summary = Summary::default();
    for file in suites {
        let place = file.parent().unwrap_or(folder);
        let suite = place.strip_prefix(folder).unwrap_or(place).to_string_lossy().into_owned();
        let first = suite.split('/').next().unwrap_or_default().to_owned();
        let read = |name: &str| fs::read_to_string(place.join(name)).map_err(|_| SuiteError::MissingFile(name.to_owned()));
        match run_suite(&fs::read_to_string(&file)?, now, &read) {
            Ok(rows) => summary.add(&first, &suite, &rows),
            Err(error) => summary.add_unreadable(&first, &suite, &error),
        }
    }
    println!("{summary}");
    Ok(())
}

fn find_suites(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    if depth > MAX_DEPTH {
        return Err(format!("{}: nested deeper than {MAX_DEPTH} folders", folder.display()).into());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_suites(&path, depth + 1, found)?;
        } else if path.file_name().is_some_and(|name| name == "kyverno-test.yaml") {
            found.push(path);
        }
    }
    Ok(())
}
