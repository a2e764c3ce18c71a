//! Applications: documents, and what becomes of the workloads of one that is deleted.

use super::{
    App, MAX_MANIFEST, namespace_of,
    view::{self, ApplicationView},
};
use crate::domain::spec::{Source, parse_application};
use crate::error::in_field;
use crate::events;
use crate::store::{application, desired, repository};
use muster_core::{
    Manifest,
    name::{ApplicationName, GitRepositoryName},
    page::Page,
};
use muster_kit::{
    Caller, Error, Result, Role, Tx, audit,
    db::check_etag,
    error::{parse_manifest, parse_name},
    telemetry,
};
use serde_json::json;

/// A document to be stored.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its resource's name.
    pub name: ApplicationName,
    /// As it was written.
    pub manifest: String,
    /// The repository written into it, as a document of its own.
    pub repository: Option<String>,
}

/// Reads a document; `parent` and `id` (or empty) must agree with it.
pub fn read(parent: &str, id: &str, manifest: &str) -> Result<Document> {
    let field = "application.manifest";
    let parsed = parse_manifest(field, manifest, MAX_MANIFEST)?;
    let document = parse_application(&parsed).map_err(|error| in_field(field, &error))?;
    if !id.is_empty() && id != document.name {
        return Err(Error::invalid("application_id", format!("the manifest says metadata.name {}", document.name)));
    }
    let namespace = namespace_of(field, parent, &document.namespace)?;
    let name = ApplicationName::new(&namespace, &document.name)
        .map_err(|error| Error::invalid(format!("{field}.metadata.name"), error.to_string()))?;
    let repository = match &document.spec.source {
        Source::Repository { .. } => None,
        Source::Inline(_) => Some(inline_repository(&parsed, &name)),
    };
    Ok(Document { name, manifest: manifest.to_owned(), repository })
}

/// The GitRepository that an application brings with it, under the application's own name.
fn inline_repository(manifest: &Manifest, name: &ApplicationName) -> String {
    json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "GitRepository",
        "metadata": { "name": name.application(), "namespace": name.namespace() },
        "spec": manifest.value["spec"]["source"]["gitRepository"],
    })
    .to_string()
}

/// One application.
pub async fn get(app: &App, caller: &Caller, name: &str) -> Result<ApplicationView> {
    caller.require(Role::Viewer)?;
    let name: ApplicationName = parse_name("name", name)?;
    let row = application::get(&app.pool, &name).await?.ok_or_else(|| Error::not_found(name))?;
    view::application(&mut *app.pool.acquire().await?, row).await
}

/// A page of applications and the token of the next.
pub async fn list(app: &App, caller: &Caller, parent: &str, size: i32, token: &str) -> Result<(Vec<ApplicationView>, String)> {
    caller.require(Role::Viewer)?;
    let namespace = super::parse_parent("parent", parent)?;
    let page = Page::parse(size, token, parent)?;
    let mut rows = application::list(&app.pool, &namespace, &page).await?;
    let next = page.finish(&mut rows, |row| format!("{}/{}", row.name.namespace(), row.name.application()));
    let mut connection = app.pool.acquire().await?;
    let mut views = Vec::with_capacity(rows.len());
    for row in rows {
        views.push(view::application(&mut connection, row).await?);
    }
    Ok((views, next))
}

/// Makes one.
pub async fn create(app: &App, tx: &mut Tx, caller: &Caller, document: &Document) -> Result<ApplicationView> {
    if application::lock(tx, &document.name).await?.is_some() {
        return Err(Error::already_exists(&document.name, format!("{} exists", document.name)));
    }
    store(app, tx, caller, document, "CreateApplication").await
}

/// Replaces one; `etag` if set must be current.
pub async fn update(
    app: &App,
    tx: &mut Tx,
    caller: &Caller,
    document: &Document,
    etag: &str,
    allow_missing: bool,
) -> Result<ApplicationView> {
    match application::lock(tx, &document.name).await? {
        Some(known) => {
            check_etag(etag, known.version)?;
            if known.manifest == document.manifest {
                return view::application(tx, known).await;
            }
        }
        None if allow_missing => {}
        None => return Err(Error::not_found(&document.name)),
    }
    store(app, tx, caller, document, "UpdateApplication").await
}

async fn store(app: &App, tx: &mut Tx, caller: &Caller, document: &Document, action: &'static str) -> Result<ApplicationView> {
    let now = app.clock.now();
    if let Some(manifest) = &document.repository {
        let name = GitRepositoryName::new(document.name.namespace(), document.name.application()).map_err(Error::internal)?;
        repository::save(tx, &name, manifest, now).await?;
    }
    application::save(tx, &document.name, &document.manifest, &telemetry::current_traceparent(), now).await?;
    audit::record(tx, caller, action, &document.name.to_string()).await?;
    app.wakes.sources.now();
    app.wakes.decide.now();
    view::publish_application(tx, &document.name).await
}

/// Deletes one. What it deployed stays unless `remove_workloads`; then nobody heals or prunes it any more.
pub async fn delete(app: &App, tx: &mut Tx, caller: &Caller, name: &str, etag: &str, remove_workloads: bool) -> Result<()> {
    let name: ApplicationName = parse_name("name", name)?;
    let known = application::lock(tx, &name).await?.ok_or_else(|| Error::not_found(&name))?;
    check_etag(etag, known.version)?;
    let item = desired::item_of(&name);
    // What is withdrawn from a cluster that left stays withdrawn.
    let items = desired::items(tx, &item).await?.into_iter().filter(|(_, known)| !known.wish.tombstone);
    for (cluster, known) in items {
        let mut wish = known.wish;
        wish.tombstone = remove_workloads;
        wish.self_heal = false;
        wish.prune = false;
        wish.traceparent = telemetry::current_traceparent();
        desired::wish(tx, &cluster, &item, &wish).await?;
    }
    let last = view::application(tx, known).await?;
    application::delete(tx, &name).await?;
    audit::record(tx, caller, "DeleteApplication", &name.to_string()).await?;
    app.wakes.dispatch.now();
    events::append_application(tx, &last, true).await
}
