//! What the machine lacks, said at once.
//!
//! The one thing to know: the list is a shell script, `xtask/doctor.sh`, so that it can be run where Rust itself is
//! missing; here it is only called.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// What is to be done here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// Build it and play the demo.
    Demo,
    /// Run every test, on real parts too.
    Tests,
}

/// Fails when something is missing; the list and the command that installs it are on standard error by then.
///
/// # Errors
/// Something is missing, or `sh` can't be run.
pub fn check(what: For) -> Result<()> {
    let argument = match what {
        For::Demo => "",
        For::Tests => "tests",
    };
    let status = Command::new("sh")
        .args(["-c", include_str!("../doctor.sh"), "doctor.sh", argument])
        .stdin(Stdio::null())
        .status()
        .context("run sh")?;
    if !status.success() {
        bail!("the machine lacks what is listed above");
    }
    Ok(())
}
