//! Applications.

use jiff::Timestamp;
use muster_core::name::ApplicationName;
use muster_core::page::Page;
use muster_kit::{Error, Result, Tx, time::to_db};
use sqlx::PgPool;

/// How an application stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplicationState {
    /// Nothing released yet.
    Pending,
    /// A release is on its way.
    Progressing,
    /// Every reachable target is healthy at the last completed release.
    Healthy,
    /// A target is broken, or the last release failed.
    Degraded,
}

impl ApplicationState {
    fn text(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Progressing => "progressing",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
        }
    }

    fn parse(text: &str) -> Result<Self> {
        [Self::Pending, Self::Progressing, Self::Healthy, Self::Degraded]
            .into_iter()
            .find(|state| state.text() == text)
            .ok_or_else(|| Error::internal(anyhow::anyhow!("application.state {text:?} is unknown")))
    }
}

/// An application as stored.
#[derive(Debug, Clone)]
pub struct Application {
    /// Its name.
    pub name: ApplicationName,
    /// Its document.
    pub manifest: String,
    /// Counts every change of the row.
    pub version: i64,
    /// How it stands.
    pub state: ApplicationState,
    /// Why.
    pub reason: String,
    /// The release on its way or completed last.
    pub current_release: Option<String>,
    /// What the last decision on a commit was taken from.
    pub decided_from: String,
    /// Why the last commit is not released; empty if nothing is in its way.
    pub problem: String,
    /// The commit of the last completed release.
    pub completed_commit: Option<String>,
    /// Releases made so far.
    pub releases: i32,
    /// What caused its last change.
    pub traceparent: String,
    /// When it was made.
    pub created_at: Timestamp,
}

macro_rules! application {
    ($row:expr) => {
        Application {
            name: ApplicationName::new(&$row.namespace, &$row.application).map_err(Error::internal)?,
            manifest: $row.manifest,
            version: $row.version,
            state: ApplicationState::parse(&$row.state)?,
            reason: $row.reason,
            current_release: $row.current_release,
            decided_from: $row.decided_from,
            problem: $row.problem,
            completed_commit: $row.completed_commit,
            releases: $row.releases,
            traceparent: $row.traceparent,
            created_at: $row.created_at.to_jiff(),
        }
    };
}

/// One application.
pub async fn get(pool: &PgPool, name: &ApplicationName) -> Result<Option<Application>> {
    let row =
        sqlx::query!("select * from application where namespace = $1 and application = $2", name.namespace(), name.application())
            .fetch_optional(pool)
            .await?;
    row.map(|row| Ok(application!(row))).transpose()
}

/// One application, locked: whoever decides about it or its releases holds this row.
pub async fn lock(tx: &mut Tx, name: &ApplicationName) -> Result<Option<Application>> {
    let row = sqlx::query!(
        "select * from application where namespace = $1 and application = $2 for update",
        name.namespace(),
        name.application()
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| Ok(application!(row))).transpose()
}

/// A page in name order; an empty namespace means all.
pub async fn list(pool: &PgPool, namespace: &str, page: &Page) -> Result<Vec<Application>> {
    let rows = sqlx::query!(
        r#"
        select * from application
        where ($1 = '' or namespace = $1)
        and namespace || '/' || application > $2
        order by namespace || '/' || application
        limit $3
        "#,
        namespace,
        page.after,
        page.limit()
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(|row| Ok(application!(row))).collect()
}

/// Every application, in name order; there are as many as teams have services.
pub async fn all(executor: impl sqlx::PgExecutor<'_>) -> Result<Vec<Application>> {
    let rows = sqlx::query!("select * from application order by namespace, application").fetch_all(executor).await?;
    rows.into_iter().map(|row| Ok(application!(row))).collect()
}

/// Makes or replaces a document.
pub async fn save(tx: &mut Tx, name: &ApplicationName, manifest: &str, traceparent: &str, now: Timestamp) -> Result<()> {
    sqlx::query!(
        r#"
        insert into application as known (namespace, application, manifest, traceparent, created_at)
        values ($1, $2, $3, $4, $5)
        on conflict (namespace, application) do update
        set manifest = excluded.manifest, traceparent = excluded.traceparent, version = known.version + 1
        "#,
        name.namespace(),
        name.application(),
        manifest,
        traceparent,
        to_db(now) as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Stores everything but the document; the row must be locked.
pub async fn update(tx: &mut Tx, application: &Application) -> Result<()> {
    let changed = sqlx::query!(
        r#"
        update application
        set state = $3, reason = $4, current_release = $5, decided_from = $6, completed_commit = $7, releases = $8,
            problem = $9, version = version + 1
        where namespace = $1 and application = $2 and version = $10
        "#,
        application.name.namespace(),
        application.name.application(),
        application.state.text(),
        application.reason,
        application.current_release,
        application.decided_from,
        application.completed_commit,
        application.releases,
        application.problem,
        application.version
    )
    .execute(&mut **tx)
    .await?;
    if changed.rows_affected() == 0 {
        return Err(Error::conflict("STALE", "the application changed meanwhile"));
    }
    Ok(())
}

/// Deletes one, with its releases.
pub async fn delete(tx: &mut Tx, name: &ApplicationName) -> Result<()> {
    sqlx::query!("delete from application where namespace = $1 and application = $2", name.namespace(), name.application())
        .execute(&mut **tx)
        .await?;
    Ok(())
}
