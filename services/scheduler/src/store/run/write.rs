//! Runs written, several in one statement.

use std::collections::BTreeMap;

use jiff::Timestamp;
use muster_kit::{Result, Tx};
use serde::Serialize;
use serde_json::Value;
use sqlx::types::Json;

use super::super::{column, json};
use crate::domain::cost::{Egress, Rates};
use crate::domain::job::StopReason;
use crate::domain::record::Run;

#[derive(Serialize)]
struct NewRow<'a> {
    job_id: i64,
    epoch: i32,
    part: i32,
    cluster: &'a str,
    flavor: &'a str,
    gpus: i32,
    slots: Value,
    price_micros: Option<i64>,
    currency: &'a str,
    state: &'a str,
    reason: &'a str,
    traceparent: &'a str,
    placed_at: Timestamp,
    counted_ms: i64,
    watts: Option<i32>,
    emissions_mg: Option<i64>,
    egress_micros: Option<i64>,
    egress_currency: Option<&'a str>,
    part_permille: i32,
}

impl<'a> NewRow<'a> {
    fn of(Placed { run, counted_ms, rates, egress, part_permille }: &'a Placed) -> Result<Self> {
        Ok(Self {
            job_id: run.job_id,
            epoch: column(run.epoch),
            part: column(run.part),
            cluster: &run.cluster,
            flavor: &run.flavor,
            gpus: column(run.gpus),
            slots: json::write_slots(&run.slots)?,
            price_micros: run.price.as_ref().map(|(micros, _)| *micros),
            currency: run.price.as_ref().map_or("", |(_, currency)| currency.as_str()),
            state: run.state.as_str(),
            reason: &run.reason,
            traceparent: &run.traceparent,
            placed_at: run.placed_at,
            counted_ms: *counted_ms,
            watts: rates.watts.map(column),
            emissions_mg: rates.emissions_mg,
            egress_micros: egress.as_ref().map(|egress| egress.micros),
            egress_currency: egress.as_ref().map(|egress| egress.currency.as_str()),
            part_permille: column(*part_permille),
        })
    }
}

/// A new run, or a part of one.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The run.
    pub run: Run,
    /// How long it counts in budgets at least, in milliseconds.
    pub counted_ms: i64,
    /// What its GPUs draw and emit.
    pub rates: Rates,
    /// What moving its dataset costs.
    pub egress: Option<Egress>,
    /// Which part of the full gang it is, in thousandths.
    pub part_permille: u32,
}

/// Stores new runs.
pub async fn insert(tx: &mut Tx, runs: &[Placed]) -> Result<()> {
    if runs.is_empty() {
        return Ok(());
    }
    let rows: Vec<NewRow<'_>> = runs.iter().map(NewRow::of).collect::<Result<_>>()?;
    sqlx::query!(
        r#"
        insert into run (
            job_id, epoch, part, cluster, flavor, gpus, slots, price_micros, currency, state, reason, traceparent, placed_at,
            counted_ms, watts, emissions_mg, egress_micros, egress_currency, part_permille
        )
        select *
        from jsonb_to_recordset($1) as n (
            job_id bigint, epoch integer, part integer, cluster text, flavor text, gpus integer, slots jsonb, price_micros bigint,
            currency text, state text, reason text, traceparent text, placed_at timestamptz, counted_ms bigint, watts integer,
            emissions_mg bigint, egress_micros bigint, egress_currency text, part_permille integer
        )
        "#,
        Json(rows) as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[derive(Serialize)]
struct ChangedRow<'a> {
    job_id: i64,
    epoch: i32,
    part: i32,
    state: &'a str,
    reason: &'a str,
    stopping: Option<&'a str>,
    wanted: bool,
    bundle_digest: Option<&'a str>,
    resizing: bool,
    grown_from: Option<i32>,
    refused_at: Option<Timestamp>,
    refused_workers: Option<i32>,
    pods: &'a BTreeMap<String, u32>,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
}

impl<'a> ChangedRow<'a> {
    fn of(run: &'a Run) -> Self {
        Self {
            job_id: run.job_id,
            epoch: column(run.epoch),
            part: column(run.part),
            state: run.state.as_str(),
            reason: &run.reason,
            stopping: run.stopping.map(StopReason::as_str),
            wanted: run.wanted,
            bundle_digest: run.bundle_digest.as_deref(),
            resizing: run.resizing,
            grown_from: run.grown_from.map(column),
            refused_at: run.refused.map(|refused| refused.at),
            refused_workers: run.refused.and_then(|refused| refused.workers).map(column),
            pods: &run.pods,
            started_at: run.started_at,
            finished_at: run.finished_at,
        }
    }
}

/// Writes what may change of runs back. Their jobs' rows are locked, or their versions are checked, by the caller. A run whose
/// cluster should hold something else from now on is marked for telling.
pub async fn update<'a>(tx: &mut Tx, runs: impl Iterator<Item = &'a Run>) -> Result<()> {
    let rows: Vec<ChangedRow<'_>> = runs.map(ChangedRow::of).collect();
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        update run r
        set state = n.state,
            reason = n.reason,
            stopping = n.stopping,
            wanted = n.wanted,
            bundle_digest = n.bundle_digest,
            resizing = n.resizing,
            grown_from = n.grown_from,
            refused_at = n.refused_at,
            refused_workers = n.refused_workers,
            pods = n.pods,
            started_at = n.started_at,
            finished_at = n.finished_at,
            untold = r.untold or r.wanted <> n.wanted or r.bundle_digest is distinct from n.bundle_digest
        from jsonb_to_recordset($1) as n (
            job_id bigint, epoch integer, part integer, state text, reason text, stopping text, wanted boolean, bundle_digest text,
            resizing boolean,
            grown_from integer, refused_at timestamptz, refused_workers integer, pods jsonb, started_at timestamptz, finished_at timestamptz
        )
        where r.job_id = n.job_id
        and r.epoch = n.epoch
        and r.part = n.part
        "#,
        Json(rows) as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A run that has another size, or is to have one; such a run is in one cluster.
#[derive(Clone, Debug)]
pub struct Resized {
    /// The run as it is from now on.
    pub run: Run,
    /// Which part of the full gang it is, in thousandths.
    pub part_permille: u32,
}

#[derive(Serialize)]
struct ResizedRow {
    job_id: i64,
    epoch: i32,
    gpus: i32,
    slots: Value,
    leaving: Value,
    sized_at: Option<Timestamp>,
    done_ms: i64,
    part_permille: i32,
}

impl ResizedRow {
    fn of(Resized { run, part_permille }: &Resized) -> Result<Self> {
        Ok(Self {
            job_id: run.job_id,
            epoch: column(run.epoch),
            gpus: column(run.gpus),
            slots: json::write_slots(&run.slots)?,
            leaving: json::write_slots(&run.leaving)?,
            sized_at: run.sized.map(|(at, _)| at),
            done_ms: run.sized.map_or(0, |(_, done_ms)| done_ms),
            part_permille: column(*part_permille),
        })
    }
}

/// Writes sizes. What a run counts in budgets at least is what is left of it, over the GPUs that it has then.
pub async fn resize(tx: &mut Tx, runs: &[Resized]) -> Result<()> {
    if runs.is_empty() {
        return Ok(());
    }
    let rows: Vec<ResizedRow> = runs.iter().map(ResizedRow::of).collect::<Result<_>>()?;
    sqlx::query!(
        r#"
        update run r
        set counted_ms = case
                when n.gpus = r.gpus or n.gpus = 0 or n.sized_at is null then r.counted_ms
                else greatest(
                    r.counted_ms - 1000 * extract(epoch from n.sized_at - coalesce(r.sized_at, r.started_at, n.sized_at)), 0
                ) * r.gpus / n.gpus
            end::bigint,
            gpus = n.gpus,
            slots = n.slots,
            leaving = n.leaving,
            sized_at = n.sized_at,
            done_ms = n.done_ms,
            part_permille = n.part_permille
        from jsonb_to_recordset($1) as n (
            job_id bigint, epoch integer, gpus integer, slots jsonb, leaving jsonb, sized_at timestamptz, done_ms bigint,
            part_permille integer
        )
        where r.job_id = n.job_id
        and r.epoch = n.epoch
        and r.part = 0
        "#,
        Json(rows) as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
