//! Volcano Jobs on two real clusters: those that fit run where GPUs are cheap, the next one overflows to the dear cluster, and
//! one past its queue's capability waits. What is charged is what the API servers' audit logs say was used.

use anyhow::Result;

use crate::world;

#[test]
fn a_volcano_job_runs_on_the_cheap_cluster_and_overflows_when_it_is_full() -> Result<()> {
    world::play(async |world| world.played(3).await)
}
