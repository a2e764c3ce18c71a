//! Models and their versions: exactly one version and one commit per (model, version, digest), whatever way it came.

use super::{App, MAX_MANIFEST};
use crate::domain::model::{ModelDocument, Report, Reporter, Training, parse_model, report};
use crate::error::in_field;
use crate::store::model::{self, CommitState, ModelRow, VersionRow};
use muster_core::{
    manifest::parse_one,
    name::{ModelName, ModelVersionName},
    page::Page,
};
use muster_kit::{
    Caller, Error, Result, Role, Tx, audit,
    db::check_etag,
    error::{parse_manifest, parse_name},
    telemetry,
};

/// What a stored model's document says; it was checked when it was stored.
pub fn document(manifest: &str) -> Result<ModelDocument> {
    let manifest = parse_one(manifest).map_err(Error::internal)?;
    parse_model(&manifest).map_err(Error::internal)
}

/// Reads a document; `id` (or empty) must agree with it. Gives the model's identifier.
pub fn read(id: &str, manifest: &str) -> Result<String> {
    let field = "model.manifest";
    let parsed = parse_manifest(field, manifest, MAX_MANIFEST)?;
    let document = parse_model(&parsed).map_err(|error| in_field(field, &error))?;
    if !id.is_empty() && id != document.name {
        return Err(Error::invalid("model_id", format!("the manifest says metadata.name {}", document.name)));
    }
    Ok(document.name)
}

/// One model.
pub async fn get(app: &App, caller: &Caller, name: &str) -> Result<ModelRow> {
    caller.require(Role::Viewer)?;
    let name: ModelName = parse_name("name", name)?;
    model::get(&mut *app.pool.acquire().await?, name.model()).await?.ok_or_else(|| Error::not_found(name))
}

/// A page of models and the token of the next.
pub async fn list(app: &App, caller: &Caller, size: i32, token: &str) -> Result<(Vec<ModelRow>, String)> {
    caller.require(Role::Viewer)?;
    let page = Page::parse(size, token, "models")?;
    let mut rows = model::list(&app.pool, &page).await?;
    let next = page.finish(&mut rows, |row| row.model.clone());
    Ok((rows, next))
}

/// Makes one.
pub async fn create(app: &App, tx: &mut Tx, caller: &Caller, id: &str, manifest: &str) -> Result<ModelRow> {
    if model::get(tx, id).await?.is_some() {
        return Err(Error::already_exists(format!("models/{id}"), format!("models/{id} exists")));
    }
    store(app, tx, caller, id, manifest, "CreateModel").await
}

/// Replaces one; `etag` if set must be current.
pub async fn update(
    app: &App,
    tx: &mut Tx,
    caller: &Caller,
    id: &str,
    manifest: &str,
    etag: &str,
    allow_missing: bool,
) -> Result<ModelRow> {
    match model::get(tx, id).await? {
        Some(known) => {
            check_etag(etag, known.version)?;
            if known.manifest == manifest {
                return Ok(known);
            }
        }
        None if allow_missing => {}
        None => return Err(Error::not_found(format!("models/{id}"))),
    }
    store(app, tx, caller, id, manifest, "UpdateModel").await
}

async fn store(app: &App, tx: &mut Tx, caller: &Caller, id: &str, manifest: &str, action: &'static str) -> Result<ModelRow> {
    model::save(tx, id, manifest, app.clock.now()).await?;
    audit::record(tx, caller, action, &format!("models/{id}")).await?;
    app.wakes.write.now();
    model::get(tx, id).await?.ok_or_else(|| Error::not_found(format!("models/{id}")))
}

/// Deletes one without versions.
pub async fn delete(tx: &mut Tx, caller: &Caller, name: &str, etag: &str) -> Result<()> {
    let name: ModelName = parse_name("name", name)?;
    let known = model::get(tx, name.model()).await?.ok_or_else(|| Error::not_found(&name))?;
    check_etag(etag, known.version)?;
    if !known.latest.is_empty() {
        return Err(Error::precondition("HAS_VERSIONS", format!("{name} has versions")));
    }
    model::delete(tx, name.model()).await?;
    audit::record(tx, caller, "DeleteModel", &name.to_string()).await
}

/// One version.
pub async fn get_version(app: &App, caller: &Caller, name: &str) -> Result<VersionRow> {
    caller.require(Role::Viewer)?;
    let name: ModelVersionName = parse_name("name", name)?;
    let row = model::version(&mut *app.pool.acquire().await?, name.model(), name.version()).await?;
    row.ok_or_else(|| Error::not_found(name))
}

/// A page of a model's versions, newest first, and the token of the next.
pub async fn list_versions(
    app: &App,
    caller: &Caller,
    parent: &str,
    size: i32,
    token: &str,
) -> Result<(Vec<VersionRow>, String)> {
    caller.require(Role::Viewer)?;
    let name: ModelName = parse_name("parent", parent)?;
    let page = Page::parse(size, token, parent)?;
    let before = match page.after.split_once(' ') {
        Some((at, version)) => {
            let at = at.parse().map_err(|_| Error::invalid("page_token", "not a token of this list"))?;
            Some((at, version))
        }
        None => None,
    };
    let mut rows = model::versions(&app.pool, name.model(), before, page.limit()).await?;
    let next = page.finish(&mut rows, |row| format!("{} {}", row.training.completed_at, row.training.version));
    Ok((rows, next))
}

/// Checks what only others know of an event: that its run is the one that counts. Before any transaction of ours.
pub async fn check_run(app: &App, training: &Training) -> Result<()> {
    if training.job.is_empty() {
        return Ok(());
    }
    match app.scheduler.current_epoch(&training.job).await? {
        None => Err(Error::precondition("NO_SUCH_JOB", format!("event.job: {} does not exist", training.job))),
        Some(epoch) if epoch == training.run_epoch => Ok(()),
        Some(epoch) => Err(Error::precondition(
            "OLD_RUN",
            format!("event.run_epoch: {} is not the run that counts, which is {epoch}", training.run_epoch),
        )),
    }
}

/// Records a training that ended; a repetition gives what was recorded first.
pub async fn record(app: &App, tx: &mut Tx, training: &Training, reporter: Reporter<'_>, event: &str) -> Result<VersionRow> {
    training.check().map_err(|error| Error::invalid(error.field, error.message))?;
    let known = model::get(tx, &training.model).await?.ok_or_else(|| Error::not_found(format!("models/{}", training.model)))?;
    if !document(&known.manifest)?.trusts(reporter) {
        return Err(Error::denied(format!("models/{}: spec.trust does not name {reporter:?}", training.model)));
    }
    let same = model::version(tx, &training.model, &training.version).await?;
    let newest = model::newest(tx, &training.model).await?;
    let commit_state = match report(training, same.as_ref().map(|row| row.training.digest.as_str()), newest) {
        Report::Newest => CommitState::Pending,
        Report::Older => CommitState::NotNewest,
        Report::Known => return same.ok_or_else(|| Error::internal(anyhow::anyhow!("a known version has no row"))),
        Report::OtherDigest => {
            let name = format!("models/{}/versions/{}", training.model, training.version);
            return Err(Error::already_exists(&name, format!("event.digest: {name} exists with another digest")));
        }
    };
    let row = VersionRow {
        training: training.clone(),
        event: event.to_owned(),
        commit_state,
        commit: String::new(),
        reason: String::new(),
        attempts: 0,
        traceparent: telemetry::current_traceparent(),
        created_at: app.clock.now(),
    };
    model::insert(tx, &row).await?;
    app.wakes.write.now();
    Ok(row)
}
