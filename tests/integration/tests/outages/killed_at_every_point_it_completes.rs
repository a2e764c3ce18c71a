//! Every service and every agent is killed, at each of its crash points and at seeded moments: every job runs once, and the
//! release completes.

use anyhow::Result;
use muster_integration_tests::main_job::simulation::{EDGES, SERVE_ONLINE, TRAIN_IDC};
use muster_integration_tests::main_job::{apply, crashes, join};

use crate::{ALONE, common};

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_point_jobs_run_once() -> Result<()> {
    let _alone = ALONE.lock().await;
    let mut scene = common::scene(&[TRAIN_IDC]).await?;
    join::all(&mut scene).await?;
    apply::for_training(&scene).await?;
    crashes::jobs(&mut scene).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_point_a_release_completes() -> Result<()> {
    let _alone = ALONE.lock().await;
    let mut scene = common::serving_scene(&[SERVE_ONLINE, EDGES[0], EDGES[2]]).await?;
    crashes::release(&mut scene).await?;
    Ok(())
}
