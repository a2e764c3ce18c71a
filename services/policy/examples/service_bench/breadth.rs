//! C6: thousands of policies that are all about one object.

use crate::{percentile, policies, server::Server};
use anyhow::{Result, ensure};
use muster_proto::policy::v1::{self as wire, verdict_service_client::VerdictServiceClient};
use serde_json::{Value, json};
use std::time::Instant;

const POLICIES: usize = 3_500;
const TIMES: usize = 300;

/// Measures and prints.
pub async fn measure(server: &Server) -> Result<()> {
    let channel = server.connect().await?;
    let policies: Vec<Value> = (0..POLICIES).map(policy).collect();
    policies::bind(&channel, &policies).await?;
    let mut client = VerdictServiceClient::new(channel).max_decoding_message_size(16 << 20);
    let request = wire::EvaluateRequest { manifests: vec![deployment().to_string()], ..Default::default() };
    let first = Instant::now();
    let verdict = client.evaluate(request.clone()).await?.into_inner();
    let first = first.elapsed();
    ensure!(verdict.violations.len() == POLICIES, "{} violations, {POLICIES} expected", verdict.violations.len());
    let (mut seconds, before) = (Vec::new(), server.processor_time()?);
    for _ in 0..TIMES {
        let asked = Instant::now();
        client.evaluate(request.clone()).await?;
        seconds.push(asked.elapsed().as_secs_f64());
    }
    let processor = server.processor_time()? - before;
    println!(
        "C6  {POLICIES} policies × 2 rules about one Deployment, half failing: p50 {:.2} ms, p99 {:.2} ms; the service's \
         processor time {:.2} ms each, memory {:.0} MiB at most; the first, which reads them, {:.0} ms",
        percentile(&mut seconds, 0.5) * 1e3,
        percentile(&mut seconds, 0.99) * 1e3,
        processor.as_secs_f64() * 1e3 / TIMES as f64,
        server.peak_mebibytes()?,
        first.as_secs_f64() * 1e3
    );
    Ok(())
}

/// Two rules about Deployments, of which the second fails.
fn policy(number: usize) -> Value {
    let rule = |name: &str, replicas: &str| {
        json!({
            "name": name, "match": {"any": [{"resources": {"kinds": ["Deployment"]}}]},
            "validate": {
                "message": format!("policy {number} wants {replicas} replicas"),
                "pattern": {"metadata": {"labels": {"app": "?*"}}, "spec": {"replicas": replicas}},
            },
        })
    };
    json!({
        "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": format!("policy-{number}")},
        "spec": {"validationFailureAction": "Enforce", "rules": [rule("at-least", ">=2"), rule("at-most", "<3")]},
    })
}

fn deployment() -> Value {
    let container = json!({"name": "main", "image": "registry.example.com/team/app:1.4.2"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "team", "labels": {"app": "web"}},
        "spec": {
            "replicas": 3, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}},
        },
    })
}
