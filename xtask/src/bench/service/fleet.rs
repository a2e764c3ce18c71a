//! Clusters, their agents and the queues of a run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use muster_integration_tests::{eventually_within, patience::look};
use muster_proto::agent::v1::{Inventory, Node};
use muster_proto::registry::v1 as registry;
use muster_proto::scheduler::v1 as scheduler;
use tokio::task::JoinSet;

use super::agent::{self, Agent, RunsFor, Seen};
use super::parts::Parts;

/// Nodes of one kind.
#[derive(Clone, Copy)]
pub struct Nodes {
    /// How many.
    pub count: u32,
    /// GPUs of each; none: no model either.
    pub gpus: u32,
    /// Cores of each.
    pub cpu: u32,
}

/// Clusters whose agents run as long as this lives.
pub struct Fleet {
    /// What they have seen.
    pub seen: Arc<Seen>,
    _agents: JoinSet<()>,
}

/// Declares clusters of these nodes, gives each an agent, and returns when the scheduler may use them.
///
/// # Errors
/// The registry refuses one, or they are not live within two minutes.
pub async fn join(parts: &Parts, names: &[String], nodes: Nodes, runs_for: Arc<RunsFor>) -> Result<Fleet> {
    let mut agents = JoinSet::new();
    let seen = Arc::new(Seen::default());
    let ca_pem = agent::pem(&parts.ca_file())?;
    for name in names {
        let cluster = registry::Cluster { takes_jobs: true, ..Default::default() };
        let request = registry::CreateClusterRequest { cluster_id: name.clone(), cluster: Some(cluster), ..Default::default() };
        parts.clients()?.clusters().create_cluster(request).await?;
        let enrolment_token = registry::EnrolmentToken { cluster: format!("clusters/{name}"), ..Default::default() };
        let request = registry::CreateEnrolmentTokenRequest { enrolment_token: Some(enrolment_token), ..Default::default() };
        let token = parts.clients()?.enrolment_tokens().create_enrolment_token(request).await?.into_inner().secret;
        let agent = Agent {
            hub: parts.hub(),
            ca_pem: ca_pem.clone(),
            cluster: name.clone(),
            inventory: inventory(nodes),
            seen: Arc::clone(&seen),
            runs_for: Arc::clone(&runs_for),
        };
        agent.join(token, &mut agents).await.with_context(|| format!("the agent of {name}"))?;
    }
    eventually_within(Duration::from_secs(120), "every cluster is live", async || {
        let request = registry::ListClustersRequest { page_size: 1_000, ..Default::default() };
        let list = parts.clients()?.clusters().list_clusters(request).await?.into_inner().clusters;
        let live = list.iter().filter(|cluster| cluster.state() == registry::cluster::State::Live && cluster.inventory.is_some());
        let live = live.count();
        Ok(look(live == names.len(), (), || format!("{live} of {} are live", names.len())))
    })
    .await?;
    Ok(Fleet { seen, _agents: agents })
}

fn inventory(nodes: Nodes) -> Inventory {
    let mut allocatable = BTreeMap::from([("cpu".to_owned(), nodes.cpu.to_string()), ("memory".to_owned(), "768Gi".to_owned())]);
    if nodes.gpus > 0 {
        allocatable.insert("nvidia.com/gpu".to_owned(), nodes.gpus.to_string());
    }
    let node = |number| Node {
        name: format!("node-{number:05}"),
        flavor: if nodes.gpus > 0 { "V100".to_owned() } else { String::new() },
        allocatable: allocatable.clone(),
        schedulable: true,
        ..Default::default()
    };
    Inventory { nodes: (0..nodes.count).map(node).collect(), ..Default::default() }
}

/// Makes a queue; `spec` is the manifest's.
///
/// # Errors
/// The scheduler refuses it.
pub async fn queue(parts: &Parts, name: &str, spec: serde_json::Value) -> Result<()> {
    let manifest =
        serde_json::json!({"apiVersion": "muster.dev/v1", "kind": "Queue", "metadata": {"name": name}, "spec": spec}).to_string();
    let queue = scheduler::Queue { manifest, ..Default::default() };
    let request = scheduler::CreateQueueRequest { queue: Some(queue), ..Default::default() };
    parts.clients()?.queues().create_queue(request).await.with_context(|| format!("the queue {name}"))?;
    Ok(())
}

/// Submits a job that is given its name by the request, so that all jobs of one kind share their manifest.
///
/// # Errors
/// The scheduler refuses it.
pub async fn submit(mut client: Jobs, name: String, queue: String, priority: i32, manifest: Arc<str>) -> Result<()> {
    let job = scheduler::Job {
        manifest: manifest.to_string(),
        queue: format!("queues/{queue}"),
        priority: Some(priority),
        ..Default::default()
    };
    let request = scheduler::CreateJobRequest {
        parent: "namespaces/bench".to_owned(),
        job_id: name.clone(),
        job: Some(job),
        ..Default::default()
    };
    client.create_job(request).await.with_context(|| format!("submit {name}"))?;
    Ok(())
}

/// A client of the scheduler.
pub type Jobs = scheduler::job_service_client::JobServiceClient<muster_integration_tests::clients::Link>;

/// One pod of a `batch/v1` Job that asks for this.
pub fn manifest(resource: &str, amount: u32) -> Arc<str> {
    serde_json::json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"generateName": "bench-"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [
            {"name": "main", "image": "example.com/trainer:v1", "resources": {
                "requests": {(resource): amount}, "limits": {(resource): amount}}}]}}},
    })
    .to_string()
    .into()
}
