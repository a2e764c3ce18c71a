//! What runs are charged for.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use muster_kit::{Result, Tx};
use serde::Serialize;
use sqlx::types::Json;
use sqlx::{PgExecutor, PgPool};

use super::{column, count};
use crate::domain::cost::{Charge, Egress, Rates};
use crate::domain::record::{Job, Run};

/// A charge that begins.
#[derive(Clone, Debug, Serialize)]
pub struct Begun {
    job_id: i64,
    epoch: i32,
    part: i32,
    namespace: String,
    job: String,
    queue: String,
    model: String,
    cluster: String,
    gpus: i32,
    price_micros: Option<i64>,
    currency: String,
    started_at: Timestamp,
}

impl Begun {
    /// The charge of a run from its beginning.
    #[must_use]
    pub fn of(job: &Job, run: &Run, start: Timestamp) -> Self {
        Self {
            job_id: run.job_id,
            epoch: column(run.epoch),
            part: column(run.part),
            namespace: job.namespace.clone(),
            job: job.name.clone(),
            queue: job.queue.clone(),
            model: job.model.clone(),
            cluster: run.cluster.clone(),
            gpus: column(run.gpus),
            price_micros: run.price.as_ref().map(|(micros, _)| *micros),
            currency: run.price.as_ref().map_or_else(String::new, |(_, currency)| currency.clone()),
            started_at: start,
        }
    }
}

/// A charge that ends; a start that was told more exactly since replaces the first.
#[derive(Clone, Debug, Serialize)]
pub struct Ended {
    /// The job's row.
    pub job_id: i64,
    /// The run.
    pub epoch: u32,
    /// Which part of it.
    pub part: u32,
    /// When its pods began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
}

/// Charges runs from their beginning.
pub async fn begin(tx: &mut Tx, begun: &[Begun]) -> Result<()> {
    if begun.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        insert into cost (
            job_id, epoch, part, namespace, job, queue, model, cluster, gpus, price_micros, currency, started_at, watts, emissions_mg,
            egress_micros, egress_currency
        )
        select n.*, r.watts, r.emissions_mg, r.egress_micros, r.egress_currency
        from jsonb_to_recordset($1) as n (
            job_id bigint, epoch integer, part integer, namespace text, job text, queue text, model text, cluster text, gpus integer,
            price_micros bigint, currency text, started_at timestamptz
        )
        left join run r using (job_id, epoch, part)
        on conflict do nothing
        "#,
        Json(begun) as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A charge that goes on with other GPUs: of a run in one cluster.
#[derive(Clone, Debug, Serialize)]
pub struct Resized {
    /// The job's row.
    pub job_id: i64,
    /// The run.
    pub epoch: u32,
    /// From then on.
    pub at: Timestamp,
    /// So many.
    pub gpus: u32,
}

/// Ends pieces of runs' charges and begins the next ones, with other GPUs. A run is in here once.
pub async fn resize(tx: &mut Tx, resized: &[Resized]) -> Result<()> {
    if resized.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        with ended as (
            update cost c
            set finished_at = greatest(n.at, c.started_at)
            from jsonb_to_recordset($1) as n (job_id bigint, epoch integer, at timestamptz, gpus integer)
            where c.job_id = n.job_id
            and c.epoch = n.epoch
            and c.finished_at is null
            and c.gpus <> n.gpus
            returning c.*, n.gpus as then_gpus
        )
        insert into cost (
            job_id, epoch, namespace, job, queue, model, cluster, gpus, price_micros, currency, started_at, watts, emissions_mg, piece
        )
        select
            job_id, epoch, namespace, job, queue, model, cluster, then_gpus, price_micros, currency, finished_at, watts, emissions_mg,
            piece + 1
        from ended
        "#,
        Json(resized) as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Ends runs' charges.
pub async fn finish(tx: &mut Tx, ended: &[Ended]) -> Result<()> {
    if ended.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        update cost c
        set started_at = case when c.piece = 0 then n.started_at else c.started_at end,
            finished_at = least(c.finished_at, n.finished_at)
        from jsonb_to_recordset($1) as n (
            job_id bigint, epoch integer, part integer, started_at timestamptz, finished_at timestamptz
        )
        where c.job_id = n.job_id
        and c.epoch = n.epoch
        and c.part = n.part
        "#,
        Json(ended) as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A charge with what it can be summed by.
pub struct Row {
    /// Whether it is the first of its run under its key in the window: runs are counted by these.
    pub is_first: bool,
    /// `queues/q`, `namespaces/n/jobs/j`, `models/m` (empty if none) or `clusters/c`, as asked.
    pub key: String,
    /// The charge.
    pub charge: Charge,
}

fn rates(watts: Option<i32>, emissions_mg: Option<i64>) -> Result<Rates> {
    Ok(Rates { watts: watts.map(|watts| count("watts", watts)).transpose()?, emissions_mg })
}

fn egress(micros: Option<i64>, currency: Option<String>) -> Option<Egress> {
    let (micros, currency) = micros.zip(currency)?;
    Some(Egress { micros, currency })
}

/// What a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// A row a queue.
    Queue,
    /// A row a job.
    Job,
    /// A row a model.
    Model,
    /// A row a cluster.
    Cluster,
}

impl Group {
    fn word(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Job => "job",
            Self::Model => "model",
            Self::Cluster => "cluster",
        }
    }
}

/// Charges that touch a window, of the `keys` next groups after a key, in key order. `now` ends what still runs.
pub async fn report(
    pool: &PgPool,
    group: Group,
    window: (Option<Timestamp>, Option<Timestamp>),
    after: Option<&str>,
    keys: i64,
) -> Result<Vec<Row>> {
    let rows = sqlx::query!(
        r#"
        with charged as (
            select
                case $1::text
                    when 'queue' then 'queues/' || queue
                    when 'job' then 'namespaces/' || namespace || '/jobs/' || job
                    when 'model' then case when model = '' then '' else 'models/' || model end
                    else 'clusters/' || cluster
                end collate "C" as key,
                job_id, epoch, part, piece, gpus, price_micros, currency, watts, emissions_mg, egress_micros, egress_currency,
                started_at, finished_at
            from cost
            where ($2::timestamptz is null or finished_at is null or finished_at > $2)
            and ($3::timestamptz is null or started_at < $3)
        ), page as (
            select distinct key from charged where $4::text is null or key > $4 order by key limit $5
        )
        select
            c.key as "key!",
            row_number() over (partition by c.key, c.job_id, c.epoch order by c.part, c.piece) = 1 as "is_first!",
            c.gpus, c.price_micros, c.currency, c.watts, c.emissions_mg, c.egress_micros, c.egress_currency,
            c.started_at, c.finished_at
        from charged c
        join page using (key)
        order by c.key
        "#,
        group.word(),
        window.0.map(|at| at.to_sqlx()) as _,
        window.1.map(|at| at.to_sqlx()) as _,
        after,
        keys
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Row {
                is_first: row.is_first,
                key: row.key,
                charge: Charge {
                    gpus: count("a number of GPUs", row.gpus)?,
                    price_micros: row.price_micros,
                    currency: row.currency,
                    rates: rates(row.watts, row.emissions_mg)?,
                    egress: egress(row.egress_micros, row.egress_currency),
                    start: row.started_at.to_jiff(),
                    finish: row.finished_at.map(jiff_sqlx::Timestamp::to_jiff),
                },
            })
        })
        .collect()
}

/// All charges of some jobs: (job's row, epoch, charge).
pub async fn of_jobs<'e>(executor: impl PgExecutor<'e>, jobs: &[i64]) -> Result<Vec<(i64, u32, Charge)>> {
    let rows = sqlx::query!(
        r#"
        select
            job_id, epoch, gpus, price_micros, currency, watts, emissions_mg, egress_micros, egress_currency, started_at, finished_at
        from cost
        where job_id = any($1)
        order by job_id, epoch, part, piece
        "#,
        jobs
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter()
        .map(|row| {
            let charge = Charge {
                gpus: count("a number of GPUs", row.gpus)?,
                price_micros: row.price_micros,
                currency: row.currency,
                rates: rates(row.watts, row.emissions_mg)?,
                egress: egress(row.egress_micros, row.egress_currency),
                start: row.started_at.to_jiff(),
                finish: row.finished_at.map(jiff_sqlx::Timestamp::to_jiff),
            };
            Ok((row.job_id, count("an epoch", row.epoch)?, charge))
        })
        .collect()
}

/// All charges of a queue.
pub async fn of_queue(pool: &PgPool, queue: &str) -> Result<Vec<Charge>> {
    let rows = sqlx::query!(
        r#"
        select gpus, price_micros, currency, watts, emissions_mg, egress_micros, egress_currency, started_at, finished_at
        from cost
        where queue = $1
        "#,
        queue
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Charge {
                gpus: count("a number of GPUs", row.gpus)?,
                price_micros: row.price_micros,
                currency: row.currency,
                rates: rates(row.watts, row.emissions_mg)?,
                egress: egress(row.egress_micros, row.egress_currency),
                start: row.started_at.to_jiff(),
                finish: row.finished_at.map(jiff_sqlx::Timestamp::to_jiff),
            })
        })
        .collect()
}

/// A queue, and one of those at or below it, of which is asked what they have used lately.
#[derive(Clone, Debug)]
pub struct Lately {
    /// The queue.
    pub queue: String,
    /// Itself, or one below it.
    pub below: String,
    /// What is so long ago counts for half, in seconds.
    pub half_life_s: f64,
}

/// What queues have used on the mean, in thousandths of GPUs, by queue: the mean over all time of GPUs in use, what is a half-life ago
/// counting for half. A run that began at a and ended at b is in it with `GPUs × (½^((now − b) ÷ half-life) − ½^((now − a) ÷ half-life))`, the
/// integral of the weights over its time. What ended more than twelve half-lives ago, a 4096th, is left out.
pub async fn used_lately(executor: impl PgExecutor<'_>, asked: &[Lately], now: Timestamp) -> Result<BTreeMap<String, i64>> {
    let queues: Vec<String> = asked.iter().map(|asked| asked.queue.clone()).collect();
    let below: Vec<String> = asked.iter().map(|asked| asked.below.clone()).collect();
    let half_lives: Vec<f64> = asked.iter().map(|asked| asked.half_life_s).collect();
    let rows = sqlx::query!(
        r#"
        with used as (
            select
                asked.queue,
                c.gpus,
                greatest(extract(epoch from $4::timestamptz - coalesce(c.finished_at, $4))::float8 / asked.half_life_s, 0) as ended,
                greatest(extract(epoch from $4 - c.started_at)::float8 / asked.half_life_s, 0) as began
            from unnest($1::text[], $2::text[], $3::float8[]) as asked (queue, below, half_life_s)
            join cost c on c.queue = asked.below
            where c.finished_at is null or c.finished_at > $4 - make_interval(secs => 12 * asked.half_life_s)
        )
        select
            queue as "queue!",
            round(sum(1000 * gpus * (power(0.5::float8, ended) - power(0.5::float8, least(began, 60)))))::bigint as "gpus!"
        from used
        group by queue
        "#,
        &queues,
        &below,
        &half_lives,
        now.to_sqlx() as _
    )
    .fetch_all(executor)
    .await?;
    Ok(rows.into_iter().map(|row| (row.queue, row.gpus.max(0))).collect())
}

/// What counts in a budget of some queues now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// GPUs × milliseconds.
    pub gpu_ms: i64,
    /// Millionths, rounded up.
    pub micros: i64,
}

/// What runs of the queues have used since `from`. A run that is not over, begun or not, counts at least with what it was expected to
/// take when it was placed.
pub async fn counted(executor: impl PgExecutor<'_>, queues: &[String], from: Timestamp, now: Timestamp) -> Result<Counted> {
    let row = sqlx::query!(
        r#"
        with counting as (
            select
                c.gpus,
                coalesce(c.price_micros, 0) as price_micros,
                greatest(
                    extract(epoch from coalesce(c.finished_at, $3) - greatest(c.started_at, $2)) * 1000,
                    case when c.finished_at is null then r.counted_ms end,
                    0
                ) as ms,
                -- It is moved when the run begins.
                case when c.started_at >= $2 then coalesce(c.egress_micros, 0) else 0 end as egress_micros
            from cost c
            left join run r using (job_id, epoch, part)
            where c.queue = any($1)
            and (c.finished_at is null or c.finished_at > $2)
            union all
            select r.gpus, coalesce(r.price_micros, 0), r.counted_ms, coalesce(r.egress_micros, 0)
            from job j
            join run r on r.job_id = j.job_id and r.epoch = j.epoch
            where j.charged
            and j.queue = any($1)
            and r.finished_at is null
            and not exists (select 1 from cost c where c.job_id = r.job_id and c.epoch = r.epoch and c.part = r.part)
        )
        select
            coalesce(ceil(sum(ms * gpus)), 0)::bigint as "gpu_ms!",
            coalesce(ceil(sum(ms * gpus * price_micros) / 3600000) + sum(egress_micros), 0)::bigint as "micros!"
        from counting
        "#,
        queues,
        from.to_sqlx() as _,
        now.to_sqlx() as _
    )
    .fetch_one(executor)
    .await?;
    Ok(Counted { gpu_ms: row.gpu_ms, micros: row.micros })
}
