//! Faults drawn by a seed, one or two at once, for ten minutes. Here it is always the same history, so that one that no longer
//! holds is due to a change; `cargo xtask chaos` draws others.

use std::time::Duration;

use anyhow::{Result, ensure};
use muster_integration_tests::faults::chaos;

use crate::{ground, say};

const SEED: u64 = 20_783;

const TIME: Duration = Duration::from_secs(10 * 60);

#[tokio::test(flavor = "multi_thread")]
async fn ten_minutes_of_chaos_hold() -> Result<()> {
    let mut ground = ground().await?;
    say(&format!("chaos: seed {SEED}"));
    let rounds = chaos::run(&mut ground, SEED, TIME, |number, plan, recovery| {
        say(&format!("chaos: {}", recovery.line(number, plan)));
    })
    .await?;
    ensure!(rounds > 1, "one round took all of the time");
    Ok(())
}
