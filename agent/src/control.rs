//! What somebody at the cluster tells its agent: hold, release, leave. As files in the state directory, so that it holds
//! over restarts, needs no port, and is allowed to exactly those who may write there.

use crate::{ledger::Leaving, link::Link};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_millis(500);
const HOLD: &str = "hold";
const LEAVE: &str = "leave";

/// Puts the cluster on hold, or releases it; works with and without a running agent.
pub fn hold(state_dir: &Path, on: bool) -> io::Result<()> {
    let file = state_dir.join(HOLD);
    if on {
        return fs::write(file, "on hold from the cluster's own side\n");
    }
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Asks the agent to leave the fleet; it does so while it runs.
pub fn leave(state_dir: &Path, leaving: Leaving) -> io::Result<()> {
    fs::write(state_dir.join(LEAVE), if leaving.remove_workloads { "remove-workloads\n" } else { "keep-workloads\n" })
}

/// Whether the cluster is on hold.
pub fn is_on_hold(state_dir: &Path) -> bool {
    state_dir.join(HOLD).exists()
}

fn asked_to_leave(state_dir: &Path) -> Option<Leaving> {
    let text = fs::read_to_string(state_dir.join(LEAVE)).ok()?;
    match text.trim() {
        "remove-workloads" => Some(Leaving { remove_workloads: true }),
        "keep-workloads" => Some(Leaving { remove_workloads: false }),
        other => {
            tracing::error!(asked = other, "the file `leave` says neither remove-workloads nor keep-workloads");
            None
        }
    }
}

/// Forgets the wish to leave, once it is done.
pub fn left(state_dir: &Path) -> io::Result<()> {
    match fs::remove_file(state_dir.join(LEAVE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Does what the files say until `stop`.
pub async fn follow(state_dir: PathBuf, link: Link, stop: CancellationToken) {
    let ledger = &link.reconciler.ledger;
    loop {
        let on_hold = is_on_hold(&state_dir);
        if ledger.state().on_hold != on_hold {
            match ledger.update(move |state| state.on_hold = on_hold).await {
                Ok(()) => {
                    tracing::warn!(on_hold, "the cluster's own side has put it on hold or released it");
                    link.reconciler.mark_all();
                }
                Err(error) => tracing::error!(error = %error, "the hold could not be noted"),
            }
        }
        if ledger.state().leaving.is_none()
            && let Some(leaving) = asked_to_leave(&state_dir)
            && let Err(error) = link.leave(leaving).await
        {
            tracing::error!(error = %error, "leaving could not begin");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
