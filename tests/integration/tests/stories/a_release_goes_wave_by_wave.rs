//! A release goes to the canary, then to a share of the traffic, then to all of it, then to every edge; each wave passes
//! its gate, and no data holds it.

use anyhow::Result;
use muster_integration_tests::main_job::simulation::{EDGES, SERVE_ONLINE};
use muster_integration_tests::main_job::waves;

use crate::common;

#[tokio::test(flavor = "multi_thread")]
async fn a_release_goes_wave_by_wave() -> Result<()> {
    let mut scene = common::serving_scene(&[SERVE_ONLINE, EDGES[0], EDGES[2]]).await?;
    waves::begin(&scene, "v2").await?;
    waves::play(&mut scene).await?;
    Ok(())
}
