//! What one pass over a release works on: read from the rows, and kept in them.

use crate::app::{
    App,
    release::{is_revertible, spec},
    view,
};
use crate::domain::release::{
    Availability, Lane, Measurement, Observation, ObservedPhase, Release, ReleaseState, TargetPhase, Verdict, View,
};
use crate::domain::spec::ApplicationSpec;
use crate::domain::traffic::{Stable, Wanted, compose};
use crate::store::{
    application::{self, Application, ApplicationState},
    cluster,
    desired::{self, ObservationRow, Wish},
    measurement::{self, MeasurementRow, Transition},
    release::{self, ReleaseRow, Revert, TargetProgress},
    target::{self, TargetRow},
};
use muster_core::{
    Version,
    name::{ApplicationName, ReleaseName},
};
use muster_kit::{Error, Result, Tx};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What one pass works on.
pub(super) struct Pass {
    pub application: Application,
    pub row: ReleaseRow,
    pub spec: ApplicationSpec,
    pub targets: Vec<TargetProgress>,
    pub known: BTreeMap<String, TargetRow>,
    pub view: View,
    pub told: BTreeSet<String>,
    /// Targets go back because a newer commit takes over: nothing is blocked for it.
    pub recalls: bool,
}

/// Everything about a release that is the application's present one, with the application's row locked. `judged_by` is the
/// revision of the policies as they are now, where that was asked.
pub(super) async fn load(app: &App, tx: &mut Tx, name: &ReleaseName, judged_by: Option<&str>) -> Result<Option<Pass>> {
    let parent = ApplicationName::new(name.namespace(), name.application()).map_err(Error::internal)?;
    let Some(application) = application::lock(tx, &parent).await? else { return Ok(None) };
    let Some(row) = release::get(tx, name).await? else { return Ok(None) };
    if application.current_release.as_deref() != Some(name.release()) {
        return Ok(None);
    }
    let spec = spec(&row.manifest)?;
    let mut targets = release::targets(tx, name).await?;
    let item = desired::item_of(&parent);
    let items = desired::items(tx, &item).await?;
    let observations = desired::observations(tx, &item).await?;
    for target in &mut targets {
        let taken = items
            .get(&target.target.cluster)
            .filter(|item| item.revision == target.told_revision && item.pushed_revision == target.told_revision);
        target.target.generation = taken.map(|item| Version::new(item.generation.0, item.generation.1));
        target.target.told_at = taken.and_then(|item| item.pushed_at);
    }
    let clusters = cluster::all(&app.pool).await?;
    let availability = targets
        .iter()
        .filter_map(|target| {
            let name = &target.target.cluster;
            Some((name.clone(), clusters.get(name)?.availability()))
        })
        .collect::<BTreeMap<String, Availability>>();
    let measurements = rounds(&measurement::of(tx, name).await?);
    let view = View {
        release: Release {
            state: row.state,
            lane: if row.fast_lane { Lane::Fast } else { Lane::Waves },
            waves: spec.rollout.waves.clone(),
            keep_stable_for: spec.rollout.keep_stable_for,
            fast_concurrency: app.fast_concurrency,
            wave: row.wave.cast_unsigned() as usize,
            step: row.step.cast_unsigned() as usize,
            promoted: row.promoted,
            reason: row.reason.clone(),
            finished_at: row.finished_at,
        },
        targets: targets.iter().map(|target| target.target.clone()).collect(),
        availability,
        observations: observations.into_iter().map(|(cluster, row)| (cluster, observation(row))).collect(),
        measurements,
        verdict_is_current: judged_by.is_some_and(|revision| revision == row.policy_revision),
    };
    let known = target::of(tx, &parent).await?;
    Ok(Some(Pass { application, row, spec, targets, known, view, told: BTreeSet::new(), recalls: false }))
}

/// An agent's word as the state machine reads it.
fn observation(row: ObservationRow) -> Observation {
    let phase = match row.phase.as_str() {
        "healthy" => ObservedPhase::Healthy,
        "degraded" | "drifted" => ObservedPhase::Unhealthy,
        "failed" => ObservedPhase::Refused,
        "deleted" => ObservedPhase::Deleted,
        _ => ObservedPhase::Underway,
    };
    let reason = [row.reason, row.message].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ");
    Observation { generation: Version::new(row.generation.0, row.generation.1), phase, reason }
}

/// Measurements of one time are one round, judged by its worst.
fn rounds(rows: &[MeasurementRow]) -> Vec<Measurement> {
    let mut rounds: Vec<Measurement> = Vec::new();
    let badness = |verdict: Verdict| match verdict {
        Verdict::Pass => 0,
        Verdict::Inconclusive => 1,
        Verdict::Fail => 2,
    };
    for row in rows {
        let shown = if row.reason.is_empty() { String::new() } else { format!("{}: {}", row.cluster, row.reason) };
        match rounds.last_mut().filter(|round| (round.at, round.wave, round.step) == (row.at, row.wave, row.step)) {
            Some(round) if badness(row.verdict) > badness(round.verdict) => {
                round.verdict = row.verdict;
                round.reason = shown;
            }
            Some(_) => {}
            None => {
                rounds.push(Measurement { wave: row.wave, step: row.step, at: row.at, verdict: row.verdict, reason: shown });
            }
        }
    }
    rounds
}

impl Pass {
    /// Stores everything that the pass changed, and publishes it.
    pub async fn store(
        &mut self,
        app: &App,
        tx: &mut Tx,
        before: &View,
        stands: (ApplicationState, String),
        traceparent: &str,
    ) -> Result<()> {
        let now = app.clock.now();
        for (progress, target) in self.targets.iter_mut().zip(&self.view.targets) {
            progress.target.clone_from(target);
        }
        for index in 0..self.targets.len() {
            if self.told.contains(&self.targets[index].target.cluster) {
                self.tell(tx, index, traceparent).await?;
            }
        }
        self.settle(tx, before).await?;
        self.fail(tx, before, now).await?;
        for (progress, old) in self.targets.iter().zip(&before.targets) {
            let was_told = self.told.contains(&old.cluster);
            if was_told || progress.target != *old {
                release::save_target(tx, &self.row.name, progress).await?;
            }
        }
        let release = &self.view.release;
        let moved = (release.state, release.wave) != (before.release.state, before.release.wave);
        self.row.state = release.state;
        self.row.wave = release.wave as i32;
        self.row.step = release.step as i32;
        self.row.promoted = release.promoted;
        self.row.reason.clone_from(&release.reason);
        self.row.finished_at = release.finished_at;
        release::update(tx, &mut self.row).await?;
        if moved {
            let reason = match release.state {
                ReleaseState::Progressing => format!("wave {} begins", release.wave + 1),
                _ => release.reason.clone(),
            };
            let transition = Transition { state: release.state, wave: release.wave as u32 + 1, reason, at: now };
            measurement::record(tx, &self.row.name, &transition).await?;
        }
        let completed = release.state == ReleaseState::Completed && before.release.state != ReleaseState::Completed;
        if completed {
            self.application.completed_commit = Some(self.row.commit.clone());
        }
        let application_moved = (self.application.state, &self.application.reason) != (stands.0, &stands.1);
        (self.application.state, self.application.reason) = stands;
        if completed || application_moved {
            application::update(tx, &self.application).await?;
            view::publish_application(tx, &self.application.name).await?;
        }
        view::publish_release(tx, self.row.clone()).await?;
        if moved {
            tracing::info!(release = %self.row.name, state = ?release.state, wave = release.wave + 1, reason = release.reason, "a release moved");
        }
        Ok(())
    }

    /// Composes a target's bundle and wishes it of its cluster.
    async fn tell(&mut self, tx: &mut Tx, index: usize, traceparent: &str) -> Result<()> {
        if self.targets[index].target.has_left() {
            return self.leave(tx, index, traceparent).await;
        }
        let cluster = self.targets[index].target.cluster.clone();
        let known = self.known.get(&cluster).cloned().unwrap_or_default();
        let progress = &self.targets[index];
        let back = progress.target.phase == TargetPhase::RollingBack;
        let rendered_digest = match (&known.last_good_digest, back) {
            (Some(last_good), true) => last_good.clone(),
            (_, _) => progress.rendered_digest.clone(),
        };
        let rendered = desired::bundle(tx, &rendered_digest).await?;
        // Alone: it goes back, or the previous copy leaves. Then what serves goes on under the name that routes know.
        let alone = back || progress.target.settled_at.is_some();
        let subsets = if back { &known.last_good_subsets } else { &progress.subsets };
        let last_good: Vec<Value> = match &known.last_good_digest {
            Some(digest) if !alone => desired::bundle(tx, digest).await?,
            Some(_) | None => Vec::new(),
        };
        let stable = match (&known.last_good_digest, alone) {
            (_, true) => Some(Stable { rendered: &rendered, subsets }),
            (Some(_), false) => Some(Stable { rendered: &last_good, subsets: &known.last_good_subsets }),
            (None, false) => None,
        };
        let weight = if alone { 100 } else { progress.target.weight_at(progress.target.step).unwrap_or(100) };
        let traffic = self.spec.rollout.traffic.as_ref();
        let composed = compose(Wanted { rendered: &rendered, traffic, stable, weight })?;
        let wish = Wish {
            bundle_digest: desired::put_bundle(tx, &composed.objects).await?,
            self_heal: self.spec.self_heal,
            // Copies must be able to leave, whatever the document says of other objects.
            prune: self.spec.prune || !composed.copies.is_empty(),
            tombstone: false,
            traceparent: traceparent.to_owned(),
        };
        let item = desired::item_of(&self.application.name);
        let revision = desired::wish(tx, &cluster, &item, &wish).await?;
        let progress = &mut self.targets[index];
        progress.told_revision = revision;
        progress.target.two_copies = composed.copies.iter().any(|copy| !copy.candidate);
        if !back {
            progress.subsets = composed.candidate_subsets();
        }
        // The machine's own copy is what the next comparison is made with.
        self.view.targets[index].two_copies = progress.target.two_copies;
        Ok(())
    }

    /// Keeps what each target runs, and moves last good where the release is complete for it.
    async fn settle(&mut self, tx: &mut Tx, before: &View) -> Result<()> {
        let name = &self.application.name;
        for (progress, old) in self.targets.iter_mut().zip(&before.targets) {
            let target = &progress.target;
            let mut row = self.known.get(&target.cluster).cloned().unwrap_or_default();
            match target.phase {
                // What such a target has is kept where it leaves.
                TargetPhase::Leaving | TargetPhase::Left => continue,
                TargetPhase::Waiting | TargetPhase::AwaitingRollback => {}
                TargetPhase::RollingBack | TargetPhase::RolledBack => row.desired_digest.clone_from(&row.last_good_digest),
                TargetPhase::Progressing | TargetPhase::Healthy | TargetPhase::Failed => {
                    row.desired_digest = Some(progress.rendered_digest.clone());
                }
            }
            row.touched = target.touched;
            if target.settled_at.is_some() && old.settled_at.is_none() {
                row.last_good_digest = Some(progress.rendered_digest.clone());
                row.desired_digest = Some(progress.rendered_digest.clone());
                if !target.unchanged {
                    row.last_good_subsets.clone_from(&progress.subsets);
                }
                progress.last_good_digest.clone_from(&row.last_good_digest);
                target::complete(tx, name, &target.cluster, &progress.rendered_digest).await?;
            }
            if self.known.get(&target.cluster) != Some(&row) {
                target::save(tx, name, &target.cluster, &row).await?;
                self.known.insert(target.cluster.clone(), row);
            }
        }
        Ok(())
    }

    /// Blocks what failed, and asks for the commit that takes it back.
    async fn fail(&mut self, tx: &mut Tx, before: &View, now: jiff::Timestamp) -> Result<()> {
        let name = &self.application.name;
        let has_failed = |state| matches!(state, ReleaseState::RollingBack | ReleaseState::Failed);
        let failed = has_failed(self.view.release.state) && !has_failed(before.release.state);
        for (progress, old) in self.targets.iter().zip(&before.targets) {
            let turned_back = progress.target.phase == TargetPhase::RollingBack && old.phase != TargetPhase::RollingBack;
            if (failed && !progress.target.unchanged && !progress.target.has_left()) || (turned_back && !self.recalls) {
                target::block(tx, name, &progress.target.cluster, &progress.rendered_digest, self.row.name.release()).await?;
            }
        }
        let has_last_good = self.view.targets.iter().any(|target| target.has_last_good);
        if failed && is_revertible(&self.row, has_last_good) {
            self.row.revert = Revert::Pending;
            self.row.revert_due_at = now;
        }
        Ok(())
    }
}
