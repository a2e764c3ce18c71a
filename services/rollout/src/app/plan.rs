//! Making a release: what a commit renders at each target, what that means, and the rows of its way.

use super::{App, view};
use crate::domain::cluster::Cluster;
use crate::domain::release::{Arrival, ReleaseState, Target, TargetArrival, assign_waves, classify};
use crate::domain::selection::select;
use crate::domain::spec::ApplicationSpec;
use crate::domain::traffic::{self, Stable, Wanted};
use crate::git::{Commit, Mirror};
use crate::reconcile::{advance, leave};
use crate::store::{
    application::Application,
    desired,
    measurement::{self, Transition},
    release::{self, ReleaseRow, Revert, TargetProgress},
    target::{self, TargetRow},
};
use muster_kit::{Error, Result, Tx, telemetry};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a commit renders for one cluster.
#[derive(Debug, Clone)]
pub struct RenderedTarget {
    /// The objects, before composition.
    pub objects: Arc<Vec<Value>>,
    /// Their digest.
    pub digest: String,
}

/// What a commit renders everywhere.
#[derive(Debug, Clone, Default)]
pub struct Rendering {
    /// By cluster.
    pub targets: BTreeMap<String, RenderedTarget>,
    /// What leads to it, relative to the repository's root.
    pub paths: BTreeSet<String>,
}

/// Renders a commit for clusters with their folders.
pub async fn render(
    app: &App,
    mirror: &Mirror,
    commit: &str,
    selected: &BTreeMap<String, String>,
) -> Result<Rendering, crate::render::RenderError> {
    let mut rendering = Rendering::default();
    for (cluster, path) in selected {
        let rendered = app.renderer.render(mirror, commit, path).await?;
        rendering.paths.extend(rendered.paths);
        let target = RenderedTarget { objects: rendered.objects, digest: rendered.digest.as_str().to_owned() };
        rendering.targets.insert(cluster.clone(), target);
    }
    Ok(rendering)
}

/// What a commit means to an application, from what is stored.
pub async fn arrival(app: &App, application: &Application, rendering: &Rendering) -> Result<Arrival> {
    let rows = target::of(&mut *app.pool.acquire().await?, &application.name).await?;
    let completed = target::completed(&app.pool, &application.name).await?;
    let blocked = target::blocked(&app.pool, &application.name).await?;
    let arrivals: Vec<TargetArrival<'_>> = rendering
        .targets
        .iter()
        .map(|(cluster, rendered)| {
            let key = (cluster.clone(), rendered.digest.clone());
            TargetArrival {
                cluster,
                rendered: &rendered.digest,
                desired: rows.get(cluster).and_then(|row| row.desired_digest.as_deref()),
                completed_before: completed.contains(&key),
                blocked: blocked.contains_key(&key),
            }
        })
        .collect();
    Ok(classify(&arrivals))
}

/// What is to be released, and how.
pub struct NewRelease<'a> {
    /// The commit.
    pub commit: &'a Commit,
    /// What it renders.
    pub rendering: &'a Rendering,
    /// What the application says.
    pub spec: &'a ApplicationSpec,
    /// No soak, no gate, everywhere at once.
    pub fast: bool,
    /// Commits to be taken back in git besides, newest first.
    pub reverts: Vec<String>,
    /// Why it waits for a person, where it does.
    pub hold: Option<String>,
    /// `models/{model}/versions/{version}`, where the commit brings one.
    pub model_version: String,
    /// What caused it.
    pub traceparent: String,
}

/// Makes a release; the application's row must be locked. A release that is on its way is superseded.
pub async fn create(
    app: &App,
    tx: &mut Tx,
    application: &mut Application,
    clusters: &BTreeMap<String, Cluster>,
    fleets: &BTreeMap<String, Vec<String>>,
    new: NewRelease<'_>,
) -> Result<ReleaseRow> {
    let now = app.clock.now();
    supersede(app, tx, application, new.commit, now).await?;
    application.releases += 1;
    let id = format!("r{}-{}", application.releases, &new.commit.id[..7]);
    let name = view::release_name(&application.name, &id)?;
    let state = if new.hold.is_some() { ReleaseState::Paused } else { ReleaseState::Pending };
    let reason = new.hold.unwrap_or_else(|| "waits for its verdict".to_owned());
    let mut paths: Vec<String> = new.rendering.paths.iter().cloned().collect();
    paths.truncate(1_000);
    let row = ReleaseRow {
        name: name.clone(),
        number: application.releases,
        version: 1,
        commit: new.commit.id.clone(),
        title: new.commit.title.clone(),
        state,
        fast_lane: new.fast,
        reason: reason.clone(),
        wave: 0,
        step: 0,
        promoted: false,
        manifest: application.manifest.clone(),
        paths,
        model_version: new.model_version,
        policy_revision: String::new(),
        warnings: Vec::new(),
        revert: if new.reverts.is_empty() { Revert::None } else { Revert::Pending },
        revert_commits: new.reverts,
        revert_commit: String::new(),
        revert_due_at: now,
        due_at: None,
        traceparent: new.traceparent,
        created_at: now,
        finished_at: None,
    };
    release::insert(tx, &row).await?;
    measurement::record(tx, &name, &Transition { state, wave: 0, reason, at: now }).await?;
    let known = target::of(tx, &application.name).await?;
    let waves = waves(new.spec, &new.rendering.targets, clusters, fleets);
    for ((cluster, rendered), wave) in new.rendering.targets.iter().zip(waves) {
        let wave = if new.fast { 0 } else { wave };
        desired::put_bundle(tx, &rendered.objects).await?;
        let none = TargetRow::default();
        let known = known.get(cluster).unwrap_or(&none);
        let progress = progress(tx, cluster, wave, rendered, known, new.spec, new.fast, now).await?;
        release::save_target(tx, &name, &progress).await?;
    }
    if let Ok(selected) = select(new.spec, clusters, fleets) {
        leave::mark(tx, &application.name, &name, new.spec, &selected, now).await?;
    }
    application.current_release = Some(id);
    let release = release::get(tx, &name).await?.ok_or_else(|| Error::not_found(&name))?;
    view::publish_release(tx, release.clone()).await?;
    Ok(release)
}

/// Where a target begins.
#[expect(clippy::too_many_arguments, reason = "each is a different fact about the one target")]
async fn progress(
    tx: &mut Tx,
    cluster: &str,
    wave: usize,
    rendered: &RenderedTarget,
    known: &TargetRow,
    spec: &ApplicationSpec,
    fast: bool,
    now: jiff::Timestamp,
) -> Result<TargetProgress> {
    let mut target = Target::new(cluster, wave, now);
    target.has_last_good = known.last_good_digest.is_some();
    target.touched = known.touched;
    target.unchanged = known.last_good_digest.as_ref() == Some(&rendered.digest) && !known.touched;
    let stable = match &known.last_good_digest {
        Some(digest) => desired::bundle(tx, digest).await?,
        None => Vec::new(),
    };
    let traffic = spec.rollout.traffic.as_ref();
    let wanted = Wanted {
        rendered: &rendered.objects,
        traffic,
        stable: known.last_good_digest.as_ref().map(|_| Stable { rendered: &stable, subsets: &known.last_good_subsets }),
        weight: 100,
    };
    let own: &[u8] = spec.rollout.waves.get(wave).map_or(&[], |wave| &wave.weights);
    target.weights = traffic::steps(wanted, own)?;
    if fast {
        target.weights = target.weights.last().copied().into_iter().collect();
    }
    let (candidate_version, candidate_revision) = traffic::headline(&rendered.objects, traffic, &stable)?;
    Ok(TargetProgress {
        target,
        rendered_digest: rendered.digest.clone(),
        last_good_digest: known.last_good_digest.clone(),
        subsets: known.last_good_subsets.clone(),
        candidate_version,
        candidate_revision,
        told_revision: 0,
    })
}

/// The wave of each target, in the order of the rendering.
fn waves(
    spec: &ApplicationSpec,
    targets: &BTreeMap<String, RenderedTarget>,
    clusters: &BTreeMap<String, Cluster>,
    fleets: &BTreeMap<String, Vec<String>>,
) -> Vec<usize> {
    let unknown = Cluster::default();
    let memberships: Vec<(&str, &Cluster, Vec<String>)> = targets
        .keys()
        .map(|name| {
            let of = fleets.iter().filter(|(_, members)| members.contains(name)).map(|(fleet, _)| fleet.clone());
            (name.as_str(), clusters.get(name).unwrap_or(&unknown), of.collect())
        })
        .collect();
    assign_waves(
        &spec.rollout.waves,
        memberships.iter().map(|(name, cluster, fleets)| (*name, &cluster.labels, fleets.as_slice())),
    )
}

/// A newer commit takes the place of a release that is not finished.
async fn supersede(app: &App, tx: &mut Tx, application: &Application, commit: &Commit, now: jiff::Timestamp) -> Result<()> {
    let Some(current) = &application.current_release else { return Ok(()) };
    let name = view::release_name(&application.name, current)?;
    let state = release::get(tx, &name).await?.map(|row| row.state);
    if state.is_none_or(ReleaseState::is_final) {
        return Ok(());
    }
    advance::recall(app, tx, &name).await?;
    let Some(mut row) = release::get(tx, &name).await? else { return Ok(()) };
    row.state = ReleaseState::Superseded;
    row.reason = format!("commit {} took its place", &commit.id[..7]);
    row.finished_at = Some(now);
    row.due_at = None;
    let wave = row.wave.cast_unsigned() + 1;
    release::update(tx, &mut row).await?;
    let transition = Transition { state: row.state, wave, reason: row.reason.clone(), at: now };
    measurement::record(tx, &name, &transition).await?;
    view::publish_release(tx, row).await?;
    Ok(())
}

/// What caused a commit: the training whose version it brings, else what runs now.
pub async fn cause_of(app: &App, commit: &Commit) -> Result<(String, String)> {
    let trailer = commit.message.lines().rev().find_map(|line| line.strip_prefix("Muster-Model: "));
    let named = trailer.and_then(|name| name.split_once('/')).filter(|_| !commit.title.starts_with("Revert "));
    if let Some((model, version)) = named
        && let Some(row) = crate::store::model::version(&mut *app.pool.acquire().await?, model, version).await?
    {
        return Ok((format!("models/{model}/versions/{version}"), row.traceparent));
    }
    Ok((String::new(), telemetry::current_traceparent()))
}
