//! What the stories have in common: small platforms, and what they ask of them.

pub mod release;

use std::collections::BTreeMap;

use anyhow::Result;
use muster_integration_tests::clients::Clients;
use muster_integration_tests::main_job::scene::SHORT_SOAK;
use muster_integration_tests::main_job::{Scene, apply, join, simulation};
use muster_integration_tests::patience::look;
use muster_integration_tests::{Platform, Setup, eventually};
use muster_proto::registry::v1 as registry;
use muster_proto::scheduler::v1 as scheduler;
use serde_json::{Value, json};

/// The trainers' image; tags decide how long a run takes.
pub const TRAINER: &str = "registry.example.com/ml/trainer";

/// The simulation of one training cluster `train` of 4 nodes with 8 GPUs each.
pub fn training_clusters() -> Value {
    json!({
        "clusters": [{"name": "train", "nodes": [{"count": 4, "gpuModel": "V100", "gpus": 8}], "crds": ["volcano"]}],
        "images": [
            {"match": format!("{TRAINER}:short"), "runForMs": 1_000},
            {"match": format!("{TRAINER}:endless"), "runForMs": 3_600_000},
        ],
    })
}

/// A platform with [`training_clusters`], joined and live, and the queue `research`.
pub async fn training_platform() -> Result<Platform> {
    let setup = Setup::for_tests(env!("CARGO_BIN_EXE_leash"), training_clusters())?;
    with_queue(Platform::start(setup).await?).await
}

/// The platform once `train` is live, with the queue `research`.
pub async fn with_queue(mut platform: Platform) -> Result<Platform> {
    join(&mut platform, "train", true).await?;
    let manifest = "apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {name: research}\nspec: {weight: 1}\n";
    let queue = scheduler::CreateQueueRequest {
        queue: Some(scheduler::Queue { manifest: manifest.to_owned(), ..Default::default() }),
        ..Default::default()
    };
    platform.clients()?.queues().create_queue(queue).await?;
    Ok(platform)
}

/// The main job's scene with some of its clusters, which have not joined yet.
pub async fn scene(clusters: &[&'static str]) -> Result<Scene> {
    let setup = Setup::for_tests(env!("CARGO_BIN_EXE_leash"), simulation::simulation(clusters))?;
    Scene::new(Platform::start(setup).await?, clusters, SHORT_SOAK).await
}

/// The same with its clusters live, and the first version of the model on those that serve.
pub async fn serving_scene(clusters: &[&'static str]) -> Result<Scene> {
    let mut scene = scene(clusters).await?;
    join::all(&mut scene).await?;
    apply::for_releases(&scene).await?;
    Ok(scene)
}

/// Declares a cluster, starts its agent, and returns when it is live with its inventory.
pub async fn join(platform: &mut Platform, cluster: &str, takes_jobs: bool) -> Result<()> {
    let request = registry::CreateClusterRequest {
        cluster_id: cluster.to_owned(),
        cluster: Some(registry::Cluster { takes_jobs, ..Default::default() }),
        ..Default::default()
    };
    platform.clients()?.clusters().create_cluster(request).await?;
    platform.join(cluster).await?;
    live(platform, cluster).await
}

/// Returns when a cluster is live with its inventory.
pub async fn live(platform: &Platform, cluster: &str) -> Result<()> {
    eventually(&format!("{cluster} is live"), async || {
        let request = registry::GetClusterRequest { name: format!("clusters/{cluster}") };
        let found = platform.clients()?.clusters().get_cluster(request).await?.into_inner();
        let live = found.state() == registry::cluster::State::Live && found.inventory.is_some();
        Ok(look(live, (), || format!("{:?}: {}", found.state(), found.reason)))
    })
    .await
}

/// A gang of `pods` pods with `gpus` GPUs each.
pub fn job(name: &str, tag: &str, pods: u32, gpus: u32) -> Value {
    json!({
        "apiVersion": "batch.volcano.sh/v1alpha1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "ml"},
        "spec": {
            "queue": "research",
            "minAvailable": pods,
            "tasks": [{
                "name": "worker",
                "replicas": pods,
                "template": {"spec": {
                    "restartPolicy": "OnFailure",
                    "containers": [{
                        "name": "worker",
                        "image": format!("{TRAINER}:{tag}"),
                        "resources": {"limits": {"nvidia.com/gpu": gpus, "cpu": "4", "memory": "16Gi"}},
                    }],
                }},
            }],
        },
    })
}

/// Submits a job.
pub async fn submit(clients: &Clients, manifest: &Value) -> Result<scheduler::Job> {
    let request = scheduler::CreateJobRequest {
        job: Some(scheduler::Job { manifest: manifest.to_string(), ..Default::default() }),
        request_id: uuid::Uuid::new_v4().to_string(),
        ..Default::default()
    };
    Ok(clients.jobs().create_job(request).await?.into_inner())
}

/// Returns when a job is in a state.
pub async fn job_is(clients: &Clients, name: &str, state: scheduler::job::State) -> Result<scheduler::Job> {
    eventually(&format!("{name} is {state:?}"), async || {
        let request = scheduler::GetJobRequest { name: format!("namespaces/ml/jobs/{name}") };
        let job = clients.jobs().get_job(request).await?.into_inner();
        Ok(look(job.state() == state, job.clone(), || format!("{:?}: {}", job.state(), job.reason)))
    })
    .await
}

/// Pods that were ever made in a cluster, by their run, from its audit log.
pub fn pods_by_run(platform: &Platform, cluster: &str) -> Result<BTreeMap<String, u32>> {
    let mut pods = BTreeMap::new();
    for write in platform.cluster(cluster)?.audit.writes()? {
        let made = write.resource == "pods" && write.verb == "create" && write.subresource.is_empty();
        if let Some(run) = write.label("muster.dev/run").filter(|_| made) {
            *pods.entry(run.to_owned()).or_default() += 1;
        }
    }
    Ok(pods)
}
