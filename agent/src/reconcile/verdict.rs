//! From what a pass found to what is said of the item. Pure.

use crate::cluster::ClusterError;
use crate::domain::{
    item::{ItemKey, Record},
    object::ObjectRef,
    observation::{Health, MAX_OBJECTS, ObjectStatus, Observation, Phase, RunPhase, RunStatus, State, cut},
};
use jiff::Timestamp;

/// What a pass found.
#[derive(Debug, Clone, Default)]
pub(super) struct Findings {
    /// What was refused: object (if one is meant), one word, the words of the API server.
    pub refused: Vec<(Option<ObjectRef>, String, String)>,
    /// What the API server could not do now and may do soon: as in `refused`.
    pub unanswered: Vec<(Option<ObjectRef>, String, String)>,
    /// What somebody changed and was not healed.
    pub drifted: Vec<String>,
    /// What was healed.
    pub healed: Vec<String>,
    /// What the pass waits for.
    pub waits: Vec<String>,
    /// Nothing of it was begun.
    pub pending: bool,
    /// Health of every object.
    pub health: Vec<(ObjectRef, String, Health)>,
    /// Set for runs.
    pub run: Option<RunStatus>,
}

/// Notes that something was refused, in the API server's words; or that the API server is away or overloaded, which refuses
/// nothing.
pub(super) fn refuse(findings: &mut Findings, object: Option<ObjectRef>, error: &ClusterError) {
    let notes = if error.is_passing() { &mut findings.unanswered } else { &mut findings.refused };
    notes.push((object, error.reason().to_owned(), error.to_string()));
}

impl Findings {
    /// Whether the pass was cut short by an API server that is away, and found nothing else that decides.
    pub(super) fn is_cut_short(&self) -> bool {
        self.refused.is_empty() && !self.unanswered.is_empty()
    }
}

/// The observation that says it.
pub(super) fn observation(key: &ItemKey, record: &Record, findings: Findings, traceparent: &str, now: Timestamp) -> Observation {
    let (phase, reason, message) = stand(&findings);
    let objects = findings
        .health
        .iter()
        .filter(|(_, _, health)| health.state > State::Suspended)
        .map(|(object, version, health)| ObjectStatus {
            object: object.clone(),
            version: version.clone(),
            reason: health.reason.clone(),
            message: cut(health.message.clone()),
        })
        .take(MAX_OBJECTS)
        .collect();
    Observation {
        key: key.clone(),
        generation: record.generation,
        phase,
        reason,
        message: cut(message),
        observed_at: now,
        run: findings.run,
        objects,
        heal_count: record.heal_count,
        traceparent: traceparent.to_owned(),
    }
}

fn lines(notes: &[(Option<ObjectRef>, String, String)]) -> String {
    let lines = notes.iter().map(|(object, _, message)| match object {
        Some(object) => format!("{object}: {message}"),
        None => message.clone(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn stand(findings: &Findings) -> (Phase, String, String) {
    if let Some((_, reason, _)) = findings.refused.first() {
        return (Phase::Failed, reason.clone(), lines(&findings.refused));
    }
    if let Some((_, reason, _)) = findings.unanswered.first() {
        return (Phase::Applying, reason.clone(), lines(&findings.unanswered));
    }
    if findings.pending {
        return (Phase::Pending, "Waiting".to_owned(), findings.waits.join("; "));
    }
    if !findings.drifted.is_empty() {
        return (Phase::Drifted, "Drifted".to_owned(), findings.drifted.join("\n"));
    }
    if let Some(run) = &findings.run {
        return match run.phase {
            RunPhase::Pending => (Phase::Applied, "Pending".to_owned(), run.message.clone()),
            RunPhase::Running | RunPhase::Succeeded => (Phase::Healthy, String::new(), String::new()),
            RunPhase::Failed => (Phase::Degraded, "RunFailed".to_owned(), run.message.clone()),
            RunPhase::Stopped => (Phase::Degraded, "RunStopped".to_owned(), run.message.clone()),
        };
    }
    let worst = findings.health.iter().max_by_key(|(_, _, health)| health.state);
    let said = |phase: Phase| {
        let (object, _, health) = worst.expect("something is worst");
        (phase, health.reason.clone(), format!("{object}: {}", health.message))
    };
    match worst.map(|(_, _, health)| health.state) {
        Some(State::Degraded) => said(Phase::Degraded),
        _ if !findings.waits.is_empty() => (Phase::Applying, "Waiting".to_owned(), findings.waits.join("; ")),
        Some(State::Progressing) => said(Phase::Applied),
        Some(State::Suspended | State::Healthy) | None => (Phase::Healthy, String::new(), String::new()),
    }
}
