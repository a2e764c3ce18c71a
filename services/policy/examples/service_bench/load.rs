//! C5: Pods a second, one request each, by one connection and by one stream.

use crate::{percentile, policies, server::Server};
use anyhow::{Context, Result, ensure};
use futures::{StreamExt, stream};
use muster_policy_evaluator::speed;
use muster_proto::policy::v1::{self as wire, evaluate_stream_response::Answer, verdict_service_client::VerdictServiceClient};
use serde_json::Value;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

const ASKED_FOR: Duration = Duration::from_secs(10);
/// Requests that wait for their answers at one moment, and the window of a stream.
const UNARY: [usize; 2] = [8, 16];
const STREAMED: [usize; 2] = [32, 64];

/// Measures and prints.
pub async fn measure(server: &Server, policies: &[Value]) -> Result<()> {
    policies::bind(&server.connect().await?, policies).await?;
    let requests: Arc<Vec<wire::EvaluateRequest>> = Arc::new(
        speed::pods(240)
            .iter()
            .map(|pod| wire::EvaluateRequest { manifests: vec![pod.to_string()], ..Default::default() })
            .collect(),
    );
    let what = format!("C5  {} policies", policies.len());
    for at_once in UNARY {
        let figures = measured(server, unary(server, &requests, at_once)).await?;
        println!("{what}, unary, {at_once} at once:    {figures}");
    }
    for window in STREAMED {
        let figures = measured(server, streamed(server, &requests, window)).await?;
        println!("{what}, streamed, {window} at once: {figures}");
    }
    Ok(())
}

/// Runs it; says how many a second, how long each, and the service's processor time for each.
async fn measured(server: &Server, load: impl Future<Output = Result<Vec<f64>>>) -> Result<String> {
    let (began, before) = (Instant::now(), server.processor_time()?);
    let mut seconds = load.await?;
    let (elapsed, processor) = (began.elapsed(), server.processor_time()? - before);
    ensure!(!seconds.is_empty(), "nothing was answered");
    let count = seconds.len() as f64;
    Ok(format!(
        "{:>6.0}/s, p50 {:.2} ms, p99 {:.2} ms; the service's processor time {:.0} µs each",
        count / elapsed.as_secs_f64(),
        percentile(&mut seconds, 0.5) * 1e3,
        percentile(&mut seconds, 0.99) * 1e3,
        processor.as_secs_f64() * 1e6 / count
    ))
}

/// Half of the Pods break something, and which is known.
fn check(number: usize, verdict: &wire::EvaluateResponse) -> Result<()> {
    ensure!(verdict.violations.is_empty() == number.is_multiple_of(2), "Pod {number}: {verdict:?}");
    Ok(())
}

async fn unary(server: &Server, requests: &Arc<Vec<wire::EvaluateRequest>>, at_once: usize) -> Result<Vec<f64>> {
    let channel = server.connect().await?;
    let began = Instant::now();
    let ask = |first: usize| {
        let (mut client, requests) = (VerdictServiceClient::new(channel.clone()), Arc::clone(requests));
        tokio::spawn(async move {
            let mut seconds = Vec::new();
            for number in (first..).step_by(at_once) {
                if began.elapsed() > ASKED_FOR {
                    break;
                }
                let (number, asked) = (number % requests.len(), Instant::now());
                let verdict = client.evaluate(requests[number].clone()).await?.into_inner();
                seconds.push(asked.elapsed().as_secs_f64());
                check(number, &verdict)?;
            }
            Ok::<_, anyhow::Error>(seconds)
        })
    };
    let mut all = Vec::new();
    for task in (0..at_once).map(ask).collect::<Vec<_>>() {
        all.extend(task.await??);
    }
    Ok(all)
}

async fn streamed(server: &Server, requests: &Arc<Vec<wire::EvaluateRequest>>, window: usize) -> Result<Vec<f64>> {
    let mut client = VerdictServiceClient::new(server.connect().await?);
    let free = Arc::new(Semaphore::new(window));
    let asked: Arc<Mutex<VecDeque<(usize, Instant)>>> = Arc::default();
    let began = Instant::now();
    let asking = {
        let (free, asked, requests) = (Arc::clone(&free), Arc::clone(&asked), Arc::clone(requests));
        stream::unfold(0, move |number| {
            let (free, asked, requests) = (Arc::clone(&free), Arc::clone(&asked), Arc::clone(&requests));
            async move {
                free.acquire().await.ok()?.forget();
                if began.elapsed() > ASKED_FOR {
                    return None;
                }
                let request = requests[number % requests.len()].clone();
                asked.lock().expect("no holder panics").push_back((number % requests.len(), Instant::now()));
                Some((request, number + 1))
            }
        })
    };
    let mut answers = client.evaluate_stream(asking).await?.into_inner();
    let mut seconds = Vec::new();
    while let Some(answer) = answers.next().await {
        let (number, at) = asked.lock().expect("no holder panics").pop_front().context("an answer to nothing")?;
        free.add_permits(1);
        seconds.push(at.elapsed().as_secs_f64());
        match answer?.answer.context("an empty answer")? {
            Answer::Verdict(verdict) => check(number, &verdict)?,
            Answer::Refusal(refusal) => anyhow::bail!("Pod {number}: {refusal:?}"),
        }
    }
    Ok(seconds)
}
