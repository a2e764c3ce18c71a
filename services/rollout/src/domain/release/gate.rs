//! The metric gate of a wave: how values are judged, and when a wave has enough good measurements.
//!
//! Zero measurements are never success: no data, NaN and an unreachable Prometheus are inconclusive, and hold.

use super::model::{Measurement, Verdict};
use super::wave::later;
use crate::domain::spec::GateSpec;
use jiff::Timestamp;

/// What one cluster answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// The values of the answer's samples; may be empty.
    Values(Vec<f64>),
    /// There was no answer, and why.
    Unreachable(String),
}

/// How a cluster's answer is judged, and why where it does not pass.
pub fn judge(gate: &GateSpec, reading: &Reading) -> (Verdict, String) {
    let values = match reading {
        Reading::Unreachable(reason) => return (Verdict::Inconclusive, reason.clone()),
        Reading::Values(values) if values.is_empty() => return (Verdict::Inconclusive, "no data".to_owned()),
        Reading::Values(values) => values,
    };
    for value in values {
        if value.is_nan() {
            return (Verdict::Inconclusive, "the value is not a number".to_owned());
        }
        if let Some(min) = gate.min.filter(|min| value < min) {
            return (Verdict::Fail, format!("{value} is below {min}"));
        }
        if let Some(max) = gate.max.filter(|max| value > max) {
            return (Verdict::Fail, format!("{value} is above {max}"));
        }
    }
    (Verdict::Pass, String::new())
}

/// Where a gate stands at one step of one wave.
pub(super) enum GateState {
    /// A measurement is due now.
    Due,
    /// Not enough good ones yet; the next is due then.
    Waiting { reason: String, next: Timestamp },
    /// Enough good ones; while the soak lasts, the next is due then.
    Passed { next: Timestamp },
}

fn current(measurements: &[Measurement], wave: usize, step: usize, since: Timestamp) -> impl Iterator<Item = &Measurement> {
    measurements.iter().filter(move |one| one.wave == wave && one.step == step && one.at >= since)
}

/// The gate of a step whose targets are all healthy since `since`. An inconclusive one does not count, for or against.
pub(super) fn state(
    gate: &GateSpec,
    measurements: &[Measurement],
    wave: usize,
    step: usize,
    since: Timestamp,
    now: Timestamp,
) -> GateState {
    let passes = current(measurements, wave, step, since).filter(|one| one.verdict == Verdict::Pass).count();
    let last = current(measurements, wave, step, since).last();
    let next = last.map_or(since, |last| later(last.at, gate.interval));
    if passes >= gate.count as usize {
        return GateState::Passed { next };
    }
    if next <= now {
        return GateState::Due;
    }
    let held = last.filter(|last| last.verdict == Verdict::Inconclusive).map(|last| last.reason.as_str());
    let reason = match held {
        Some(why) => format!("the gate is inconclusive ({why}) and holds"),
        None => format!("the gate has {passes} of {} measurements", gate.count),
    };
    GateState::Waiting { reason, next }
}

/// A measurement of the present step that is out of bounds, where there is one since `since`.
pub(super) fn failure(measurements: &[Measurement], wave: usize, step: usize, since: Timestamp) -> Option<&Measurement> {
    current(measurements, wave, step, since).find(|one| one.verdict == Verdict::Fail)
}
