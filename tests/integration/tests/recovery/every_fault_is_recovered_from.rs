//! Each part broken for twenty seconds in the middle of the main job, which completes all the same: what was acknowledged is
//! there, once; no weight was illegal; nothing is left over; memory is bounded.

use anyhow::Result;
use muster_integration_tests::faults::Fault;
use muster_integration_tests::faults::round::{Plan, Promised, Recovery, play};

use crate::{ground, say};

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_is_recovered_from() -> Result<()> {
    let mut ground = ground().await?;
    let mut promised = Promised::default();
    say("");
    say(
        "broken for 20 s                 | at (UTC) | meanwhile taken | all well after | main job done after | a job's end unknown for | a weight stale for | largest process",
    );
    say(
        "--------------------------------|----------|-----------------|----------------|---------------------|-------------------------|--------------------|----------------",
    );
    for (number, fault) in Fault::ALL.into_iter().enumerate() {
        let plan = Plan::of(fault);
        let recovery = play(&mut ground, &plan, number + 1, &mut promised).await?;
        say(&row(&plan, &recovery));
    }
    Ok(())
}

/// What was broken, when, and how long it took to recover.
fn row(plan: &Plan, recovery: &Recovery) -> String {
    let taken = match (recovery.job, recovery.event) {
        (true, true) => "job and event",
        (true, false) => "job",
        (false, true) => "event",
        (false, false) => "nothing",
    };
    format!(
        "{:<31} | {} | {taken:<15} | {:>12.1} s | {:>17.1} s | {:>21.1} s | {:>16.1} s | {:>11} MiB",
        plan.to_string(),
        recovery.at.strftime("%H:%M:%S"),
        recovery.well_after.as_secs_f64(),
        recovery.complete_after.as_secs_f64(),
        recovery.unknown_for.as_secs_f64(),
        recovery.weights_stale_for.as_secs_f64(),
        recovery.memory,
    )
}
