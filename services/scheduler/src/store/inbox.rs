//! What the leader's engine has not yet seen.

use muster_kit::{Result, Tx};
use sqlx::PgPool;

use super::corrupt;

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A cluster of the projection.
    Cluster(String),
    /// A queue.
    Queue(String),
    /// A job, by row.
    Job(i64),
}

impl Subject {
    fn columns(&self) -> (&'static str, String) {
        match self {
            Self::Cluster(name) => ("cluster", name.clone()),
            Self::Queue(name) => ("queue", name.clone()),
            Self::Job(row) => ("job", row.to_string()),
        }
    }
}

/// Tells the leader that something changed; in the transaction of the change.
pub async fn put(tx: &mut Tx, subject: &Subject) -> Result<()> {
    put_all(tx, std::iter::once(subject)).await
}

/// Tells the leader that some things changed; in the transaction of the change.
pub async fn put_all(tx: &mut Tx, subjects: impl Iterator<Item = &Subject>) -> Result<()> {
    let (kinds, subjects): (Vec<String>, Vec<String>) =
        subjects.map(Subject::columns).map(|(kind, subject)| (kind.to_owned(), subject)).unzip();
    if subjects.is_empty() {
        return Ok(());
    }
    sqlx::query!("insert into inbox (kind, subject) select * from unnest($1::text[], $2::text[])", &kinds, &subjects)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Whether there is no entry, and the leader of the epoch leads still.
pub async fn is_quiet(pool: &PgPool, lease: &str, epoch: u64) -> Result<bool> {
    let quiet = sqlx::query_scalar!(
        r#"
        select
            not exists (select from inbox)
            and exists (select from lease where name = $1 and epoch = $2)
            as "quiet!"
        "#,
        lease,
        epoch.cast_signed()
    );
    Ok(quiet.fetch_one(pool).await?)
}

/// Takes the oldest entries away, each subject once, in the order in which they came.
pub async fn take(tx: &mut Tx, limit: i64) -> Result<Vec<Subject>> {
    let rows = sqlx::query!(
        r#"
        with taken as (
            delete from inbox
            where inbox_id in (select inbox_id from inbox order by inbox_id limit $1 for update skip locked)
            returning inbox_id, kind, subject
        )
        select kind as "kind!", subject as "subject!" from taken group by kind, subject order by min(inbox_id)
        "#,
        limit
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|row| match row.kind.as_str() {
            "cluster" => Ok(Subject::Cluster(row.subject)),
            "queue" => Ok(Subject::Queue(row.subject)),
            "job" => Ok(Subject::Job(row.subject.parse().map_err(|error| corrupt("an inbox entry", error))?)),
            other => Err(corrupt("an inbox entry", other)),
        })
        .collect()
}
