//! The main job while parts of it are killed, cut off and starved. Each story has a platform and real parts of its own, so that
//! they can be played side by side.

mod every_fault_is_recovered_from;
mod ten_minutes_of_chaos_hold;

use std::io::Write;

use anyhow::{Context, Result};
use muster_integration_tests::Setup;
use muster_integration_tests::faults::{Ground, Programs};
use serde_json::json;

/// The platform, on parts that nobody else uses.
async fn ground() -> Result<Ground> {
    let programs = std::env::var("MUSTER_TEST_PROGRAMS")
        .context("MUSTER_TEST_PROGRAMS is not set: run these stories with `cargo xtask test`")?;
    let programs: Programs = serde_json::from_str(&programs).context("MUSTER_TEST_PROGRAMS")?;
    let setup = Setup::for_tests(env!("CARGO_BIN_EXE_leash"), json!({}))?;
    Ground::start(setup, &programs).await
}

/// Into the output, also of a test that passes: the harness keeps what the print macros write.
fn say(line: &str) {
    // Whoever has closed the output does not want to hear it.
    writeln!(std::io::stdout(), "{line}").ok();
}
