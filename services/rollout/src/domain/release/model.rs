//! The rows of a release as plain data: the release, its targets, what was observed and measured.

use crate::domain::spec::WaveSpec;
use jiff::Timestamp;
use muster_core::Version;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Where a release stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseState {
    /// Waits for its turn, for rendering, for a verdict, or for a person.
    Pending,
    /// On its way.
    Progressing,
    /// Stopped before the next step by a person.
    Paused,
    /// Every reachable target runs it.
    Completed,
    /// Failed; what it touched is going back to last good.
    RollingBack,
    /// Failed; what it touched and is reachable is back on last good.
    Failed,
    /// A newer commit took its place.
    Superseded,
    /// Policy refuses what it renders.
    Refused,
}

impl ReleaseState {
    /// Whether nothing but stragglers is left to do.
    pub fn is_final(self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Superseded | Self::Refused => true,
            Self::Pending | Self::Progressing | Self::Paused | Self::RollingBack => false,
        }
    }
}

/// How a release travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Wave by wave, soaked and gated.
    Waves,
    /// Everywhere at once, for what a completed release rendered before: no soak, no gate.
    Fast,
}

/// One commit on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// Where it stands.
    pub state: ReleaseState,
    /// How it travels.
    pub lane: Lane,
    /// The waves, as the application said when the release was made; never empty.
    pub waves: Vec<WaveSpec>,
    /// How long the previous copies stay after completion.
    pub keep_stable_for: Duration,
    /// Targets in flight at most where no wave says so: in the fast lane, and on the way back from a failed release.
    pub fast_concurrency: usize,
    /// The wave on its way, from 0.
    pub wave: usize,
    /// The step of that wave's weights, from 0.
    pub step: usize,
    /// A person's word that the present soak and gate are passed; spent by the next step.
    pub promoted: bool,
    /// Why it stands so, for people.
    pub reason: String,
    /// When it completed or failed.
    pub finished_at: Option<Timestamp>,
}

/// Where a target stands in a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetPhase {
    /// Not told yet.
    Waiting,
    /// Told, not healthy yet.
    Progressing,
    /// Healthy at what it was told.
    Healthy,
    /// Did not become healthy.
    Failed,
    /// To go back to last good, and not told yet: so many are on their way back already.
    AwaitingRollback,
    /// Told to go back to last good.
    RollingBack,
    /// Back on last good.
    RolledBack,
    /// No target of the application means the cluster any more; it keeps what it has until the application stands elsewhere.
    Leaving,
    /// What it had was withdrawn, or is left to it: nobody heals it and no release reaches it.
    Left,
}

/// One cluster of a release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// The cluster's name.
    pub cluster: String,
    /// The wave it goes with, from 0.
    pub wave: usize,
    /// The candidate's shares one after the other; empty where the target updates in place.
    pub weights: Vec<u8>,
    /// It runs already what the release renders, and nothing is done.
    pub unchanged: bool,
    /// Whether a completed release left something to go back to.
    pub has_last_good: bool,
    /// Whether it may run something else than last good, also where an earlier, superseded release brought that.
    pub touched: bool,
    /// Where it stands.
    pub phase: TargetPhase,
    /// The step of `weights` it was told last, from 0.
    pub step: usize,
    /// The generation of what it was told last; none until the registry has taken it.
    pub generation: Option<Version>,
    /// When the registry took it.
    pub told_at: Option<Timestamp>,
    /// Since when it stands so.
    pub since: Timestamp,
    /// Since when it is healthy without a break.
    pub healthy_since: Option<Timestamp>,
    /// It was away when last looked at; its deadline starts anew when it returns.
    pub away: bool,
    /// Its bundle holds the stable copy beside the candidate's.
    pub two_copies: bool,
    /// When the release was complete for it, and its last good moved.
    pub settled_at: Option<Timestamp>,
    /// Why it stands so, for people.
    pub reason: String,
}

impl Target {
    /// A target that nothing has happened to.
    pub fn new(cluster: impl Into<String>, wave: usize, now: Timestamp) -> Self {
        Self {
            cluster: cluster.into(),
            wave,
            weights: Vec::new(),
            unchanged: false,
            has_last_good: false,
            touched: false,
            phase: TargetPhase::Waiting,
            step: 0,
            generation: None,
            told_at: None,
            since: now,
            healthy_since: None,
            away: false,
            two_copies: false,
            settled_at: None,
            reason: String::new(),
        }
    }

    /// The candidate's share at a step; none where the target updates in place.
    pub fn weight_at(&self, step: usize) -> Option<u8> {
        self.weights.get(step.min(self.weights.len().saturating_sub(1))).copied()
    }

    /// The last step that changes anything for this target.
    pub fn last_step(&self) -> usize {
        self.weights.len().saturating_sub(1)
    }

    pub(super) fn has_failed(&self) -> bool {
        match self.phase {
            TargetPhase::Failed | TargetPhase::AwaitingRollback | TargetPhase::RollingBack | TargetPhase::RolledBack => true,
            TargetPhase::Waiting | TargetPhase::Progressing | TargetPhase::Healthy | TargetPhase::Leaving | TargetPhase::Left => {
                false
            }
        }
    }

    /// Whether no target of the application means it any more.
    pub fn has_left(&self) -> bool {
        matches!(self.phase, TargetPhase::Leaving | TargetPhase::Left)
    }

    pub(super) fn in_flight(&self) -> bool {
        matches!(self.phase, TargetPhase::Progressing | TargetPhase::RollingBack) && !self.away
    }
}

/// Whether a cluster can be told anything now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// Its agent is heard and new work goes there.
    Here,
    /// Offline, cordoned, not enrolled; the text says which. Pending, never failed.
    Away(String),
}

/// Where the agent says an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObservedPhase {
    /// Known, being written, or written and not ready.
    Underway,
    /// Written and ready.
    Healthy,
    /// Written and broken, or changed by somebody.
    Unhealthy,
    /// The cluster refused it.
    Refused,
    /// Gone.
    Deleted,
}

/// The latest word of an agent about a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// What it is about; it counts only for exactly this generation.
    pub generation: Version,
    /// Where it stands.
    pub phase: ObservedPhase,
    /// Why, for people.
    pub reason: String,
}

/// How a measurement was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Within bounds at every cluster asked.
    Pass,
    /// Out of bounds somewhere.
    Fail,
    /// No data, NaN or unreachable somewhere: neither.
    Inconclusive,
}

/// One round of a gate's question over the clusters of a wave.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// The wave, from 0.
    pub wave: usize,
    /// The step of the wave's weights, from 0.
    pub step: usize,
    /// When.
    pub at: Timestamp,
    /// How it was judged.
    pub verdict: Verdict,
    /// Which cluster and why, where it did not pass.
    pub reason: String,
}

/// Everything a decision is taken from.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// The release.
    pub release: Release,
    /// Its targets, in name order.
    pub targets: Vec<Target>,
    /// By cluster; a cluster that is missing is away.
    pub availability: BTreeMap<String, Availability>,
    /// By cluster.
    pub observations: BTreeMap<String, Observation>,
    /// In time order.
    pub measurements: Vec<Measurement>,
    /// Whether the verdict was taken from the policies as they are now; else nothing new is told before policy was asked.
    pub verdict_is_current: bool,
}

impl View {
    pub(super) fn here(&self, cluster: &str) -> bool {
        self.availability.get(cluster) == Some(&Availability::Here)
    }

    /// What the agent says of exactly what the target was told last.
    pub(super) fn observed(&self, target: &Target) -> Option<&Observation> {
        self.observations.get(&target.cluster).filter(|observed| target.generation == Some(observed.generation))
    }
}
