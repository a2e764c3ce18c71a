//! Ramps: a fleet's clusters go from audit to enforce in waves, and stop where violations are added.
//!
//! Wave 0 audits everywhere. A wave begins with the counts that the clusters report, and ends when it has soaked: a cluster
//! soaks from when all that the wave took have the policies in force and have reported. Whoever joins later is audited until
//! a later wave takes it, or the last one again. Pure: what is, and what is seen, in; what is to be, out.

mod spec;
mod step;

pub use spec::{RampSpec, RampWave, WaveSelector, WrittenRamp};
pub use step::{MemberSeen, Seen};

use jiff::Timestamp;
use std::collections::BTreeMap;

/// How a ramp stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RampState {
    /// A wave is on its way.
    Soaking,
    /// Violations were added; it goes on by itself when they are gone.
    Stopped,
    /// Somebody stopped it.
    Paused,
    /// Every member enforces.
    Completed,
    /// Somebody took it back: every member audits.
    Aborted,
}

impl RampState {
    const ALL: [Self; 5] = [Self::Soaking, Self::Stopped, Self::Paused, Self::Completed, Self::Aborted];

    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Soaking => "soaking",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Aborted => "aborted",
        }
    }

    /// As it was stored.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// Objects that fail, by cluster and policy.
pub type Counts = BTreeMap<String, BTreeMap<String, i64>>;

/// A ramp on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ramp {
    /// Digest of what is ramped; with other policies it begins anew.
    pub digest: String,
    /// How it stands.
    pub state: RampState,
    /// The wave on its way; 0 while everything is audited.
    pub wave: u32,
    /// When the wave began.
    pub began_at: Timestamp,
    /// Since when it soaks; `None` while it waits for a cluster.
    pub soaking_since: Option<Timestamp>,
    /// What holds it, for people; empty while nothing but time does.
    pub reason: String,
    /// Clusters that enforce, with the wave that took them.
    pub turned: BTreeMap<String, u32>,
    /// What was reported when the wave began, or by a cluster for the first time since.
    pub baseline: Counts,
}

impl Ramp {
    /// The beginning: everything is audited.
    pub fn begin(digest: String, now: Timestamp) -> Self {
        Self {
            digest,
            state: RampState::Soaking,
            wave: 0,
            began_at: now,
            soaking_since: None,
            reason: String::new(),
            turned: BTreeMap::new(),
            baseline: Counts::new(),
        }
    }

    /// Somebody stops it where it is.
    pub fn pause(&mut self) {
        match self.state {
            RampState::Soaking | RampState::Stopped => {
                self.state = RampState::Paused;
                self.reason = "somebody paused it".to_owned();
            }
            RampState::Paused | RampState::Completed | RampState::Aborted => {}
        }
    }

    /// Somebody lets it go on: the wave soaks anew, from what is reported now. One that was aborted begins anew.
    pub fn resume(&mut self, now: Timestamp) {
        match self.state {
            RampState::Stopped | RampState::Paused => {
                self.state = RampState::Soaking;
                self.reason.clear();
                self.soaking_since = None;
                self.baseline.clear();
            }
            RampState::Aborted => *self = Self::begin(self.digest.clone(), now),
            RampState::Soaking | RampState::Completed => {}
        }
    }

    /// Somebody takes it back.
    pub fn abort(&mut self, now: Timestamp) {
        if self.state != RampState::Aborted {
            *self = Self::begin(self.digest.clone(), now);
            self.state = RampState::Aborted;
            self.reason = "somebody aborted it: every cluster audits".to_owned();
        }
    }
}

#[cfg(test)]
mod tests;
