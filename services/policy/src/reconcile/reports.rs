//! What agents say of applying policies, and of their clusters' workloads, kept as reports.
//!
//! Of verdicts the registry tells that there are newer ones; what changed since those that are known is read from it. An
//! observation counts only for the generation it names. One that is ahead of what we have written (the agent was
//! faster than our own commit) waits for it.

use super::Leader;
use crate::{
    app::App,
    domain::PolicyReport,
    events,
    peers::{ObservedEvent, Registry, Said, Verdicts},
    store::{self, report::Observed},
};
use futures::StreamExt;
use muster_core::version::Version;
use muster_kit::{Error, Result, Tx, db, reconcile::backoff};
use std::{
    cmp::Ordering,
    collections::HashMap,
    mem::{Discriminant, discriminant},
    sync::Arc,
    time::Duration,
};
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

impl Taken {
    /// By what it is about, compared with what is known.
    fn of(about: Ordering) -> Self {
        match about {
            Ordering::Less => Self::Old,
            Ordering::Equal => Self::Yes,
            Ordering::Greater => Self::Ahead,
        }
    }
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
        // Two a cluster: bounded by the number of clusters.
        let mut ahead: HashMap<(String, Discriminant<Said>), ObservedEvent> = HashMap::new();
        let place = |event: &ObservedEvent| (event.cluster.clone(), discriminant(&event.said));
        let mut look_again = tokio::time::interval(LOOK_AGAIN);
        loop {
            tokio::select! {
                event = events.next() => {
                    let Some(event) = event else {
                        return Err(Error::unavailable("PEER_AWAY", "the registry ended the watch of reports"));
                    };
                    let event = event?;
                    if take(&self.app, &*self.registry, epoch, &event).await? == Taken::Ahead {
                        ahead.insert(place(&event), event);
                    } else {
                        ahead.remove(&place(&event));
                    }
                }
                _ = look_again.tick() => {
                    for event in std::mem::take(&mut ahead).into_values() {
                        if take(&self.app, &*self.registry, epoch, &event).await? == Taken::Ahead {
                            ahead.insert(place(&event), event);
                        }
                    }
                }
            }
        }
    }
}

/// Takes what is said of a cluster; what it changes is told and noted.
pub async fn take(app: &App, registry: &dyn Registry, epoch: u64, event: &ObservedEvent) -> Result<Taken> {
    let ObservedEvent { cluster, observed, said } = event;
    let version = match said {
        Said::Installation(installation) => {
            let mut tx = db::begin(&app.pool).await?;
            Leader::check(&mut tx, epoch).await?;
            let (taken, _) = place(&mut tx, cluster, *observed).await?;
            if taken == Taken::Yes {
                store::installation::keep(&mut tx, cluster, *observed, installation).await?;
                tx.commit().await?;
            }
            return Ok(taken);
        }
        Said::Verdicts(version) => *version,
    };
    let after = match wanted(app, epoch, cluster, *observed, version).await? {
        Wanted::Nothing(taken) => return Ok(taken),
        Wanted::After(after) => after,
    };
    // No transaction is open while the registry is asked.
    let verdicts = registry.verdicts(cluster, after).await?;
    let Observed { incarnation, generation, at: _ } = verdicts.observed;
    if !verdicts.whole && (incarnation, generation) != (observed.incarnation, observed.generation) {
        // The cluster was told anew in the meantime: the event that says so follows, and everything is read then.
        return Ok(Taken::Old);
    }
    let mut tx = db::begin(&app.pool).await?;
    Leader::check(&mut tx, epoch).await?;
    let (taken, told) = place(&mut tx, cluster, verdicts.observed).await?;
    if taken == Taken::Yes {
        keep(&mut tx, cluster, &told, verdicts).await?;
        tx.commit().await?;
    }
    Ok(taken)
}

/// Whether something counts now, and about which policies.
async fn place(tx: &mut Tx, cluster: &str, observed: Observed) -> Result<(Taken, Vec<String>)> {
    let Some(told) = store::report::told(tx, cluster).await? else { return Ok((Taken::Ahead, vec![])) };
    let (about, mut known) = ((observed.incarnation, observed.generation), (told.incarnation, told.generation));
    if about.0 > known.0 && about.1 == known.1 {
        // The numbers are ours, so the same number is the same content: only the registry's database is another.
        store::distribution::raise_incarnation(tx, cluster, about.0).await?;
        known = about;
    }
    Ok((Taken::of(about.cmp(&known)), told.policies))
}

/// What is to be read of verdicts.
enum Wanted {
    /// They count for nothing now, or are known.
    Nothing(Taken),
    /// What is newer than a version; all of them where the reports are about something else.
    After(Option<Version>),
}

async fn wanted(app: &App, epoch: u64, cluster: &str, observed: Observed, version: Version) -> Result<Wanted> {
    let mut tx = db::begin(&app.pool).await?;
    Leader::check(&mut tx, epoch).await?;
    let (taken, _) = place(&mut tx, cluster, observed).await?;
    if taken != Taken::Yes {
        return Ok(Wanted::Nothing(taken));
    }
    let known = store::report::known(&mut tx, cluster).await?;
    tx.commit().await?;
    let about = (observed.incarnation, observed.generation);
    let known = known.filter(|known| (known.incarnation, known.generation) == about).map(|known| known.version);
    let is_known = known.is_some_and(|known| version <= known);
    Ok(if is_known { Wanted::Nothing(Taken::Old) } else { Wanted::After(known) })
}

/// Makes the reports say what the verdicts say.
async fn keep(tx: &mut Tx, cluster: &str, told: &[String], verdicts: Verdicts) -> Result<()> {
    let Verdicts { observed, version, whole, mut changes } = verdicts;
    // A policy that no live object meets is reported too: the cluster complies.
    let (policies, known) = if whole {
        for policy in store::report::keep_only(tx, cluster, told).await? {
            store::compliance::note(tx, cluster, &policy, 0).await?;
        }
        (told.to_vec(), vec![])
    } else {
        let changed: Vec<String> = told.iter().filter(|policy| changes.contains_key(*policy)).cloned().collect();
        let known = store::report::stored(tx, cluster, &changed).await?;
        (changed, known)
    };
    store::report::begin(tx, cluster, observed, version).await?;
    let mut known: HashMap<String, PolicyReport> = known.into_iter().map(|report| (report.policy.clone(), report)).collect();
    for policy in &policies {
        let report = known.remove(policy).unwrap_or_else(|| PolicyReport::empty(cluster, policy, observed.at));
        let mut report = PolicyReport { observed_at: observed.at, ..report };
        report.apply(changes.remove(policy).unwrap_or_default());
        if store::report::write(tx, &report).await? {
            store::compliance::note(tx, cluster, policy, report.failing()).await?;
            events::reported(tx, &report).await?;
        }
    }
    Ok(())
}
