//! A workload of Kueue's performance test through the running service: one queue for each of its queues, one parent for each
//! cohort, with what all its queues own together; priorities as they are. A job has started when its agent has it, which is later
//! than Kueue's admission; its makespan ends with the last job's end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::fleet::{self, Jobs, Nodes};
use super::generator::{Job, Workload};
use super::parts::Parts;
use super::{IN_FLIGHT, ideal, load_of_the_machine};

const CLUSTER: &str = "kueue";
const CONNECTIONS: usize = 4;
/// Longer than Kueue takes for its larger one.
const ENDS_WITHIN: Duration = Duration::from_secs(1_500);

/// What is known of a workload elsewhere, in seconds.
struct Recorded {
    workload: &'static str,
    makespan_s: f64,
    /// Mean time to admission by class.
    waits_s: [(&'static str, f64); 3],
}

/// What Kueue's own CI records for its workloads: the means beside the limits in its `rangespec.yaml`.
const KUEUE: [Recorded; 2] = [
    Recorded { workload: "baseline", makespan_s: 351.1, waits_s: [("large", 16.5), ("medium", 76.8), ("small", 215.5)] },
    Recorded { workload: "large-scale", makespan_s: 1_179.4, waits_s: [("large", 105.6), ("medium", 256.4), ("small", 700.4)] },
];

/// Measures and prints.
///
/// # Errors
/// A job is refused, or does not end in time.
pub async fn measure(parts: &mut Parts, workload: &Workload) -> Result<()> {
    let Workload { name, queues, jobs } = workload;
    println!("\nP3  Kueue's {name}: {} jobs in {} queues", jobs.len(), queues.len());
    println!("    load of the machine before: {}", load_of_the_machine()?);
    let runtimes: BTreeMap<String, Duration> = jobs.iter().map(|job| (job.class.clone(), job.runtime)).collect();
    let largest = jobs.iter().map(|job| job.request).max().context("no jobs")?;
    let total: u64 = queues.iter().map(|queue| queue.nominal).sum();
    // Quotas are to be what jobs wait for: as many nodes of the largest job's size as all quotas, and half as many again.
    let count = u32::try_from(total.div_ceil(largest) * 3 / 2).context("the quotas are too large")?;
    let nodes = Nodes { count, gpus: 0, cpu: u32::try_from(largest).context("a job is too large")? };
    let runs_for = move |job: &str| runtimes.get(job.split('-').next()?).copied();
    let members = fleet::join(parts, &[CLUSTER.to_owned()], nodes, Arc::new(runs_for)).await?;
    let seen = &members.seen;
    make_queues(parts, workload).await?;

    let before = parts.processor_time()?;
    let began = submit(parts, jobs).await?;
    let waiting = Instant::now();
    while seen.counts().1 < jobs.len() {
        if waiting.elapsed() > ENDS_WITHIN {
            bail!("{} of {} jobs have ended {ENDS_WITHIN:?} after the last submit", seen.counts().1, jobs.len());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let after = parts.processor_time()?;
    let lives = seen.all();
    let mut waits: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut makespan = Duration::ZERO;
    for (number, job) in jobs.iter().enumerate() {
        let life = lives.get(&job_name(job, number)).with_context(|| format!("{} was not leased", job_name(job, number)))?;
        waits.entry(&job.class).or_default().push(life.leased.saturating_duration_since(began + job.at).as_secs_f64());
        makespan = makespan.max(life.ended.context("every job has ended")? - began);
    }
    print(workload, makespan.as_secs_f64(), &waits);
    for ((part, before), (_, after)) in before.iter().zip(&after) {
        println!("    processor time of {part:15} {:8.0} µs a job", (*after - *before).as_secs_f64() * 1e6 / jobs.len() as f64);
    }
    println!("    load of the machine after: {}", load_of_the_machine()?);
    Ok(())
}

fn print(workload: &Workload, makespan_s: f64, waits: &BTreeMap<&str, Vec<f64>>) {
    let mean = |waits: &[f64]| waits.iter().sum::<f64>() / waits.len() as f64;
    let ideal = ideal::play(workload);
    let theirs = KUEUE.iter().find(|recorded| recorded.workload == workload.name);
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} s"));
    println!("    {:24} {:>12} {:>12} {:>12}", "", "here", "ideal", "Kueue's CI");
    let row = |what: String, here: f64, ideal: f64, kueue: Option<f64>| {
        println!("    {what:24} {:>12} {:>12} {:>12}", shown(Some(here)), shown(Some(ideal)), shown(kueue));
    };
    row("makespan".to_owned(), makespan_s, ideal.makespan_s, theirs.map(|theirs| theirs.makespan_s));
    for (class, waits) in waits {
        let kueue = theirs.and_then(|theirs| theirs.waits_s.iter().find(|(name, _)| name == class)).map(|(_, wait)| *wait);
        row(format!("mean wait, {class}"), mean(waits), ideal.mean_wait_s.get(*class).copied().unwrap_or_default(), kueue);
    }
}

async fn make_queues(parts: &Parts, workload: &Workload) -> Result<()> {
    let mut cohorts: BTreeMap<usize, u64> = BTreeMap::new();
    for queue in &workload.queues {
        *cohorts.entry(queue.cohort).or_default() += queue.nominal;
    }
    for (cohort, nominal) in cohorts {
        fleet::queue(parts, &format!("cohort-{cohort}"), json!({"weight": 1, "capability": {"cpu": nominal}})).await?;
    }
    for (number, queue) in workload.queues.iter().enumerate() {
        let spec = json!({
            "weight": 1,
            "parent": format!("cohort-{}", queue.cohort),
            "guarantee": {"resource": {"cpu": queue.nominal}},
            "capability": {"cpu": queue.nominal + queue.borrowing_limit},
        });
        fleet::queue(parts, &queue_name(number), spec).await?;
    }
    Ok(())
}

fn queue_name(number: usize) -> String {
    format!("cq-{number}")
}

/// The class first: by it the agent knows how long the job runs.
fn job_name(job: &Job, number: usize) -> String {
    format!("{}-{number}", job.class)
}

/// Submits every job at its time, or as soon as there is room for one more call; gives the beginning.
async fn submit(parts: &Parts, jobs: &[Job]) -> Result<Instant> {
    let clients: Vec<Jobs> = (0..CONNECTIONS).map(|_| Ok(parts.clients()?.jobs())).collect::<Result<_>>()?;
    let manifests: BTreeMap<u64, Arc<str>> = jobs
        .iter()
        .map(|job| Ok((job.request, fleet::manifest("cpu", u32::try_from(job.request).context("a job is too large")?))))
        .collect::<Result<_>>()?;
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut tasks = JoinSet::new();
    let began = tokio::time::Instant::now();
    for (number, job) in jobs.iter().enumerate() {
        tokio::time::sleep_until(began + job.at).await;
        let permit = Arc::clone(&room).acquire_owned().await?;
        let client = clients[number % CONNECTIONS].clone();
        let manifest = Arc::clone(&manifests[&job.request]);
        let submitted = fleet::submit(client, job_name(job, number), queue_name(job.queue), job.priority, manifest);
        tasks.spawn(async move {
            let _permit = permit;
            submitted.await
        });
        while let Some(ended) = tasks.try_join_next() {
            ended??;
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(began.into_std())
}
