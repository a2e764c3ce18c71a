//! Asks policy about a release before it starts: about what is *composed*, as it would stand in each cluster.

use super::leader;
use crate::app::{App, release::spec, view};
use crate::domain::release::ReleaseState;
use crate::domain::traffic::{Stable, Wanted, compose};
use crate::peers::Judgement;
use crate::store::{
    application, desired,
    measurement::{self, Transition},
    release::{self, ReleaseRow},
    target,
};
use muster_core::name::ApplicationName;
use muster_kit::{Error, Result, db, error::Kind, telemetry};
use serde_json::Value;
use std::collections::BTreeMap;
use tracing::Instrument as _;

/// Warnings kept of one release.
const MAX_WARNINGS: usize = 100;

/// Takes a pending release's verdict: it progresses, is refused, or goes on waiting where policy is away.
///
/// The rollback lane is exempt: what it brings back was judged before, so a new violation is reported and holds nothing.
pub async fn judge(app: &App, epoch: u64, row: &ReleaseRow) -> Result<()> {
    let span = tracing::info_span!("release.judge", release.name = %row.name);
    telemetry::continue_trace(&span, &row.traceparent);
    let outcome = evaluate(app, row).instrument(span).await;
    let (state, reason, judgement) = match outcome {
        Ok(judgement) if judgement.refusals.is_empty() => (ReleaseState::Progressing, String::new(), judgement),
        Ok(mut judgement) if row.fast_lane => {
            judgement.warnings.append(&mut judgement.refusals);
            (ReleaseState::Progressing, String::new(), judgement)
        }
        Ok(judgement) => (ReleaseState::Refused, judgement.refusals.join("; "), judgement),
        Err(error) if row.fast_lane => {
            let warnings = vec![format!("policy was not asked: {error}")];
            (
                ReleaseState::Progressing,
                String::new(),
                Judgement { warnings, revision: "last good".to_owned(), ..Judgement::default() },
            )
        }
        Err(error) if error.kind() == Kind::Unavailable => {
            (ReleaseState::Pending, format!("waits for its verdict: {error}"), Judgement::default())
        }
        Err(error) => return Err(error),
    };
    record(app, epoch, row, state, reason, judgement).await
}

async fn evaluate(app: &App, row: &ReleaseRow) -> Result<Judgement> {
    let spec = spec(&row.manifest)?;
    let mut connection = app.pool.acquire().await?;
    let parent = ApplicationName::new(row.name.namespace(), row.name.application()).map_err(Error::internal)?;
    let known = target::of(&mut connection, &parent).await?;
    // Equal bundles are judged once, for all their clusters.
    let mut bundles: BTreeMap<String, (Vec<Value>, Vec<String>)> = BTreeMap::new();
    for progress in release::targets(&mut connection, &row.name).await? {
        if progress.target.unchanged {
            continue;
        }
        let rendered = desired::bundle(&mut connection, &progress.rendered_digest).await?;
        let none = target::TargetRow::default();
        let known = known.get(&progress.target.cluster).unwrap_or(&none);
        let stable = match &known.last_good_digest {
            Some(digest) => desired::bundle(&mut connection, digest).await?,
            None => Vec::new(),
        };
        let composed = compose(Wanted {
            rendered: &rendered,
            traffic: spec.rollout.traffic.as_ref(),
            stable: known.last_good_digest.as_ref().map(|_| Stable { rendered: &stable, subsets: &known.last_good_subsets }),
            weight: progress.target.weight_at(0).unwrap_or(100),
        })?;
        let digest = muster_core::bundle::digest(&composed.objects);
        let entry = bundles.entry(digest.as_str().to_owned()).or_insert_with(|| (composed.objects, Vec::new()));
        entry.1.push(progress.target.cluster);
    }
    drop(connection);
    let mut whole = Judgement { revision: "nothing to judge".to_owned(), ..Judgement::default() };
    for (objects, clusters) in bundles.into_values() {
        let judgement = app.policy.evaluate(&objects, &clusters).await?;
        whole.revision = judgement.revision;
        whole.refusals.extend(judgement.refusals);
        whole.warnings.extend(judgement.warnings);
    }
    for lines in [&mut whole.refusals, &mut whole.warnings] {
        lines.sort();
        lines.dedup();
        lines.truncate(MAX_WARNINGS);
    }
    if whole.revision.is_empty() {
        "none".clone_into(&mut whole.revision);
    }
    Ok(whole)
}

async fn record(
    app: &App,
    epoch: u64,
    judged: &ReleaseRow,
    state: ReleaseState,
    reason: String,
    judgement: Judgement,
) -> Result<()> {
    let now = app.clock.now();
    let mut tx = db::begin(&app.pool).await?;
    leader::check(&mut tx, epoch).await?;
    let parent = ApplicationName::new(judged.name.namespace(), judged.name.application()).map_err(Error::internal)?;
    let Some(mut application) = application::lock(&mut tx, &parent).await? else { return Ok(()) };
    let Some(mut row) = release::get(&mut tx, &judged.name).await? else { return Ok(()) };
    // Paused, aborted or superseded while policy thought about it.
    if row.state != ReleaseState::Pending || (state == ReleaseState::Pending && row.reason == reason) {
        return Ok(());
    }
    let moved = row.state != state;
    row.state = state;
    row.reason.clone_from(&reason);
    row.policy_revision = judgement.revision;
    row.warnings = judgement.warnings;
    row.finished_at = (state == ReleaseState::Refused).then_some(now);
    release::update(&mut tx, &mut row).await?;
    if moved {
        let wave = u32::from(state == ReleaseState::Progressing);
        measurement::record(&mut tx, &row.name, &Transition { state, wave, reason: reason.clone(), at: now }).await?;
    }
    if state == ReleaseState::Refused || application.reason != reason {
        application.reason = reason;
        if state == ReleaseState::Refused {
            application.state = application::ApplicationState::Degraded;
        }
        application::update(&mut tx, &application).await?;
        view::publish_application(&mut tx, &application.name).await?;
    }
    view::publish_release(&mut tx, row).await?;
    tx.commit().await?;
    Ok(())
}
