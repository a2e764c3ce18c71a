//! Jobs written, several in one statement.

use jiff::Timestamp;
use muster_kit::{Error, Result, Tx};
use serde::Serialize;
use serde_json::Value;
use sqlx::types::Json;

use super::super::{column, json};
use crate::domain::record::{Job, Transition};

/// Keeps manifests by their content: (digest, content), each digest once.
pub async fn put_manifests(tx: &mut Tx, manifests: &[(&str, &str)]) -> Result<()> {
    let digests: Vec<String> = manifests.iter().map(|(digest, _)| (*digest).to_owned()).collect();
    let contents: Vec<String> = manifests.iter().map(|(_, content)| (*content).to_owned()).collect();
    // The update takes the row's lock: nobody sweeps it away before the job that names it is there.
    sqlx::query!(
        r#"
        insert into manifest (digest, content)
        select digest, content from unnest($1::text[], $2::text[]) as new (digest, content) order by digest
        on conflict (digest) do update set content = excluded.content
        "#,
        &digests,
        &contents
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[derive(Serialize)]
struct NewRow<'a> {
    namespace: &'a str,
    name: &'a str,
    queue: &'a str,
    manifest_digest: &'a str,
    kind: &'a str,
    gang: Value,
    gpus: i32,
    priority: i32,
    max_retries: i32,
    movable: bool,
    model: &'a str,
    state: &'a str,
    reason: &'a str,
    policy_revision: &'a str,
    traceparent: &'a str,
    history: &'a [Transition],
    deadline: Option<Timestamp>,
    submitted_at: Timestamp,
}

impl<'a> NewRow<'a> {
    fn of(job: &'a Job) -> Result<Self> {
        Ok(Self {
            namespace: &job.namespace,
            name: &job.name,
            queue: &job.queue,
            manifest_digest: &job.manifest_digest,
            kind: &job.kind,
            gang: json::write_gang(&job.gang)?,
            gpus: column(job.gpus),
            priority: job.priority,
            max_retries: column(job.max_retries),
            movable: job.movable,
            model: &job.model,
            state: job.state.as_str(),
            reason: &job.reason,
            policy_revision: &job.policy_revision,
            traceparent: &job.traceparent,
            history: &job.history,
            deadline: job.deadline,
            submitted_at: job.submitted_at,
        })
    }
}

/// Stores new jobs, numbered in this order; gives the row of each, `None` where its name is taken. No two have one name.
pub async fn insert(tx: &mut Tx, jobs: &[&Job]) -> Result<Vec<Option<i64>>> {
    let rows: Vec<NewRow<'_>> = jobs.iter().map(|job| NewRow::of(job)).collect::<Result<_>>()?;
    let stored = sqlx::query!(
        r#"
        insert into job (
            namespace, name, queue, manifest_digest, kind, gang, gpus, priority, max_retries, movable, model, state, reason,
            policy_revision, traceparent, history, deadline, submitted_at
        )
        select
            namespace, name, queue, manifest_digest, kind, gang, gpus, priority, max_retries, movable, model, state, reason,
            policy_revision, traceparent, history, deadline, submitted_at
        from rows from (
            jsonb_to_recordset($1) as (
                namespace text, name text, queue text, manifest_digest text, kind text, gang jsonb, gpus integer, priority integer,
                max_retries integer, movable boolean, model text, state text, reason text, policy_revision text, traceparent text,
                history jsonb, deadline timestamptz, submitted_at timestamptz
            )
        ) with ordinality as j (
            namespace, name, queue, manifest_digest, kind, gang, gpus, priority, max_retries, movable, model, state, reason,
            policy_revision, traceparent, history, deadline, submitted_at, place
        )
        order by place
        on conflict on constraint job_name_is_unique do nothing
        returning job_id, namespace, name
        "#,
        Json(rows) as _
    )
    .fetch_all(&mut **tx)
    .await?;
    let id = |job: &&Job| stored.iter().find(|row| row.name == job.name && row.namespace == job.namespace).map(|row| row.job_id);
    Ok(jobs.iter().map(id).collect())
}

#[derive(Serialize)]
struct ChangedRow<'a> {
    job_id: i64,
    version: i64,
    priority: i32,
    state: &'a str,
    reason: &'a str,
    epoch: i32,
    charged: bool,
    retries: i32,
    not_before: Option<Timestamp>,
    policy_revision: &'a str,
    history: &'a [Transition],
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
}

impl<'a> ChangedRow<'a> {
    fn of(job: &'a Job) -> Self {
        Self {
            job_id: job.id,
            version: job.version,
            priority: job.priority,
            state: job.state.as_str(),
            reason: &job.reason,
            epoch: column(job.epoch),
            charged: job.charged,
            retries: column(job.retries),
            not_before: job.not_before,
            policy_revision: &job.policy_revision,
            history: &job.history,
            started_at: job.started_at,
            finished_at: job.finished_at,
        }
    }
}

/// Writes what may change of jobs back, if nobody changed one of them since it was read. The rows' versions rise by one.
///
/// # Errors
/// Somebody did: then none of them is to be written.
pub async fn update(tx: &mut Tx, jobs: &[&Job]) -> Result<()> {
    let rows: Vec<ChangedRow<'_>> = jobs.iter().map(|job| ChangedRow::of(job)).collect();
    let done = sqlx::query!(
        r#"
        update job j
        set priority = n.priority,
            state = n.state,
            reason = n.reason,
            epoch = n.epoch,
            charged = n.charged,
            retries = n.retries,
            not_before = n.not_before,
            policy_revision = n.policy_revision,
            history = n.history,
            started_at = n.started_at,
            finished_at = n.finished_at,
            version = j.version + 1
        from jsonb_to_recordset($1) as n (
            job_id bigint, version bigint, priority integer, state text, reason text, epoch integer, charged boolean,
            retries integer, not_before timestamptz, policy_revision text, history jsonb, started_at timestamptz,
            finished_at timestamptz
        )
        where j.job_id = n.job_id
        and j.version = n.version
        "#,
        Json(rows) as _
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() < jobs.len() as u64 {
        return Err(Error::conflict("CONTENTION", "another change of the job came between; try again"));
    }
    Ok(())
}
