//! Models, their versions, and the events of strangers.

use crate::domain::model::Training;
use jiff::Timestamp;
use muster_core::page::Page;
use muster_kit::{Error, Result, Tx, time::to_db};
use sqlx::{PgConnection, PgPool};

/// A model as stored.
#[derive(Debug, Clone)]
pub struct ModelRow {
    /// Its identifier.
    pub model: String,
    /// Its document.
    pub manifest: String,
    /// Counts changes.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its newest version by `completed_at`; empty if none.
    pub latest: String,
}

/// What became of a version's commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitState {
    /// Is to be written.
    Pending,
    /// Is in git.
    Pushed,
    /// Recorded only.
    NotNewest,
    /// Cannot be written; tried again.
    Blocked,
}

const STATES: [(CommitState, &str); 4] = [
    (CommitState::Pending, "pending"),
    (CommitState::Pushed, "pushed"),
    (CommitState::NotNewest, "not_newest"),
    (CommitState::Blocked, "blocked"),
];

fn state_text(state: CommitState) -> &'static str {
    STATES.iter().find(|(known, _)| *known == state).map_or("", |(_, text)| text)
}

fn state(text: &str) -> Result<CommitState> {
    let found = STATES.iter().find(|(_, known)| *known == text).map(|(state, _)| *state);
    found.ok_or_else(|| Error::internal(anyhow::anyhow!("model_version.commit_state {text:?} is unknown")))
}

/// A version as stored.
#[derive(Debug, Clone)]
pub struct VersionRow {
    /// What was reported.
    pub training: Training,
    /// What named the event.
    pub event: String,
    /// What became of its commit.
    pub commit_state: CommitState,
    /// The commit.
    pub commit: String,
    /// Why it is blocked.
    pub reason: String,
    /// Times its commit was tried.
    pub attempts: i32,
    /// What caused it.
    pub traceparent: String,
    /// When it was recorded.
    pub created_at: Timestamp,
}

macro_rules! version {
    ($row:expr) => {
        VersionRow {
            training: Training {
                model: $row.model,
                version: $row.model_version,
                digest: $row.digest,
                uri: $row.uri,
                completed_at: $row.completed_at.to_jiff(),
                image: $row.image,
                metrics: serde_json::from_value($row.metrics).map_err(Error::internal)?,
                dataset: $row.dataset,
                job: $row.job,
                run_epoch: $row.run_epoch.cast_unsigned(),
            },
            event: $row.event,
            commit_state: state(&$row.commit_state)?,
            commit: $row.commit_id,
            reason: $row.reason,
            attempts: $row.attempts,
            traceparent: $row.traceparent,
            created_at: $row.created_at.to_jiff(),
        }
    };
}

/// One model; locked where the connection is a transaction that records a version.
pub async fn get(connection: &mut PgConnection, model: &str) -> Result<Option<ModelRow>> {
    let row = sqlx::query!(
        r#"
        select m.*, coalesce((
            select v.model_version from model_version v where v.model = m.model
            order by v.completed_at desc, v.created_at desc limit 1
        ), '') as "latest!"
        from model m
        where m.model = $1
        for update of m
        "#,
        model
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| ModelRow {
        model: row.model,
        manifest: row.manifest,
        version: row.version,
        created_at: row.created_at.to_jiff(),
        latest: row.latest,
    }))
}

/// A page in name order.
pub async fn list(pool: &PgPool, page: &Page) -> Result<Vec<ModelRow>> {
    let rows = sqlx::query!(
        r#"
        select m.*, coalesce((
            select v.model_version from model_version v where v.model = m.model
            order by v.completed_at desc, v.created_at desc limit 1
        ), '') as "latest!"
        from model m
        where m.model > $1
        order by m.model
        limit $2
        "#,
        page.after,
        page.limit()
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| ModelRow {
            model: row.model,
            manifest: row.manifest,
            version: row.version,
            created_at: row.created_at.to_jiff(),
            latest: row.latest,
        })
        .collect())
}

/// Makes or replaces a document.
pub async fn save(tx: &mut Tx, model: &str, manifest: &str, now: Timestamp) -> Result<()> {
    sqlx::query!(
        r#"
        insert into model as known (model, manifest, created_at) values ($1, $2, $3)
        on conflict (model) do update set manifest = excluded.manifest, version = known.version + 1
        "#,
        model,
        manifest,
        to_db(now) as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Deletes one without versions.
pub async fn delete(tx: &mut Tx, model: &str) -> Result<()> {
    sqlx::query!("delete from model where model = $1", model).execute(&mut **tx).await?;
    Ok(())
}

/// One version.
pub async fn version(connection: &mut PgConnection, model: &str, version: &str) -> Result<Option<VersionRow>> {
    let row = sqlx::query!("select * from model_version where model = $1 and model_version = $2", model, version)
        .fetch_optional(connection)
        .await?;
    row.map(|row| Ok(version!(row))).transpose()
}

/// When the newest version's training ended.
pub async fn newest(connection: &mut PgConnection, model: &str) -> Result<Option<Timestamp>> {
    let at =
        sqlx::query_scalar!("select max(completed_at) from model_version where model = $1", model).fetch_one(connection).await?;
    Ok(super::time(at))
}

/// A page of a model's versions, newest first.
pub async fn versions(pool: &PgPool, model: &str, before: Option<(Timestamp, &str)>, limit: i64) -> Result<Vec<VersionRow>> {
    let (before_at, before_name) = match before {
        Some((at, name)) => (Some(to_db(at)), name),
        None => (None, ""),
    };
    let rows = sqlx::query!(
        r#"
        select * from model_version
        where model = $1
        and ($2::timestamptz is null or (completed_at, model_version) < ($2, $3))
        order by completed_at desc, model_version desc
        limit $4
        "#,
        model,
        before_at as _,
        before_name,
        limit
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(|row| Ok(version!(row))).collect()
}

/// Records a version.
pub async fn insert(tx: &mut Tx, version: &VersionRow) -> Result<()> {
    let training = &version.training;
    let metrics = serde_json::to_value(&training.metrics).map_err(Error::internal)?;
    sqlx::query!(
        r#"
        insert into model_version
            (model, model_version, digest, uri, completed_at, image, metrics, dataset, job, run_epoch, event, commit_state,
             traceparent, created_at, due_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14)
        "#,
        training.model,
        training.version,
        training.digest,
        training.uri,
        to_db(training.completed_at) as _,
        training.image,
        metrics,
        training.dataset,
        training.job,
        training.run_epoch.cast_signed(),
        version.event,
        state_text(version.commit_state),
        version.traceparent,
        to_db(version.created_at) as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Those whose commit is to be written now, oldest training first.
pub async fn due(pool: &PgPool, now: Timestamp) -> Result<Vec<VersionRow>> {
    let rows = sqlx::query!(
        r#"
        select * from model_version
        where commit_state in ('pending', 'blocked') and due_at <= $1
        order by completed_at
        limit 20
        "#,
        to_db(now) as _
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(|row| Ok(version!(row))).collect()
}

/// What became of an attempt to write a version's commit.
pub async fn tried(
    pool: &PgPool,
    version: &VersionRow,
    commit_state: CommitState,
    commit: &str,
    reason: &str,
    due_at: Timestamp,
) -> Result<()> {
    sqlx::query!(
        r#"
        update model_version
        set commit_state = $3, commit_id = $4, reason = $5, due_at = $6, attempts = attempts + 1
        where model = $1 and model_version = $2 and commit_state in ('pending', 'blocked')
        "#,
        version.training.model,
        version.training.version,
        state_text(commit_state),
        commit,
        reason,
        to_db(due_at) as _
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Takes an event of a stranger; false if it was taken before. What is older than thirty days is forgotten.
pub async fn take_event(tx: &mut Tx, source: &str, id: &str) -> Result<bool> {
    sqlx::query!("delete from inbound_event where received_at < now() - interval '30 days'").execute(&mut **tx).await?;
    let taken = sqlx::query!("insert into inbound_event (source, id) values ($1, $2) on conflict do nothing", source, id)
        .execute(&mut **tx)
        .await?;
    Ok(taken.rows_affected() == 1)
}
