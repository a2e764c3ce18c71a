//! One job is one trace through every process on its way, with no parent missing; and the reports say who complies and what
//! it cost.

use anyhow::Result;
use muster_integration_tests::main_job::simulation::{EDGES, TRAIN_IDC};
use muster_integration_tests::main_job::{apply, join, reports};

use crate::common;

#[tokio::test(flavor = "multi_thread")]
async fn one_job_is_one_trace() -> Result<()> {
    let mut scene = common::scene(&[TRAIN_IDC, EDGES[0]]).await?;
    join::all(&mut scene).await?;
    apply::for_training(&scene).await?;
    reports::play(&mut scene).await?;
    Ok(())
}
