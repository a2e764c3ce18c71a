//! What agents say of applying policies, and of their clusters' workloads, kept as reports.
//!
//! An observation counts only for the generation it names. One that is ahead of what we have written (the agent was
//! faster than our own commit) waits for it.

use super::Leader;
use crate::{
    app::App,
    domain::PolicyReport,
    events,
    peers::{ObservedEvent, Registry},
    store,
};
use futures::StreamExt;
use muster_kit::{Error, Result, db, reconcile::backoff};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// How often observations that were ahead are looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Keeps the reports.
pub struct Reports {
    /// The use cases.
    pub app: App,
    /// Who leads.
    pub leader: Arc<Leader>,
    /// The registry.
    pub registry: Arc<dyn Registry>,
}

/// What became of an observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is the report now.
    Yes,
    /// It is about something older.
    Old,
    /// It is about something we have not written yet.
    Ahead,
}

impl Reports {
    /// Follows for the life of the process, whenever we lead.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut failures = 0;
        loop {
            let epoch = tokio::select! {
                () = shutdown.cancelled() => return,
                epoch = self.leader.elected() => epoch,
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.leader.deposed(epoch) => failures = 0,
                outcome = self.follow(epoch) => {
                    failures += 1;
                    if let Err(error) = outcome {
                        tracing::debug!(error = %error, "the watch of reports ended; it is taken up again");
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(backoff(failures)) => {}
            }
        }
    }

    async fn follow(&self, epoch: u64) -> Result<()> {
        let mut events = self.registry.watch_reports().await?;
        // One a cluster: bounded by the number of clusters.
        let mut ahead: HashMap<String, ObservedEvent> = HashMap::new();
        let mut look_again = tokio::time::interval(LOOK_AGAIN);
        loop {
            tokio::select! {
                event = events.next() => {
                    let Some(event) = event else {
                        return Err(Error::unavailable("PEER_AWAY", "the registry ended the watch of reports"));
                    };
                    let event = event?;
                    if take(&self.app, epoch, &event).await? == Taken::Ahead {
                        ahead.insert(event.cluster.clone(), event);
                    } else {
                        ahead.remove(&event.cluster);
                    }
                }
                _ = look_again.tick() => {
                    for event in std::mem::take(&mut ahead).into_values() {
                        if take(&self.app, epoch, &event).await? == Taken::Ahead {
                            ahead.insert(event.cluster.clone(), event);
                        }
                    }
                }
            }
        }
    }
}

/// Takes one observation; what it changes is told and noted.
pub async fn take(app: &App, epoch: u64, event: &ObservedEvent) -> Result<Taken> {
    let ObservedEvent { cluster, observed, installation, reports } = event;
    let mut tx = db::begin(&app.pool).await?;
    Leader::check(&mut tx, epoch).await?;
    let Some(told) = store::report::told(&mut tx, cluster).await? else { return Ok(Taken::Ahead) };
    let (about, mut known) = ((observed.incarnation, observed.generation), (told.incarnation, told.generation));
    if about.0 > known.0 && about.1 == known.1 {
        // The numbers are ours, so the same number is the same content: only the registry's database is another.
        store::distribution::raise_incarnation(&mut tx, cluster, about.0).await?;
        known = about;
    }
    if about > known {
        return Ok(Taken::Ahead);
    }
    if about < known {
        return Ok(Taken::Old);
    }
    store::installation::keep(&mut tx, cluster, *observed, installation).await?;
    let Some(reports) = reports else {
        // It has applied the documents and not judged by them yet.
        tx.commit().await?;
        return Ok(Taken::Yes);
    };
    if !store::report::begin(&mut tx, cluster, *observed).await? {
        return Ok(Taken::Old);
    }
    for policy in store::report::keep_only(&mut tx, cluster, &told.policies).await? {
        store::compliance::note(&mut tx, cluster, &policy, 0).await?;
    }
    for policy in &told.policies {
        let report = reports.iter().find(|report| report.policy == *policy).cloned();
        // A policy that no live object meets is reported too: the cluster complies.
        let report = report.unwrap_or_else(|| PolicyReport {
            cluster: cluster.clone(),
            policy: policy.clone(),
            rules: vec![],
            violations: vec![],
            observed_at: observed.at,
        });
        if store::report::write(&mut tx, &report).await? {
            store::compliance::note(&mut tx, cluster, policy, report.failing()).await?;
            events::reported(&mut tx, &report).await?;
        }
    }
    tx.commit().await?;
    Ok(Taken::Yes)
}
