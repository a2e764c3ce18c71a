//! C9: what clusters report of thousands of workloads, stored and summarised.

use crate::{
    agents::{CHANGED, changed, judged, told},
    percentile,
    server::Server,
};
use anyhow::{Context, Result, ensure};
use muster_policy::{app::App, domain::ReportRow, reconcile::Leader};
use muster_policy_evaluator::{Policy, speed};
use muster_proto::policy::v1::{
    self as wire, summarize_compliance_request::GroupBy, verdict_service_client::VerdictServiceClient,
};
use serde_json::Value;
use sqlx::PgPool;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

pub const CLUSTERS: usize = 10;
pub const WORKLOADS: usize = 10_000;
const TIMES: usize = 200;

/// Measures and prints.
pub async fn measure(server: &Server, documents: &[Value]) -> Result<()> {
    let pool = PgPool::connect(&server.database_url).await?;
    let policies: Vec<Policy> = documents.iter().map(Policy::parse).collect::<Result<_, _>>()?;
    let names: Vec<String> = policies.iter().map(|policy| policy.name().to_owned()).collect();
    for cluster in 0..CLUSTERS {
        let cluster = format!("cluster-{cluster}");
        sqlx::query("insert into fleet_member values ('all', $1)").bind(&cluster).execute(&pool).await?;
        sqlx::query("insert into distribution values ($1, 1, 1, '', $2)").bind(&cluster).bind(&names).execute(&pool).await?;
    }
    let before = size(&pool).await?;
    let app = App::new(pool.clone(), CancellationToken::new());
    let epoch = lead(&pool).await?;
    let workloads = speed::workloads(WORKLOADS);
    let began = Instant::now();
    let said = judged(&policies, &workloads);
    let violations = said.values().flatten().filter(|(_, row)| matches!(row, ReportRow::Violation(_))).count();
    told(&app, epoch, 1, &said, None).await?;
    let took = began.elapsed();
    sqlx::query("vacuum analyze").execute(&pool).await?;
    println!(
        "C9  {WORKLOADS} workloads × {} policies in {CLUSTERS} clusters, {violations} violations: {:.1} MiB in Postgres, event log included; \
         judged and stored in {took:.2?}",
        policies.len(),
        (size(&pool).await? - before) as f64 / f64::from(1 << 20),
    );
    let changed = judged(&policies, &changed(workloads));
    for (version, way, of) in [(2, "as what changed", Some(&said)), (3, "whole", None)] {
        let (of, to) = if version == 2 { (of, &changed) } else { (of, &said) };
        let (before, began) = (written(&pool).await?, Instant::now());
        told(&app, epoch, version, to, of).await?;
        let took = began.elapsed();
        println!(
            "    1 in {CHANGED} workloads changed, told {way}: {:.0} KiB written by Postgres, {took:.2?}",
            (written(&pool).await? - before) as f64 / 1024.0
        );
    }
    let mut client = VerdictServiceClient::new(server.connect().await?).max_decoding_message_size(16 << 20);
    for by in [GroupBy::Policy, GroupBy::Fleet, GroupBy::Namespace, GroupBy::Workload] {
        let request = wire::SummarizeComplianceRequest {
            fleet: "fleets/all".to_owned(),
            group_by: by.into(),
            page_size: 1_000,
            ..Default::default()
        };
        let (mut seconds, mut rows) = (Vec::new(), 0);
        for _ in 0..TIMES {
            let asked = Instant::now();
            rows = client.summarize_compliance(request.clone()).await?.into_inner().rows.len();
            seconds.push(asked.elapsed().as_secs_f64());
        }
        ensure!(rows > 0, "no row by {by:?}");
        println!(
            "    summary by {by:?}, {rows} rows: p50 {:.1} ms, p99 {:.1} ms",
            percentile(&mut seconds, 0.5) * 1e3,
            percentile(&mut seconds, 0.99) * 1e3
        );
    }
    Ok(())
}

/// Where Postgres is in its log of writes, in bytes.
async fn written(pool: &PgPool) -> Result<i64> {
    Ok(sqlx::query_scalar("select (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint").fetch_one(pool).await?)
}

async fn size(pool: &PgPool) -> Result<i64> {
    Ok(sqlx::query_scalar("select pg_database_size(current_database())").fetch_one(pool).await?)
}

/// Takes the lead from the service, which is away from its registry anyway.
async fn lead(pool: &PgPool) -> Result<u64> {
    sqlx::query("delete from lease").execute(pool).await?;
    let leader = Leader::new(pool.clone(), Duration::from_secs(3_600));
    muster_kit::reconcile::Reconciler::tick(&leader).await?;
    leader.epoch().context("the lead")
}
