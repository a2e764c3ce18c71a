//! Runs, with all their parts: read here, written in [`write`], several in one statement.

pub mod write;

use std::collections::BTreeMap;

use jiff_sqlx::ToSqlx;
use muster_kit::{Error, Result, Tx};
use serde_json::Value;
use sqlx::PgPool;

use super::{column, corrupt, count, json};
use crate::domain::cluster::Standing;
use crate::domain::job::StopReason;
use crate::domain::parts::Parts;
use crate::domain::record::{GrowthRefused, Job, Run};

struct RunRow {
    job_id: i64,
    epoch: i32,
    part: i32,
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
    leaving: Value,
    sized_at: Option<jiff_sqlx::Timestamp>,
    done_ms: i64,
    resizing: bool,
    grown_from: Option<i32>,
    refused_at: Option<jiff_sqlx::Timestamp>,
    refused_workers: Option<i32>,
}

impl TryFrom<RunRow> for Run {
    type Error = Error;

    fn try_from(row: RunRow) -> Result<Self> {
        Ok(Self {
            job_id: row.job_id,
            epoch: count("an epoch", row.epoch)?,
            part: count("a part", row.part)?,
            cluster: row.cluster,
            flavor: row.flavor,
            gpus: count("a number of GPUs", row.gpus)?,
            slots: json::read_slots(row.slots)?,
            leaving: json::read_slots(row.leaving)?,
            sized: row.sized_at.map(|at| (at.to_jiff(), row.done_ms)),
            resizing: row.resizing,
            grown_from: row.grown_from.map(|workers| count("a number of workers", workers)).transpose()?,
            refused: row.refused_at.map(|at| refused(at.to_jiff(), row.refused_workers)).transpose()?,
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

fn refused(at: jiff::Timestamp, workers: Option<i32>) -> Result<GrowthRefused> {
    Ok(GrowthRefused { at, workers: workers.map(|workers| count("a number of workers", workers)).transpose()? })
}

/// One run. Locked with its job.
pub async fn get(tx: &mut Tx, job_id: i64, epoch: u32) -> Result<Option<Parts>> {
    let rows = sqlx::query_as!(
        RunRow,
        r#"
        select
            job_id, epoch, part, cluster, flavor, gpus, slots, price_micros, currency, state, reason, stopping, wanted, bundle_digest,
            removed_generation, pods, traceparent, placed_at, started_at, finished_at, leaving, sized_at, done_ms, resizing,
            grown_from, refused_at, refused_workers
        from run
        where job_id = $1
        and epoch = $2
        "#,
        job_id,
        column(epoch)
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(Parts::of(parts(rows)?))
}

fn parts(rows: Vec<RunRow>) -> Result<Vec<Run>> {
    rows.into_iter().map(Run::try_from).collect()
}

/// Runs by (job, epoch), those that are there. Locked with their jobs.
pub async fn some(tx: &mut Tx, runs: &[(i64, u32)]) -> Result<BTreeMap<(i64, u32), Parts>> {
    if runs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let jobs: Vec<i64> = runs.iter().map(|(job, _)| *job).collect();
    let epochs: Vec<i32> = runs.iter().map(|(_, epoch)| column(*epoch)).collect();
    let rows = sqlx::query_as!(
        RunRow,
        r#"
        select
            job_id, epoch, part, cluster, flavor, gpus, slots, price_micros, currency, state, reason, stopping, wanted, bundle_digest,
            removed_generation, pods, traceparent, placed_at, started_at, finished_at, leaving, sized_at, done_ms, resizing,
            grown_from, refused_at, refused_workers
        from run
        where (job_id, epoch) in (select * from unnest($1::bigint[], $2::integer[]))
        "#,
        &jobs,
        &epochs
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(Parts::by_run(parts(rows)?))
}

/// The current runs of those of these jobs that are charged, by job.
pub async fn charged<'a>(tx: &mut Tx, jobs: impl IntoIterator<Item = &'a Job>) -> Result<BTreeMap<i64, Parts>> {
    let charged: Vec<(i64, u32)> = jobs.into_iter().filter(|job| job.charged).map(|job| (job.id, job.epoch)).collect();
    Ok(some(tx, &charged).await?.into_iter().map(|((job, _), run)| (job, run)).collect())
}

/// Runs of a job after an epoch, oldest first.
pub async fn list(pool: &PgPool, job_id: i64, after: u32, limit: i64) -> Result<Vec<Parts>> {
    let rows = sqlx::query_as!(
        RunRow,
        r#"
        select
            job_id, epoch, part, cluster, flavor, gpus, slots, price_micros, currency, state, reason, stopping, wanted, bundle_digest,
            removed_generation, pods, traceparent, placed_at, started_at, finished_at, leaving, sized_at, done_ms, resizing,
            grown_from, refused_at, refused_workers
        from run
        where job_id = $1
        and epoch in (select r.epoch from run r where r.job_id = $1 and r.part = 0 and r.epoch > $2 order by r.epoch limit $3)
        "#,
        job_id,
        column(after),
        limit
    )
    .fetch_all(pool)
    .await?;
    Ok(Parts::by_run(parts(rows)?).into_values().collect())
}

/// The current runs that no verdict has allowed yet, and those of which it has allowed another size, oldest first; each with all its
/// parts. Either are found by an index of their own: in one condition together they would be looked for among all that run.
pub async fn uncleared(pool: &PgPool, limit: i64) -> Result<Vec<Parts>> {
    let rows = sqlx::query_as!(
        RunRow,
        r#"
        select
            job_id, epoch, part, cluster, flavor, gpus, slots, price_micros, currency, state, reason, stopping, wanted, bundle_digest,
            removed_generation, pods, traceparent, placed_at, started_at, finished_at, leaving, sized_at, done_ms, resizing,
            grown_from, refused_at, refused_workers
        from run
        join (
            select u.job_id, u.epoch
            from (
                (
                    select job_id, epoch, placed_at
                    from run
                    where wanted
                    and bundle_digest is null
                    and part = 0
                    order by placed_at, job_id
                    limit $1
                )
                union
                (
                    select job_id, epoch, placed_at
                    from run
                    where wanted
                    and resizing
                    and part = 0
                    order by placed_at, job_id
                    limit $1
                )
            ) u
            order by u.placed_at, u.job_id
            limit $1
        ) waiting using (job_id, epoch)
        order by placed_at, job_id, part
        "#,
        limit
    )
    .fetch_all(pool)
    .await?;
    let mut runs: Vec<Vec<Run>> = Vec::new();
    for part in parts(rows)? {
        match runs.last_mut() {
            Some(run) if run[0].job_id == part.job_id && run[0].epoch == part.epoch => run.push(part),
            Some(_) | None => runs.push(vec![part]),
        }
    }
    Ok(runs.into_iter().filter_map(Parts::of).collect())
}

/// A run, or the part of one, that its cluster may be told of.
pub struct ToTell {
    /// Its job's row.
    pub job_id: i64,
    /// Which attempt.
    pub epoch: u32,
    /// Which part of it.
    pub part: u32,
    /// Its job's namespace.
    pub namespace: String,
    /// Its job's name.
    pub job: String,
    /// Its job's queue.
    pub queue: String,
    /// Its job's kind.
    pub kind: String,
    /// Whether it may be moved.
    pub movable: bool,
    /// Whether its cluster should hold it.
    pub wanted: bool,
    /// Its composed object, once it was allowed.
    pub bundle_digest: Option<String>,
    /// Trace context of its decision.
    pub traceparent: String,
}

struct ToTellRow {
    job_id: i64,
    epoch: i32,
    part: i32,
    namespace: String,
    name: String,
    queue: String,
    kind: String,
    movable: bool,
    wanted: bool,
    bundle_digest: Option<String>,
    traceparent: String,
}

impl TryFrom<ToTellRow> for ToTell {
    type Error = Error;

    fn try_from(row: ToTellRow) -> Result<Self> {
        let ToTellRow { job_id, epoch, part, namespace, name, queue, kind, movable, wanted, bundle_digest, traceparent } = row;
        let (epoch, part) = (count("an epoch", epoch)?, count("a part", part)?);
        Ok(Self { job_id, epoch, part, namespace, job: name, queue, kind, movable, wanted, bundle_digest, traceparent })
    }
}

/// The runs that a cluster should hold and that were allowed.
pub async fn wanted(tx: &mut Tx, cluster: &str) -> Result<Vec<ToTell>> {
    let rows = sqlx::query_as!(
        ToTellRow,
        r#"
        select
            r.job_id, r.epoch, r.part, j.namespace, j.name, j.queue, j.kind, j.movable, r.wanted, r.bundle_digest, r.traceparent
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
    rows.into_iter().map(ToTell::try_from).collect()
}

/// The runs that may differ from what their clusters were told of them, by cluster, oldest job first and at most `limit` of each.
pub async fn untold(tx: &mut Tx, clusters: &[String], limit: usize) -> Result<BTreeMap<String, Vec<ToTell>>> {
    if clusters.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = sqlx::query!(
        r#"
        select
            asked.cluster as "cluster!", r.job_id, r.epoch, r.part, j.namespace, j.name, j.queue, j.kind, j.movable, r.wanted,
            r.bundle_digest, r.traceparent
        from unnest($1::text[]) as asked (cluster)
        cross join lateral (
            select *
            from run u
            where u.cluster = asked.cluster
            and u.untold
            and (u.bundle_digest is not null or not u.wanted)
            order by u.job_id, u.epoch
            limit $2
        ) r
        join job j on j.job_id = r.job_id
        order by asked.cluster, r.job_id, r.epoch
        "#,
        clusters,
        limit as i64
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut untold: BTreeMap<String, Vec<ToTell>> = BTreeMap::new();
    for row in rows {
        let run = ToTell {
            job_id: row.job_id,
            epoch: count("an epoch", row.epoch)?,
            part: count("a part", row.part)?,
            namespace: row.namespace,
            job: row.name,
            queue: row.queue,
            kind: row.kind,
            movable: row.movable,
            wanted: row.wanted,
            bundle_digest: row.bundle_digest,
            traceparent: row.traceparent,
        };
        untold.entry(row.cluster).or_default().push(run);
    }
    Ok(untold)
}

/// Takes what ended before an instant out of its clusters, at most `limit` runs or parts of runs; gives the clusters concerned.
pub async fn retire(tx: &mut Tx, before: jiff::Timestamp, limit: i64) -> Result<Vec<String>> {
    let rows = sqlx::query_scalar!(
        r#"
        update run
        set wanted = false,
            untold = true
        where (job_id, epoch, part) in (
            select job_id, epoch, part
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

/// Clusters with charged runs (those that are not over) that are lost, drained or gone, or whose jobs are marked as lost. Goes from
/// cluster to cluster by the index, however many runs each has.
pub async fn troubled(pool: &PgPool) -> Result<Vec<Troubled>> {
    let rows = sqlx::query!(
        r#"
        with recursive holder as (
            (select cluster from run where finished_at is null order by cluster limit 1)
            union all
            select (
                select r.cluster from run r where r.finished_at is null and r.cluster > h.cluster order by r.cluster limit 1
            )
            from holder h
            where h.cluster is not null
        )
        select h.cluster as "cluster!", c.facts -> 'standing' as "standing?"
        from holder h
        left join cluster c on c.name = h.cluster
        where h.cluster is not null
        and (
            c.name is null
            or c.facts ->> 'standing' in ('lost', 'draining', 'absent')
            or h.cluster in (
                select r.cluster from job j join run r on r.job_id = j.job_id and r.epoch = j.epoch where j.charged and j.state = 'lost'
            )
        )
        order by h.cluster
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
