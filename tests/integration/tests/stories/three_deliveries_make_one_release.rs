//! One training ends; its event arrives over gRPC and twice over Kafka: one model version, one commit, one release.

use anyhow::Result;
use muster_integration_tests::main_job::simulation::{EDGES, TRAIN_IDC};
use muster_integration_tests::main_job::{apply, event, train};

use crate::common;

#[tokio::test(flavor = "multi_thread")]
async fn three_deliveries_make_one_release() -> Result<()> {
    let mut scene = common::serving_scene(&[TRAIN_IDC, EDGES[0], EDGES[2]]).await?;
    apply::for_training(&scene).await?;
    train::one(&scene).await?;
    event::play(&mut scene).await?;
    Ok(())
}
