//! Outwards: rows as messages.

use crate::app::{
    diff::TargetDiff,
    view::{ApplicationView, ReleaseView},
};
use crate::domain::release::{ReleaseState, TargetPhase, Verdict};
use crate::store::{
    application::ApplicationState,
    desired::ObservationRow,
    measurement::{MeasurementRow, Transition},
    model::{CommitState, ModelRow, VersionRow},
    release::{Revert, TargetProgress},
    repository::Repository,
};
use muster_kit::{db::etag, time::to_proto};
use muster_proto::rollout::v1::{
    self as wire,
    application::State as WireApplicationState,
    measurement::Verdict as WireVerdict,
    model_version::CommitState as WireCommitState,
    release::{Revert as WireRevert, State as WireState},
    target_status::State as TargetState,
};

fn release_state(state: ReleaseState) -> WireState {
    match state {
        ReleaseState::Pending => WireState::Pending,
        ReleaseState::Progressing => WireState::Progressing,
        ReleaseState::Paused => WireState::Paused,
        ReleaseState::Completed => WireState::Completed,
        ReleaseState::RollingBack => WireState::RollingBack,
        ReleaseState::Failed => WireState::Failed,
        ReleaseState::Superseded => WireState::Superseded,
        ReleaseState::Refused => WireState::Refused,
    }
}

/// A release.
pub fn release(view: &ReleaseView) -> wire::Release {
    let row = &view.release;
    let revert = match row.revert {
        Revert::None => WireRevert::Unspecified,
        Revert::Pending => WireRevert::Pending,
        Revert::Pushed => WireRevert::Pushed,
        Revert::Blocked => WireRevert::Blocked,
        Revert::NotAllowed => WireRevert::NotAllowed,
    };
    wire::Release {
        name: row.name.to_string(),
        etag: etag(row.version),
        commit: row.commit.clone(),
        title: row.title.clone(),
        state: release_state(row.state).into(),
        reason: row.reason.clone(),
        wave: row.wave.cast_unsigned() + 1,
        wave_count: view.wave_count as u32,
        targets: view.targets.iter().map(|progress| target(progress, None)).collect(),
        measurements: view.measurements.iter().map(measurement).collect(),
        revert: revert.into(),
        revert_commit: row.revert_commit.clone(),
        model_version: row.model_version.clone(),
        history: view.history.iter().map(transition).collect(),
        fast_lane: row.fast_lane,
        create_time: Some(to_proto(row.created_at)),
        finish_time: row.finished_at.map(to_proto),
        warnings: row.warnings.clone(),
    }
}

fn transition(transition: &Transition) -> wire::ReleaseTransition {
    let Transition { state, wave, reason, at } = transition;
    wire::ReleaseTransition {
        state: release_state(*state).into(),
        time: Some(to_proto(*at)),
        reason: reason.clone(),
        wave: *wave,
    }
}

fn measurement(row: &MeasurementRow) -> wire::Measurement {
    let verdict = match row.verdict {
        Verdict::Pass => WireVerdict::Pass,
        Verdict::Fail => WireVerdict::Fail,
        Verdict::Inconclusive => WireVerdict::Inconclusive,
    };
    wire::Measurement {
        cluster: format!("clusters/{}", row.cluster),
        wave: row.wave as u32 + 1,
        query: row.query.clone(),
        value: row.value,
        verdict: verdict.into(),
        time: Some(to_proto(row.at)),
        reason: row.reason.clone(),
    }
}

/// A target; with what its agent says now, where that is to be shown instead of the release's own memory.
fn target(progress: &TargetProgress, observed: Option<&ObservationRow>) -> wire::TargetStatus {
    let target = &progress.target;
    let broken = observed.filter(|observed| matches!(observed.phase.as_str(), "degraded" | "drifted" | "failed" | "deleted"));
    let settled = target.settled_at.is_some() || target.unchanged;
    let (state, reason) = match (target.phase, broken) {
        (TargetPhase::Leaving, _) => (TargetState::Leaving, target.reason.clone()),
        (TargetPhase::Left, _) => (TargetState::Left, target.reason.clone()),
        (_, Some(observed)) if settled => (TargetState::Failed, format!("{}: {}", observed.reason, observed.message)),
        (TargetPhase::Waiting, _) if target.unchanged => (TargetState::Healthy, String::new()),
        (TargetPhase::Waiting, _) => (TargetState::Pending, target.reason.clone()),
        (TargetPhase::Progressing, _) if target.away => (TargetState::Pending, target.reason.clone()),
        (TargetPhase::Progressing, _) => (TargetState::Progressing, target.reason.clone()),
        (TargetPhase::Healthy, _) => (TargetState::Healthy, target.reason.clone()),
        (TargetPhase::Failed, _) => (TargetState::Failed, target.reason.clone()),
        (TargetPhase::RolledBack, _) => (TargetState::RolledBack, target.reason.clone()),
        (TargetPhase::AwaitingRollback, _) => (TargetState::RollingBack, "awaits its turn".to_owned()),
        (TargetPhase::RollingBack, _) => (TargetState::RollingBack, target.reason.clone()),
    };
    let told = match target.phase {
        TargetPhase::Progressing | TargetPhase::Healthy | TargetPhase::Failed | TargetPhase::AwaitingRollback => true,
        TargetPhase::Waiting | TargetPhase::RollingBack | TargetPhase::RolledBack | TargetPhase::Leaving | TargetPhase::Left => {
            false
        }
    };
    wire::TargetStatus {
        cluster: format!("clusters/{}", target.cluster),
        wave: target.wave as u32 + 1,
        state: state.into(),
        rendered_digest: progress.rendered_digest.clone(),
        last_good_digest: progress.last_good_digest.clone().unwrap_or_default(),
        weight: target.weight_at(target.step).filter(|_| told).map(u32::from),
        reason,
        transition_time: Some(to_proto(target.since)),
    }
}

/// An application.
pub fn application(view: &ApplicationView) -> wire::Application {
    let row = &view.application;
    let state = match row.state {
        ApplicationState::Pending => WireApplicationState::Pending,
        ApplicationState::Progressing => WireApplicationState::Progressing,
        ApplicationState::Healthy => WireApplicationState::Healthy,
        ApplicationState::Degraded => WireApplicationState::Degraded,
    };
    wire::Application {
        name: row.name.to_string(),
        etag: etag(row.version),
        manifest: row.manifest.clone(),
        state: state.into(),
        reason: row.reason.clone(),
        current_release: row.current_release.as_ref().map_or_else(String::new, |id| format!("{}/releases/{id}", row.name)),
        targets: view.targets.iter().map(|progress| target(progress, view.observations.get(&progress.target.cluster))).collect(),
        create_time: Some(to_proto(row.created_at)),
    }
}

/// A repository.
pub fn repository(row: &Repository) -> wire::GitRepository {
    wire::GitRepository {
        name: row.name.to_string(),
        etag: etag(row.version),
        manifest: row.manifest.clone(),
        commit: row.commit.clone().unwrap_or_default(),
        commit_time: row.commit_seen_at.map(to_proto),
        fetch_time: row.fetched_at.map(to_proto),
        problem: row.problem.clone(),
        create_time: Some(to_proto(row.created_at)),
    }
}

/// A model.
pub fn model(row: &ModelRow) -> wire::Model {
    let ModelRow { model, manifest, version, created_at, latest } = row;
    wire::Model {
        name: format!("models/{model}"),
        etag: etag(*version),
        manifest: manifest.clone(),
        latest_version: if latest.is_empty() { String::new() } else { format!("models/{model}/versions/{latest}") },
        create_time: Some(to_proto(*created_at)),
    }
}

/// A version of a model.
pub fn model_version(row: &VersionRow) -> wire::ModelVersion {
    let training = &row.training;
    let commit_state = match row.commit_state {
        CommitState::Pending => WireCommitState::CommitPending,
        CommitState::Pushed => WireCommitState::CommitPushed,
        CommitState::NotNewest => WireCommitState::NotNewest,
        CommitState::Blocked => WireCommitState::CommitBlocked,
    };
    wire::ModelVersion {
        name: format!("models/{}/versions/{}", training.model, training.version),
        digest: training.digest.clone(),
        uri: training.uri.clone(),
        completed_at: Some(to_proto(training.completed_at)),
        image: training.image.clone(),
        metrics: training.metrics.clone().into_iter().collect(),
        dataset: training.dataset.clone(),
        job: training.job.clone(),
        commit_state: commit_state.into(),
        commit: row.commit.clone(),
        reason: row.reason.clone(),
        create_time: Some(to_proto(row.created_at)),
        run_epoch: training.run_epoch,
    }
}

/// What a commit would change at a target.
pub fn target_diff(diff: TargetDiff) -> wire::TargetDiff {
    let TargetDiff { cluster, difference, missing, problem } = diff;
    let changed = difference.changed.into_iter().map(|(object, diff)| wire::ObjectDiff { object, diff });
    wire::TargetDiff {
        cluster: format!("clusters/{cluster}"),
        added: difference.added,
        changed: changed.collect(),
        removed: difference.removed,
        missing,
        problem,
    }
}
