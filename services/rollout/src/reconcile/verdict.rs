//! Asks policy about a release before anything of it is told: about what is *composed*, as it would stand in each cluster.
//!
//! The one thing to know: a verdict is stored with the revision of the policies, and taken again before the next target is
//! told where that has moved.

use super::{advance, leader};
use crate::app::{App, release::spec, view};
use crate::crash;
use crate::domain::release::{Change, ReleaseState, Target, TargetPhase};
use crate::domain::traffic::{Stable, Wanted, compose};
use crate::peers::Judgement;
use crate::store::{
    application::{self, Application, ApplicationState},
    desired,
    measurement::{self, Transition},
    release::{self, ReleaseRow, TargetProgress},
    target,
};
use muster_core::name::ApplicationName;
use muster_kit::{Error, Result, Tx, db, error::Kind, telemetry};
use serde_json::Value;
use std::collections::BTreeMap;
use tracing::Instrument as _;

/// Warnings kept of one release.
const MAX_WARNINGS: usize = 100;

/// Takes a release's verdict, the first one or, where policies have moved since, the next; gives the revision of the
/// policies that the release is judged by now, or none where it waits or is refused.
///
/// The rollback lane is exempt: what it brings back was judged before, so a new violation is reported and holds nothing.
pub async fn judge(app: &App, epoch: u64, row: &ReleaseRow) -> Result<Option<String>> {
    let span = tracing::info_span!("release.judge", release.name = %row.name);
    telemetry::continue_trace(&span, &row.traceparent);
    let outcome = async {
        // A verdict stands as long as the policies do.
        if row.state != ReleaseState::Pending && app.policy.revision().await? == row.policy_revision {
            return Ok(None);
        }
        evaluate(app, row).await.map(Some)
    };
    let judgement = match outcome.instrument(span).await {
        Ok(None) => {
            if row.state == ReleaseState::Completed {
                say(app, epoch, row, String::new()).await?;
            }
            return Ok(Some(row.policy_revision.clone()));
        }
        Ok(Some(mut judgement)) if row.fast_lane => {
            judgement.warnings.append(&mut judgement.refusals);
            judgement
        }
        Ok(Some(judgement)) => judgement,
        Err(error) if row.fast_lane => {
            let warnings = vec![format!("policy was not asked: {error}")];
            Judgement { warnings, revision: "last good".to_owned(), ..Judgement::default() }
        }
        Err(error) if error.kind() == Kind::Unavailable => {
            say(app, epoch, row, format!("waits for its verdict: {error}")).await?;
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    crash::JUDGED.reached();
    record(app, epoch, row, judgement).await
}

async fn evaluate(app: &App, row: &ReleaseRow) -> Result<Judgement> {
    let spec = spec(&row.manifest)?;
    let mut connection = app.pool.acquire().await?;
    let parent = ApplicationName::new(row.name.namespace(), row.name.application()).map_err(Error::internal)?;
    let known = target::of(&mut connection, &parent).await?;
    // Equal bundles are judged once, for all their clusters.
    let mut bundles: BTreeMap<String, (Vec<Value>, Vec<String>)> = BTreeMap::new();
    for progress in release::targets(&mut connection, &row.name).await? {
        if !is_to_be_told(&progress.target) {
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
            weight: progress.target.weight_at(progress.target.step).unwrap_or(100),
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

/// Whether a release has something for a target that it was not told yet.
fn is_to_be_told(target: &Target) -> bool {
    let done = target.unchanged || target.has_left() || target.settled_at.is_some();
    !done && (target.phase == TargetPhase::Waiting || target.step < target.last_step())
}

/// What a verdict makes of a release.
enum Ruling {
    /// It goes on.
    Allowed,
    /// It never begins.
    Refused(String),
    /// It has begun under other policies, or took the place of one that has: what was touched goes back.
    Failed(String),
    /// It is complete, and clusters that were away are not caught up to it.
    NoFurther(String),
}

fn ruling(row: &ReleaseRow, targets: &[TargetProgress], refusals: &[String]) -> Ruling {
    if refusals.is_empty() {
        return Ruling::Allowed;
    }
    let reason = refusals.join("; ");
    match row.state {
        ReleaseState::Completed => Ruling::NoFurther(format!("policy refuses what it renders: {reason}")),
        ReleaseState::Pending | ReleaseState::Progressing if targets.iter().any(|progress| progress.target.touched) => {
            Ruling::Failed(format!("policy refuses it: {reason}"))
        }
        ReleaseState::Pending
        | ReleaseState::Progressing
        | ReleaseState::Paused
        | ReleaseState::RollingBack
        | ReleaseState::Failed
        | ReleaseState::Superseded
        | ReleaseState::Refused => Ruling::Refused(reason),
    }
}

/// Says why a release waits in the state it is in.
async fn say(app: &App, epoch: u64, judged: &ReleaseRow, reason: String) -> Result<()> {
    if judged.reason == reason {
        return Ok(());
    }
    let mut tx = db::begin(&app.pool).await?;
    leader::check(&mut tx, epoch).await?;
    let Some((application, mut row)) = lock(&mut tx, judged).await? else { return Ok(()) };
    row.reason.clone_from(&reason);
    release::update(&mut tx, &mut row).await?;
    if !row.state.is_final() {
        show(&mut tx, application, ApplicationState::Progressing, &reason).await?;
    }
    view::publish_release(&mut tx, row).await?;
    tx.commit().await?;
    Ok(())
}

async fn record(app: &App, epoch: u64, judged: &ReleaseRow, judgement: Judgement) -> Result<Option<String>> {
    let now = app.clock.now();
    let Judgement { revision, refusals, warnings } = judgement;
    let mut tx = db::begin(&app.pool).await?;
    leader::check(&mut tx, epoch).await?;
    let Some((application, mut row)) = lock(&mut tx, judged).await? else { return Ok(None) };
    let targets = release::targets(&mut tx, &row.name).await?;
    let begins = row.state == ReleaseState::Pending;
    row.policy_revision.clone_from(&revision);
    row.warnings = warnings;
    let changes = match ruling(&row, &targets, &refusals) {
        Ruling::Allowed => {
            row.reason = String::new();
            if begins {
                row.state = ReleaseState::Progressing;
                show(&mut tx, application, ApplicationState::Progressing, "").await?;
            }
            Vec::new()
        }
        Ruling::Refused(reason) => {
            row.state = ReleaseState::Refused;
            row.reason.clone_from(&reason);
            row.finished_at = Some(now);
            show(&mut tx, application, ApplicationState::Degraded, &reason).await?;
            Vec::new()
        }
        Ruling::Failed(reason) => vec![Change::Fail { reason }],
        Ruling::NoFurther(reason) => targets
            .iter()
            .filter(|progress| progress.target.phase == TargetPhase::Waiting && !progress.target.away)
            .filter(|progress| is_to_be_told(&progress.target))
            .map(|progress| Change::FailTarget { cluster: progress.target.cluster.clone(), reason: reason.clone() })
            .collect(),
    };
    let is_allowed = refusals.is_empty();
    release::update(&mut tx, &mut row).await?;
    if row.state != judged.state {
        let wave = u32::from(row.state == ReleaseState::Progressing);
        let transition = Transition { state: row.state, wave, reason: row.reason.clone(), at: now };
        measurement::record(&mut tx, &row.name, &transition).await?;
    }
    if changes.is_empty() {
        view::publish_release(&mut tx, row).await?;
    } else {
        advance::force(app, &mut tx, &judged.name, &changes).await?;
    }
    tx.commit().await?;
    app.wakes.dispatch.now();
    Ok(is_allowed.then_some(revision))
}

/// The rows, unless the release was paused, aborted or superseded while policy thought about it.
async fn lock(tx: &mut Tx, judged: &ReleaseRow) -> Result<Option<(Application, ReleaseRow)>> {
    let parent = ApplicationName::new(judged.name.namespace(), judged.name.application()).map_err(Error::internal)?;
    let Some(application) = application::lock(tx, &parent).await? else { return Ok(None) };
    let row = release::get(tx, &judged.name).await?;
    Ok(row.filter(|row| row.state == judged.state).map(|row| (application, row)))
}

/// Says of the application what is said of its release.
async fn show(tx: &mut Tx, mut application: Application, state: ApplicationState, reason: &str) -> Result<()> {
    if (application.state, application.reason.as_str()) == (state, reason) {
        return Ok(());
    }
    application.state = state;
    reason.clone_into(&mut application.reason);
    application::update(tx, &application).await?;
    view::publish_application(tx, &application.name).await?;
    Ok(())
}
