//! The demo's checks can fail: with the cause behind a step broken that step is not true, for that cause and no other.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Result, ensure};
use tokio::process::Command;

use crate::ALONE;

/// Plays up to a step whose cause is broken. `failure` is what the demo then says of it.
async fn fails_by_name(step: u8, failure: &str) -> Result<()> {
    let _alone = ALONE.lock().await;
    let output = Command::new(Path::new(env!("CARGO_BIN_EXE_leash")).with_file_name("xtask"))
        .args(["demo", "--fast", "--no-build", "--sabotage", &step.to_string()])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let table = String::from_utf8_lossy(&output.stdout);
    let verdict = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "with the cause of step {step} broken everything was true:\n{table}{verdict}");
    ensure!(
        verdict.contains("with their causes broken") && verdict.contains(&format!("step {step} is not true")),
        "another step failed than {step}:\n{table}{verdict}"
    );
    ensure!(table.contains(failure), "step {step} failed otherwise than by its cause, {failure:?}:\n{table}{verdict}");
    Ok(())
}

macro_rules! step {
    ($name:ident, $step:literal, $failure:literal) => {
        #[tokio::test]
        async fn $name() -> Result<()> {
            fails_by_name($step, $failure).await
        }
    };
}

step!(a_cluster_without_an_agent_fails_step_1, 1, "edge-03 has no agent");
step!(a_binding_that_was_left_out_fails_step_2, 2, "fleetPolicies/ml-baseline");
step!(a_queue_without_a_capability_fails_step_3, 3, "can't any more: one-too-many waits");
step!(a_pipeline_nobody_trusts_fails_step_4, 4, "there are 0 versions of the model");
step!(a_release_that_answers_with_errors_fails_step_5, 5, "the release of v2 is Completed");
step!(a_bad_version_that_is_good_fails_step_6, 6, "the release of v4 is Failed");
step!(a_bad_version_that_is_good_online_fails_step_7, 7, "the release of v5 is Failed");
step!(drift_that_is_not_healed_fails_step_8, 8, "is not healed");
step!(a_trace_without_its_root_fails_step_9, 9, "has no root");
step!(a_service_that_stays_away_fails_step_10, 10, "fleet-registry has ended");
