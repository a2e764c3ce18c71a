//! Step 9: who complies, what it cost, and the trace of one job through every process.

use std::collections::BTreeSet;

use crate::patience::look;
use crate::{eventually, spans};
use anyhow::{Context, Result, ensure};
use muster_proto::policy::v1 as policy;
use muster_proto::scheduler::v1 as scheduler;

use scheduler::job::State;

use super::scene::{Scene, path};
use super::{Checked, documents, train};

/// The processes on a job's way from submit to running.
const ON_THE_WAY: [&str; 5] = ["muster", "scheduler", "policy", "fleet-registry", "agent"];

/// Plays the step.
///
/// # Errors
/// A check was not true.
pub async fn play(scene: &mut Scene) -> Result<Checked> {
    let trace = trace(scene).await?;
    Ok(vec![compliance(scene).await?, cost(scene).await?, trace])
}

async fn compliance(scene: &Scene) -> Result<String> {
    let row = eventually("every cluster of the fleet has reported", async || {
        let request = policy::SummarizeComplianceRequest { fleet: "fleets/fleet-all".to_owned(), ..Default::default() };
        let rows = scene.clients()?.verdicts().summarize_compliance(request).await?.into_inner().rows;
        let row = rows.iter().find(|row| row.policy == "policies/require-gpu-limits").cloned();
        let complete = row.as_ref().is_some_and(|row| row.silent_clusters == 0);
        Ok(look(complete, row, || format!("{rows:?}")))
    })
    .await?
    .context("the policy is in the report")?;
    let clusters = scene.clusters().len();
    ensure!(
        row.compliant_clusters as usize == clusters && row.violating_clusters == 0,
        "of {clusters} clusters {} comply and {} don't",
        row.compliant_clusters,
        row.violating_clusters
    );
    Ok(format!("the policy report: {clusters} of {clusters} clusters comply"))
}

async fn cost(scene: &Scene) -> Result<String> {
    let muster = scene.muster();
    let by_queue = muster.succeed(&["cost", "--by", "queue"]).await?;
    ensure!(by_queue.contains("train-queue"), "muster cost says nothing of the queue:\n{by_queue}");
    let request =
        scheduler::ReportCostRequest { group_by: scheduler::report_cost_request::GroupBy::Model as i32, ..Default::default() };
    let rows = scene.clients()?.queues().report_cost(request).await?.into_inner().rows;
    let model = rows.iter().find(|row| row.key == "models/resnet50").context("the model is in the cost report")?;
    let usage = model.usage.as_ref().context("the model's usage")?;
    ensure!(usage.cost_micros > 0 && usage.gpu_seconds > 0.0, "the model cost nothing: {usage:?}");
    Ok(format!("the cost report by queue and model: resnet50 cost {:.4} {}", usage.cost_micros as f64 / 1e6, usage.currency))
}

/// From `muster submit` to running: one trace, every process, no parent missing.
async fn trace(scene: &Scene) -> Result<String> {
    let name = scene.name("traced");
    let file = scene.write("traced.yaml", &documents::job(&name, "train-queue", "quick", 1, 8))?;
    // Sabotage: where the trace begins, nobody sends a span.
    let muster = if scene.is_broken() { scene.muster().without_spans() } else { scene.muster() };
    muster.succeed(&["submit", "-f", path(&file)?, "--model", "resnet50"]).await?;
    let key = format!("namespaces/ml/jobs/{name}");
    let trace = eventually("the job is on its topic, with its trace", async || {
        let event = scene.topics.of("muster.jobs").into_iter().find(|event| event.key == key);
        let traceparent = event.and_then(|event| event.headers.get("ce_traceparent").cloned()).unwrap_or_default();
        let trace = traceparent.split('-').nth(1).map(str::to_owned);
        Ok(look(trace.is_some(), trace.unwrap_or_default(), || format!("traceparent {traceparent:?}")))
    })
    .await?;
    // A command sends its spans before it ends.
    let began = scene.platform.spans().trace(&trace).iter().any(|span| span.service == "muster" && span.parent.is_empty());
    ensure!(began, "the trace {trace} has no root: muster submit has ended, and none of its spans arrived");
    eventually("the job has run", async || {
        let job = train::get(scene, &name).await?;
        Ok(look(job.state() == State::Succeeded, (), || format!("{:?}: {}", job.state(), job.reason)))
    })
    .await?;
    let found = eventually("the spans of every process have arrived", async || {
        let spans = scene.platform.spans().trace(&trace);
        let services: BTreeSet<&str> = spans.iter().map(|span| span.service.as_str()).collect();
        let missing: Vec<&str> = ON_THE_WAY.into_iter().filter(|service| !services.contains(service)).collect();
        let orphans = spans::orphans(&spans).len();
        let instead = format!("of {trace} the spans of {missing:?} are missing, {orphans} spans have no parent");
        Ok(look(missing.is_empty() && orphans == 0, spans.clone(), || instead))
    })
    .await?;
    ensure!(scene.platform.spans().dropped() == 0, "spans were dropped");
    let roots = found.iter().filter(|span| span.parent.is_empty()).count();
    ensure!(roots == 1, "the trace has {roots} roots");
    println!("the trace of {name}, {trace}:\n{}", spans::tree(&found));
    Ok(format!("one trace of {} spans through {} processes, no parent missing", found.len(), ON_THE_WAY.len()))
}
