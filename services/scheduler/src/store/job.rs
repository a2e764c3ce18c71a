//! Jobs and their manifests.

use jiff_sqlx::ToSqlx;
use muster_kit::{Error, Result, Tx};
use muster_scheduler_engine::Finished;
use serde_json::Value;
use sqlx::PgPool;

use super::{column, corrupt, count, json};
use crate::domain::job::JobState;
use crate::domain::record::{Job, likeness};

struct JobRow {
    job_id: i64,
    namespace: String,
    name: String,
    queue: String,
    manifest_digest: String,
    kind: String,
    gang: Value,
    gpus: i32,
    priority: i32,
    max_retries: i32,
    movable: bool,
    model: String,
    state: String,
    reason: String,
    epoch: i32,
    charged: bool,
    retries: i32,
    not_before: Option<jiff_sqlx::Timestamp>,
    policy_revision: String,
    traceparent: String,
    history: Value,
    version: i64,
    submitted_at: jiff_sqlx::Timestamp,
    started_at: Option<jiff_sqlx::Timestamp>,
    finished_at: Option<jiff_sqlx::Timestamp>,
}

impl TryFrom<JobRow> for Job {
    type Error = Error;

    fn try_from(row: JobRow) -> Result<Self> {
        Ok(Self {
            id: row.job_id,
            namespace: row.namespace,
            name: row.name,
            queue: row.queue,
            manifest_digest: row.manifest_digest,
            kind: row.kind,
            gang: json::read_gang(row.gang)?,
            gpus: count("a number of GPUs", row.gpus)?,
            priority: row.priority,
            max_retries: count("a number of retries", row.max_retries)?,
            movable: row.movable,
            model: row.model,
            state: row.state.parse().map_err(|error: String| corrupt("a state", error))?,
            reason: row.reason,
            epoch: count("an epoch", row.epoch)?,
            charged: row.charged,
            retries: count("a number of retries", row.retries)?,
            not_before: row.not_before.map(jiff_sqlx::Timestamp::to_jiff),
            policy_revision: row.policy_revision,
            traceparent: row.traceparent,
            history: serde_json::from_value(row.history).map_err(|error| corrupt("a history", error))?,
            version: row.version,
            submitted_at: row.submitted_at.to_jiff(),
            started_at: row.started_at.map(jiff_sqlx::Timestamp::to_jiff),
            finished_at: row.finished_at.map(jiff_sqlx::Timestamp::to_jiff),
        })
    }
}

/// Keeps a manifest by its content.
pub async fn put_manifest(tx: &mut Tx, digest: &str, content: &str) -> Result<()> {
    // The update takes the row's lock: nobody sweeps it away before the job that names it is there.
    sqlx::query!(
        "insert into manifest (digest, content) values ($1, $2) on conflict (digest) do update set content = excluded.content",
        digest,
        content
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A manifest by its digest.
pub async fn manifest(pool: &PgPool, digest: &str) -> Result<String> {
    Ok(sqlx::query_scalar!("select content from manifest where digest = $1", digest).fetch_one(pool).await?)
}

/// Stores a new job; gives its row number. `None` if the name is taken.
pub async fn insert(tx: &mut Tx, job: &Job) -> Result<Option<i64>> {
    let id = sqlx::query_scalar!(
        r#"
        insert into job (
            namespace, name, queue, manifest_digest, kind, gang, gpus, priority, max_retries, movable, model, state, reason,
            policy_revision, traceparent, history, submitted_at
        )
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
        on conflict on constraint job_name_is_unique do nothing
        returning job_id
        "#,
        job.namespace,
        job.name,
        job.queue,
        job.manifest_digest,
        job.kind,
        json::write_gang(&job.gang)?,
        column(job.gpus),
        job.priority,
        column(job.max_retries),
        job.movable,
        job.model,
        job.state.as_str(),
        job.reason,
        job.policy_revision,
        job.traceparent,
        serde_json::to_value(&job.history).map_err(Error::internal)?,
        job.submitted_at.to_sqlx() as _
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(id)
}

/// Writes what may change of a job back, if nobody changed it since it was read.
pub async fn update(tx: &mut Tx, job: &mut Job) -> Result<()> {
    let done = sqlx::query!(
        r#"
        update job
        set priority = $3,
            state = $4,
            reason = $5,
            epoch = $6,
            charged = $7,
            retries = $8,
            not_before = $9,
            policy_revision = $10,
            history = $11,
            started_at = $12,
            finished_at = $13,
            version = version + 1
        where job_id = $1
        and version = $2
        "#,
        job.id,
        job.version,
        job.priority,
        job.state.as_str(),
        job.reason,
        column(job.epoch),
        job.charged,
        column(job.retries),
        job.not_before.map(|at| at.to_sqlx()) as _,
        job.policy_revision,
        serde_json::to_value(&job.history).map_err(Error::internal)?,
        job.started_at.map(|at| at.to_sqlx()) as _,
        job.finished_at.map(|at| at.to_sqlx()) as _
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 0 {
        return Err(Error::conflict("CONTENTION", "another change of the job came between; try again"));
    }
    job.version += 1;
    Ok(())
}

/// Deletes a job and its runs.
pub async fn delete(tx: &mut Tx, id: i64) -> Result<()> {
    sqlx::query!("delete from job where job_id = $1", id).execute(&mut **tx).await?;
    Ok(())
}

/// One job by name.
pub async fn get(pool: &PgPool, namespace: &str, name: &str) -> Result<Option<Job>> {
    let row = sqlx::query_as!(
        JobRow,
        r#"
        select
            job_id, namespace, name, queue, manifest_digest, kind, gang, gpus, priority, max_retries, movable, model, state, reason,
            epoch, charged, retries, not_before, policy_revision, traceparent, history, version, submitted_at, started_at,
            finished_at
        from job
        where namespace = $1
        and name = $2
        "#,
        namespace,
        name
    )
    .fetch_optional(pool)
    .await?;
    row.map(Job::try_from).transpose()
}

/// One job by name, locked for the rest of the transaction.
pub async fn lock(tx: &mut Tx, namespace: &str, name: &str) -> Result<Option<Job>> {
    let row = sqlx::query_as!(
        JobRow,
        r#"
        select
            job_id, namespace, name, queue, manifest_digest, kind, gang, gpus, priority, max_retries, movable, model, state, reason,
            epoch, charged, retries, not_before, policy_revision, traceparent, history, version, submitted_at, started_at,
            finished_at
        from job
        where namespace = $1
        and name = $2
        for update
        "#,
        namespace,
        name
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(Job::try_from).transpose()
}

/// One job by row, locked for the rest of the transaction.
pub async fn lock_row(tx: &mut Tx, id: i64) -> Result<Option<Job>> {
    let row = sqlx::query_as!(
        JobRow,
        r#"
        select
            job_id, namespace, name, queue, manifest_digest, kind, gang, gpus, priority, max_retries, movable, model, state, reason,
            epoch, charged, retries, not_before, policy_revision, traceparent, history, version, submitted_at, started_at,
            finished_at
        from job
        where job_id = $1
        for update
        "#,
        id
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(Job::try_from).transpose()
}

/// Which jobs of a list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this namespace.
    pub namespace: Option<String>,
    /// Of this queue.
    pub queue: Option<String>,
    /// In one of these states; empty: in any.
    pub states: Vec<JobState>,
}

/// Jobs after a (namespace, name), in that order.
pub async fn list(tx: &mut Tx, filter: &Filter, after: (&str, &str), limit: i64) -> Result<Vec<Job>> {
    let states: Vec<String> = filter.states.iter().map(|state| state.as_str().to_owned()).collect();
    let rows = sqlx::query_as!(
        JobRow,
        r#"
        select
            job_id, namespace, name, queue, manifest_digest, kind, gang, gpus, priority, max_retries, movable, model, state, reason,
            epoch, charged, retries, not_before, policy_revision, traceparent, history, version, submitted_at, started_at,
            finished_at
        from job
        where (namespace, name) > ($1, $2)
        and ($3::text is null or namespace = $3)
        and ($4::text is null or queue = $4)
        and (cardinality($5::text[]) = 0 or state = any($5))
        order by namespace, name
        limit $6
        "#,
        after.0,
        after.1,
        filter.namespace.as_deref(),
        filter.queue.as_deref(),
        &states,
        limit
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(Job::try_from).collect()
}

/// Jobs after a row that the engine has to know: unfinished ones, and finished ones whose run is still charged.
pub async fn for_engine(tx: &mut Tx, after: i64, limit: i64) -> Result<Vec<Job>> {
    let rows = sqlx::query_as!(
        JobRow,
        r#"
        select
            job_id, namespace, name, queue, manifest_digest, kind, gang, gpus, priority, max_retries, movable, model, state, reason,
            epoch, charged, retries, not_before, policy_revision, traceparent, history, version, submitted_at, started_at,
            finished_at
        from job
        where job_id > $1
        and (state not in ('succeeded', 'failed', 'cancelled', 'refused') or charged)
        order by job_id
        limit $2
        "#,
        after,
        limit
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(Job::try_from).collect()
}

/// The jobs that ran and ended last, newest first. One that goes on from checkpoints lasted as long as all its runs did,
/// another as long as its last one; each run counts with its speed.
pub async fn finished(tx: &mut Tx, limit: i64) -> Result<Vec<Finished>> {
    let rows = sqlx::query!(
        r#"
        select queue, namespace, name, gpus,
            (1000 * extract(epoch from case
                when gang ->> 'restart_ms' is null then (finished_at - started_at) * coalesce((
                    select (gang -> 'speeds' ->> run.flavor)::double precision / 1000 from run
                    where run.job_id = job.job_id and run.epoch = job.epoch
                ), 1)
                else (
                    select sum(
                        (run.finished_at - run.started_at)
                            * coalesce((gang -> 'speeds' ->> run.flavor)::double precision / 1000, 1)
                    ) from run
                    where run.job_id = job.job_id and run.finished_at > run.started_at
                )
            end))::bigint as lasted_ms
        from job
        where finished_at is not null and started_at is not null and not charged
        order by finished_at desc
        limit $1
        "#,
        limit
    )
    .fetch_all(&mut **tx)
    .await?;
    let finished = rows.into_iter().map(|row| Finished {
        kind: likeness(&row.namespace, &row.name),
        queue: row.queue,
        gpus: row.gpus.into(),
        lasted_ms: row.lasted_ms.unwrap_or_default(),
    });
    Ok(finished.collect())
}

/// Jobs with a charged run in a cluster, locked in row order.
pub async fn charged_in(tx: &mut Tx, cluster: &str) -> Result<Vec<Job>> {
    let rows = sqlx::query_as!(
        JobRow,
        r#"
        select
            job_id, namespace, name, queue, manifest_digest, kind, gang, gpus, priority, max_retries, movable, model, state, reason,
            epoch, charged, retries, not_before, policy_revision, traceparent, history, version, submitted_at, started_at,
            finished_at
        from job
        where charged
        and exists (select 1 from run where run.job_id = job.job_id and run.epoch = job.epoch and run.cluster = $1)
        order by job_id
        for update
        "#,
        cluster
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(Job::try_from).collect()
}

/// What a job is called and what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its row.
    pub id: i64,
    /// `namespaces/{namespace}/jobs/{job}`.
    pub resource: String,
    /// Its queue.
    pub queue: String,
    /// GPUs of all its workers.
    pub gpus: u32,
}

/// The names of some jobs.
pub async fn named(pool: &PgPool, jobs: &[i64]) -> Result<Vec<Named>> {
    let rows =
        sqlx::query!("select job_id, namespace, name, queue, gpus from job where job_id = any($1)", jobs).fetch_all(pool).await?;
    rows.into_iter()
        .map(|row| {
            let resource = format!("namespaces/{}/jobs/{}", row.namespace, row.name);
            Ok(Named { id: row.job_id, resource, queue: row.queue, gpus: count("a number of GPUs", row.gpus)? })
        })
        .collect()
}
