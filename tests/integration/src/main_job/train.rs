//! Step 3: jobs fill the cheap cluster, overflow to the dear one, wait at the queue's capability, and are refused by
//! policy; what they used is what the clusters say they used.

use std::collections::BTreeMap;

use crate::eventually;
use crate::patience::{Look, look};
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use muster_proto::registry::v1 as registry;
use muster_proto::scheduler::v1 as scheduler;
use scheduler::job::State;

use super::scene::{Scene, path, request_id};
use super::simulation::{CLOUD_PRICE, IDC_PRICE, TRAIN_CLOUD, TRAIN_IDC};
use super::{Checked, documents};

/// Pods of each job; each takes a whole node's eight GPUs.
const PODS: u32 = 2;

/// Plays the step.
///
/// # Errors
/// A check was not true.
pub async fn play(scene: &mut Scene) -> Result<Checked> {
    let mut checked = Vec::new();
    let fills: Vec<String> = (1..=4).map(|number| scene.name(&format!("fill-{number}"))).collect();
    let [train, one_too_many, gang] = ["resnet50-train", "one-too-many", "gang"].map(|name| scene.name(name));
    // 4 × 16 fill train-idc's 64 GPUs.
    for name in &fills {
        submit(scene, &documents::job(name, "train-queue", "endless", PODS, 8)).await?;
    }
    for name in &fills {
        runs_on(scene, name, TRAIN_IDC).await?;
    }
    checked.push("four jobs fill train-idc".to_owned());

    submit(scene, &documents::job(&train, "train-queue", "v3", PODS, 8)).await?;
    runs_on(scene, &train, TRAIN_CLOUD).await?;
    checked.push("the fifth overflows to train-cloud".to_owned());

    // 80 of 88 GPUs are taken: another 16 are past the queue's capability.
    // Sabotage: the job is of the queue without a capability, so that nothing holds it.
    let queue = if scene.is_broken() { "gang-queue" } else { "train-queue" };
    submit(scene, &documents::job(&one_too_many, queue, "endless", PODS, 8)).await?;
    waits(scene, &one_too_many).await?;
    checked.push(explained(scene, &one_too_many).await?);

    // 14 nodes of train-cloud are free at least: a gang of 16 does not fit, and nothing of it is started.
    submit(scene, &documents::job(&gang, "gang-queue", "endless", 16, 8)).await?;
    waits(scene, &gang).await?;
    ensure!(!appears_anywhere(scene, &gang)?, "a part of the gang was started");
    checked.push("a gang that doesn't fit whole is not placed in part".to_owned());

    checked.push(refused_by_policy(scene).await?);

    for name in [&one_too_many, &gang].into_iter().chain(&fills) {
        cancel(scene, name).await?;
    }
    ends_well(scene, &train).await?;
    for name in &fills {
        gone(scene, name).await?;
    }
    checked.push("six were cancelled, one ended well".to_owned());
    checked.push(cost(scene).await?);
    Ok(checked)
}

/// One training, run to its end: what an event of it refers to.
///
/// # Errors
/// It is refused, or does not end well.
pub async fn one(scene: &Scene) -> Result<()> {
    submit(scene, &documents::job("resnet50-train", "train-queue", "v3", PODS, 8)).await?;
    ends_well(scene, "resnet50-train").await
}

async fn ends_well(scene: &Scene, name: &str) -> Result<()> {
    eventually("the training ends well", async || {
        let job = get(scene, name).await?;
        Ok(look(job.state() == State::Succeeded, (), || describe(&job)))
    })
    .await
}

/// Cancels what the broken step left running, and waits until it is gone.
///
/// # Errors
/// It does not go.
pub async fn mend(scene: &Scene) -> Result<()> {
    for job in list(scene).await?.into_iter().filter(|job| job.finish_time.is_none()) {
        let name = job.name.trim_start_matches("namespaces/ml/jobs/");
        // It may end by itself in this very moment; what counts is looked at below.
        cancel(scene, name).await.ok();
    }
    eventually("what the broken step left has ended", async || {
        let jobs = list(scene).await?;
        let left: Vec<String> = jobs.iter().filter(|job| job.finish_time.is_none()).map(describe).collect();
        Ok(look(left.is_empty(), (), || left.join("; ")))
    })
    .await?;
    eventually("what the broken step left is gone from the inventories too", async || {
        let mut used = 0;
        for cluster in [TRAIN_IDC, TRAIN_CLOUD] {
            let request = registry::GetClusterRequest { name: format!("clusters/{cluster}") };
            let inventory = scene.clients()?.clusters().get_cluster(request).await?.into_inner().inventory;
            let nodes = inventory.map(|inventory| inventory.nodes).unwrap_or_default();
            used += nodes.iter().filter(|node| !node.used_by_run.is_empty()).count();
        }
        Ok(look(used == 0, (), || format!("{used} nodes have runs")))
    })
    .await
}

/// All jobs.
async fn list(scene: &Scene) -> Result<Vec<scheduler::Job>> {
    let request = scheduler::ListJobsRequest { parent: "namespaces/ml".to_owned(), page_size: 1_000, ..Default::default() };
    Ok(scene.clients()?.jobs().list_jobs(request).await?.into_inner().jobs)
}

/// `muster submit`.
async fn submit(scene: &Scene, manifest: &str) -> Result<()> {
    let file = scene.write("job.yaml", manifest)?;
    scene.muster().succeed(&["submit", "-f", path(&file)?, "--model", "resnet50"]).await?;
    Ok(())
}

pub(crate) async fn get(scene: &Scene, name: &str) -> Result<scheduler::Job> {
    let request = scheduler::GetJobRequest { name: job_name(name) };
    Ok(scene.clients()?.jobs().get_job(request).await?.into_inner())
}

fn job_name(name: &str) -> String {
    format!("namespaces/ml/jobs/{name}")
}

fn describe(job: &scheduler::Job) -> String {
    format!("{} is {:?} on {:?}: {}", job.name, job.state(), job.cluster, job.reason)
}

/// Muster says that it runs there, and there are its pods, all of them.
async fn runs_on(scene: &Scene, name: &str, cluster: &str) -> Result<()> {
    eventually(&format!("{name} runs on {cluster}"), async || {
        let job = get(scene, name).await?;
        // A short one may have ended between two looks.
        let runs = matches!(job.state(), State::Running | State::Succeeded) && job.cluster == format!("clusters/{cluster}");
        Ok(look(runs, (), || describe(&job)))
    })
    .await?;
    eventually(&format!("the pods of {name} run"), async || {
        let pods = scene.platform.cluster(cluster)?.api.list("/api/v1/namespaces/ml/pods").await?;
        let running = pods
            .iter()
            .filter(|pod| pod["metadata"]["name"].as_str().is_some_and(|pod| pod.starts_with(&format!("{name}-"))))
            .filter(|pod| pod["status"]["phase"] == "Running" || pod["status"]["phase"] == "Succeeded")
            .count();
        Ok(look(running == PODS as usize, (), || format!("{running} of its pods run")))
    })
    .await
}

async fn waits(scene: &Scene, name: &str) -> Result<()> {
    eventually(&format!("{name} waits"), async || {
        let request = scheduler::ExplainJobRequest { name: job_name(name) };
        let explained = scene.clients()?.jobs().explain_job(request).await?.into_inner();
        let job = get(scene, name).await?;
        if !job.cluster.is_empty() {
            return Ok(Look::Never(describe(&job)));
        }
        let waits = job.state() == State::Queued && !explained.candidates.is_empty();
        Ok(look(waits, (), || format!("{}; {}", describe(&job), explained.summary)))
    })
    .await
}

/// `muster explain` names the queue's limit and answers for every cluster.
async fn explained(scene: &Scene, name: &str) -> Result<String> {
    let text = scene.muster().succeed(&["explain", name, "-n", "ml"]).await?;
    for cluster in [TRAIN_IDC, TRAIN_CLOUD] {
        ensure!(text.contains(cluster), "muster explain says nothing of {cluster}:\n{text}");
    }
    let request = scheduler::ExplainJobRequest { name: job_name(name) };
    let explained = scene.clients()?.jobs().explain_job(request).await?.into_inner();
    ensure!(
        explained.queue_limits.iter().any(|limit| limit.contains("nvidia.com/gpu")),
        "the queue's capability is not named: {explained:?}"
    );
    ensure!(
        explained.candidates.iter().all(|candidate| !candidate.reason.is_empty()),
        "a cluster is named without a reason: {explained:?}"
    );
    Ok("the one past the capability waits, and muster explain says why, cluster by cluster".to_owned())
}

async fn refused_by_policy(scene: &Scene) -> Result<String> {
    let file = scene.write("careless.yaml", &documents::careless_job("careless"))?;
    let outcome = scene.muster().call(&["submit", "-f", path(&file)?]).await?;
    ensure!(outcome.status != 0, "a job that breaks policy was accepted");
    for word in ["require-gpu-limits", "validate-gpu", "memory", "ML pods must request GPU"] {
        ensure!(
            outcome.errors.contains(word) || outcome.output.contains(word),
            "the refusal does not say {word:?}: {}",
            outcome.errors
        );
    }
    let stored = scene.clients()?.jobs().get_job(scheduler::GetJobRequest { name: job_name("careless") }).await;
    ensure!(
        stored.as_ref().is_err_and(|status| status.code() == tonic::Code::NotFound),
        "the refused job was stored: {stored:?}"
    );
    Ok("one that breaks policy is refused with rule, path and message".to_owned())
}

async fn cancel(scene: &Scene, name: &str) -> Result<()> {
    let request = scheduler::CancelJobRequest { name: job_name(name), request_id: request_id() };
    scene.clients()?.jobs().cancel_job(request).await?;
    Ok(())
}

/// No pod of it is left, and Muster has heard so: its run has ended, and what it used is final.
async fn gone(scene: &Scene, name: &str) -> Result<()> {
    eventually(&format!("{name} is gone from its cluster"), async || {
        let job = get(scene, name).await?;
        let pods = scene.platform.cluster(TRAIN_IDC)?.api.list("/api/v1/namespaces/ml/pods").await?;
        let left = pods
            .iter()
            .filter(|pod| pod["metadata"]["name"].as_str().is_some_and(|pod| pod.starts_with(&format!("{name}-"))))
            .count();
        let run = scheduler::GetRunRequest { name: format!("{}/runs/{}", job.name, job.run_epoch) };
        let run = scene.clients()?.jobs().get_run(run).await?.into_inner();
        let gone = left == 0 && job.state() == State::Cancelled && run.finish_time.is_some();
        Ok(look(gone, (), || format!("{}; {left} pods; its run is {:?}", describe(&job), run.state())))
    })
    .await
}

/// Whether any training cluster was ever told of a job.
fn appears_anywhere(scene: &Scene, name: &str) -> Result<bool> {
    for cluster in [TRAIN_IDC, TRAIN_CLOUD] {
        let writes = scene.platform.cluster(cluster)?.audit.writes()?;
        if writes.iter().any(|write| {
            (write.resource == "jobs.batch.volcano.sh" && write.name == name)
                || (write.resource == "pods" && write.name.starts_with(&format!("{name}-")))
        }) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// GPUs × seconds × price of every job, from when the clusters say their pods ran, against what Muster says: exactly so for
/// one that ended by itself; one that was taken away is charged until Muster heard that the last of it was gone.
async fn cost(scene: &Scene) -> Result<String> {
    let mut expected_queue = 0.0;
    let mut seconds_queue = 0.0;
    let mut heard_after = 0.0_f64;
    let mut jobs = 0;
    for job in list(scene).await?.into_iter().filter(|job| !job.cluster.is_empty() && job.queue == "queues/train-queue") {
        let name = job.name.trim_start_matches("namespaces/ml/jobs/");
        let cluster = job.cluster.trim_start_matches("clusters/");
        let price = if cluster == TRAIN_IDC { IDC_PRICE } else { CLOUD_PRICE };
        let ran = ran(scene, name, cluster)?;
        let gpus = f64::from(PODS * 8);
        let usage = job.usage.as_ref().with_context(|| format!("{name} has no usage"))?;
        let charged = if ran.by_itself {
            ran.seconds
        } else {
            let charged = heard(scene, &job, ran.started).await?;
            ensure!(charged >= ran.seconds - 0.001, "{name} ran for {} s, Muster heard of {charged} s", ran.seconds);
            heard_after = heard_after.max(charged - ran.seconds);
            charged
        };
        close(&format!("GPU-seconds of {name}"), usage.gpu_seconds, gpus * charged, gpus * 0.001)?;
        // What Muster charges is its own GPU-seconds at the price, to the last millionth.
        close(&format!("cost of {name}, micros"), usage.cost_micros as f64, usage.gpu_seconds * price as f64 / 3_600.0, 1.0)?;
        ensure!(usage.currency == "EUR", "{name} is priced in {:?}", usage.currency);
        expected_queue += usage.cost_micros as f64;
        seconds_queue += usage.gpu_seconds;
        jobs += 1;
    }
    ensure!(jobs >= 5, "{jobs} jobs of the queue ran, not five");
    let request =
        scheduler::ReportCostRequest { group_by: scheduler::report_cost_request::GroupBy::Queue as i32, ..Default::default() };
    let rows = scene.clients()?.queues().report_cost(request).await?.into_inner().rows;
    let rows: BTreeMap<String, scheduler::Usage> = rows.into_iter().filter_map(|row| Some((row.key, row.usage?))).collect();
    let queue = rows.get("queues/train-queue").context("the queue is not in the cost report")?;
    close("GPU-seconds of the queue", queue.gpu_seconds, seconds_queue, 0.01)?;
    close("cost of the queue, micros", queue.cost_micros as f64, expected_queue, 5.0)?;
    Ok(format!(
        "{:.3} GPU-hours, {:.4} EUR: as in the clusters' audit logs, ends heard of within {heard_after:.3} s",
        queue.gpu_seconds / 3_600.0,
        queue.cost_micros as f64 / 1e6
    ))
}

/// Equal but for what is allowed.
fn close(what: &str, found: f64, expected: f64, tolerance: f64) -> Result<()> {
    ensure!((found - expected).abs() <= tolerance + 1e-6, "{what}: Muster says {found}, the audit log {expected}");
    Ok(())
}

/// Seconds from when a job began until Muster heard of its end.
async fn heard(scene: &Scene, job: &scheduler::Job, started: Timestamp) -> Result<f64> {
    let run = scheduler::GetRunRequest { name: format!("{}/runs/{}", job.name, job.run_epoch) };
    let run = scene.clients()?.jobs().get_run(run).await?.into_inner();
    let end = run.finish_time.with_context(|| format!("{} still runs", run.name))?;
    let end = Timestamp::new(end.seconds, end.nanos)?;
    ensure!(end <= Timestamp::now(), "{} ends in the future: {end}", run.name);
    Ok(end.duration_since(started).as_secs_f64())
}

/// When a job ran, by what its cluster wrote down.
struct Ran {
    started: Timestamp,
    seconds: f64,
    /// It ended by itself, so that its object holds the moment of its end. Else the end is when the last of it was gone.
    by_itself: bool,
}

/// From when the job's own status says it ran until its own end, or until its last pod was gone.
fn ran(scene: &Scene, name: &str, cluster: &str) -> Result<Ran> {
    let writes = scene.platform.cluster(cluster)?.audit.writes()?;
    let job = writes
        .iter()
        .filter(|write| write.resource == "jobs.batch.volcano.sh" && write.name == name)
        .filter_map(|write| write.object.as_ref())
        .next_back()
        .with_context(|| format!("{cluster} has never heard of {name}"))?;
    let time = |value: &serde_json::Value| value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let started = job["status"]["conditions"]
        .as_array()
        .and_then(|conditions| conditions.iter().find(|condition| condition["status"] == "Running"))
        .and_then(|condition| time(&condition["lastTransitionTime"]))
        .with_context(|| format!("{cluster} never ran {name}"))?;
    let by_itself = job["status"]["state"]["phase"] == "Completed";
    let ended = if by_itself {
        time(&job["status"]["state"]["lastTransitionTime"])
    } else {
        let pods = writes.iter().filter(|write| write.resource == "pods" && write.name.starts_with(&format!("{name}-")));
        pods.filter(|write| write.removed).map(|write| write.time).max()
    };
    let ended = ended.with_context(|| format!("{cluster} still runs {name}"))?;
    Ok(Ran { started, seconds: ended.duration_since(started).as_secs_f64(), by_itself })
}
