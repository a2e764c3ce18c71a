//! The demo's checks can fail: with the cause behind a step broken that step is not true, for that cause and no other; with
//! the cause mended it is.

use std::path::Path;
use std::process::Stdio;

use anyhow::Result;
use tokio::process::Command;

use crate::ALONE;

/// What the demo says of each step when its cause is broken.
const FAILURES: [(u8, &str); 10] = [
    // A cluster has no agent.
    (1, "edge-03 has no agent"),
    // A binding was left out of the folder.
    (2, "fleetPolicies/ml-baseline"),
    // A job is of a queue without a capability.
    (3, "can't any more: one-too-many waits"),
    // The event is of a pipeline that nobody trusts.
    (4, "there are 0 versions of the model"),
    // Every second answer of the version is an error.
    (5, "the release of v2 is Completed"),
    // A bad version is good.
    (6, "the release of v4 is Failed"),
    // A version that is bad online is good there too.
    (7, "the release of v5 is Failed"),
    // The application does not ask for drift to be healed.
    (8, "is not healed"),
    // The trace has no root.
    (9, "has no root"),
    // A service that was killed stays away.
    (10, "fleet-registry has ended"),
];

#[tokio::test]
async fn a_broken_cause_fails_its_step_by_name() -> Result<()> {
    let _alone = ALONE.lock().await;
    let output = Command::new(Path::new(env!("CARGO_BIN_EXE_leash")).with_file_name("xtask"))
        .args(["demo", "--fast", "--no-build", "--sabotage", "all"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let table = String::from_utf8_lossy(&output.stdout);
    let verdict = String::from_utf8_lossy(&output.stderr);
    let said = format!("{table}{verdict}");
    assert!(!output.status.success(), "with every cause broken everything was true:\n{said}");
    assert!(verdict.contains("with their causes broken"), "a step did not end as it was to:\n{said}");
    for (step, failure) in FAILURES {
        assert!(verdict.contains(&format!("step {step} is not true")), "step {step} did not fail by its name:\n{said}");
        let broken = table.lines().find(|line| {
            let line = line.trim_start();
            line.starts_with(&format!("{step} ")) && line.contains("its cause broken")
        });
        let broken = broken.unwrap_or_default();
        assert!(
            broken.contains("NOT TRUE") && broken.contains(failure),
            "step {step} failed otherwise than by its cause:\n{said}"
        );
    }
    Ok(())
}
