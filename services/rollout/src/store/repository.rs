//! Git repositories.

use super::time;
use jiff::Timestamp;
use muster_core::name::GitRepositoryName;
use muster_core::page::Page;
use muster_kit::{Error, Result, Tx, time::to_db};
use sqlx::PgPool;

/// A repository and what was seen of it.
#[derive(Debug, Clone)]
pub struct Repository {
    /// Its name.
    pub name: GitRepositoryName,
    /// Its document.
    pub manifest: String,
    /// Counts changes of the document.
    pub version: i64,
    /// The commit seen last.
    pub commit: Option<String>,
    /// When it was seen first.
    pub commit_seen_at: Option<Timestamp>,
    /// When it was last fetched.
    pub fetched_at: Option<Timestamp>,
    /// What is wrong with it.
    pub problem: String,
    /// When it was made.
    pub created_at: Timestamp,
}

macro_rules! repository {
    ($row:expr) => {
        Repository {
            name: GitRepositoryName::new(&$row.namespace, &$row.repository).map_err(Error::internal)?,
            manifest: $row.manifest,
            version: $row.version,
            commit: $row.commit_id,
            commit_seen_at: time($row.commit_seen_at),
            fetched_at: time($row.fetched_at),
            problem: $row.problem,
            created_at: $row.created_at.to_jiff(),
        }
    };
}

/// One repository.
pub async fn get(pool: &PgPool, name: &GitRepositoryName) -> Result<Option<Repository>> {
    let row = sqlx::query!(
        "select * from git_repository where namespace = $1 and repository = $2",
        name.namespace(),
        name.repository()
    )
    .fetch_optional(pool)
    .await?;
    row.map(|row| Ok(repository!(row))).transpose()
}

/// One repository, locked for a change of its document.
pub async fn lock(tx: &mut Tx, name: &GitRepositoryName) -> Result<Option<Repository>> {
    let row = sqlx::query!(
        "select * from git_repository where namespace = $1 and repository = $2 for update",
        name.namespace(),
        name.repository()
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| Ok(repository!(row))).transpose()
}

/// A page in name order; an empty namespace means all.
pub async fn list(pool: &PgPool, namespace: &str, page: &Page) -> Result<Vec<Repository>> {
    let rows = sqlx::query!(
        r#"
        select * from git_repository
        where ($1 = '' or namespace = $1)
        and namespace || '/' || repository > $2
        order by namespace || '/' || repository
        limit $3
        "#,
        namespace,
        page.after,
        page.limit()
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(|row| Ok(repository!(row))).collect()
}

/// Those whose next look is due, the longest waiting first.
pub async fn due(pool: &PgPool, now: Timestamp, limit: i64) -> Result<Vec<Repository>> {
    let rows = sqlx::query!("select * from git_repository where due_at <= $1 order by due_at limit $2", to_db(now) as _, limit)
        .fetch_all(pool)
        .await?;
    rows.into_iter().map(|row| Ok(repository!(row))).collect()
}

/// Makes or replaces a document; what was seen of another document is forgotten.
pub async fn save(tx: &mut Tx, name: &GitRepositoryName, manifest: &str, now: Timestamp) -> Result<()> {
    sqlx::query!(
        r#"
        insert into git_repository as known (namespace, repository, manifest, due_at, created_at)
        values ($1, $2, $3, $4, $4)
        on conflict (namespace, repository) do update
        set manifest = excluded.manifest, version = known.version + 1, problem = '', due_at = excluded.due_at
        "#,
        name.namespace(),
        name.repository(),
        manifest,
        to_db(now) as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Deletes one.
pub async fn delete(tx: &mut Tx, name: &GitRepositoryName) -> Result<()> {
    sqlx::query!("delete from git_repository where namespace = $1 and repository = $2", name.namespace(), name.repository())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Asks for a look now.
pub async fn wake(pool: &PgPool, name: &GitRepositoryName, now: Timestamp) -> Result<()> {
    sqlx::query!(
        "update git_repository set due_at = least(due_at, $3) where namespace = $1 and repository = $2",
        name.namespace(),
        name.repository(),
        to_db(now) as _
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// What a look found: the commit (none: it could not be read) and what is wrong. A document changed meanwhile wins.
pub async fn saw(
    pool: &PgPool,
    seen: &Repository,
    commit: Option<&str>,
    problem: &str,
    now: Timestamp,
    due_at: Timestamp,
) -> Result<()> {
    sqlx::query!(
        r#"
        update git_repository
        set fetched_at = case when $4::text is null then fetched_at else $6 end,
            commit_seen_at = case when $4 is null or $4 = commit_id then commit_seen_at else $6 end,
            commit_id = coalesce($4, commit_id),
            problem = $5,
            due_at = $7
        where namespace = $1 and repository = $2 and version = $3
        "#,
        seen.name.namespace(),
        seen.name.repository(),
        seen.version,
        commit,
        problem,
        to_db(now) as _,
        to_db(due_at) as _
    )
    .execute(pool)
    .await?;
    Ok(())
}
