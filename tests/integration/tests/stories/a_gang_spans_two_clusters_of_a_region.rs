//! A gang that no cluster holds whole starts in two of one region, and is there in both or in none: where one loses its part the other is
//! stopped, and the whole is started once more.

use anyhow::Result;
use muster_integration_tests::clients::Clients;
use muster_integration_tests::patience::look;
use muster_integration_tests::{Platform, Setup, eventually};
use muster_proto::registry::v1 as registry;
use muster_proto::scheduler::v1 as scheduler;
use scheduler::job::State;
use serde_json::{Value, json};

use crate::common;

const JOBS: &str = "/apis/batch.volcano.sh/v1alpha1/namespaces/ml/jobs";

/// Three clusters of two nodes with 8 GPUs each.
fn clusters() -> Value {
    let mut simulation = common::training_clusters();
    let cluster = |name: &str| json!({"name": name, "nodes": [{"count": 2, "gpuModel": "V100", "gpus": 8}], "crds": ["volcano"]});
    simulation["clusters"] = ["abroad", "near", "train"].map(cluster).into_iter().collect();
    simulation
}

async fn is_in(clients: &Clients, cluster: &str, region: &str) -> Result<()> {
    let cluster = registry::Cluster {
        name: format!("clusters/{cluster}"),
        region: region.to_owned(),
        takes_jobs: true,
        ..Default::default()
    };
    let mask = ["region", "takes_jobs"].map(str::to_owned);
    let request = registry::UpdateClusterRequest {
        cluster: Some(cluster),
        update_mask: Some(muster_proto::FieldMask { paths: mask.to_vec() }),
        ..Default::default()
    };
    clients.clusters().update_cluster(request).await?;
    Ok(())
}

/// Returns when a run of `wide` is in both clusters and runs there; gives (cluster, workers).
async fn runs_in_both(clients: &Clients, epoch: u64) -> Result<Vec<(String, u32)>> {
    eventually(&format!("run {epoch} of wide runs in two clusters"), async || {
        let request = scheduler::GetJobRequest { name: "namespaces/ml/jobs/wide".to_owned() };
        let job = clients.jobs().get_job(request).await?.into_inner();
        let runs = job.state() == State::Running && job.run_epoch == epoch;
        let mut parts: Vec<(String, u32)> = job.parts.iter().map(|part| (part.cluster.clone(), part.workers)).collect();
        parts.sort();
        Ok(look(runs && parts.len() == 2, parts, || format!("{:?} in run {}: {}", job.state(), job.run_epoch, job.reason)))
    })
    .await
}

/// Returns when neither cluster has an object of `wide`.
async fn is_gone(platform: &Platform) -> Result<()> {
    eventually("no cluster has anything of wide", async || {
        let (near, train) = (platform.cluster("near")?.api.list(JOBS).await?, platform.cluster("train")?.api.list(JOBS).await?);
        Ok(look(near.is_empty() && train.is_empty(), (), || format!("{} in near and {} in train", near.len(), train.len())))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_spans_two_clusters_of_a_region() -> Result<()> {
    let mut platform =
        common::with_queue(Platform::start(Setup::for_tests(env!("CARGO_BIN_EXE_leash"), clusters())?).await?).await?;
    common::join(&mut platform, "near", true).await?;
    common::join(&mut platform, "abroad", true).await?;
    let clients = platform.clients()?;
    for (cluster, region) in [("train", "eu"), ("near", "eu"), ("abroad", "us")] {
        is_in(&clients, cluster, region).await?;
    }
    let mut wide = common::job("wide", "endless", 3, 8);
    wide["metadata"]["annotations"] = json!({"muster.dev/span": "region"});
    eventually("the regions are known to the scheduler", async || {
        let submitted = common::submit(&clients, &wide).await;
        Ok(look(submitted.is_ok(), (), || format!("{submitted:?}")))
    })
    .await?;

    let parts = runs_in_both(&clients, 1).await?;
    let clusters: Vec<&str> = parts.iter().map(|(cluster, _)| cluster.as_str()).collect();
    assert_eq!(clusters, ["clusters/near", "clusters/train"]);
    assert_eq!(parts.iter().map(|(_, workers)| workers).sum::<u32>(), 3);
    let made = |cluster: &str, run: &str| {
        Ok::<u32, anyhow::Error>(common::pods_by_run(&platform, cluster)?.get(run).copied().unwrap_or(0))
    };
    assert_eq!(made("near", "ml.wide.1")? + made("train", "ml.wide.1")?, 3);

    // Somebody deletes what one of them has.
    platform.cluster("near")?.api.delete(&format!("{JOBS}/wide")).await?;
    runs_in_both(&clients, 2).await?;
    assert_eq!(made("near", "ml.wide.2")? + made("train", "ml.wide.2")?, 3);
    let request = scheduler::GetRunRequest { name: "namespaces/ml/jobs/wide/runs/1".to_owned() };
    let first = clients.jobs().get_run(request).await?.into_inner();
    let mut states: Vec<(&str, State)> = first.parts.iter().map(|part| (part.cluster.as_str(), part.state())).collect();
    states.sort_by_key(|(cluster, _)| *cluster);
    assert_eq!(states, [("clusters/near", State::Failed), ("clusters/train", State::Cancelled)]);

    let cancel = scheduler::CancelJobRequest { name: "namespaces/ml/jobs/wide".to_owned(), ..Default::default() };
    clients.jobs().cancel_job(cancel).await?;
    is_gone(&platform).await
}
