//! C9: what clusters report of thousands of workloads, stored and summarised.

use crate::{percentile, server::Server};
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use muster_policy::{
    app::App,
    domain::{Installation, PolicyReport, ReportedViolation, RuleSummary, Stage},
    peers::ObservedEvent,
    reconcile::{Leader, reports},
    store::report::Observed,
};
use muster_policy_evaluator::{Bound, Outcome, Policy, Surroundings, decide, speed};
use muster_proto::policy::v1::{
    self as wire, summarize_compliance_request::GroupBy, verdict_service_client::VerdictServiceClient,
};
use serde_json::Value;
use sqlx::PgPool;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

const CLUSTERS: usize = 10;
const WORKLOADS: usize = 10_000;
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
    let mut violations = 0;
    for (number, workloads) in workloads.chunks(WORKLOADS / CLUSTERS).enumerate() {
        let event = report(&format!("cluster-{number}"), &policies, workloads);
        violations += event.reports.iter().flatten().map(|report| report.violations.len()).sum::<usize>();
        ensure!(reports::take(&app, epoch, &event).await? == reports::Taken::Yes, "the report is not taken");
    }
    let took = began.elapsed();
    sqlx::query("vacuum analyze").execute(&pool).await?;
    println!(
        "C9  {WORKLOADS} workloads × {} policies in {CLUSTERS} clusters, {violations} violations: {:.1} MiB in Postgres, event log included; \
         judged and stored in {took:.2?}",
        policies.len(),
        (size(&pool).await? - before) as f64 / f64::from(1 << 20),
    );
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

/// What an agent says of a cluster's workloads.
fn report(cluster: &str, policies: &[Policy], workloads: &[Value]) -> ObservedEvent {
    let bound: Vec<Bound<'_>> =
        policies.iter().map(|policy| Bound { policy, action: None, allow_not_evaluated: true, namespaces: &[] }).collect();
    let decision = decide(&bound, workloads, &Surroundings::default());
    let observed = Observed { incarnation: 1, generation: 1, at: Timestamp::now() };
    let mut reports: BTreeMap<&str, PolicyReport> = BTreeMap::new();
    for policy in policies {
        let (cluster, policy) = (cluster.to_owned(), policy.name());
        let empty =
            PolicyReport { cluster, policy: policy.to_owned(), rules: vec![], violations: vec![], observed_at: observed.at };
        reports.insert(policy, empty);
    }
    let mut counts: BTreeMap<(&str, &str), RuleSummary> = BTreeMap::new();
    for result in &decision.results {
        let new = || RuleSummary { rule: result.rule.clone(), pass: 0, fail: 0, not_evaluated: 0 };
        let count = counts.entry((&result.policy, &result.rule)).or_insert_with(new);
        match &result.outcome {
            Outcome::Pass => count.pass += 1,
            Outcome::Fail { .. } | Outcome::Error { .. } => count.fail += 1,
            Outcome::NotEvaluated { .. } => count.not_evaluated += 1,
            Outcome::Skip { .. } => {}
        }
    }
    for ((policy, _), count) in counts {
        if let Some(report) = reports.get_mut(policy) {
            report.rules.push(count);
        }
    }
    for found in decision.violations.iter().chain(&decision.audited) {
        let text = |pointer: &str| {
            let text = workloads[found.manifest].pointer(pointer).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        if let Some(report) = reports.get_mut(found.policy.as_str()) {
            report.violations.push(ReportedViolation {
                rule: found.rule.clone(),
                kind: text("/kind"),
                namespace: text("/metadata/namespace"),
                object: text("/metadata/name"),
                path: found.path.clone(),
                message: found.message.clone(),
            });
        }
    }
    ObservedEvent {
        cluster: cluster.to_owned(),
        observed,
        installation: Installation { stage: Stage::InForce, message: String::new() },
        reports: Some(reports.into_values().collect()),
    }
}
