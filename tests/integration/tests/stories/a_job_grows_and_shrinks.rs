//! An elastic job starts as large as there is room, grows when there is more, and gives it back to who comes: one run all the time, whose
//! pods come and go in the cluster.

use anyhow::Result;
use muster_integration_tests::clients::Clients;
use muster_integration_tests::patience::look;
use muster_integration_tests::{Platform, eventually};
use muster_proto::scheduler::v1 as scheduler;
use scheduler::job::State;
use serde_json::json;

use crate::common;

/// Returns when a job has so many workers, none of them leaving.
async fn has_workers(clients: &Clients, name: &str, workers: u32) -> Result<()> {
    eventually(&format!("{name} has {workers} workers"), async || {
        let request = scheduler::GetJobRequest { name: format!("namespaces/ml/jobs/{name}") };
        let job = clients.jobs().get_job(request).await?.into_inner();
        let size = job.size.clone().unwrap_or_default();
        let is_so = job.state() == State::Running && size.workers == workers && size.leaving == 0;
        Ok(look(is_so, (), || format!("{:?}, {size:?}: {}", job.state(), job.reason)))
    })
    .await
}

/// Returns when so many pods were ever made for the run of `elastic`.
async fn has_made(platform: &Platform, pods: u32) -> Result<()> {
    eventually(&format!("{pods} pods were made"), async || {
        let made = common::pods_by_run(platform, "train")?;
        Ok(look(made.get("ml.elastic.1") == Some(&pods), (), || format!("{made:?}")))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_grows_and_shrinks() -> Result<()> {
    let platform = common::training_platform().await?;
    let clients = platform.clients()?;
    for name in ["patient", "sudden"] {
        let manifest =
            format!("apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {{name: {name}}}\nspec: {{weight: 1, minRuntime: 1s}}\n");
        let queue = Some(scheduler::Queue { manifest, ..Default::default() });
        clients.queues().create_queue(scheduler::CreateQueueRequest { queue, ..Default::default() }).await?;
    }
    // One of four nodes is taken; the gang would have all four, and can do with one.
    common::submit(&clients, &common::job("first", "endless", 1, 8)).await?;
    common::job_is(&clients, "first", State::Running).await?;
    let mut elastic = common::job("elastic", "endless", 4, 8);
    elastic["metadata"]["annotations"] = json!({"muster.dev/elastic": "true"});
    elastic["spec"]["queue"] = json!("patient");
    elastic["spec"]["minAvailable"] = json!(1);
    common::submit(&clients, &elastic).await?;
    has_workers(&clients, "elastic", 3).await?;

    let cancel = scheduler::CancelJobRequest { name: "namespaces/ml/jobs/first".to_owned(), ..Default::default() };
    clients.jobs().cancel_job(cancel).await?;
    has_workers(&clients, "elastic", 4).await?;
    has_made(&platform, 4).await?;

    let mut other = common::job("other", "short", 1, 8);
    other["spec"]["queue"] = json!("sudden");
    common::submit(&clients, &other).await?;
    common::job_is(&clients, "other", State::Succeeded).await?;
    has_workers(&clients, "elastic", 4).await?;

    let request = scheduler::GetJobRequest { name: "namespaces/ml/jobs/elastic".to_owned() };
    assert_eq!(clients.jobs().get_job(request).await?.into_inner().run_epoch, 1, "a change of size is no restart");
    // Three to begin with, one that came, and one that came again after it had left.
    has_made(&platform, 5).await?;
    assert_eq!(common::pods_by_run(&platform, "train")?.get("ml.other.1"), Some(&1));
    Ok(())
}
