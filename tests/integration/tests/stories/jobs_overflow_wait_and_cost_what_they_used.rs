//! Jobs fill the cheap cluster and overflow to the dear one; past the queue's capability they wait and are told why; a
//! gang is not placed in part; policy refuses by rule, path and message; cancelled ones leave. What is charged is what the
//! clusters' audit logs say was used.

use anyhow::Result;
use muster_integration_tests::main_job::simulation::{TRAIN_CLOUD, TRAIN_IDC};
use muster_integration_tests::main_job::{apply, join, train};

use crate::common;

#[tokio::test(flavor = "multi_thread")]
async fn jobs_overflow_wait_and_cost_what_they_used() -> Result<()> {
    let mut scene = common::scene(&[TRAIN_IDC, TRAIN_CLOUD]).await?;
    join::all(&mut scene).await?;
    apply::for_training(&scene).await?;
    train::play(&mut scene).await?;
    Ok(())
}
