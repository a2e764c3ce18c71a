//! Processes that are started to die at a named point (`crash.at` of their configuration), and are seen to.

use anyhow::Result;
use nix::sys::signal::Signal;
use std::os::unix::process::ExitStatusExt;

use super::Scene;
use crate::eventually_within;
use crate::patience::{Look, PATIENCE};
use crate::platform::Service;
use crate::process::{Crash, Process};

/// Starts a service's process anew, to die at `point`, and returns when it is dead. `act` is what leads there: it is done
/// again and again, and may fail, since the process dies in the middle of it.
pub(super) async fn service_dies_at(
    scene: &mut Scene,
    service: Service,
    point: &str,
    mut act: impl AsyncFnMut(&Scene) -> Result<()>,
) -> Result<()> {
    let process = scene.platform.replica(service).process();
    if process.ended()?.is_none() {
        // In order, so that its successor leads at once.
        process.stop()?;
    }
    scene.platform.start_again_to_fail(service, Crash::DiesAt(point))?;
    eventually_within(2 * PATIENCE, &format!("{} dies at {point}", service.name()), async || {
        let seen = died_at(scene.platform.replica(service).process(), point)?;
        if let Look::NotYet(_) = seen {
            let outcome = act(scene).await;
            return Ok(Look::NotYet(format!("it runs; {outcome:?}")));
        }
        Ok(seen)
    })
    .await
}

/// Starts a cluster's agent anew, to die at `point`.
pub(super) fn start_agent_to_die(scene: &mut Scene, cluster: &str, point: &str) -> Result<()> {
    let agent = scene.platform.agent(cluster)?;
    agent.process().stop()?;
    agent.start_again_to_die(point)
}

/// Waits until the agent is dead.
pub(super) async fn agent_dies_at(scene: &mut Scene, cluster: &str, point: &str) -> Result<()> {
    eventually_within(2 * PATIENCE, &format!("the agent of {cluster} dies at {point}"), async || {
        died_at(scene.platform.agent(cluster)?.process(), point)
    })
    .await
}

/// Whether it has ended by SIGKILL at the point. Nobody else kills it in the meantime.
fn died_at(process: &mut Process, point: &str) -> Result<Look<()>> {
    let Some(status) = process.ended()? else { return Ok(Look::NotYet("it runs".to_owned())) };
    let tail = process.log_tail();
    let said = tail.lines().any(|line| line.trim() == format!("crash point reached: {point}"));
    if status.signal() == Some(Signal::SIGKILL as i32) && said {
        return Ok(Look::Is(()));
    }
    Ok(Look::Never(format!("{} has ended otherwise than by {point}: {status}{tail}", process.name())))
}
