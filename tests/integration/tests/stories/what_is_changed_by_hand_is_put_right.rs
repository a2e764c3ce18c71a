//! Drift is reported and healed; what left git is pruned and a foreign object stays; a site that is cut off during a release
//! is pending, heals itself, and catches up to what is current.

use anyhow::Result;
use muster_integration_tests::main_job::drift;
use muster_integration_tests::main_job::simulation::{EDGES, SERVE_ONLINE};

use crate::common;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_by_hand_is_put_right() -> Result<()> {
    let mut scene = common::serving_scene(&[SERVE_ONLINE, EDGES[0], EDGES[2]]).await?;
    drift::play(&mut scene).await?;
    Ok(())
}
