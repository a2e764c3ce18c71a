//! Faults drawn by a seed, for ten minutes. `cargo xtask chaos --seed S` plays the same again, for as long as one likes.

use std::time::Duration;

use anyhow::Result;
use muster_integration_tests::faults::chaos;

use crate::{ground, say};

const TIME: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread")]
async fn ten_minutes_of_chaos() -> Result<()> {
    // Another one every day, and the same on one day.
    let seed = jiff::Timestamp::now().as_second().cast_unsigned() / 86_400;
    say(&format!("chaos: seed {seed}"));
    let mut ground = ground().await?;
    let rounds = chaos::run(&mut ground, seed, TIME, |number, plan, recovery| {
        say(&format!(
            "chaos {number}: {plan} for {:.1} s; all well after {:.1} s, main job done after {:.1} s",
            plan.lasts.as_secs_f64(),
            recovery.well_after.as_secs_f64(),
            recovery.complete_after.as_secs_f64()
        ));
    })
    .await?;
    say(&format!("chaos: {rounds} rounds held"));
    Ok(())
}
