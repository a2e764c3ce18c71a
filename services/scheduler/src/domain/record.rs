//! Jobs and runs as they are kept, and the marks that every change of a job leaves in its history.

use std::collections::BTreeMap;

use jiff::Timestamp;
use muster_core::name::{JobName, RunName};
use muster_scheduler_engine::{Gang, JobId, JobSpec, Slot, Time};
use serde::{Deserialize, Serialize};

use super::job::{JobState, StopReason};

/// Changes of state kept with a job.
pub const MAX_HISTORY: usize = 50;

/// A job.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its row; 0 before it is stored.
    pub id: i64,
    /// Its namespace.
    pub namespace: String,
    /// Its name within the namespace.
    pub name: String,
    /// The queue it is charged to; it may not exist (yet).
    pub queue: String,
    /// Digest of its manifest.
    pub manifest_digest: String,
    /// Which kind of job: `volcano`, `batch`, `jobset`, `pytorch`, `ray`.
    pub kind: String,
    /// All its workers.
    pub gang: Gang,
    /// GPUs of all its workers.
    pub gpus: u32,
    /// Higher goes first within its queue.
    pub priority: i32,
    /// Times a failed run is started anew.
    pub max_retries: u32,
    /// Whether it may be started elsewhere when its cluster is lost.
    pub movable: bool,
    /// The model its cost is charged to; empty if none.
    pub model: String,
    /// Where it stands.
    pub state: JobState,
    /// Why, for people.
    pub reason: String,
    /// Of the latest run; 0 before the first.
    pub epoch: u32,
    /// Whether that run is charged: from the decision until its end is known.
    pub charged: bool,
    /// Runs that failed and were retried.
    pub retries: u32,
    /// End of the back-off.
    pub not_before: Option<Timestamp>,
    /// Revision of the policies of the last verdict.
    pub policy_revision: String,
    /// Trace context of its submission.
    pub traceparent: String,
    /// What happened, oldest first.
    pub history: Vec<Transition>,
    /// Of the row.
    pub version: i64,
    /// When it should be done, if it says so.
    pub deadline: Option<Timestamp>,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// When its latest run began.
    pub started_at: Option<Timestamp>,
    /// When it ended for good.
    pub finished_at: Option<Timestamp>,
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// The state it went to, as its word.
    pub state: String,
    /// When.
    pub at: Timestamp,
    /// Why, for people.
    pub reason: String,
    /// The run; 0 if none.
    pub epoch: u32,
}

impl Job {
    /// Its resource name.
    #[must_use]
    pub fn resource(&self) -> String {
        format!("namespaces/{}/jobs/{}", self.namespace, self.name)
    }

    /// The resource name of its latest run.
    #[must_use]
    pub fn run_resource(&self) -> String {
        run_resource(&self.namespace, &self.name, self.epoch)
    }

    /// Moves it to a state, and writes that down.
    pub fn go(&mut self, state: JobState, reason: impl Into<String>, now: Timestamp) {
        self.state = state;
        self.reason = reason.into();
        self.finished_at = state.is_finished().then_some(now);
        let epoch = self.epoch;
        self.history.push(Transition { state: state.as_str().to_owned(), at: now, reason: self.reason.clone(), epoch });
        let surplus = self.history.len().saturating_sub(MAX_HISTORY);
        self.history.drain(..surplus);
    }

    /// The job as the engine sees it.
    #[must_use]
    pub fn spec(&self) -> JobSpec {
        JobSpec {
            id: engine_id(self.id),
            queue: self.queue.clone(),
            priority: self.priority,
            kind: likeness(&self.namespace, &self.name),
            submitted_at: time(self.submitted_at),
            deadline: self.deadline.map(time),
            gang: self.gang.clone(),
        }
    }
}

/// What jobs of one like have in common: the namespace, and the name without the digits that number them.
#[must_use]
pub fn likeness(namespace: &str, name: &str) -> String {
    let pattern: String = name.chars().filter(|letter| !letter.is_ascii_digit()).collect();
    format!("{namespace}/{pattern}")
}

/// The engine's number of a row.
#[must_use]
pub fn engine_id(row: i64) -> JobId {
    JobId(row.cast_unsigned())
}

/// An instant as the engine has it.
#[must_use]
pub fn time(at: Timestamp) -> Time {
    Time(at.as_millisecond())
}

/// The resource name of a run.
#[must_use]
pub fn run_resource(namespace: &str, job: &str, epoch: u32) -> String {
    format!("namespaces/{namespace}/jobs/{job}/runs/{epoch}")
}

/// Reads the resource name of a run into namespace, job and epoch.
#[must_use]
pub fn parse_run(name: &str) -> Option<(JobName, u32)> {
    let run: RunName = name.parse().ok()?;
    Some((JobName::new(run.namespace(), run.job()).ok()?, run.epoch().parse().ok()?))
}

/// One attempt at a job in one cluster: all of it, unless the gang spans several ([`Parts`](super::parts::Parts)).
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The job's row.
    pub job_id: i64,
    /// Which attempt, from 1.
    pub epoch: u32,
    /// Which part of it, from 0; 0 of one in one cluster.
    pub part: u32,
    /// Where.
    pub cluster: String,
    /// GPU model; empty without GPUs.
    pub flavor: String,
    /// GPUs of all its workers at its present size.
    pub gpus: u32,
    /// The plan, of the present size.
    pub slots: Vec<Slot>,
    /// Workers of these that were told to leave and have not yet.
    pub leaving: Vec<Slot>,
    /// When it got its present size, and the work that it had done by then, in milliseconds at the full size; `None` as long as it has
    /// the one with which it began.
    pub sized: Option<(Timestamp, i64)>,
    /// Whether its object has another number of workers than it should.
    pub resizing: bool,
    /// Workers of its elastic group that it had before it was told to have more, until its cluster has those.
    pub grown_from: Option<u32>,
    /// That its cluster refused to have it larger.
    pub refused: Option<GrowthRefused>,
    /// Millionths of a currency per GPU-hour at the decision, and the currency (ISO 4217).
    pub price: Option<(i64, String)>,
    /// How it stands or ended.
    pub state: JobState,
    /// Why, for people.
    pub reason: String,
    /// Why it is to end early.
    pub stopping: Option<StopReason>,
    /// Whether the cluster should hold it.
    pub wanted: bool,
    /// Its composed object, once its verdict at dispatch has allowed it.
    pub bundle_digest: Option<String>,
    /// The generation that removed its item.
    pub removed_generation: Option<i64>,
    /// Pods by phase.
    pub pods: BTreeMap<String, u32>,
    /// Trace context of the decision.
    pub traceparent: String,
    /// When it was decided.
    pub placed_at: Timestamp,
    /// When its pods began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// That a cluster refused to have a run larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrowthRefused {
    /// When.
    pub at: Timestamp,
    /// Workers of its elastic group that were there; `None` once it was decided what it gives back.
    pub workers: Option<u32>,
}

impl Run {
    /// The plan without the workers that were told to leave.
    #[must_use]
    pub fn staying(&self) -> Vec<Slot> {
        let left = |slot: &Slot| {
            let same = |gone: &&Slot| (gone.group, &gone.node, gone.gpu) == (slot.group, &slot.node, slot.gpu);
            self.leaving.iter().filter(same).map(|gone| gone.workers).sum::<u32>()
        };
        // Workers with parts of one GPU have a place each, of which so many go.
        let mut taken: BTreeMap<(usize, &str, Option<u16>), u32> = BTreeMap::new();
        let mut staying = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let taken = taken.entry((slot.group, slot.node.as_str(), slot.gpu)).or_default();
            let goes = left(slot).saturating_sub(*taken).min(slot.workers);
            *taken += goes;
            if slot.workers > goes {
                staying.push(Slot { workers: slot.workers - goes, ..slot.clone() });
            }
        }
        staying
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_names_are_read_back() {
        let name = run_resource("ml", "train", 3);
        let (job, epoch) = parse_run(&name).expect("a run");
        assert_eq!((job.namespace(), job.job(), epoch), ("ml", "train", 3));
        assert!(parse_run("namespaces/ml/jobs/train").is_none());
    }
}
