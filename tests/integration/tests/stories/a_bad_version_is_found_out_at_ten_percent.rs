//! A version that is bad only under the serving cluster's traffic is found out at 10 % of it, and turned back everywhere.

use anyhow::Result;
use muster_integration_tests::main_job::share;
use muster_integration_tests::main_job::simulation::{EDGES, SERVE_ONLINE};

use crate::common;

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_version_is_found_out_at_ten_percent() -> Result<()> {
    let mut scene = common::serving_scene(&[SERVE_ONLINE, EDGES[0], EDGES[2]]).await?;
    share::play(&mut scene).await?;
    Ok(())
}
