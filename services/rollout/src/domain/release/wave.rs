//! Waves: who goes with which, and when one is done.

use super::gate::{self, GateState};
use super::model::{Lane, Target, TargetPhase, View};
use crate::domain::spec::{WaveSelector, WaveSpec};
use jiff::Timestamp;
use muster_core::selector::Labels;
use std::time::Duration;

/// The wave of each cluster, from 0: the first that takes it, else the last.
///
/// `clusters` are names with their labels and the fleets they are in.
pub fn assign_waves<'a>(
    waves: &[WaveSpec],
    clusters: impl IntoIterator<Item = (&'a str, &'a Labels, &'a [String])>,
) -> Vec<usize> {
    let takes = |selector: &WaveSelector, name: &str, labels: &Labels, fleets: &[String]| match selector {
        WaveSelector::All => true,
        WaveSelector::Fleet(fleet) => fleets.contains(fleet),
        WaveSelector::Clusters(names) => names.iter().any(|known| known == name),
        WaveSelector::Labels(selector) => selector.matches(labels),
    };
    clusters
        .into_iter()
        .map(|(name, labels, fleets)| {
            waves.iter().position(|wave| takes(&wave.selector, name, labels, fleets)).unwrap_or(waves.len().saturating_sub(1))
        })
        .collect()
}

/// What keeps a wave from its next step.
pub(super) enum Progress {
    /// Everything is done at this step.
    Passed,
    /// Something is not; until when, where a time decides, and whether a measurement is due.
    Held { reason: String, until: Option<Timestamp>, measure: bool },
}

impl View {
    /// The rules of a wave; the fast lane has none but a deadline.
    pub(super) fn rules(&self, wave: usize) -> WaveSpec {
        let mut rules = self.release.waves[wave.min(self.release.waves.len() - 1)].clone();
        match self.release.lane {
            Lane::Waves => {}
            Lane::Fast => {
                rules.min_success_time = Duration::ZERO;
                rules.gate = None;
            }
        }
        rules
    }

    pub(super) fn members(&self, wave: usize) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(move |target| target.wave == wave && !target.has_left())
    }

    /// Targets of a wave that may be in flight at once.
    pub(super) fn concurrency(&self, wave: usize) -> usize {
        match self.release.lane {
            Lane::Fast => self.release.fast_concurrency,
            Lane::Waves => self.rules(wave).max_concurrency.of_rounded_up(self.members(wave).count()).max(1),
        }
    }

    /// Steps of the present wave: as many as its target with the most weights.
    pub(super) fn last_step(&self, wave: usize) -> usize {
        self.members(wave).filter(|target| !target.unchanged).map(Target::last_step).max().unwrap_or(0)
    }

    /// Targets of a wave that are to be told a step and are not in flight.
    pub(super) fn startable(&self, wave: usize, step: usize) -> Vec<(String, usize)> {
        self.members(wave)
            .filter(|target| !target.unchanged && !target.away && self.here(&target.cluster))
            .filter_map(|target| {
                let wanted = step.min(target.last_step());
                match target.phase {
                    TargetPhase::Waiting => Some((target.cluster.clone(), wanted)),
                    TargetPhase::Healthy if target.step < wanted => Some((target.cluster.clone(), wanted)),
                    TargetPhase::Healthy
                    | TargetPhase::Progressing
                    | TargetPhase::Failed
                    | TargetPhase::AwaitingRollback
                    | TargetPhase::RollingBack
                    | TargetPhase::RolledBack
                    | TargetPhase::Leaving
                    | TargetPhase::Left => None,
                }
            })
            .collect()
    }

    /// Whether the present step of the present wave is done, soaked and passed by its gate.
    pub(super) fn progress(&self, now: Timestamp) -> Progress {
        let (wave, step) = (self.release.wave, self.release.step);
        let rules = self.rules(wave);
        let changed: Vec<&Target> = self.members(wave).filter(|target| !target.unchanged).collect();
        if changed.is_empty() {
            return Progress::Passed;
        }
        let done = |target: &Target| target.phase == TargetPhase::Healthy && target.step >= step.min(target.last_step());
        let finished: Vec<&Target> = changed.iter().copied().filter(|target| done(target)).collect();
        let open: Vec<&Target> = changed.iter().copied().filter(|target| !done(target) && !target.has_failed()).collect();
        if let Some(target) = open.iter().find(|target| !target.away && self.here(&target.cluster)) {
            let reason = if target.reason.is_empty() { "not healthy yet" } else { &target.reason };
            return held(format!("{}: {reason}", target.cluster));
        }
        let quorum = rules.quorum.of_rounded_up(changed.len()).max(1);
        if finished.len() < quorum {
            return held(format!(
                "wave {}: {} of {} targets are done, {quorum} are needed, the others are away",
                wave + 1,
                finished.len(),
                changed.len()
            ));
        }
        if self.release.promoted {
            return Progress::Passed;
        }
        let since = finished.iter().filter_map(|target| target.healthy_since).max().unwrap_or(now);
        let soaked_at = later(since, rules.min_success_time);
        let gate = rules.gate.as_ref().map(|gate| gate::state(gate, &self.measurements, wave, step, since, now));
        match gate {
            Some(GateState::Due) => {
                Progress::Held { reason: format!("wave {}: the gate is measured", wave + 1), until: Some(now), measure: true }
            }
            Some(GateState::Waiting { reason, next }) => {
                Progress::Held { reason: format!("wave {}: {reason}", wave + 1), until: Some(next), measure: false }
            }
            Some(GateState::Passed { next }) if now < soaked_at => {
                Progress::Held { reason: soaking(wave, soaked_at), until: Some(next.min(soaked_at)), measure: next <= now }
            }
            None if now < soaked_at => {
                Progress::Held { reason: soaking(wave, soaked_at), until: Some(soaked_at), measure: false }
            }
            Some(GateState::Passed { .. }) | None => Progress::Passed,
        }
    }
}

fn soaking(wave: usize, until: Timestamp) -> String {
    format!("wave {}: soaks until {until:.0}", wave + 1)
}

fn held(reason: String) -> Progress {
    Progress::Held { reason, until: None, measure: false }
}

/// A time after another; the end of time where it would overflow.
pub(super) fn later(from: Timestamp, by: Duration) -> Timestamp {
    from.checked_add(by).unwrap_or(Timestamp::MAX)
}
