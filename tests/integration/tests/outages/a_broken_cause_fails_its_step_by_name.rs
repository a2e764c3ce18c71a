//! The demo's checks can fail: with the cause behind a step broken that step is not true, for that cause and no other; with
//! the cause mended it is true again.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::ALONE;

/// What the demo printed: its table, and its last word.
struct Played {
    table: String,
    verdict: String,
}

/// One play in which the cause of every step is broken, and mended again.
async fn played() -> Result<&'static Played> {
    static PLAYED: OnceCell<Played> = OnceCell::const_new();
    PLAYED
        .get_or_try_init(async || {
            let _alone = ALONE.lock().await;
            let output = Command::new(Path::new(env!("CARGO_BIN_EXE_leash")).with_file_name("xtask"))
                .args(["demo", "--fast", "--no-build", "--sabotage", "all"])
                .stdin(Stdio::null())
                .kill_on_drop(true)
                .output()
                .await?;
            let table = String::from_utf8_lossy(&output.stdout).into_owned();
            let verdict = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(!output.status.success(), "with every cause broken everything was true:\n{table}{verdict}");
            Ok(Played { table, verdict })
        })
        .await
}

/// A step's row of the table says that it failed, and how.
async fn fails_by_name(step: u8, failure: &str) -> Result<()> {
    let Played { table, verdict } = played().await?;
    let is_row = |line: &&str| line.get(..6).is_some_and(|number| number.trim().parse::<u8>().is_ok());
    let mut lines = table.lines().skip_while(|line| !line.starts_with("step  "));
    let row = lines
        .find(|line| line.starts_with(&format!("{step:>4}  ")) && line.contains(", its cause broken "))
        .with_context(|| format!("step {step} was not played with its cause broken:\n{table}{verdict}"))?;
    let row = [row].into_iter().chain(lines.take_while(|line| !is_row(line))).collect::<Vec<_>>().join("\n");
    ensure!(row.contains("NOT TRUE: "), "step {step} is true although its cause is broken:\n{table}{verdict}");
    ensure!(row.contains(failure), "step {step} failed otherwise than by its cause, {failure:?}:\n{table}{verdict}");
    Ok(())
}

/// No step but a broken one failed, and the verdict names each.
#[tokio::test]
async fn what_was_broken_holds_again_once_it_is_mended() -> Result<()> {
    let Played { table, verdict } = played().await?;
    ensure!(verdict.contains("with their causes broken"), "the play did not go on to its end:\n{table}{verdict}");
    for step in 1..=10 {
        ensure!(verdict.contains(&format!("  step {step} is not true: ")), "step {step} is not named:\n{table}{verdict}");
    }
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
