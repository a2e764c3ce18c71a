//! Runs.

use jiff_sqlx::ToSqlx;
use muster_kit::{Error, Result, Tx};
use serde_json::Value;
use sqlx::PgPool;

use super::{column, corrupt, count, json};
use crate::domain::cluster::Standing;
use crate::domain::job::StopReason;
use crate::domain::record::Run;

struct RunRow {
    job_id: i64,
    epoch: i32,
    cluster: String,
    flavor: String,
    gpus: i32,
    slots: Value,
    price_micros: Option<i64>,
    currency: String,
    state: String,
    reason: String,
    stopping: Option<String>,
    wanted: bool,
    bundle_digest: Option<String>,
    removed_generation: Option<i64>,
    pods: Value,
    traceparent: String,
    placed_at: jiff_sqlx::Timestamp,
    started_at: Option<jiff_sqlx::Timestamp>,
    finished_at: Option<jiff_sqlx::Timestamp>,
}

impl TryFrom<RunRow> for Run {
    type Error = Error;

    fn try_from(row: RunRow) -> Result<Self> {
        Ok(Self {
            job_id: row.job_id,
            epoch: count("an epoch", row.epoch)?,
            cluster: row.cluster,
            flavor: row.flavor,
            gpus: count("a number of GPUs", row.gpus)?,
            slots: json::read_slots(row.slots)?,
            price: row.price_micros.map(|micros| (micros, row.currency)),
            state: row.state.parse().map_err(|error: String| corrupt("a state", error))?,
            reason: row.reason,
            stopping: row
                .stopping
                .map(|word| word.parse::<StopReason>())
                .transpose()
                .map_err(|error| corrupt("a reason to stop", error))?,
            wanted: row.wanted,
            bundle_digest: row.bundle_digest,
            removed_generation: row.removed_generation,
            pods: serde_json::from_value(row.pods).map_err(|error| corrupt("counts of pods", error))?,
            traceparent: row.traceparent,
            placed_at: row.placed_at.to_jiff(),
            started_at: row.started_at.map(jiff_sqlx::Timestamp::to_jiff),
            finished_at: row.finished_at.map(jiff_sqlx::Timestamp::to_jiff),
        })
    }
}

/// Stores a new run, which counts in budgets with so long at least.
pub async fn insert(tx: &mut Tx, run: &Run, counted_ms: i64) -> Result<()> {
    sqlx::query!(
        r#"
        insert into run (
            job_id, epoch, cluster, flavor, gpus, slots, price_micros, currency, state, reason, traceparent, placed_at,
            counted_ms
        )
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        "#,
        run.job_id,
        column(run.epoch),
        run.cluster,
        run.flavor,
        column(run.gpus),
        json::write_slots(&run.slots)?,
        run.price.as_ref().map(|(micros, _)| *micros),
        run.price.as_ref().map_or("", |(_, currency)| currency.as_str()),
        run.state.as_str(),
        run.reason,
        run.traceparent,
        run.placed_at.to_sqlx() as _,
        counted_ms
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes what may change of a run back. Its job's row is locked, or its version is checked, by the caller.
pub async fn update(tx: &mut Tx, run: &Run) -> Result<()> {
    sqlx::query!(
        r#"
        update run
        set state = $3,
            reason = $4,
            stopping = $5,
            wanted = $6,
            bundle_digest = $7,
            pods = $8,
            started_at = $9,
            finished_at = $10
        where job_id = $1
        and epoch = $2
        "#,
        run.job_id,
        column(run.epoch),
        run.state.as_str(),
        run.reason,
        run.stopping.map(StopReason::as_str),
        run.wanted,
        run.bundle_digest,
        serde_json::to_value(&run.pods).map_err(Error::internal)?,
        run.started_at.map(|at| at.to_sqlx()) as _,
        run.finished_at.map(|at| at.to_sqlx()) as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// One run. Locked with its job.
pub async fn get(tx: &mut Tx, job_id: i64, epoch: u32) -> Result<Option<Run>> {
    let row = sqlx::query_as!(
        RunRow,
        r#"
        select
            job_id, epoch, cluster, flavor, gpus, slots, price_micros, currency, state, reason, stopping, wanted, bundle_digest,
            removed_generation, pods, traceparent, placed_at, started_at, finished_at
        from run
        where job_id = $1
        and epoch = $2
        "#,
        job_id,
        column(epoch)
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(Run::try_from).transpose()
}

/// Runs of a job after an epoch, oldest first.
pub async fn list(pool: &PgPool, job_id: i64, after: u32, limit: i64) -> Result<Vec<Run>> {
    let rows = sqlx::query_as!(
        RunRow,
        r#"
        select
            job_id, epoch, cluster, flavor, gpus, slots, price_micros, currency, state, reason, stopping, wanted, bundle_digest,
            removed_generation, pods, traceparent, placed_at, started_at, finished_at
        from run
        where job_id = $1
        and epoch > $2
        order by epoch
        limit $3
        "#,
        job_id,
        column(after),
        limit
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Run::try_from).collect()
}

/// The current runs that no verdict has allowed yet, oldest first.
pub async fn uncleared(pool: &PgPool, limit: i64) -> Result<Vec<Run>> {
    let rows = sqlx::query_as!(
        RunRow,
        r#"
        select
            job_id, epoch, cluster, flavor, gpus, slots, price_micros, currency, state, reason, stopping, wanted, bundle_digest,
            removed_generation, pods, traceparent, placed_at, started_at, finished_at
        from run
        where wanted
        and bundle_digest is null
        order by placed_at, job_id
        limit $1
        "#,
        limit
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Run::try_from).collect()
}

/// A run that a cluster should hold.
pub struct Wanted {
    /// Its job's namespace.
    pub namespace: String,
    /// Its job's name.
    pub job: String,
    /// Which attempt.
    pub epoch: u32,
    /// Its job's queue.
    pub queue: String,
    /// Its job's kind.
    pub kind: String,
    /// Whether it may be moved.
    pub movable: bool,
    /// Its composed object.
    pub bundle_digest: String,
    /// Trace context of its decision.
    pub traceparent: String,
}

/// The runs that a cluster should hold and that were allowed.
pub async fn wanted(tx: &mut Tx, cluster: &str) -> Result<Vec<Wanted>> {
    let rows = sqlx::query!(
        r#"
        select j.namespace, j.name, r.epoch, j.queue, j.kind, j.movable, r.bundle_digest as "bundle_digest!", r.traceparent
        from run r
        join job j on j.job_id = r.job_id
        where r.cluster = $1
        and r.wanted
        and r.bundle_digest is not null
        "#,
        cluster
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Wanted {
                namespace: row.namespace,
                job: row.name,
                epoch: count("an epoch", row.epoch)?,
                queue: row.queue,
                kind: row.kind,
                movable: row.movable,
                bundle_digest: row.bundle_digest,
                traceparent: row.traceparent,
            })
        })
        .collect()
}

/// Takes finished runs that ended before an instant out of their clusters, at most `limit`; gives the clusters concerned.
pub async fn retire(tx: &mut Tx, before: jiff::Timestamp, limit: i64) -> Result<Vec<String>> {
    let rows = sqlx::query_scalar!(
        r#"
        update run
        set wanted = false
        where (job_id, epoch) in (
            select job_id, epoch
            from run
            where wanted
            and finished_at < $1
            order by finished_at
            limit $2
            for update skip locked
        )
        returning cluster
        "#,
        before.to_sqlx() as _,
        limit
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows)
}

/// A cluster in which charged runs need attention, and its standing; `None` where the registry knows it no more.
pub struct Troubled {
    /// Its name.
    pub cluster: String,
    /// Its standing.
    pub standing: Option<Standing>,
}

/// Clusters with charged runs that are lost, drained or gone, or whose jobs are marked as lost.
pub async fn troubled(pool: &PgPool) -> Result<Vec<Troubled>> {
    let rows = sqlx::query!(
        r#"
        select distinct r.cluster, c.facts -> 'standing' as "standing?"
        from job j
        join run r on r.job_id = j.job_id and r.epoch = j.epoch
        left join cluster c on c.name = r.cluster
        where j.charged
        and (c.name is null or c.facts ->> 'standing' in ('lost', 'draining', 'absent') or j.state = 'lost')
        order by r.cluster
        "#
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            let standing = row.standing.map(serde_json::from_value).transpose().map_err(|error| corrupt("a standing", error))?;
            Ok(Troubled { cluster: row.cluster, standing })
        })
        .collect()
}

/// Clusters in which a job's runs are wanted.
pub async fn clusters(tx: &mut Tx, job_id: i64) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar!("select distinct cluster from run where job_id = $1 and wanted", job_id).fetch_all(&mut **tx).await?)
}
