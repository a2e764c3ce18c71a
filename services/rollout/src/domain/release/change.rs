//! What can happen to a release, and what each of it does to the rows.

use super::model::{ReleaseState, Target, TargetPhase, View};
use jiff::Timestamp;

/// One change of a release or of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The target is told the candidate at a step of its weights.
    Start {
        /// Which.
        cluster: String,
        /// The step of its weights.
        step: usize,
    },
    /// The target is healthy at what it was told.
    BecomeHealthy {
        /// Which.
        cluster: String,
    },
    /// A healthy target is no longer; its soak starts anew.
    LoseHealth {
        /// Which.
        cluster: String,
        /// Why.
        reason: String,
    },
    /// The target's cluster went away; it is pending.
    GoAway {
        /// Which.
        cluster: String,
        /// Why.
        reason: String,
    },
    /// The target's cluster is here again; its deadline starts anew.
    Return {
        /// Which.
        cluster: String,
    },
    /// The target did not become healthy.
    FailTarget {
        /// Which.
        cluster: String,
        /// Why.
        reason: String,
    },
    /// The target is told its last good: its turn in the way back of a failed release has come, or it alone failed.
    TurnBack {
        /// Which.
        cluster: String,
    },
    /// The target is back on last good.
    BecomeRolledBack {
        /// Which.
        cluster: String,
    },
    /// The next weights of the same wave.
    NextStep,
    /// The next wave.
    NextWave,
    /// Every wave is done: last good moves for every target that runs it.
    Complete,
    /// A target that was away when the release completed runs it now: its last good moves.
    Settle {
        /// Which.
        cluster: String,
    },
    /// The previous copy has been kept long enough and leaves the target.
    RemoveStable {
        /// Which.
        cluster: String,
    },
    /// The application stands elsewhere, so that what a target's cluster has may be withdrawn, or left to it.
    Leave {
        /// Which.
        cluster: String,
    },
    /// The release failed: everything it touched is told its last good at once.
    Fail {
        /// Why.
        reason: String,
    },
    /// Everything reachable that was touched is back.
    FinishRollback,
}

impl Change {
    /// The target that must be told something new because of this change, if it is one.
    pub fn tells(&self) -> Option<&str> {
        match self {
            Self::Start { cluster, .. }
            | Self::TurnBack { cluster }
            | Self::RemoveStable { cluster }
            | Self::Leave { cluster } => Some(cluster),
            Self::BecomeHealthy { .. }
            | Self::LoseHealth { .. }
            | Self::GoAway { .. }
            | Self::Return { .. }
            | Self::FailTarget { .. }
            | Self::BecomeRolledBack { .. }
            | Self::NextStep
            | Self::NextWave
            | Self::Complete
            | Self::Settle { .. }
            | Self::Fail { .. }
            | Self::FinishRollback => None,
        }
    }
}

impl View {
    /// Makes a change. A target told something new has no generation until the registry has taken it.
    ///
    /// After [`Change::Fail`] nothing is told yet: what goes back awaits its [`Change::TurnBack`].
    pub fn apply(&mut self, change: &Change, now: Timestamp) {
        match change {
            Change::Start { cluster, step } => self.change(cluster, |target| {
                target.tell(TargetPhase::Progressing, now);
                target.step = *step;
                target.touched = true;
                target.reason = String::new();
            }),
            Change::BecomeHealthy { cluster } => self.change(cluster, |target| {
                target.phase = TargetPhase::Healthy;
                target.since = now;
                target.healthy_since = Some(now);
                target.reason = String::new();
            }),
            Change::LoseHealth { cluster, reason } => self.change(cluster, |target| {
                target.phase = TargetPhase::Progressing;
                target.since = now;
                target.healthy_since = None;
                target.reason.clone_from(reason);
            }),
            Change::GoAway { cluster, reason } => self.change(cluster, |target| {
                target.away = true;
                target.reason.clone_from(reason);
            }),
            Change::Return { cluster } => self.change(cluster, |target| {
                target.away = false;
                target.since = now;
                target.reason = String::new();
            }),
            Change::FailTarget { cluster, reason } => self.change(cluster, |target| {
                target.phase = TargetPhase::Failed;
                target.since = now;
                target.healthy_since = None;
                target.reason.clone_from(reason);
            }),
            Change::TurnBack { cluster } => self.change(cluster, |target| target.tell(TargetPhase::RollingBack, now)),
            Change::BecomeRolledBack { cluster } => self.change(cluster, |target| {
                target.phase = TargetPhase::RolledBack;
                target.touched = false;
                target.since = now;
            }),
            Change::NextStep => {
                self.release.step += 1;
                self.release.promoted = false;
            }
            Change::NextWave => {
                self.release.wave += 1;
                self.release.step = 0;
                self.release.promoted = false;
            }
            Change::Complete => {
                self.release.state = ReleaseState::Completed;
                self.release.finished_at = Some(now);
                self.release.promoted = false;
                self.release.reason = String::new();
                for target in &mut self.targets {
                    if target.unchanged || target.phase == TargetPhase::Healthy {
                        target.settle(now);
                    }
                }
            }
            Change::Settle { cluster } => self.change(cluster, |target| target.settle(now)),
            Change::RemoveStable { cluster } => self.change(cluster, |target| {
                target.generation = None;
                target.told_at = None;
                target.two_copies = false;
            }),
            Change::Leave { cluster } => self.change(cluster, |target| {
                target.tell(TargetPhase::Left, now);
                target.two_copies = false;
            }),
            Change::Fail { reason } => self.fail(reason, now),
            Change::FinishRollback => {
                self.release.state = ReleaseState::Failed;
                self.release.finished_at = Some(now);
            }
        }
    }

    fn fail(&mut self, reason: &str, now: Timestamp) {
        self.release.state = ReleaseState::RollingBack;
        self.release.promoted = false;
        reason.clone_into(&mut self.release.reason);
        for target in &mut self.targets {
            match target.phase {
                TargetPhase::AwaitingRollback
                | TargetPhase::RollingBack
                | TargetPhase::RolledBack
                | TargetPhase::Leaving
                | TargetPhase::Left => {}
                TargetPhase::Waiting | TargetPhase::Progressing | TargetPhase::Healthy | TargetPhase::Failed => {
                    if target.touched && target.has_last_good {
                        target.phase = TargetPhase::AwaitingRollback;
                        target.since = now;
                        target.healthy_since = None;
                    } else if target.touched {
                        // The first deployment: nothing to go back to, and nothing is pruned.
                        target.phase = TargetPhase::Failed;
                        target.since = now;
                    }
                }
            }
        }
    }

    fn change(&mut self, cluster: &str, change: impl FnOnce(&mut Target)) {
        if let Some(target) = self.targets.iter_mut().find(|target| target.cluster == cluster) {
            change(target);
        }
    }
}

impl Target {
    fn tell(&mut self, phase: TargetPhase, now: Timestamp) {
        self.phase = phase;
        self.generation = None;
        self.told_at = None;
        self.since = now;
        self.healthy_since = None;
    }

    fn settle(&mut self, now: Timestamp) {
        self.settled_at = Some(now);
        self.touched = false;
        self.has_last_good = true;
    }
}
