//! The main job, step after step, where the training clusters and the broker are real.

use anyhow::Result;
use muster_integration_tests::main_job::TITLES;

use crate::world;

#[test]
fn the_main_job_holds_on_real_parts() -> Result<()> {
    world::play(async |world| world.played(TITLES.len() as u8).await)
}
