//! Clusters enrol with one-time tokens; a stranger, a used token, and a second cluster with the same UID do not. Those
//! that do bring preflight and inventory, find their fleets, and have their prices.

use anyhow::Result;
use muster_integration_tests::main_job::join;
use muster_integration_tests::main_job::simulation::{EDGES, TRAIN_IDC};

use crate::common;

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused() -> Result<()> {
    let mut scene = common::scene(&[TRAIN_IDC, EDGES[0], EDGES[2]]).await?;
    join::play(&mut scene).await?;
    Ok(())
}
