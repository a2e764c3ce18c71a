//! The demo's checks can fail: with the cause behind a step broken, that step is not true, and the demo says which.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Result, ensure};
use tokio::process::Command;

use crate::ALONE;

async fn fails_by_name(step: u8) -> Result<()> {
    let _alone = ALONE.lock().await;
    let number = step.to_string();
    let output = Command::new(Path::new(env!("CARGO_BIN_EXE_leash")).with_file_name("xtask"))
        .args(["demo", "--fast", "--no-build", "--until", &number, "--sabotage", &number])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    ensure!(!output.status.success(), "with the cause of step {step} broken everything was true:\n{said}");
    ensure!(said.contains(&format!("step {step} is not true")), "another step failed than {step}:\n{said}");
    Ok(())
}

macro_rules! step {
    ($name:ident, $step:literal) => {
        #[tokio::test]
        async fn $name() -> Result<()> {
            fails_by_name($step).await
        }
    };
}

step!(a_cluster_without_an_agent_fails_step_1, 1);
step!(a_binding_that_was_left_out_fails_step_2, 2);
step!(a_queue_without_a_capability_fails_step_3, 3);
step!(a_pipeline_nobody_trusts_fails_step_4, 4);
step!(a_release_that_answers_with_errors_fails_step_5, 5);
step!(a_bad_version_that_is_good_fails_step_6, 6);
step!(a_bad_version_that_is_good_online_fails_step_7, 7);
step!(drift_that_is_not_healed_fails_step_8, 8);
step!(a_trace_without_its_root_fails_step_9, 9);
step!(a_service_that_stays_away_fails_step_10, 10);
