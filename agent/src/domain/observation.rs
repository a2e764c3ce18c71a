//! What the agent saw of an item. An observation counts only for the generation it names.

use super::{item::ItemKey, object::ObjectRef};
use jiff::Timestamp;
use muster_core::version::Version;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest message, in bytes; longer ones are cut.
pub const MAX_MESSAGE: usize = 4096;
/// Unhealthy objects listed of an item, at most.
pub const MAX_OBJECTS: usize = 50;
/// Violations listed of a policy item, at most.
pub const MAX_VIOLATIONS: usize = 10_000;
/// What they say together, in bytes, at most.
pub const MAX_VIOLATION_BYTES: usize = 8 * 1024 * 1024;

/// Where an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Known, not begun.
    Pending,
    /// Being written.
    Applying,
    /// Written, not yet ready.
    Applied,
    /// Written and ready at this generation.
    Healthy,
    /// Written and broken.
    Degraded,
    /// Somebody changed it.
    Drifted,
    /// The cluster refused it.
    Failed,
    /// Gone from the cluster.
    Deleted,
}

/// How one object stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum State {
    /// As it should be.
    Healthy,
    /// Put aside on purpose.
    Suspended,
    /// On its way.
    Progressing,
    /// Broken.
    Degraded,
}

/// The health of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// How it stands.
    pub state: State,
    /// One word; empty when healthy.
    pub reason: String,
    /// For people; empty when healthy.
    pub message: String,
}

impl Health {
    /// As it should be.
    pub fn healthy() -> Self {
        Self { state: State::Healthy, reason: String::new(), message: String::new() }
    }

    /// On its way, with the reason.
    pub fn progressing(reason: &str, message: impl Into<String>) -> Self {
        Self { state: State::Progressing, reason: reason.to_owned(), message: message.into() }
    }

    /// Broken, with the reason.
    pub fn degraded(reason: &str, message: impl Into<String>) -> Self {
        Self { state: State::Degraded, reason: reason.to_owned(), message: message.into() }
    }

    /// Put aside on purpose.
    pub fn suspended(message: impl Into<String>) -> Self {
        Self { state: State::Suspended, reason: "Suspended".to_owned(), message: message.into() }
    }
}

/// An object that is not healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectStatus {
    /// Which object.
    pub object: ObjectRef,
    /// Its API version, without the group.
    pub version: String,
    /// One word.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// The phases of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunPhase {
    /// Not running yet.
    Pending,
    /// At least `minAvailable` pods run.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Stopped: deleted, suspended or its lease ran out.
    Stopped,
}

/// How a run stands, by the object's own status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStatus {
    /// `namespaces/{namespace}/jobs/{job}/runs/{epoch}`.
    pub run: String,
    /// How it stands.
    pub phase: RunPhase,
    /// When it began to run; absent before.
    pub started_at: Option<Timestamp>,
    /// When it ended; absent before.
    pub finished_at: Option<Timestamp>,
    /// Pods by phase, lower case.
    pub pods: BTreeMap<String, u32>,
    /// Exit code of the first pod that failed.
    pub exit_code: Option<i32>,
    /// For people: why it failed or waits.
    pub message: String,
}

/// How many objects a rule passed and failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleCount {
    /// The policy.
    pub policy: String,
    /// The rule.
    pub rule: String,
    /// Objects that pass.
    pub pass: u32,
    /// Objects that fail.
    pub fail: u32,
    /// Objects it could not be evaluated for.
    pub not_evaluated: u32,
}

/// An object that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The policy.
    pub policy: String,
    /// The rule.
    pub rule: String,
    /// Which object.
    pub object: ObjectRef,
    /// Path of what breaks it.
    pub path: String,
    /// The rule's message.
    pub message: String,
}

/// What the evaluation of live workloads says; the whole of it, not a change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdicts {
    /// Counts per policy and rule.
    pub counts: Vec<RuleCount>,
    /// At most [`MAX_VIOLATIONS`] of at most [`MAX_VIOLATION_BYTES`] together, the first in order.
    pub violations: Vec<Violation>,
}

/// What was seen of an item at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Which item.
    pub key: ItemKey,
    /// Which generation this is about.
    pub generation: Version,
    /// Where it stands.
    pub phase: Phase,
    /// One word; empty when healthy.
    pub reason: String,
    /// For people, at most [`MAX_MESSAGE`] bytes.
    pub message: String,
    /// By this machine's clock.
    pub observed_at: Timestamp,
    /// Set for runs.
    pub run: Option<RunStatus>,
    /// The objects that are not healthy, at most [`MAX_OBJECTS`].
    pub objects: Vec<ObjectStatus>,
    /// Times drift was healed in this generation.
    pub heal_count: u32,
    /// Trace context of the reconciliation that saw it.
    pub traceparent: String,
}

impl Observation {
    /// Whether another says the same, the moment and the trace apart.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let Self { key, generation, phase, reason, message, observed_at: _, run, objects, heal_count, traceparent: _ } = self;
        *key == other.key
            && *generation == other.generation
            && *phase == other.phase
            && *reason == other.reason
            && *message == other.message
            && *run == other.run
            && *objects == other.objects
            && *heal_count == other.heal_count
    }
}

/// Cuts a text to [`MAX_MESSAGE`] bytes on a character boundary.
pub fn cut(mut text: String) -> String {
    if text.len() > MAX_MESSAGE {
        let mut end = MAX_MESSAGE - '…'.len_utf8();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}
