//! Measures a gate: asks the wave's clusters, each its own Prometheus, and stores one round.

use super::leader;
use crate::app::{App, release::spec};
use crate::domain::release::{Reading, TargetPhase, Verdict, judge};
use crate::store::{
    application, cluster,
    measurement::{self, MeasurementRow},
    release::{self, ReleaseRow},
};
use futures::StreamExt as _;
use muster_core::name::ApplicationName;
use muster_kit::{Error, Result, db, telemetry};
use tracing::Instrument as _;

/// Clusters asked side by side.
const AT_ONCE: usize = 32;

/// One round of the present wave's gate.
pub async fn measure(app: &App, epoch: u64, row: &ReleaseRow) -> Result<()> {
    let spec = spec(&row.manifest)?;
    let wave = row.wave.cast_unsigned() as usize;
    let Some(gate) = spec.rollout.waves.get(wave).and_then(|wave| wave.gate.clone()) else { return Ok(()) };
    let clusters = cluster::all(&app.pool).await?;
    let here = |name: &str| clusters.get(name).is_some_and(|cluster| cluster.away.is_none());
    let targets = release::targets(&mut *app.pool.acquire().await?, &row.name).await?;
    let asked: Vec<(String, String)> = targets
        .iter()
        .filter(|target| target.target.wave == wave && target.target.phase == TargetPhase::Healthy)
        .filter(|target| !target.target.unchanged && here(&target.target.cluster))
        .map(|target| {
            let query = gate
                .query
                .replace("{{version}}", &target.candidate_version)
                .replace("{{revision}}", &target.candidate_revision)
                .replace("{{cluster}}", &target.target.cluster)
                .replace("{{application}}", row.name.application());
            (target.target.cluster.clone(), query)
        })
        .collect();
    let span = tracing::info_span!("release.measure", release.name = %row.name);
    telemetry::continue_trace(&span, &row.traceparent);
    let mut questions = Vec::with_capacity(asked.len());
    for (cluster, query) in &asked {
        questions.push(app.registry.query_metrics(cluster, query));
    }
    let readings: Vec<Reading> = futures::stream::iter(questions).buffered(AT_ONCE).collect().instrument(span).await;
    let at = app.clock.now();
    let mut rows: Vec<MeasurementRow> = asked
        .into_iter()
        .zip(readings)
        .map(|((cluster, query), reading)| {
            let (verdict, reason) = judge(&gate, &reading);
            let value = match &reading {
                Reading::Values(values) => values.first().copied().filter(|value| value.is_finite()),
                Reading::Unreachable(_) => None,
            };
            MeasurementRow { cluster, wave, step: row.step.cast_unsigned() as usize, query, value, verdict, reason, at }
        })
        .collect();
    if rows.is_empty() {
        // Nobody could be asked: that is a round without data, and never a pass.
        rows.push(MeasurementRow {
            cluster: "-".to_owned(),
            wave,
            step: row.step.cast_unsigned() as usize,
            query: gate.query,
            value: None,
            verdict: Verdict::Inconclusive,
            reason: "no cluster could be asked".to_owned(),
            at,
        });
    }
    let mut tx = db::begin(&app.pool).await?;
    leader::check(&mut tx, epoch).await?;
    let parent = ApplicationName::new(row.name.namespace(), row.name.application()).map_err(Error::internal)?;
    application::lock(&mut tx, &parent).await?;
    // The release may have gone on, or back, meanwhile; then the round is of a step that is over, and counts for nothing.
    if release::get(&mut tx, &row.name).await?.is_some() {
        measurement::insert(&mut tx, &row.name, &rows).await?;
        tx.commit().await?;
    }
    Ok(())
}
