//! What the tests and the demo need and the tree doesn't hold: Postgres and kustomize, and for the tests on real parts
//! Kafka, Kubernetes and clients that others wrote.

pub mod build;
pub mod clients;
pub mod compose;
pub mod crds;
pub mod debian;
pub mod kafka;
pub mod kubernetes;
pub mod kustomize;
pub mod kyverno;
pub mod postgres;
mod tools;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

/// The user who ran the command wants it to end.
#[derive(Debug)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Returns when SIGINT (Ctrl-C), SIGTERM or SIGHUP arrives.
///
/// # Errors
/// The signals can't be listened to.
pub async fn interrupted() -> Result<Interrupted> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(Interrupted)
}
