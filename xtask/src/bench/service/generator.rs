//! Reads the workloads of Kueue's scheduler performance test: cohorts of queues, each with sets of workloads that come at an
//! interval. What is wrong with one is said with its file and field.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use muster_core::manifest::parse_value;
use serde_json::Value;

/// The files of a folder.
const FILES: [&str; 2] = ["baseline.yaml", "large-scale.yaml"];
/// What a file may ask for in all: what one machine can hold.
const MAX_JOBS: u64 = 1_000_000;

/// A workload.
#[derive(Debug, PartialEq, Eq)]
pub struct Workload {
    /// The file's name without its ending.
    pub name: String,
    /// Queues, with the number of their cohort.
    pub queues: Vec<Queue>,
    /// Jobs in the order in which they come.
    pub jobs: Vec<Job>,
}

/// A queue.
#[derive(Debug, PartialEq, Eq)]
pub struct Queue {
    /// Which cohort.
    pub cohort: usize,
    /// What is its own.
    pub nominal: u64,
    /// What it may borrow beyond.
    pub borrowing_limit: u64,
}

/// A job.
#[derive(Debug, PartialEq, Eq)]
pub struct Job {
    /// Its kind.
    pub class: String,
    /// Its queue, by place.
    pub queue: usize,
    /// When it comes, from the beginning.
    pub at: Duration,
    /// How long it runs.
    pub runtime: Duration,
    /// Higher goes first.
    pub priority: i32,
    /// Cores it asks for.
    pub request: u64,
}

/// Reads files, and the known files of folders.
///
/// # Errors
/// The file and the field at fault.
pub fn read_all(places: &[PathBuf]) -> Result<Vec<Workload>> {
    let mut workloads = Vec::new();
    for place in places {
        if place.is_dir() {
            for file in FILES {
                workloads.push(read(&place.join(file))?);
            }
        } else {
            workloads.push(read(place)?);
        }
    }
    Ok(workloads)
}

fn read(file: &Path) -> Result<Workload> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let name = file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    parse(name, &text).with_context(|| file.display().to_string())
}

fn parse(name: String, text: &str) -> Result<Workload> {
    let value = parse_value(text)?;
    let mut workload = Workload { name, queues: Vec::new(), jobs: Vec::new() };
    let root = Field { path: String::new(), value: &value };
    let mut cohort = 0;
    for set in root.list("cohorts")? {
        for _ in 0..set.count("count")? {
            for queues in set.list("queuesSets")? {
                read_queues(&queues, cohort, &mut workload)?;
            }
            cohort += 1;
        }
    }
    // Equal times in the order of the file.
    workload.jobs.sort_by_key(|job| job.at);
    Ok(workload)
}

fn read_queues(set: &Field<'_>, cohort: usize, workload: &mut Workload) -> Result<()> {
    let (nominal, borrowing_limit) = (set.whole("nominalQuota")?, set.whole("borrowingLimit")?);
    for _ in 0..set.count("count")? {
        workload.queues.push(Queue { cohort, nominal, borrowing_limit });
        for jobs in set.list("workloadsSets")? {
            read_jobs(&jobs, workload.queues.len() - 1, workload)?;
        }
    }
    Ok(())
}

fn read_jobs(set: &Field<'_>, queue: usize, workload: &mut Workload) -> Result<()> {
    let interval = set.whole("creationIntervalMs")?;
    let kinds = set.list("workloads")?;
    for number in 0..set.count("count")? {
        for kind in &kinds {
            if workload.jobs.len() as u64 >= MAX_JOBS {
                bail!("{}: more than {MAX_JOBS} jobs in all", set.at("count"));
            }
            workload.jobs.push(Job {
                class: kind.text("className")?,
                queue,
                at: Duration::from_millis(interval.saturating_mul(number)),
                runtime: Duration::from_millis(kind.whole("runtimeMs")?),
                priority: kind.priority()?,
                request: kind.count("request")?,
            });
        }
    }
    Ok(())
}

/// A place in the file.
struct Field<'a> {
    path: String,
    value: &'a Value,
}

impl<'a> Field<'a> {
    fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn get(&self, name: &str) -> Result<&'a Value> {
        self.value.get(name).with_context(|| format!("{}: is missing", self.at(name)))
    }

    fn list(&self, name: &str) -> Result<Vec<Self>> {
        let Some(values) = self.get(name)?.as_array().filter(|values| !values.is_empty()) else {
            bail!("{}: must be a list with at least one entry", self.at(name));
        };
        let field = |(place, value)| Self { path: format!("{}[{place}]", self.at(name)), value };
        Ok(values.iter().enumerate().map(field).collect())
    }

    fn whole(&self, name: &str) -> Result<u64> {
        let value = self.get(name)?;
        value.as_u64().with_context(|| format!("{}: must be a whole number that is not negative, and is {value}", self.at(name)))
    }

    fn count(&self, name: &str) -> Result<u64> {
        match self.whole(name)? {
            0 => bail!("{}: must be at least 1", self.at(name)),
            count if count > MAX_JOBS => bail!("{}: must be at most {MAX_JOBS}, and is {count}", self.at(name)),
            count => Ok(count),
        }
    }

    fn priority(&self) -> Result<i32> {
        let value = self.get("priority")?;
        let priority = value.as_i64().and_then(|priority| i32::try_from(priority).ok());
        priority.with_context(|| format!("{}: must be a whole number of 32 bits, and is {value}", self.at("priority")))
    }

    fn text(&self, name: &str) -> Result<String> {
        let value = self.get(name)?;
        let text = value.as_str().filter(|text| !text.is_empty() && text.chars().all(|letter| letter.is_ascii_lowercase()));
        Ok(text.with_context(|| format!("{}: must be a word in small letters, and is {value}", self.at(name)))?.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "cohorts:\n- className: cohort\n  count: 2\n  queuesSets:\n  - className: cq\n    count: 3\n    nominalQuota: 20\n    \
                         borrowingLimit: 100\n    workloadsSets:\n    - count: 4\n      creationIntervalMs: 100\n      workloads:\n      - \
                         className: small\n        runtimeMs: 200\n        priority: 50\n        request: 5\n";

    #[test]
    fn every_queue_of_every_cohort_has_its_jobs_at_their_times() {
        let workload = parse("small".to_owned(), SMALL).expect("a workload");
        assert_eq!(workload.queues.iter().map(|queue| queue.cohort).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 1]);
        assert_eq!(workload.jobs.len(), 24);
        let second: Vec<u128> = workload.jobs.iter().filter(|job| job.queue == 1).map(|job| job.at.as_millis()).collect();
        assert_eq!(second, [0, 100, 200, 300]);
        assert!(workload.jobs.iter().all(|job| job.request == 5 && job.priority == 50 && job.class == "small"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_field() {
        let cases = [
            (
                "request: 5",
                "request: -5",
                "cohorts[0].queuesSets[0].workloadsSets[0].workloads[0].request: must be a whole number",
            ),
            ("request: 5", "request: 0", "workloads[0].request: must be at least 1"),
            ("        runtimeMs: 200\n", "", "workloads[0].runtimeMs: is missing"),
            ("nominalQuota: 20", "nominalQuota: many", "cohorts[0].queuesSets[0].nominalQuota: must be a whole number"),
            ("count: 4", "count: 400000", "workloadsSets[0].count: more than 1000000 jobs in all"),
            ("className: small", "className: Small One", "workloads[0].className: must be a word"),
            ("priority: 50", "priority: 5000000000", "workloads[0].priority: must be a whole number of 32 bits"),
            ("cohorts:", "groups:", "cohorts: is missing"),
        ];
        for (sound, broken, expected) in cases {
            let error = format!("{:#}", parse("x".to_owned(), &SMALL.replace(sound, broken)).unwrap_err());
            assert!(error.contains(expected), "{broken}: {error}");
        }
        assert!(parse("x".to_owned(), "cohorts: []").unwrap_err().to_string().starts_with("cohorts: must be a list"));
    }

    #[test]
    fn a_file_at_fault_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("broken.yaml");
        fs::write(&file, "cohorts: 3").expect("written");
        let error = format!("{:#}", read_all(&[file]).unwrap_err());
        assert!(error.contains("broken.yaml") && error.contains("cohorts: must be a list"), "{error}");
        let missing = format!("{:#}", read_all(&[folder.path().to_path_buf()]).unwrap_err());
        assert!(missing.contains("baseline.yaml"), "{missing}");
    }
}
