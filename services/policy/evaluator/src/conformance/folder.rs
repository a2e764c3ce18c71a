//! Suites and manifests where they lie: files are found below a folder and read, suites are run on several threads.
//!
//! The one place of this crate that reads files; the verdicts themselves need none.

use super::{Row, SuiteError, run_suite};
use jiff::Timestamp;
use muster_core::manifest::{Manifest, parse_documents};
use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// Folders deeper than this are a loop of links.
const MAX_DEPTH: usize = 16;
/// What a suite's own file is called.
const SUITE: &str = "kyverno-test.yaml";

/// Why what lies in files could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct FolderError {
    /// The file or folder at fault.
    pub path: PathBuf,
    /// What is wrong with it.
    pub message: String,
}

/// A suite that was run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuiteRun {
    /// Its own file, as it was named.
    pub file: PathBuf,
    /// Its rows in their order, or why there are none.
    pub rows: Result<Vec<Row>, SuiteError>,
}

/// The suites that a path means, in path order: the file itself, or every `kyverno-test.yaml` below the folder.
///
/// # Errors
/// Where it cannot be read, or holds no suite.
pub fn find_suites(path: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let mut suites = Vec::new();
    let data = fs::metadata(path).map_err(|error| fault(path, &error))?;
    if data.is_dir() {
        find(path, 0, &mut suites)?
    } else {
        suites.push(path.to_owned())
    }
    suites.sort();
    if suites.is_empty() {
        return Err(fault(path, &format!("no {SUITE} below it")));
    }
    Ok(suites)
}

/// The documents of files, and of every `.yaml` file below folders, in path order. What is hidden is passed over: suites lie
/// there beside policies.
///
/// # Errors
/// Where one can't be read.
pub fn manifests_below(places: &[PathBuf]) -> Result<Vec<(PathBuf, Manifest)>, FolderError> {
    let mut found = Vec::new();
    for place in places {
        read_below(place, 0, &mut found)?;
    }
    Ok(found)
}

fn read_below(place: &Path, depth: usize, found: &mut Vec<(PathBuf, Manifest)>) -> Result<(), FolderError> {
    if depth > MAX_DEPTH {
        return Err(fault(place, &format!("nested deeper than {MAX_DEPTH} folders")));
    }
    if place.is_dir() {
        let entries = fs::read_dir(place).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
        let mut entries: Vec<PathBuf> = entries.map_err(|error| fault(place, &error))?;
        entries.sort();
        entries.retain(|entry| entry.file_name().is_none_or(|name| !name.to_string_lossy().starts_with('.')));
        return entries.iter().try_for_each(|entry| read_below(entry, depth + 1, found));
    }
    if place.extension().is_some_and(|extension| extension == "yaml") {
        let text = fs::read_to_string(place).map_err(|error| fault(place, &error))?;
        let documents = parse_documents(&text).map_err(|error| fault(place, &error))?;
        found.extend(documents.into_iter().map(|document| (place.to_owned(), document)));
    }
    Ok(())
}

/// Runs suites on so many threads, each against the files beside it; the answers are in the order of `suites`. `now` is
/// what policies are told the time is.
pub fn run_suites(suites: &[PathBuf], now: Timestamp, threads: usize) -> Vec<SuiteRun> {
    let next = AtomicUsize::new(0);
    let run_some = || {
        let mut runs = Vec::new();
        while let Some((index, file)) = take(&next, suites) {
            runs.push((index, SuiteRun { file: file.clone(), rows: run(file, now) }));
        }
        runs
    };
    let mut runs: Vec<(usize, SuiteRun)> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads.clamp(1, suites.len().max(1))).map(|_| scope.spawn(run_some)).collect();
        running.into_iter().flat_map(|thread| thread.join().expect("a suite is run without a panic")).collect()
    });
    runs.sort_by_key(|(index, _)| *index);
    runs.into_iter().map(|(_, run)| run).collect()
}

fn take<'a>(next: &AtomicUsize, suites: &'a [PathBuf]) -> Option<(usize, &'a PathBuf)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    suites.get(index).map(|file| (index, file))
}

fn run(file: &Path, now: Timestamp) -> Result<Vec<Row>, SuiteError> {
    let place = file.parent().unwrap_or(Path::new("."));
    let read = |path: &Path, name: &str| {
        fs::read_to_string(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => SuiteError::MissingFile(name.to_owned()),
            _ => SuiteError::Malformed(format!("{name}: {error}")),
        })
    };
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    run_suite(&read(file, &name)?, now, &|name| read(&place.join(name), name))
}

fn find(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), FolderError> {
    if depth > MAX_DEPTH {
        return Err(fault(folder, &format!("nested deeper than {MAX_DEPTH} folders")));
    }
    for entry in fs::read_dir(folder).map_err(|error| fault(folder, &error))? {
        let path = entry.map_err(|error| fault(folder, &error))?.path();
        if path.is_dir() {
            find(&path, depth + 1, found)?;
        } else if path.file_name().is_some_and(|name| name == SUITE) {
            found.push(path);
        }
    }
    Ok(())
}

fn fault(path: &Path, message: &dyn std::fmt::Display) -> FolderError {
    FolderError { path: path.to_owned(), message: message.to_string() }
}
