//! Decides what the commit of each application's repository means: nothing, a release, or what failed before.

use super::leader::{self, Leader};
use super::leave;
use crate::app::{
    App,
    plan::{self, NewRelease, Rendering},
    release::spec,
    repository::source_of,
    view,
};
use crate::domain::cluster::Cluster;
use crate::domain::release::{Arrival, ReleaseState};
use crate::domain::selection::{Unselected, select};
use crate::domain::spec::ApplicationSpec;
use crate::store::{
    application::{self, Application, ApplicationState},
    cluster, desired, release, repository,
};
use async_trait::async_trait;
use muster_core::Digest;
use muster_kit::{Result, Tx, db, error::Kind, reconcile::Reconciler};
use std::collections::BTreeMap;

/// Decides about applications.
pub struct DecisionReconciler {
    /// The use cases.
    pub app: App,
    /// Who decides.
    pub leader: Leader,
}

#[async_trait]
impl Reconciler for DecisionReconciler {
    fn name(&self) -> &'static str {
        "decide"
    }

    async fn tick(&self) -> Result<()> {
        let Some(epoch) = self.leader.epoch().await? else { return Ok(()) };
        let clusters = cluster::all(&self.app.pool).await?;
        let fleets = cluster::fleets(&self.app.pool).await?;
        let mut first_failure = Ok(());
        for application in application::all(&self.app.pool).await? {
            // One application's trouble does not hold the others up.
            if let Err(error) = decide(&self.app, epoch, application, &clusters, &fleets).await
                && error.kind() != Kind::Conflict
                && first_failure.is_ok()
            {
                first_failure = Err(error);
            }
        }
        first_failure
    }
}

/// What is to be stored about an application that is not to be released now.
enum Decision {
    /// Look again at the next pass; why, for people.
    NotYet(String),
    /// Not before something changes; why, for people.
    Settled(String),
    /// Nothing is said: what runs goes on.
    Silent,
}

async fn decide(
    app: &App,
    epoch: u64,
    application: Application,
    clusters: &BTreeMap<String, Cluster>,
    fleets: &BTreeMap<String, Vec<String>>,
) -> Result<()> {
    let spec = spec(&application.manifest)?;
    let source_name = source_of(&application.name, &application.manifest)?;
    let Some(source) = repository::get(&app.pool, &source_name).await? else {
        return remember(app, epoch, &application, Decision::NotYet(format!("{source_name} does not exist yet")), None).await;
    };
    let Some(commit) = source.commit.clone() else {
        let why = if source.problem.is_empty() { "has not been read yet" } else { &source.problem };
        return remember(app, epoch, &application, Decision::NotYet(format!("{source_name}: {why}")), None).await;
    };
    let intent = Digest::of(format!("{commit}\0{}", application.manifest).as_bytes());
    let selected = match select(&spec, clusters, fleets) {
        Ok(selected) => selected,
        // Nobody said that it is to go, so it stays where it is, and that is shown.
        Err(Unselected::Nothing) if application.current_release.is_some() => {
            let reason = "no cluster is selected any more; what was delivered stays until the application is deleted";
            let key = format!("{} none", intent.hex());
            return remember(app, epoch, &application, Decision::Settled(reason.to_owned()), Some(&key)).await;
        }
        Err(reason) => return remember(app, epoch, &application, Decision::NotYet(reason.to_string()), None).await,
    };
    let key = format!("{} {}", intent.hex(), Digest::of(format!("{selected:?}").as_bytes()).hex());
    if key == application.decided_from {
        return Ok(());
    }
    // A fleet that grows does not send a release under way back to its first wave.
    if application.decided_from.starts_with(intent.hex()) && is_under_way(app, &application).await? {
        return Ok(());
    }
    let open = app.sources.open(&source).await?;
    let resolved = open.mirror.resolve(&commit).await?;
    let rendering = match plan::render(app, &open.mirror, &commit, &selected).await {
        Ok(rendering) => rendering,
        Err(error) if error.is_temporary() => {
            return remember(app, epoch, &application, Decision::NotYet(error.to_string()), None).await;
        }
        Err(error) => {
            let reason = format!("commit {} cannot be rendered: {error}", &commit[..7]);
            return remember(app, epoch, &application, Decision::Settled(reason), Some(&key)).await;
        }
    };
    drop(open);
    if is_same_as_under_way(app, &application, &rendering).await? {
        return remember(app, epoch, &application, Decision::Silent, Some(&key)).await;
    }
    let fast = match plan::arrival(app, &application, &rendering).await? {
        Arrival::NoChange => return no_change(app, epoch, &application, &spec, &selected, &key).await,
        Arrival::Blocked(names) => {
            let reason = format!(
                "commit {} would bring again to {} what was rolled back there; `retry` of the failed release lets it",
                &commit[..7],
                names.join(", ")
            );
            return remember(app, epoch, &application, Decision::Settled(reason), Some(&key)).await;
        }
        Arrival::Fast => true,
        Arrival::Waves => false,
    };
    let (model_version, traceparent) = plan::cause_of(app, &resolved).await?;
    let hold = (!spec.automated && !fast).then(|| "syncPolicy.automated is not set: resume it to release".to_owned());
    let traceparent = if traceparent.is_empty() { application.traceparent.clone() } else { traceparent };
    let new = NewRelease {
        commit: &resolved,
        rendering: &rendering,
        spec: &spec,
        fast,
        reverts: Vec::new(),
        hold,
        model_version,
        traceparent,
    };
    let mut tx = db::begin(&app.pool).await?;
    leader::check(&mut tx, epoch).await?;
    let Some(mut row) = locked(&mut tx, &application).await? else { return Ok(()) };
    let made = match plan::create(app, &mut tx, &mut row, clusters, fleets, new).await {
        Ok(made) => made,
        Err(error) if error.kind() == Kind::Precondition => {
            drop(tx);
            let reason = format!("commit {} cannot be released: {error}", &commit[..7]);
            return remember(app, epoch, &application, Decision::Settled(reason), Some(&key)).await;
        }
        Err(error) => return Err(error),
    };
    row.decided_from = key;
    row.problem = String::new();
    row.state = ApplicationState::Progressing;
    row.reason = made.reason.clone();
    application::update(&mut tx, &row).await?;
    view::publish_application(&mut tx, &row.name).await?;
    tx.commit().await?;
    tracing::info!(release = %made.name, commit, fast_lane = fast, "a release begins");
    app.wakes.advance.now();
    Ok(())
}

/// The application's row, if nobody changed it since it was read.
async fn locked(tx: &mut Tx, application: &Application) -> Result<Option<Application>> {
    let row = application::lock(tx, &application.name).await?;
    Ok(row.filter(|row| row.manifest == application.manifest && row.decided_from == application.decided_from))
}

async fn is_under_way(app: &App, application: &Application) -> Result<bool> {
    let Some(current) = &application.current_release else { return Ok(false) };
    let name = view::release_name(&application.name, current)?;
    let row = release::get(&mut *app.pool.acquire().await?, &name).await?;
    Ok(row.is_some_and(|row| !row.state.is_final()))
}

/// Whether the release on its way renders exactly this: an unrelated commit on top of it.
async fn is_same_as_under_way(app: &App, application: &Application, rendering: &Rendering) -> Result<bool> {
    let Some(current) = &application.current_release else { return Ok(false) };
    let name = view::release_name(&application.name, current)?;
    let mut connection = app.pool.acquire().await?;
    let Some(row) = release::get(&mut connection, &name).await? else { return Ok(false) };
    if !matches!(row.state, ReleaseState::Pending | ReleaseState::Progressing | ReleaseState::Paused) {
        return Ok(false);
    }
    let mut targets = release::targets(&mut connection, &name).await?;
    targets.retain(|target| !target.target.has_left());
    Ok(row.manifest == application.manifest
        && targets.len() == rendering.targets.len()
        && targets.iter().all(|target| {
            rendering.targets.get(&target.target.cluster).is_some_and(|rendered| rendered.digest == target.rendered_digest)
        }))
}

/// It renders to what runs: only what the document says of healing and pruning may be new, and clusters may have left.
async fn no_change(
    app: &App,
    epoch: u64,
    application: &Application,
    spec: &ApplicationSpec,
    selected: &BTreeMap<String, String>,
    key: &str,
) -> Result<()> {
    let mut tx = db::begin(&app.pool).await?;
    leader::check(&mut tx, epoch).await?;
    let Some(mut row) = locked(&mut tx, application).await? else { return Ok(()) };
    let item = desired::item_of(&application.name);
    if let Some(current) = &row.current_release {
        let name = view::release_name(&row.name, current)?;
        leave::mark(&mut tx, &row.name, &name, spec, selected, app.clock.now()).await?;
    }
    let items = desired::items(&mut tx, &item).await?.into_iter().filter(|(cluster, _)| selected.contains_key(cluster));
    for (cluster, known) in items {
        let mut wish = known.wish.clone();
        wish.self_heal = spec.self_heal;
        wish.prune |= spec.prune;
        if wish != known.wish && !wish.tombstone {
            let revision = desired::wish(&mut tx, &cluster, &item, &wish).await?;
            retell(&mut tx, application, &cluster, revision).await?;
        }
    }
    row.decided_from = key.to_owned();
    row.problem = String::new();
    application::update(&mut tx, &row).await?;
    tx.commit().await?;
    app.wakes.dispatch.now();
    app.wakes.advance.now();
    Ok(())
}

/// The same bundle under a new revision is still what the present release told the target.
async fn retell(tx: &mut Tx, application: &Application, cluster: &str, revision: i64) -> Result<()> {
    let Some(current) = &application.current_release else { return Ok(()) };
    let name = view::release_name(&application.name, current)?;
    for mut target in release::targets(tx, &name).await? {
        if target.target.cluster == cluster {
            target.told_revision = revision;
            release::save_target(tx, &name, &target).await?;
        }
    }
    Ok(())
}

async fn remember(app: &App, epoch: u64, application: &Application, decision: Decision, key: Option<&str>) -> Result<()> {
    let (state, reason, problem) = match &decision {
        Decision::NotYet(reason) if application.current_release.is_none() => (ApplicationState::Pending, reason.clone(), ""),
        // What runs goes on, and what is said of it stays true.
        Decision::NotYet(_) | Decision::Silent => (application.state, application.reason.clone(), ""),
        Decision::Settled(reason) => (ApplicationState::Degraded, reason.clone(), reason.as_str()),
    };
    let problem = problem.to_owned();
    let unchanged = state == application.state && reason == application.reason;
    if unchanged && key.is_none_or(|key| key == application.decided_from) {
        return Ok(());
    }
    let mut tx = db::begin(&app.pool).await?;
    leader::check(&mut tx, epoch).await?;
    let Some(mut row) = locked(&mut tx, application).await? else { return Ok(()) };
    row.state = state;
    row.reason = reason;
    if let Some(key) = key {
        row.problem = problem;
        key.clone_into(&mut row.decided_from);
    }
    application::update(&mut tx, &row).await?;
    view::publish_application(&mut tx, &row.name).await?;
    tx.commit().await?;
    Ok(())
}
