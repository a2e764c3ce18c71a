//! The state machine: what a release does next.

use super::change::Change;
use super::gate;
use super::model::{Availability, Lane, ObservedPhase, ReleaseState, Target, TargetPhase, View};
use super::wave::{Progress, later};
use jiff::Timestamp;

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing now.
    Wait {
        /// For what, for people.
        reason: String,
        /// When a time alone changes that; an observation may come before.
        until: Option<Timestamp>,
        /// Whether the gate of the present wave is to be measured now.
        measure: bool,
    },
    /// These changes, in this order; then ask again.
    Advance(Vec<Change>),
    /// Something is to be told that policy has not judged as it is now: its verdict comes first.
    Judge,
}

impl Outcome {
    /// When a time alone changes what comes next.
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Wait { until, .. } => *until,
            Self::Advance(_) | Self::Judge => None,
        }
    }
}

fn wait(reason: impl Into<String>) -> Outcome {
    Outcome::Wait { reason: reason.into(), until: None, measure: false }
}

/// What a release does next, given everything known at `now`.
pub fn step(view: &View, now: Timestamp) -> Outcome {
    match view.release.state {
        ReleaseState::Pending => wait(view.release.reason.clone()),
        ReleaseState::Progressing | ReleaseState::Paused => under_way(view, now),
        ReleaseState::RollingBack => rolling_back(view, now),
        ReleaseState::Completed => completed(view, now),
        ReleaseState::Failed => {
            let mut changes = health(view, now);
            changes.extend(leaves(view));
            if changes.is_empty() { wait("failed") } else { Outcome::Advance(changes) }
        }
        ReleaseState::Superseded => wait("a newer commit took its place"),
        ReleaseState::Refused => {
            let changes = leaves(view);
            if changes.is_empty() { wait("policy refuses what it renders") } else { Outcome::Advance(changes) }
        }
    }
}

/// Targets whose clusters may be left now: only while the application stands at another one, so that it never comes down
/// to nothing because a fleet or a label changed.
fn leaves(view: &View) -> Vec<Change> {
    if !view.targets.iter().any(|target| !target.has_left() && target.has_last_good) {
        return Vec::new();
    }
    let leaving = view.targets.iter().filter(|target| target.phase == TargetPhase::Leaving);
    leaving.map(|target| Change::Leave { cluster: target.cluster.clone() }).collect()
}

/// Whether policy has to be asked before anything new is told; what was judged before, and comes back, does not wait for it.
fn needs_verdict(view: &View) -> bool {
    match view.release.lane {
        Lane::Waves => !view.verdict_is_current,
        Lane::Fast => false,
    }
}

fn under_way(view: &View, now: Timestamp) -> Outcome {
    let changes = health(view, now);
    if !changes.is_empty() {
        return Outcome::Advance(changes);
    }
    if let Some(reason) = failure(view) {
        return Outcome::Advance(vec![Change::Fail { reason }]);
    }
    let back: Vec<Change> = view
        .targets
        .iter()
        .filter(|target| target.phase == TargetPhase::Failed && target.touched && target.has_last_good)
        .map(|target| Change::TurnBack { cluster: target.cluster.clone() })
        .collect();
    if !back.is_empty() {
        return Outcome::Advance(back);
    }
    if view.release.state == ReleaseState::Paused {
        return with_deadline(view, now, "paused".to_owned(), None, false);
    }
    let starts = starts(view);
    if !starts.is_empty() {
        return if needs_verdict(view) { Outcome::Judge } else { Outcome::Advance(starts) };
    }
    match view.progress(now) {
        Progress::Held { reason, until, measure } => with_deadline(view, now, reason, until, measure),
        Progress::Passed if view.release.step < view.last_step(view.release.wave) => Outcome::Advance(vec![Change::NextStep]),
        Progress::Passed if view.targets.iter().any(|target| target.wave > view.release.wave && !target.has_left()) => {
            Outcome::Advance(vec![Change::NextWave])
        }
        // A straggler of an earlier wave that is here goes on to its end first; one that is away does not hold the rest.
        Progress::Passed => match view.targets.iter().find(|target| target.phase == TargetPhase::Progressing && !target.away) {
            Some(straggler) => with_deadline(view, now, format!("{}: not healthy yet", straggler.cluster), None, false),
            None => Outcome::Advance(vec![Change::Complete]),
        },
    }
}

fn rolling_back(view: &View, now: Timestamp) -> Outcome {
    let changes = health(view, now);
    if !changes.is_empty() {
        return Outcome::Advance(changes);
    }
    let back = turns_back(view);
    if !back.is_empty() {
        return Outcome::Advance(back);
    }
    match view.targets.iter().find(|target| target.phase == TargetPhase::RollingBack && !target.away) {
        Some(target) => with_deadline(view, now, format!("{}: not back on last good yet", target.cluster), None, false),
        None => Outcome::Advance(vec![Change::FinishRollback]),
    }
}

/// Targets whose turn to go back has come. A cluster that is away costs nothing and hears it on its return: it does not wait
/// for its turn.
fn turns_back(view: &View) -> Vec<Change> {
    let under_way = view.targets.iter().filter(|target| target.phase == TargetPhase::RollingBack && !target.away).count();
    let free = view.release.fast_concurrency.max(1).saturating_sub(under_way);
    let awaiting = || view.targets.iter().filter(|target| target.phase == TargetPhase::AwaitingRollback);
    let here = awaiting().filter(|target| !target.away).take(free);
    let away = awaiting().filter(|target| target.away);
    here.chain(away).map(|target| Change::TurnBack { cluster: target.cluster.clone() }).collect()
}

/// A completed release still catches up with clusters that were away, and removes old copies in time.
fn completed(view: &View, now: Timestamp) -> Outcome {
    let mut changes = health(view, now);
    if !changes.is_empty() {
        return Outcome::Advance(changes);
    }
    for target in view.targets.iter().filter(|target| target.settled_at.is_none()) {
        match target.phase {
            TargetPhase::Healthy if target.step >= target.last_step() => {
                changes.push(Change::Settle { cluster: target.cluster.clone() });
            }
            TargetPhase::Failed if target.touched && target.has_last_good => {
                changes.push(Change::TurnBack { cluster: target.cluster.clone() });
            }
            TargetPhase::Healthy
            | TargetPhase::Failed
            | TargetPhase::Waiting
            | TargetPhase::Progressing
            | TargetPhase::AwaitingRollback
            | TargetPhase::RollingBack
            | TargetPhase::RolledBack
            | TargetPhase::Leaving
            | TargetPhase::Left => {}
        }
    }
    changes.extend(leaves(view));
    let starts = starts(view);
    let unjudged = !starts.is_empty() && needs_verdict(view);
    if !unjudged {
        changes.extend(starts);
    }
    let mut next: Option<Timestamp> = None;
    for target in view.targets.iter().filter(|target| target.two_copies && !target.has_left()) {
        let Some(settled_at) = target.settled_at else { continue };
        let due = later(settled_at, view.release.keep_stable_for);
        if due <= now {
            changes.push(Change::RemoveStable { cluster: target.cluster.clone() });
        } else {
            next = Some(next.map_or(due, |next| next.min(due)));
        }
    }
    if changes.is_empty() && unjudged {
        return Outcome::Judge;
    }
    if changes.is_empty() {
        let reason = if next.is_some() { "the previous copies are kept for a while" } else { "complete" };
        return with_deadline(view, now, reason.to_owned(), next, false);
    }
    Outcome::Advance(changes)
}

/// What the agents say, and what time says, about every target that was told something.
fn health(view: &View, now: Timestamp) -> Vec<Change> {
    view.targets.iter().filter_map(|target| target_health(view, target, now)).collect()
}

fn target_health(view: &View, target: &Target, now: Timestamp) -> Option<Change> {
    if target.unchanged || target.settled_at.is_some() || target.has_left() {
        return None;
    }
    let cluster = target.cluster.clone();
    match (view.here(&target.cluster), target.away) {
        (false, false) => {
            let reason = match view.availability.get(&target.cluster) {
                Some(Availability::Away(reason)) => reason.clone(),
                Some(Availability::Here) | None => "unknown to the registry".to_owned(),
            };
            return Some(Change::GoAway { cluster, reason });
        }
        (true, true) => return Some(Change::Return { cluster }),
        (true, false) | (false, true) => {}
    }
    let observed = view.observed(target);
    let phase = observed.map(|observed| observed.phase);
    let why = || match observed {
        Some(observed) if !observed.reason.is_empty() => observed.reason.clone(),
        Some(_) | None => "not healthy".to_owned(),
    };
    match target.phase {
        TargetPhase::Waiting
        | TargetPhase::Failed
        | TargetPhase::AwaitingRollback
        | TargetPhase::RolledBack
        | TargetPhase::Leaving
        | TargetPhase::Left => None,
        TargetPhase::Progressing => match phase {
            Some(ObservedPhase::Healthy) => Some(Change::BecomeHealthy { cluster }),
            Some(ObservedPhase::Refused) => {
                Some(Change::FailTarget { cluster, reason: format!("refused by the cluster: {}", why()) })
            }
            Some(ObservedPhase::Underway | ObservedPhase::Unhealthy | ObservedPhase::Deleted) | None => (now
                >= deadline(view, target)?)
            .then(|| Change::FailTarget { cluster, reason: format!("not healthy within its deadline: {}", why()) }),
        },
        TargetPhase::Healthy => match phase {
            // No word about what it was told keeps the last one: silence is not illness.
            Some(ObservedPhase::Healthy) | None => None,
            Some(ObservedPhase::Underway | ObservedPhase::Unhealthy | ObservedPhase::Refused | ObservedPhase::Deleted) => {
                Some(Change::LoseHealth { cluster, reason: why() })
            }
        },
        TargetPhase::RollingBack => match phase {
            Some(ObservedPhase::Healthy) => Some(Change::BecomeRolledBack { cluster }),
            Some(ObservedPhase::Underway | ObservedPhase::Unhealthy | ObservedPhase::Refused | ObservedPhase::Deleted) | None => {
                (now >= deadline(view, target)?)
                    .then(|| Change::FailTarget { cluster, reason: format!("last good is not healthy either: {}", why()) })
            }
        },
    }
}

/// When a target that was told something fails; none before the registry has taken it, or while it is away.
fn deadline(view: &View, target: &Target) -> Option<Timestamp> {
    let told_at = target.told_at.filter(|_| !target.away)?;
    Some(later(told_at.max(target.since), view.rules(target.wave).progress_deadline))
}

/// Why the release has failed, if it has: more failed targets than a wave bears, or a gate out of bounds.
fn failure(view: &View) -> Option<String> {
    for wave in 0..=view.release.wave {
        let rules = view.rules(wave);
        let failed: Vec<&Target> = view.members(wave).filter(|target| target.has_failed()).collect();
        if let Some(first) =
            failed.first().filter(|_| failed.len() > rules.max_failures.of_rounded_down(view.members(wave).count()))
        {
            let reason = if first.reason.is_empty() { "failed" } else { &first.reason };
            return Some(format!("wave {}: {}: {reason}", wave + 1, first.cluster));
        }
    }
    let (wave, step) = (view.release.wave, view.release.step);
    view.rules(wave).gate.as_ref()?;
    let since = view.members(wave).filter_map(|target| target.healthy_since).max()?;
    gate::failure(&view.measurements, wave, step, since)
        .map(|failed| format!("wave {}: the gate failed: {}", wave + 1, failed.reason))
}

/// Targets to be told now: of the present wave its step, of the waves before it everything; never more in flight than
/// the wave allows.
fn starts(view: &View) -> Vec<Change> {
    let mut starts = Vec::new();
    for wave in 0..=view.release.wave {
        let is_present = wave == view.release.wave && !view.release.state.is_final();
        let step = if is_present { view.release.step } else { usize::MAX };
        let in_flight = view.members(wave).filter(|target| target.in_flight()).count();
        let free = view.concurrency(wave).saturating_sub(in_flight);
        starts.extend(view.startable(wave, step).into_iter().take(free).map(|(cluster, step)| Change::Start { cluster, step }));
    }
    starts
}

/// A wait that also ends when the first target in flight runs out of time.
fn with_deadline(view: &View, now: Timestamp, reason: String, until: Option<Timestamp>, measure: bool) -> Outcome {
    let first = view
        .targets
        .iter()
        .filter(|target| matches!(target.phase, TargetPhase::Progressing | TargetPhase::RollingBack))
        .filter_map(|target| deadline(view, target))
        .filter(|deadline| *deadline > now)
        .min();
    let until = match (until, first) {
        (Some(until), Some(first)) => Some(until.min(first)),
        (until, first) => until.or(first),
    };
    Outcome::Wait { reason, until, measure }
}
