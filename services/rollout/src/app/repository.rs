//! Git repositories: documents, a look now, one file.

use super::{App, MAX_MANIFEST, namespace_of};
use crate::domain::spec::{Source, parse_application, parse_git_repository};
use crate::error::in_field;
use crate::store::{
    application, model,
    repository::{self, Repository},
};
use muster_core::{manifest::parse_one, name::GitRepositoryName, page::Page};
use muster_kit::{
    Caller, Error, Result, Role, Tx, audit,
    db::check_etag,
    error::{parse_manifest, parse_name},
};

/// A file read by [`read_file`], at most.
const MAX_FILE: usize = 1024 * 1024;

/// A document to be stored.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its resource's name.
    pub name: GitRepositoryName,
    /// As it was written.
    pub manifest: String,
}

/// Reads a document; `parent` and `id` (or empty) must agree with it.
pub fn read(parent: &str, id: &str, manifest: &str) -> Result<Document> {
    let field = "git_repository.manifest";
    let parsed = parse_manifest(field, manifest, MAX_MANIFEST)?;
    let document = parse_git_repository(&parsed).map_err(|error| in_field(field, &error))?;
    if !id.is_empty() && id != document.name {
        return Err(Error::invalid("git_repository_id", format!("the manifest says metadata.name {}", document.name)));
    }
    let namespace = namespace_of(field, parent, &document.namespace)?;
    let name = GitRepositoryName::new(&namespace, &document.name)
        .map_err(|error| Error::invalid(format!("{field}.metadata.name"), error.to_string()))?;
    Ok(Document { name, manifest: manifest.to_owned() })
}

/// One repository.
pub async fn get(app: &App, caller: &Caller, name: &str) -> Result<Repository> {
    caller.require(Role::Viewer)?;
    let name: GitRepositoryName = parse_name("name", name)?;
    repository::get(&app.pool, &name).await?.ok_or_else(|| Error::not_found(name))
}

/// A page of repositories and the token of the next.
pub async fn list(app: &App, caller: &Caller, parent: &str, size: i32, token: &str) -> Result<(Vec<Repository>, String)> {
    caller.require(Role::Viewer)?;
    let namespace = super::parse_parent("parent", parent)?;
    let page = Page::parse(size, token, parent)?;
    let mut rows = repository::list(&app.pool, &namespace, &page).await?;
    let next = page.finish(&mut rows, |row| format!("{}/{}", row.name.namespace(), row.name.repository()));
    Ok((rows, next))
}

/// Makes one.
pub async fn create(app: &App, tx: &mut Tx, caller: &Caller, document: &Document) -> Result<Repository> {
    if repository::lock(tx, &document.name).await?.is_some() {
        return Err(Error::already_exists(&document.name, format!("{} exists", document.name)));
    }
    store(app, tx, caller, document, "CreateGitRepository").await
}

/// Replaces one; `etag` if set must be current.
pub async fn update(
    app: &App,
    tx: &mut Tx,
    caller: &Caller,
    document: &Document,
    etag: &str,
    allow_missing: bool,
) -> Result<Repository> {
    match repository::lock(tx, &document.name).await? {
        Some(known) => {
            check_etag(etag, known.version)?;
            if known.manifest == document.manifest {
                return Ok(known);
            }
        }
        None if allow_missing => {}
        None => return Err(Error::not_found(&document.name)),
    }
    store(app, tx, caller, document, "UpdateGitRepository").await
}

async fn store(app: &App, tx: &mut Tx, caller: &Caller, document: &Document, action: &'static str) -> Result<Repository> {
    repository::save(tx, &document.name, &document.manifest, app.clock.now()).await?;
    audit::record(tx, caller, action, &document.name.to_string()).await?;
    app.wakes.sources.now();
    repository::lock(tx, &document.name).await?.ok_or_else(|| Error::not_found(&document.name))
}

/// Deletes one that nothing names.
pub async fn delete(app: &App, tx: &mut Tx, caller: &Caller, name: &str, etag: &str) -> Result<()> {
    let name: GitRepositoryName = parse_name("name", name)?;
    let known = repository::lock(tx, &name).await?.ok_or_else(|| Error::not_found(&name))?;
    check_etag(etag, known.version)?;
    if let Some(user) = user_of(app, &name).await? {
        return Err(Error::precondition("IN_USE", format!("{user} names it")).violating("IN_USE", name.to_string(), user));
    }
    repository::delete(tx, &name).await?;
    audit::record(tx, caller, "DeleteGitRepository", &name.to_string()).await
}

/// An application or a model that names the repository.
async fn user_of(app: &App, name: &GitRepositoryName) -> Result<Option<String>> {
    for row in application::all(&app.pool).await? {
        if source_of(&row.name, &row.manifest)? == *name {
            return Ok(Some(row.name.to_string()));
        }
    }
    for row in model::list(&app.pool, &Page::parse(1_000, "", "")?).await? {
        let document = super::model::document(&row.manifest)?;
        if (document.repository_namespace.as_str(), document.repository.as_str()) == (name.namespace(), name.repository()) {
            return Ok(Some(format!("models/{}", row.model)));
        }
    }
    Ok(None)
}

/// The repository that a stored application's commits come from.
pub fn source_of(application: &muster_core::name::ApplicationName, manifest: &str) -> Result<GitRepositoryName> {
    let manifest = parse_one(manifest).map_err(Error::internal)?;
    let spec = parse_application(&manifest).map_err(Error::internal)?.spec;
    let (namespace, repository) = match &spec.source {
        Source::Repository { namespace, name } => (namespace.as_deref().unwrap_or(application.namespace()), name.as_str()),
        Source::Inline(_) => (application.namespace(), application.application()),
    };
    GitRepositoryName::new(namespace, repository).map_err(Error::internal)
}

/// Looks for new commits now; answers once it has looked.
pub async fn fetch(app: &App, caller: &Caller, name: &str) -> Result<Repository> {
    caller.require(Role::Operator)?;
    let known = get(app, caller, name).await?;
    crate::reconcile::sources::look(app, &known).await?;
    app.wakes.decide.now();
    get(app, caller, name).await
}

/// One file at the repository's current commit: the commit and the text.
pub async fn read_file(app: &App, caller: &Caller, name: &str, path: &str) -> Result<(String, String)> {
    let known = get(app, caller, name).await?;
    let path = path.trim_start_matches("./");
    if path.is_empty() || path.starts_with('/') || path.split('/').any(|part| part == "..") || path.contains('\0') {
        return Err(Error::invalid("path", "must be a file inside the repository"));
    }
    let Some(commit) = known.commit.clone() else {
        let why = if known.problem.is_empty() { "it has not been read yet" } else { &known.problem };
        return Err(Error::precondition("NO_COMMIT", format!("{}: {why}", known.name)));
    };
    let open = app.sources.open(&known).await?;
    // Another replica may have fetched it.
    open.mirror.resolve(&commit).await?;
    let bytes = open.mirror.read(&commit, path, MAX_FILE).await?;
    let content = String::from_utf8(bytes).map_err(|_| Error::precondition("NOT_TEXT", format!("{path} is not UTF-8")))?;
    Ok((commit, content))
}
