//! Every service and every agent is killed, at each of its crash points and at seeded moments: every job runs once, and the
//! release completes.

use anyhow::Result;
use muster_integration_tests::main_job::simulation::{EDGES, SERVE_ONLINE, TRAIN_IDC};
use muster_integration_tests::main_job::{apply, crashes};

use crate::{ALONE, common};

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_point_it_completes() -> Result<()> {
    let _alone = ALONE.lock().await;
    let mut scene = common::serving_scene(&[TRAIN_IDC, SERVE_ONLINE, EDGES[0], EDGES[2]]).await?;
    apply::for_training(&scene).await?;
    crashes::play(&mut scene).await?;
    Ok(())
}
