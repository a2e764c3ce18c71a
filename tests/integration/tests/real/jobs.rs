//! Jobs as users submit them, and what the stories ask of them.

use std::time::Duration;

use anyhow::Result;
use muster_integration_tests::eventually_within;
use muster_integration_tests::main_job::scene::{Scene, path};
use muster_integration_tests::patience::{Look, look};
use muster_proto::scheduler::v1 as scheduler;
use scheduler::job::State;
use serde_json::{Value, json};

/// Controllers, a scheduler and a kubelet have to see it, one after the other.
pub const WITHIN: Duration = Duration::from_secs(60);

/// A `batch/v1` Job of one pod with a GPU. The image's tag decides how it goes.
pub fn batch(namespace: &str, name: &str, tag: &str) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "namespace": namespace, "labels": {"kueue.x-k8s.io/queue-name": "gang-queue"}},
        "spec": {"backoffLimit": 0, "template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "main", "image": format!("registry.example.com/lab/main:{tag}"),
                "resources": {"limits": {"nvidia.com/gpu": "1", "cpu": "1", "memory": "1Gi"}},
            }],
        }}},
    })
}

/// `muster submit`.
pub async fn submit(scene: &Scene, manifest: &Value, more: &[&str]) -> Result<()> {
    let file = scene.write("lab.json", &manifest.to_string())?;
    let arguments = [&["submit", "-f", path(&file)?], more].concat();
    scene.muster().succeed(&arguments).await?;
    Ok(())
}

/// Returns when a job is as it should be, or never will be.
pub async fn until(scene: &Scene, name: &str, what: &str, is: impl Fn(&scheduler::Job) -> bool) -> Result<scheduler::Job> {
    eventually_within(WITHIN, &format!("{name} {what}"), async || {
        let request = scheduler::GetJobRequest { name: format!("namespaces/{name}") };
        let job = scene.clients()?.jobs().get_job(request).await?.into_inner();
        let said = || format!("{:?} on {:?}: {}", job.state(), job.cluster, job.reason);
        if job.finish_time.is_some() && !is(&job) {
            return Ok(Look::Never(said()));
        }
        Ok(look(is(&job), job.clone(), said))
    })
    .await
}

/// The job has ended well.
pub async fn ended_well(scene: &Scene, name: &str) -> Result<scheduler::Job> {
    until(scene, name, "ends well", |job| job.state() == State::Succeeded).await
}
