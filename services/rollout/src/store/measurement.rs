//! What gates measured, and what happened to releases.

use jiff::Timestamp;
use muster_core::name::ReleaseName;
use muster_kit::{Error, Result, Tx, time::to_db};
use sqlx::PgConnection;

use crate::domain::release::{ReleaseState, Verdict};

/// One cluster's answer in one round.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasurementRow {
    /// The cluster.
    pub cluster: String,
    /// The wave, from 0.
    pub wave: usize,
    /// The step of its weights, from 0.
    pub step: usize,
    /// The query as asked.
    pub query: String,
    /// Absent where there was none.
    pub value: Option<f64>,
    /// How it was judged.
    pub verdict: Verdict,
    /// Why, where it did not pass.
    pub reason: String,
    /// When; equal within a round.
    pub at: Timestamp,
}

fn verdict_text(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::Inconclusive => "inconclusive",
    }
}

/// The measurements of a release, oldest first; the last 5,000.
pub async fn of(connection: &mut PgConnection, name: &ReleaseName) -> Result<Vec<MeasurementRow>> {
    let rows = sqlx::query!(
        r#"
        select * from (
            select * from measurement
            where namespace = $1 and application = $2 and release = $3
            order by measurement_id desc
            limit 5000
        ) latest
        order by measurement_id
        "#,
        name.namespace(),
        name.application(),
        name.release()
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let verdict = [Verdict::Pass, Verdict::Fail, Verdict::Inconclusive]
                .into_iter()
                .find(|verdict| verdict_text(*verdict) == row.verdict)
                .ok_or_else(|| Error::internal(anyhow::anyhow!("measurement.verdict {:?} is unknown", row.verdict)))?;
            Ok(MeasurementRow {
                cluster: row.cluster,
                wave: row.wave.cast_unsigned() as usize,
                step: row.step.cast_unsigned() as usize,
                query: row.query,
                value: row.value,
                verdict,
                reason: row.reason,
                at: row.measured_at.to_jiff(),
            })
        })
        .collect()
}

/// Stores a round.
pub async fn insert(tx: &mut Tx, name: &ReleaseName, rows: &[MeasurementRow]) -> Result<()> {
    for row in rows {
        sqlx::query!(
            r#"
            insert into measurement
                (namespace, application, release, cluster, wave, step, query, value, verdict, reason, measured_at)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
            "#,
            name.namespace(),
            name.application(),
            name.release(),
            row.cluster,
            row.wave as i32,
            row.step as i32,
            row.query,
            row.value,
            verdict_text(row.verdict),
            row.reason,
            to_db(row.at) as _
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// A change of state or wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The state it went to.
    pub state: ReleaseState,
    /// The wave, from 1; 0 before the first.
    pub wave: u32,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// The last fifty transitions of a release, oldest first.
pub async fn history(connection: &mut PgConnection, name: &ReleaseName) -> Result<Vec<Transition>> {
    let rows = sqlx::query!(
        r#"
        select * from (
            select * from release_transition
            where namespace = $1 and application = $2 and release = $3
            order by release_transition_id desc
            limit 50
        ) latest
        order by release_transition_id
        "#,
        name.namespace(),
        name.application(),
        name.release()
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Transition {
                state: super::release::state(&row.state)?,
                wave: row.wave.cast_unsigned(),
                reason: row.reason,
                at: row.happened_at.to_jiff(),
            })
        })
        .collect()
}

/// Adds a transition.
pub async fn record(tx: &mut Tx, name: &ReleaseName, transition: &Transition) -> Result<()> {
    sqlx::query!(
        r#"
        insert into release_transition (namespace, application, release, state, wave, reason, happened_at)
        values ($1, $2, $3, $4, $5, $6, $7)
        "#,
        name.namespace(),
        name.application(),
        name.release(),
        super::release::state_text(transition.state),
        transition.wave.cast_signed(),
        transition.reason,
        to_db(transition.at) as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
