//! A folder of documents is one unordered set: what refers to another may stand before it, and applied again it changes
//! nothing.

use anyhow::Result;
use muster_integration_tests::main_job::simulation::{EDGES, SERVE_ONLINE};
use muster_integration_tests::main_job::{apply, join, releases, scene};

use crate::common;

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_one_unordered_set() -> Result<()> {
    let mut scene = common::scene(&[SERVE_ONLINE, EDGES[0], EDGES[2]]).await?;
    join::all(&mut scene).await?;
    apply::play(&mut scene).await?;
    let before = releases::list(&scene).await?.len();
    let folder = scene.platform.folder().join("documents/team");
    scene.muster().succeed(&["apply", "-f", scene::path(&folder)?]).await?;
    assert_eq!(releases::list(&scene).await?.len(), before, "the same folder made a release");
    Ok(())
}
