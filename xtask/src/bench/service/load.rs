//! Jobs at a steady rate, whatever becomes of those before, and when each was leased at its agent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::fleet::{self, Jobs, Nodes};
use super::parts::Parts;
use super::{IN_FLIGHT, commits, load_of_the_machine};
use crate::bench::percentile;

/// The queue of the jobs.
pub const QUEUE: &str = "bench";
/// Connections that submit.
const CONNECTIONS: usize = 4;
/// How long the last job may take from its submit to its lease.
const SETTLES_WITHIN: Duration = Duration::from_secs(600);

/// Measures and prints.
///
/// # Errors
/// A job is refused, or not leased in time.
pub async fn measure(parts: &mut Parts, rate: u32, seconds: u32, clusters: u32) -> Result<()> {
    let jobs = rate.checked_mul(seconds).context("--rate × --seconds is too large")?;
    println!("\nP4  {rate} jobs/s for {seconds} s, each with one GPU, on {clusters} clusters; a GPU for each");
    println!("    load of the machine before: {}", load_of_the_machine()?);
    let names: Vec<String> = (0..clusters).map(|number| format!("bench-{number}")).collect();
    let nodes = Nodes { count: jobs.div_ceil(8).div_ceil(clusters) + 1, gpus: 8, cpu: 96 };
    let members = fleet::join(parts, &names, nodes, Arc::new(|_: &str| None)).await?;
    fleet::queue(parts, QUEUE, json!({"weight": 1})).await?;
    let alone = commits::alone(parts.postgres()).await?;

    let done = CancellationToken::new();
    let meanwhile = tokio::spawn(commits::meanwhile(parts.postgres(), done.clone()).await?);
    let before = parts.processor_time()?;
    let began = Instant::now();
    let (submitted, mut answered) = submit(parts, jobs, rate).await?;
    let offered = began.elapsed();
    wait_for_leases(&members.seen, jobs as usize).await?;
    let settled = began.elapsed();
    let after = parts.processor_time()?;
    done.cancel();
    let busy = meanwhile.await??;

    let lives = members.seen.all();
    let mut waits = Vec::with_capacity(submitted.len());
    for (number, at) in submitted.iter().enumerate() {
        let life = lives.get(&name(number)).with_context(|| format!("{} was not leased", name(number)))?;
        waits.push(life.leased.saturating_duration_since(*at).as_secs_f64());
    }
    waits.sort_by(f64::total_cmp);
    answered.sort_by(f64::total_cmp);
    let ms = |seconds: f64| seconds * 1e3;
    println!(
        "    submitted in {:.1} s, all leased after {:.1} s: {:.0} leases/s",
        offered.as_secs_f64(),
        settled.as_secs_f64(),
        f64::from(jobs) / settled.as_secs_f64()
    );
    println!(
        "    submit → answer:             p50 {:8.1} ms   p99 {:8.1} ms",
        ms(percentile(&answered, 0.5)),
        ms(percentile(&answered, 0.99))
    );
    println!(
        "    submit → lease at the agent: p50 {:8.1} ms   p99 {:8.1} ms",
        ms(percentile(&waits, 0.5)),
        ms(percentile(&waits, 0.99))
    );
    println!("    one fsynced commit:          p50 {:8.2} ms alone, {:.2} ms during the load", ms(alone), ms(busy));
    println!(
        "    in such commits:             p50 {:8.1} and p99 {:.1} of one alone; {:.1} and {:.1} of one during the load",
        percentile(&waits, 0.5) / alone,
        percentile(&waits, 0.99) / alone,
        percentile(&waits, 0.5) / busy,
        percentile(&waits, 0.99) / busy
    );
    for ((part, before), (_, after)) in before.iter().zip(&after) {
        println!("    processor time of {part:15} {:8.0} µs a job", (*after - *before).as_secs_f64() * 1e6 / f64::from(jobs));
    }
    println!("    load of the machine after: {}", load_of_the_machine()?);
    Ok(())
}

fn name(number: usize) -> String {
    format!("job-{number:07}")
}

/// When each job was to be submitted, and how long each submit took from then to its answer, in seconds.
///
/// # Errors
/// A job is refused.
pub async fn submit(parts: &Parts, jobs: u32, rate: u32) -> Result<(Vec<Instant>, Vec<f64>)> {
    let clients: Vec<Jobs> = (0..CONNECTIONS).map(|_| Ok(parts.clients()?.jobs())).collect::<Result<_>>()?;
    let manifest = fleet::manifest("nvidia.com/gpu", 1);
    let room = Arc::new(tokio::sync::Semaphore::new(IN_FLIGHT));
    let mut tasks = JoinSet::new();
    let (mut submitted, mut answered) = (Vec::new(), Vec::new());
    let began = tokio::time::Instant::now();
    for number in 0..jobs {
        // The moment counts in which it should have been sent, however late it is.
        let due = began + Duration::from_secs_f64(f64::from(number) / f64::from(rate));
        tokio::time::sleep_until(due).await;
        submitted.push(due.into_std());
        let permit = Arc::clone(&room).acquire_owned().await?;
        let client = clients[number as usize % CONNECTIONS].clone();
        let manifest = Arc::clone(&manifest);
        tasks.spawn(async move {
            let outcome = fleet::submit(client, name(number as usize), QUEUE.to_owned(), 0, manifest).await;
            drop(permit);
            outcome.map(|()| due.elapsed().as_secs_f64())
        });
        while let Some(ended) = tasks.try_join_next() {
            answered.push(ended??);
        }
    }
    while let Some(ended) = tasks.join_next().await {
        answered.push(ended??);
    }
    Ok((submitted, answered))
}

/// Waits until so many jobs are leased.
///
/// # Errors
/// They are not in time.
pub async fn wait_for_leases(seen: &super::agent::Seen, jobs: usize) -> Result<()> {
    let began = Instant::now();
    while seen.counts().0 < jobs {
        if began.elapsed() > SETTLES_WITHIN {
            bail!("{} of {jobs} jobs are leased {SETTLES_WITHIN:?} after the last submit", seen.counts().0);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
