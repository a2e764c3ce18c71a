//! Releases: reading them, and what people do to them.

use super::{
    App,
    plan::{self, NewRelease, RenderedTarget, Rendering},
    view::{self, ReleaseView},
};
use crate::domain::release::{Arrival, Change, ReleaseState};
use crate::domain::selection::select;
use crate::domain::spec::{ApplicationSpec, parse_application};
use crate::reconcile::advance;
use crate::store::{
    application::{self, Application},
    cluster, desired,
    measurement::{self, Transition},
    release::{self, ReleaseRow, Revert},
    repository, target,
};
use muster_core::{
    manifest::parse_one,
    name::{ApplicationName, ReleaseName},
    page::Page,
};
use muster_kit::{Caller, Error, Result, Role, Tx, audit, error::parse_name, telemetry};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a stored application's document says; it was checked when it was stored.
pub fn spec(manifest: &str) -> Result<ApplicationSpec> {
    let manifest = parse_one(manifest).map_err(Error::internal)?;
    Ok(parse_application(&manifest).map_err(Error::internal)?.spec)
}

/// One release.
pub async fn get(app: &App, caller: &Caller, name: &str) -> Result<ReleaseView> {
    caller.require(Role::Viewer)?;
    let name: ReleaseName = parse_name("name", name)?;
    let mut connection = app.pool.acquire().await?;
    let row = release::get(&mut connection, &name).await?.ok_or_else(|| Error::not_found(name))?;
    view::release(&mut connection, row).await
}

/// Reads `namespaces/{namespace}/applications/{application}`, with `-` for either; empty texts for all.
pub fn parse_release_parent(parent: &str) -> Result<(String, String)> {
    let wrong = || Error::invalid("parent", "must be namespaces/{namespace}/applications/{application}, with - for all");
    let parts: Vec<&str> = parent.split('/').collect();
    let ["namespaces", namespace, "applications", application] = parts[..] else { return Err(wrong()) };
    let id = |id: &str| match id {
        "-" => Ok(String::new()),
        id => {
            muster_core::name::check_id(id).map(|()| id.to_owned()).map_err(|error| Error::invalid("parent", error.to_string()))
        }
    };
    Ok((id(namespace)?, id(application)?))
}

/// A page of releases, newest first, and the token of the next.
pub async fn list(app: &App, caller: &Caller, parent: &str, size: i32, token: &str) -> Result<(Vec<ReleaseView>, String)> {
    caller.require(Role::Viewer)?;
    let (namespace, application) = parse_release_parent(parent)?;
    let page = Page::parse(size, token, parent)?;
    let before = match page.after.split_once(' ') {
        Some((at, key)) => {
            let at = at.parse().map_err(|_| Error::invalid("page_token", "not a token of this list"))?;
            Some((at, key))
        }
        None => None,
    };
    let mut rows = release::list(&app.pool, &namespace, &application, before, page.limit()).await?;
    let key = |row: &ReleaseRow| {
        format!("{} {}/{}/{}", row.created_at, row.name.namespace(), row.name.application(), row.name.release())
    };
    let next = page.finish(&mut rows, key);
    let mut connection = app.pool.acquire().await?;
    let mut views = Vec::with_capacity(rows.len());
    for row in rows {
        views.push(view::release(&mut connection, row).await?);
    }
    Ok((views, next))
}

/// A release that was prepared outside of a transaction.
pub struct Prepared {
    application: Application,
    spec: ApplicationSpec,
    commit: crate::git::Commit,
    rendering: Rendering,
    fast: bool,
    reverts: Vec<String>,
    model_version: String,
    traceparent: String,
    /// The release whose renderings are set free, or blocked.
    other: Option<ReleaseName>,
}

impl Prepared {
    /// What the application says.
    pub fn spec(&self) -> &ApplicationSpec {
        &self.spec
    }

    /// What the commit renders.
    pub fn rendering(&self) -> &Rendering {
        &self.rendering
    }

    /// The commit's full hash.
    pub fn commit(&self) -> &str {
        &self.commit.id
    }
}

/// Reads and renders a commit of an application's repository; `commit_field` is the field that names the commit.
pub async fn prepare(app: &App, name: ApplicationName, commit_field: &str, commit: &str) -> Result<Prepared> {
    let application = application::get(&app.pool, &name).await?.ok_or_else(|| Error::not_found(&name))?;
    let spec = spec(&application.manifest)?;
    let source = super::repository::source_of(&name, &application.manifest)?;
    let source = repository::get(&app.pool, &source)
        .await?
        .ok_or_else(|| Error::precondition("NO_REPOSITORY", format!("{source} does not exist")))?;
    let clusters = cluster::all(&app.pool).await?;
    let selected = select(&spec, &clusters, &cluster::fleets(&app.pool).await?)
        .map_err(|reason| Error::precondition("NO_TARGETS", reason.to_string()))?;
    let open = app.sources.open(&source).await?;
    let wanted = if commit.is_empty() { source.commit.as_deref().unwrap_or_default() } else { commit };
    let commit = open.mirror.resolve(wanted).await.map_err(|error| match error {
        crate::git::GitError::NoSuchReference(_) => Error::invalid(commit_field, error.to_string()),
        other => other.into(),
    })?;
    let rendering = plan::render(app, &open.mirror, &commit.id, &selected).await?;
    let (model_version, traceparent) = plan::cause_of(app, &commit).await?;
    Ok(Prepared {
        application,
        spec,
        commit,
        rendering,
        fast: false,
        reverts: Vec::new(),
        model_version,
        traceparent,
        other: None,
    })
}

/// Releases a commit of a person's choice.
pub async fn prepare_commit(app: &App, parent: &str, commit: &str) -> Result<Prepared> {
    if commit.is_empty() {
        return Err(Error::invalid("release.commit", "must be a full hash or a ref of the repository"));
    }
    let name: ApplicationName = parse_name("parent", parent)?;
    let mut prepared = prepare(app, name, "release.commit", commit).await?;
    match plan::arrival(app, &prepared.application, &prepared.rendering).await? {
        Arrival::NoChange => return Err(Error::precondition("NO_CHANGE", "it renders to what runs everywhere")),
        Arrival::Blocked(clusters) => {
            return Err(Error::precondition(
                "BLOCKED",
                format!("it renders what was rolled back from {}; retry the release that failed", clusters.join(", ")),
            ));
        }
        Arrival::Fast => prepared.fast = true,
        Arrival::Waves => {}
    }
    Ok(prepared)
}

/// Releases a failed release's commit anew.
pub async fn prepare_retry(app: &App, name: &str) -> Result<Prepared> {
    let name: ReleaseName = parse_name("name", name)?;
    let mut connection = app.pool.acquire().await?;
    let row = release::get(&mut connection, &name).await?.ok_or_else(|| Error::not_found(&name))?;
    match row.state {
        ReleaseState::Failed | ReleaseState::Refused => {}
        _ => return Err(Error::precondition("NOT_FAILED", "only a failed or refused release can be retried")),
    }
    let parent = ApplicationName::new(name.namespace(), name.application()).map_err(Error::internal)?;
    let application = application::get(&app.pool, &parent).await?.ok_or_else(|| Error::not_found(&parent))?;
    let spec = spec(&application.manifest)?;
    let mut rendering = stored(&mut connection, &name, &row).await?;
    drop(connection);
    select_anew(app, &application, &spec, &row.commit, &mut rendering).await?;
    Ok(Prepared {
        spec,
        application,
        commit: commit_of(&row),
        rendering,
        fast: false,
        reverts: Vec::new(),
        model_version: row.model_version,
        traceparent: telemetry::current_traceparent(),
        other: Some(name),
    })
}

/// What a release rendered, from what is stored.
async fn stored(connection: &mut sqlx::PgConnection, name: &ReleaseName, row: &ReleaseRow) -> Result<Rendering> {
    let mut rendering = Rendering { paths: row.paths.iter().cloned().collect(), ..Rendering::default() };
    for target in release::targets(connection, name).await?.into_iter().filter(|target| !target.target.has_left()) {
        let objects = Arc::new(desired::bundle(connection, &target.rendered_digest).await?);
        rendering.targets.insert(target.target.cluster, RenderedTarget { objects, digest: target.rendered_digest });
    }
    Ok(rendering)
}

/// What is stored is of the clusters of its day: those that no target means now are left out, and those that came since are
/// rendered, where the repository can be read.
async fn select_anew(
    app: &App,
    application: &Application,
    spec: &ApplicationSpec,
    commit: &str,
    rendering: &mut Rendering,
) -> Result<()> {
    let clusters = cluster::all(&app.pool).await?;
    let selected = select(spec, &clusters, &cluster::fleets(&app.pool).await?)
        .map_err(|reason| Error::precondition("NO_TARGETS", reason.to_string()))?;
    rendering.targets.retain(|cluster, _| selected.contains_key(cluster));
    let new: BTreeMap<String, String> =
        selected.into_iter().filter(|(cluster, _)| !rendering.targets.contains_key(cluster)).collect();
    let source = super::repository::source_of(&application.name, &application.manifest)?;
    if !new.is_empty()
        && let Some(source) = repository::get(&app.pool, &source).await?
        && let Ok(open) = app.sources.open(&source).await
        && let Ok(rendered) = plan::render(app, &open.mirror, commit, &new).await
    {
        rendering.targets.extend(rendered.targets);
    }
    if rendering.targets.is_empty() {
        return Err(Error::precondition("NO_TARGETS", "none of its clusters is selected any more"));
    }
    Ok(())
}

fn commit_of(row: &ReleaseRow) -> crate::git::Commit {
    crate::git::Commit { id: row.commit.clone(), title: row.title.clone(), message: row.title.clone(), parents: Vec::new() }
}

/// Takes an application back to the completed release before the last; none where the present one is to be aborted.
pub async fn prepare_rollback(app: &App, name: &str) -> Result<Prepared> {
    let name: ApplicationName = parse_name("name", name)?;
    let application = application::get(&app.pool, &name).await?.ok_or_else(|| Error::not_found(&name))?;
    let done = release::completed(&app.pool, &name, 50).await?;
    let last = done.first().ok_or_else(|| Error::precondition("NOTHING_COMPLETED", "no release has completed yet"))?;
    let previous = done
        .iter()
        .find(|row| row.commit != last.commit)
        .ok_or_else(|| Error::precondition("NOTHING_BEFORE", "no release has completed before the last one"))?;
    let mut connection = app.pool.acquire().await?;
    let spec = spec(&application.manifest)?;
    let mut rendering = stored(&mut connection, &previous.name, previous).await?;
    drop(connection);
    select_anew(app, &application, &spec, &previous.commit, &mut rendering).await?;
    let source = super::repository::source_of(&name, &application.manifest)?;
    let mut reverts = vec![last.commit.clone()];
    if let Some(source) = repository::get(&app.pool, &source).await?
        && let Ok(open) = app.sources.open(&source).await
        && let Ok(commits) = open.mirror.log(&previous.commit, &last.commit, &last.paths).await
        && !commits.is_empty()
    {
        reverts = commits.into_iter().map(|commit| commit.id).collect();
    }
    let mut commit = commit_of(previous);
    commit.title = format!("Back to: {}", previous.title);
    rendering.paths.extend(last.paths.iter().cloned());
    Ok(Prepared {
        spec,
        application,
        commit,
        rendering,
        fast: true,
        reverts,
        model_version: previous.model_version.clone(),
        traceparent: telemetry::current_traceparent(),
        other: Some(last.name.clone()),
    })
}

/// The release of an application that is on its way, if one is.
pub async fn under_way(app: &App, name: &str) -> Result<Option<String>> {
    let name: ApplicationName = parse_name("name", name)?;
    let Some(row) = application::get(&app.pool, &name).await? else { return Err(Error::not_found(name)) };
    let Some(current) = row.current_release else { return Ok(None) };
    let current = view::release_name(&name, &current)?;
    let row = release::get(&mut *app.pool.acquire().await?, &current).await?;
    let open = row.is_some_and(|row| matches!(row.state, ReleaseState::Progressing | ReleaseState::Paused));
    Ok(open.then(|| current.to_string()))
}

/// What becomes of the renderings of [`Prepared::other`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    /// Nothing.
    Keep,
    /// They may be deployed again.
    Free,
    /// They are not deployed again by themselves.
    Block,
}

/// Makes a prepared release.
pub async fn start(
    app: &App,
    tx: &mut Tx,
    caller: &Caller,
    prepared: &Prepared,
    other: Other,
    action: &'static str,
) -> Result<ReleaseView> {
    let name = &prepared.application.name;
    let mut row = application::lock(tx, name).await?.ok_or_else(|| Error::not_found(name))?;
    if row.manifest != prepared.application.manifest {
        return Err(Error::conflict("STALE", "the application changed meanwhile; try again"));
    }
    if let Some(release) = &prepared.other {
        match other {
            Other::Keep => {}
            Other::Free => target::unblock(tx, name, release.release()).await?,
            Other::Block => {
                for target in release::targets(tx, release).await? {
                    target::block(tx, name, &target.target.cluster, &target.rendered_digest, release.release()).await?;
                }
            }
        }
    }
    let new = NewRelease {
        commit: &prepared.commit,
        rendering: &prepared.rendering,
        spec: &prepared.spec,
        fast: prepared.fast,
        reverts: prepared.reverts.clone(),
        hold: None,
        model_version: prepared.model_version.clone(),
        traceparent: prepared.traceparent.clone(),
    };
    let clusters = cluster::all(&app.pool).await?;
    let fleets = cluster::fleets(&app.pool).await?;
    let release = plan::create(app, tx, &mut row, &clusters, &fleets, new).await?;
    application::update(tx, &row).await?;
    audit::record(tx, caller, action, &release.name.to_string()).await?;
    app.wakes.advance.now();
    view::release(tx, release).await
}

/// What a person does to a release on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intervention {
    /// Stops before the next step.
    Pause,
    /// Goes on.
    Resume,
    /// Passes the present soak and gate, once.
    Promote,
    /// Everything touched goes back.
    Abort,
}

/// Does it.
pub async fn intervene(app: &App, tx: &mut Tx, caller: &Caller, name: &str, what: Intervention) -> Result<ReleaseView> {
    let name: ReleaseName = parse_name("name", name)?;
    let parent = ApplicationName::new(name.namespace(), name.application()).map_err(Error::internal)?;
    application::lock(tx, &parent).await?.ok_or_else(|| Error::not_found(&name))?;
    let mut row = release::get(tx, &name).await?.ok_or_else(|| Error::not_found(&name))?;
    let refuse = |needed: &str| {
        Err(Error::precondition("WRONG_STATE", format!("it is {:?}; it must be {needed}", row.state).to_lowercase()))
    };
    let before = row.state;
    let by = format!("by {caller}");
    let action = match (what, row.state) {
        (Intervention::Pause, ReleaseState::Pending | ReleaseState::Progressing) => {
            row.state = ReleaseState::Paused;
            row.reason = format!("paused {by}");
            "PauseRelease"
        }
        (Intervention::Pause, ReleaseState::Paused) => "PauseRelease",
        (Intervention::Resume, ReleaseState::Paused) => {
            let judged = !row.policy_revision.is_empty();
            row.state = if judged { ReleaseState::Progressing } else { ReleaseState::Pending };
            row.reason = format!("resumed {by}");
            "ResumeRelease"
        }
        (Intervention::Resume, ReleaseState::Progressing | ReleaseState::Pending) => "ResumeRelease",
        (Intervention::Promote, ReleaseState::Progressing) => {
            row.promoted = true;
            "PromoteRelease"
        }
        (Intervention::Abort, ReleaseState::RollingBack | ReleaseState::Failed) => "AbortRelease",
        (Intervention::Abort, ReleaseState::Pending | ReleaseState::Progressing | ReleaseState::Paused) => {
            row.due_at = None;
            let change = Change::Fail { reason: format!("aborted {by}") };
            release::update(tx, &mut row).await?;
            audit::record(tx, caller, "AbortRelease", &name.to_string()).await?;
            app.wakes.dispatch.now();
            app.wakes.advance.now();
            app.wakes.write.now();
            return advance::force(app, tx, &name, &[change]).await;
        }
        (Intervention::Pause, _) => return refuse("pending or progressing"),
        (Intervention::Resume, _) => return refuse("paused"),
        (Intervention::Promote, _) => return refuse("progressing"),
        (Intervention::Abort, _) => return refuse("on its way"),
    };
    row.due_at = None;
    release::update(tx, &mut row).await?;
    if row.state != before {
        let wave = row.wave.cast_unsigned() + 1;
        let transition = Transition { state: row.state, wave, reason: row.reason.clone(), at: app.clock.now() };
        measurement::record(tx, &name, &transition).await?;
    }
    audit::record(tx, caller, action, &name.to_string()).await?;
    app.wakes.advance.now();
    view::publish_release(tx, row).await
}

/// Whether a release's failure is to be taken back in git: it changed something that there was before.
pub(crate) fn is_revertible(row: &ReleaseRow, has_last_good: bool) -> bool {
    has_last_good && !row.fast_lane && row.revert == Revert::None
}
