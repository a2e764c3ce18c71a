//! Ctrl-C in the middle of a demo: no process, no port, no folder is left.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use muster_integration_tests::eventually_within;
use muster_integration_tests::patience::look;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ALONE;

/// Processes of this machine whose command line or environment names a folder.
fn processes_that_name(folder: &Path) -> Result<Vec<String>> {
    let folder = folder.to_str().context("a readable name")?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let environment = String::from_utf8_lossy(&read("environ")).into_owned();
        if command.contains(folder) || environment.contains(folder) {
            found.push(command);
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_leaves_nothing() -> Result<()> {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir()?;
    // Postgres runs as another user where this test runs as root: it must be able to enter.
    Command::new("chmod").arg("755").arg(folder.path()).status()?;
    let xtask = Path::new(env!("CARGO_BIN_EXE_leash")).with_file_name("xtask");
    let mut demo = Command::new(xtask)
        .args(["demo", "--fast", "--no-build", "--keep"])
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // Postgres, four services, the simulator and at least one agent.
    eventually_within(Duration::from_secs(120), "the demo is in full swing", async || {
        ensure!(demo.try_wait()?.is_none(), "the demo has ended by itself");
        let running = processes_that_name(folder.path())?;
        let agents = running.iter().filter(|command| command.contains("muster-agent")).count();
        Ok(look(agents >= 1, (), || format!("{running:?}")))
    })
    .await?;
    kill(Pid::from_raw(demo.id() as i32), Signal::SIGINT)?;
    let status = tokio::task::spawn_blocking(move || demo.wait()).await??;
    assert!(!status.success(), "an interrupted demo is no success");

    let left = processes_that_name(folder.path())?;
    // This test's own process has the folder in no place but its memory.
    assert_eq!(left, Vec::<String>::new(), "processes are left");
    let files: Vec<_> = std::fs::read_dir(folder.path())?.collect::<std::io::Result<Vec<_>>>()?;
    assert!(files.is_empty(), "folders are left: {files:?}");
    for port in [7401, 7402, 7403, 7404, 7501, 7502, 7503, 7504] {
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "somebody listens on {port}");
    }
    Ok(())
}
