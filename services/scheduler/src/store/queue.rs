//! Queues.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use muster_kit::{Error, Result, Tx, db};
use sqlx::PgPool;

/// A queue as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Unique.
    pub name: String,
    /// The namespace its manifest names, remembered to tell collisions.
    pub namespace: String,
    /// As its owner wrote it.
    pub manifest: String,
    /// Of the row.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// One queue; locked for the rest of the transaction.
pub async fn lock(tx: &mut Tx, name: &str) -> Result<Option<Queue>> {
    let row = sqlx::query!("select name, namespace, manifest, version, created_at from queue where name = $1 for update", name)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.map(|row| Queue {
        name: row.name,
        namespace: row.namespace,
        manifest: row.manifest,
        version: row.version,
        created_at: row.created_at.to_jiff(),
    }))
}

/// Queues after a name, in name order.
pub async fn list(pool: &PgPool, after: &str, limit: i64) -> Result<Vec<Queue>> {
    let rows = sqlx::query!(
        "select name, namespace, manifest, version, created_at from queue where name > $1 order by name limit $2",
        after,
        limit
    )
    .fetch_all(pool)
    .await?;
    let queues = rows.into_iter().map(|row| Queue {
        name: row.name,
        namespace: row.namespace,
        manifest: row.manifest,
        version: row.version,
        created_at: row.created_at.to_jiff(),
    });
    Ok(queues.collect())
}

/// One queue.
pub async fn get(pool: &PgPool, name: &str) -> Result<Option<Queue>> {
    let row = sqlx::query!("select name, namespace, manifest, version, created_at from queue where name = $1", name)
        .fetch_optional(pool)
        .await?;
    Ok(row.map(|row| Queue {
        name: row.name,
        namespace: row.namespace,
        manifest: row.manifest,
        version: row.version,
        created_at: row.created_at.to_jiff(),
    }))
}

/// Every queue's name and manifest, in name order.
pub async fn manifests(tx: &mut Tx) -> Result<Vec<(String, String)>> {
    let rows = sqlx::query!("select name, manifest from queue order by name").fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(|row| (row.name, row.manifest)).collect())
}

/// Makes a queue; a Conflict of names is ALREADY_EXISTS.
pub async fn insert(tx: &mut Tx, queue: &Queue) -> Result<()> {
    let done = sqlx::query!(
        "insert into queue (name, namespace, manifest, version, created_at) values ($1, $2, $3, $4, $5)",
        queue.name,
        queue.namespace,
        queue.manifest,
        queue.version,
        queue.created_at.to_sqlx() as _
    )
    .execute(&mut **tx)
    .await;
    match done {
        Ok(_) => Ok(()),
        Err(error) if db::violates(&error, "queue_name_is_unique") => {
            Err(Error::already_exists(format!("queues/{}", queue.name), format!("queues/{} exists already", queue.name)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Replaces a queue's manifest; gives the new version.
pub async fn update(tx: &mut Tx, queue: &Queue) -> Result<i64> {
    let version = sqlx::query_scalar!(
        r#"
        update queue
        set manifest = $2, version = version + 1, revision = nextval('scheduling_revision')
        where name = $1
        and version = $3
        returning version
        "#,
        queue.name,
        queue.manifest,
        queue.version
    )
    .fetch_optional(&mut **tx)
    .await?;
    let version = version.ok_or_else(|| Error::conflict("CONTENTION", "another change of the queue came between; try again"))?;
    // Its budgets may be others: what was told of them is told anew where they are spent.
    super::notice::forget(tx, &queue.name).await?;
    Ok(version)
}

/// Deletes a queue.
pub async fn delete(tx: &mut Tx, name: &str) -> Result<()> {
    sqlx::query!("delete from queue where name = $1", name).execute(&mut **tx).await?;
    // A deletion leaves no row to number: the next change of anything is numbered higher all the same.
    sqlx::query_scalar!("select nextval('scheduling_revision')").fetch_one(&mut **tx).await?;
    Ok(())
}

/// Unfinished jobs of a queue: (waiting, placed or running).
pub async fn load(pool: &PgPool, name: &str) -> Result<(u32, u32)> {
    let row = sqlx::query!(
        r#"
        select
            count(*) filter (where not charged) as "waiting!",
            count(*) filter (where charged) as "active!"
        from job
        where queue = $1
        and (state not in ('succeeded', 'failed', 'cancelled', 'refused') or charged)
        "#,
        name
    )
    .fetch_one(pool)
    .await?;
    Ok((u32::try_from(row.waiting).unwrap_or(u32::MAX), u32::try_from(row.active).unwrap_or(u32::MAX)))
}

/// Gangs of the charged jobs of a queue, at the sizes of their runs.
pub async fn charged(pool: &PgPool, name: &str) -> Result<Vec<muster_scheduler_engine::Gang>> {
    let rows = sqlx::query!(
        r#"
        select j.gang, case when j.gang ? 'elastic' then r.slots end as slots
        from job j
        join run r on r.job_id = j.job_id and r.epoch = j.epoch and r.part = 0
        where j.queue = $1
        and j.charged
        "#,
        name
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            let gang = super::json::read_gang(row.gang)?;
            Ok(match row.slots {
                Some(slots) => gang.as_placed(&super::json::read_slots(slots)?),
                None => gang,
            })
        })
        .collect()
}

/// Whether a job that is not over names the queue.
pub async fn is_used(tx: &mut Tx, name: &str) -> Result<bool> {
    let used = sqlx::query_scalar!(
        r#"
        select exists (
            select 1 from job where queue = $1 and (state not in ('succeeded', 'failed', 'cancelled', 'refused') or charged)
        ) as "used!"
        "#,
        name
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(used)
}

/// A number that is another whenever a queue or a cluster was changed, made or removed.
pub async fn revision(pool: &PgPool) -> Result<i64> {
    let revision = sqlx::query_scalar!(
        r#"select last_value + case when is_called then 1 else 0 end as "revision!" from scheduling_revision"#
    )
    .fetch_one(pool)
    .await?;
    Ok(revision)
}
