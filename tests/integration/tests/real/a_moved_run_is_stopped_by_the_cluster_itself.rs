//! A movable run whose agent is dead: the cluster's own Job controller ends it at its deadline, and only then does it run
//! elsewhere.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use muster_integration_tests::cluster_api::ClusterApi;
use muster_integration_tests::eventually_within;
use muster_integration_tests::main_job::simulation::{TRAIN_CLOUD, TRAIN_IDC};
use muster_integration_tests::patience::{Look, look};
use muster_proto::registry::v1 as registry;
use muster_proto::scheduler::v1::job::State;
use serde_json::Value;

use crate::{jobs, world};

/// The lease of the cluster's session and the silence after which it is lost, and some more.
const MOVED_WITHIN: Duration = Duration::from_secs(180);

#[test]
fn a_moved_run_is_stopped_by_the_cluster_itself() -> Result<()> {
    world::play(async |world| {
        let scene = &mut world.scene;
        let name = "lab/jobs/moves";
        jobs::submit(scene, &jobs::batch("lab", "moves", "endless"), &["--movable", "--max-retries", "3"]).await?;
        let job = jobs::until(scene, name, "runs", |job| job.state() == State::Running).await?;
        let home = job.cluster.trim_start_matches("clusters/").to_owned();
        let other = if home == TRAIN_IDC { TRAIN_CLOUD } else { TRAIN_IDC };
        let path = "/apis/batch/v1/namespaces/lab/jobs/moves";
        let live = scene.platform.cluster(&home)?.api.find(path).await?.context("the Job is in its cluster")?;
        ensure!(live["spec"]["activeDeadlineSeconds"].as_i64().is_some(), "the Job has no deadline: {}", live["spec"]);

        scene.platform.agent(&home)?.process().crash()?;
        let moved = moves(&scene.platform.cluster(&home)?.api, &scene.platform.cluster(other)?.api, path).await;
        scene.platform.agent(&home)?.start_again()?;
        scene.muster().succeed(&["job", "cancel", "moves", "-n", "lab"]).await?;
        moved?;
        eventually_within(MOVED_WITHIN, &format!("{home} is live again, without the run"), async || {
            let request = registry::GetClusterRequest { name: format!("clusters/{home}") };
            let cluster = scene.clients()?.clusters().get_cluster(request).await?.into_inner();
            let left = epochs(&scene.platform.cluster(&home)?.api).await?.len();
            let back = cluster.state() == registry::cluster::State::Live && left == 0;
            Ok(look(back, (), || format!("{:?}, {left} objects", cluster.state())))
        })
        .await
    })
}

/// The cluster whose agent is dead ends the run, and only then the other one begins it.
async fn moves(home: &ClusterApi, other: &ClusterApi, path: &str) -> Result<()> {
    let ended = eventually_within(MOVED_WITHIN, "the cluster itself ends the run", async || {
        let live = home.find(path).await?.context("the Job is gone")?;
        if !is_ended(&live) && !epochs(other).await?.is_empty() {
            return Ok(Look::Never("it runs elsewhere before the first cluster has ended it".to_owned()));
        }
        Ok(look(is_ended(&live), live["status"].clone(), || live["status"].to_string()))
    })
    .await?;
    ensure!(ended.to_string().contains("DeadlineExceeded"), "it ended otherwise: {ended}");
    eventually_within(MOVED_WITHIN, "it runs elsewhere", async || {
        let live = epochs(other).await?;
        let runs = live.iter().any(|live| live["status"]["ready"] == 1);
        Ok(look(runs, (), || format!("{live:?}")))
    })
    .await
}

/// The runs of the job in a cluster: an object each, whose name begins as the job's.
async fn epochs(api: &ClusterApi) -> Result<Vec<Value>> {
    let mut jobs = api.list("/apis/batch/v1/namespaces/lab/jobs").await?;
    jobs.retain(|job| job["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("moves")));
    Ok(jobs)
}

fn is_ended(job: &Value) -> bool {
    let conditions = job["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Failed" && condition["status"] == "True")
}
