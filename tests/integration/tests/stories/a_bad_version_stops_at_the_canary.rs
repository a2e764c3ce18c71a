//! A version that is bad everywhere is turned back on the canary and reaches nobody else; what it rendered is blocked, and
//! the revert is in git.

use anyhow::Result;
use muster_integration_tests::main_job::canary;
use muster_integration_tests::main_job::simulation::{EDGES, SERVE_ONLINE};

use crate::common;

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_version_stops_at_the_canary() -> Result<()> {
    let mut scene = common::serving_scene(&[SERVE_ONLINE, EDGES[0], EDGES[2]]).await?;
    canary::play(&mut scene).await?;
    Ok(())
}
