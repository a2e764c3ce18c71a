//! Jobs and their manifests: read here, written in [`write`], several in one statement.

pub mod write;

use std::collections::BTreeMap;

use muster_kit::{Error, Result, Tx};
use muster_scheduler_engine::Finished;
use serde_json::Value;
use sqlx::{PgExecutor, PgPool};

use super::{corrupt, count, json};
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
    deadline: Option<jiff_sqlx::Timestamp>,
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
            deadline: row.deadline.map(jiff_sqlx::Timestamp::to_jiff),
            submitted_at: row.submitted_at.to_jiff(),
            started_at: row.started_at.map(jiff_sqlx::Timestamp::to_jiff),
            finished_at: row.finished_at.map(jiff_sqlx::Timestamp::to_jiff),
        })
    }
}

/// Manifests by digest.
pub async fn manifests(pool: &PgPool, digests: &[String]) -> Result<BTreeMap<String, String>> {
    let rows = sqlx::query!("select digest, content from manifest where digest = any($1)", digests).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| (row.digest, row.content)).collect())
}

/// A manifest by its digest.
pub async fn manifest(pool: &PgPool, digest: &str) -> Result<String> {
    Ok(sqlx::query_scalar!("select content from manifest where digest = $1", digest).fetch_one(pool).await?)
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
            epoch, charged, retries, not_before, policy_revision, traceparent, history, version, deadline, submitted_at, started_at,
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
    Ok(lock_named(tx, &[(namespace.to_owned(), name.to_owned())]).await?.pop())
}

/// Jobs by (namespace, name), those that are there, locked in row order for the rest of the transaction.
pub async fn lock_named(tx: &mut Tx, names: &[(String, String)]) -> Result<Vec<Job>> {
    let (namespaces, names): (Vec<String>, Vec<String>) = names.iter().cloned().unzip();
    let rows = sqlx::query_as!(
        JobRow,
        r#"
        select
            j.job_id, j.namespace, j.name, j.queue, j.manifest_digest, j.kind, j.gang, j.gpus, j.priority, j.max_retries, j.movable,
            j.model, j.state, j.reason, j.epoch, j.charged, j.retries, j.not_before, j.policy_revision, j.traceparent, j.history,
            j.version, j.deadline, j.submitted_at, j.started_at, j.finished_at
        from job j
        join (select distinct * from unnest($1::text[], $2::text[])) as asked (namespace, name) using (namespace, name)
        order by j.job_id
        for update of j
        "#,
        &namespaces,
        &names
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(Job::try_from).collect()
}

/// Jobs by row, those that are there, locked in row order for the rest of the transaction.
pub async fn lock_rows(tx: &mut Tx, ids: &[i64]) -> Result<BTreeMap<i64, Job>> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = sqlx::query_as!(
        JobRow,
        r#"
        select
            job_id, namespace, name, queue, manifest_digest, kind, gang, gpus, priority, max_retries, movable, model, state, reason,
            epoch, charged, retries, not_before, policy_revision, traceparent, history, version, deadline, submitted_at, started_at,
            finished_at
        from job
        where job_id = any($1)
        order by job_id
        for update
        "#,
        ids
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(|row| Ok((row.job_id, row.try_into()?))).collect()
}

/// Jobs by row, those that are there, as they are.
pub async fn rows(executor: impl PgExecutor<'_>, ids: &[i64]) -> Result<BTreeMap<i64, Job>> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = sqlx::query_as!(
        JobRow,
        r#"
        select
            job_id, namespace, name, queue, manifest_digest, kind, gang, gpus, priority, max_retries, movable, model, state, reason,
            epoch, charged, retries, not_before, policy_revision, traceparent, history, version, deadline, submitted_at, started_at,
            finished_at
        from job
        where job_id = any($1)
        "#,
        ids
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter().map(|row| Ok((row.job_id, row.try_into()?))).collect()
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
            epoch, charged, retries, not_before, policy_revision, traceparent, history, version, deadline, submitted_at, started_at,
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
            epoch, charged, retries, not_before, policy_revision, traceparent, history, version, deadline, submitted_at, started_at,
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
/// another as long as its last one; each run counts with its speed. The GPU model is that of a job that ran on one only, in one run.
pub async fn finished(tx: &mut Tx, limit: i64) -> Result<Vec<Finished>> {
    let rows = sqlx::query!(
        r#"
        select queue, namespace, name, gpus,
            (1000 * extract(epoch from case
                when gang ->> 'restart_ms' is null then (
                    select
                        run.done_ms * interval '1 millisecond'
                            + greatest(job.finished_at - coalesce(run.sized_at, job.started_at), interval '0')
                                * coalesce((gang -> 'speeds' ->> run.flavor)::double precision / 1000, 1)
                                * run.part_permille / 1000
                    from run
                    where run.job_id = job.job_id and run.epoch = job.epoch and run.part = 0
                )
                else (
                    select sum(
                        run.done_ms * interval '1 millisecond'
                            + greatest(run.finished_at - coalesce(run.sized_at, run.started_at), interval '0')
                                * coalesce((gang -> 'speeds' ->> run.flavor)::double precision / 1000, 1)
                                * run.part_permille / 1000
                    )
                    from (
                        -- A run in several clusters lasts from when all its parts run until the last of them ends.
                        select
                            min(done_ms) as done_ms, min(sized_at) as sized_at, min(flavor) as flavor, min(part_permille) as part_permille,
                            case when bool_and(started_at is not null) then max(started_at) end as started_at,
                            max(finished_at) as finished_at
                        from run
                        where run.job_id = job.job_id
                        group by epoch
                    ) run
                    where run.finished_at > run.started_at
                )
            end))::bigint as lasted_ms,
            case when coalesce(gang -> 'speeds', '{}') = '{}' then (
                select case when count(*) = 1 then min(run.flavor) end from run
                where run.job_id = job.job_id
                and run.part = 0
                and run.finished_at > run.started_at
                and (gang ->> 'restart_ms' is not null or run.epoch = job.epoch)
            ) end as model
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
        model: row.model,
    });
    Ok(finished.collect())
}

/// Jobs with a charged run of which all or a part goes on in a cluster, locked in row order.
pub async fn charged_in(tx: &mut Tx, cluster: &str) -> Result<Vec<Job>> {
    let rows = sqlx::query_as!(
        JobRow,
        r#"
        select
            job_id, namespace, name, queue, manifest_digest, kind, gang, gpus, priority, max_retries, movable, model, state, reason,
            epoch, charged, retries, not_before, policy_revision, traceparent, history, version, deadline, submitted_at, started_at,
            finished_at
        from job
        where charged
        and exists (
            select 1 from run where run.job_id = job.job_id and run.epoch = job.epoch and run.cluster = $1 and run.finished_at is null
        )
        order by job_id
        for update
        "#,
        cluster
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(Job::try_from).collect()
}

/// What a job is called and where it waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its row.
    pub id: i64,
    /// `namespaces/{namespace}/jobs/{job}`.
    pub resource: String,
    /// Its queue.
    pub queue: String,
}

/// The names of some jobs.
pub async fn named(pool: &PgPool, jobs: &[i64]) -> Result<Vec<Named>> {
    let rows =
        sqlx::query!("select job_id, namespace, name, queue from job where job_id = any($1)", jobs).fetch_all(pool).await?;
    rows.into_iter()
        .map(|row| {
            let resource = format!("namespaces/{}/jobs/{}", row.namespace, row.name);
            Ok(Named { id: row.job_id, resource, queue: row.queue })
        })
        .collect()
}
