//! From a job's submit to its object in the member cluster.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use muster_integration_tests::patience::Look;
use muster_integration_tests::{Platform, Setup, eventually_within};
use muster_proto::scheduler::v1 as scheduler;
use serde_json::{Value, json};

use super::figure::{Figure, millis};
use super::{join, machine, percentile};

/// The cluster they go to.
pub const CLUSTER: &str = "train";

/// One cluster with a GPU for each job.
pub fn simulation(jobs: u32) -> Value {
    json!({"clusters": [{
        "name": CLUSTER,
        "nodes": [{"count": jobs.div_ceil(8), "gpuModel": "V100", "gpus": 8, "cpu": "96", "memory": "768Gi"}],
        "crds": ["volcano"],
        "delays": {"jobRunMs": 3_600_000},
        "historyLimit": 20_000,
    }]})
}

pub async fn measure(setup: Setup, jobs: u32) -> Result<Vec<Figure>> {
    eprintln!("{jobs} jobs");
    let mut platform = Platform::start(setup).await?;
    join(&mut platform, &[CLUSTER.to_owned()], "train").await?;
    queue(&platform).await?;

    let mut submitted = HashMap::new();
    let mut client = platform.clients()?.jobs();
    for number in 0..jobs {
        let name = format!("job-{number}");
        let request = scheduler::CreateJobRequest {
            job: Some(scheduler::Job { manifest: job(&name).to_string(), ..Default::default() }),
            ..Default::default()
        };
        submitted.insert(name, Timestamp::now());
        client.create_job(request).await?;
    }
    let audit = &platform.cluster(CLUSTER)?.audit;
    let created = eventually_within(Duration::from_secs(120), "every job is in its cluster", async || {
        let created: HashMap<String, Timestamp> = audit
            .writes()?
            .into_iter()
            .filter(|write| write.resource == "jobs.batch.volcano.sh" && write.subresource.is_empty())
            .rev()
            .map(|write| (write.name, write.time))
            .collect();
        let missing: Vec<&String> = submitted.keys().filter(|name| !created.contains_key(*name)).collect();
        let Some(name) = missing.first() else { return Ok(Look::Is(created)) };
        let request = scheduler::GetJobRequest { name: format!("namespaces/ml/jobs/{name}") };
        let job = platform.clients()?.jobs().get_job(request).await?.into_inner();
        Ok(Look::NotYet(format!("{} are missing; {} is {:?}: {}", missing.len(), job.name, job.state(), job.reason)))
    })
    .await?;
    let mut took: Vec<f64> = submitted.iter().map(|(name, at)| created[name].duration_since(*at).as_secs_f64()).collect();
    took.sort_by(f64::total_cmp);
    let what = "job submitted → object created in the member cluster";
    let mut figures = vec![
        machine::round_trip(&platform, CLUSTER).await?,
        millis(format!("{what}, p50 of {jobs}"), percentile(&took, 0.5)),
        millis(format!("{what}, p99 of {jobs}"), percentile(&took, 0.99)),
    ];
    figures.extend(machine::memory(&mut platform, &format!("{jobs} jobs"))?);
    Ok(figures)
}

/// Makes the queue of the jobs.
pub async fn queue(platform: &Platform) -> Result<()> {
    let queue = "apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {name: bench}\nspec: {weight: 1}\n";
    let request = scheduler::CreateQueueRequest {
        queue: Some(scheduler::Queue { manifest: queue.to_owned(), ..Default::default() }),
        ..Default::default()
    };
    platform.clients()?.queues().create_queue(request).await?;
    Ok(())
}

/// A job of one GPU.
pub fn job(name: &str) -> Value {
    json!({
        "apiVersion": "batch.volcano.sh/v1alpha1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "ml"},
        "spec": {"queue": "bench", "minAvailable": 1, "tasks": [{"name": "worker", "replicas": 1, "template": {"spec": {
            "restartPolicy": "OnFailure",
            "containers": [{
                "name": "worker",
                "image": "registry.example.com/ml/trainer:v1",
                "resources": {"limits": {"nvidia.com/gpu": 1, "cpu": "1", "memory": "1Gi"}},
            }],
        }}}]},
    })
}
