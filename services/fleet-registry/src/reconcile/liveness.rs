//! Moves clusters between Joining, Live, Suspect and Lost.

use crate::{
    app::{App, membership::Rules},
    domain::{
        Cluster, State,
        fleet::FleetSpec,
        liveness::{Signs, Thresholds, liveness},
    },
    events,
    store::cluster,
};
use async_trait::async_trait;
use jiff::Timestamp;
use muster_kit::{Result, db, error::Kind, lease::Lease, reconcile::Reconciler};
use std::{sync::Mutex, time::Duration};

/// One replica decides; while it has not led for as long as a verdict takes, it calls nobody Lost.
pub struct Liveness {
    app: App,
    lease: Lease,
    leading_since: Mutex<Option<Timestamp>>,
}

impl Liveness {
    /// The reconciler.
    pub fn new(app: App) -> Self {
        let lease = Lease::new(app.pool.clone(), "liveness", Duration::from_secs(10));
        Self { app, lease, leading_since: Mutex::new(None) }
    }

    fn thresholds(&self, cluster: &Cluster, fleets: &[FleetSpec]) -> Thresholds {
        let settings = &self.app.settings;
        let members = || fleets.iter().filter(|fleet| cluster.fleets.contains(&fleet.name));
        // In several fleets the most patient one counts: a wrong Lost costs more than a late one.
        let suspect_after = members().filter_map(|fleet| fleet.suspect_after).max();
        let lost_after = members().filter_map(|fleet| fleet.lost_after).max();
        Thresholds {
            suspect_after: suspect_after.unwrap_or(Duration::from_millis(settings.suspect_after_ms)),
            lost_after: lost_after.unwrap_or(Duration::from_millis(settings.lost_after_ms)),
            steady_after: Duration::from_millis(settings.steady_after_ms),
        }
    }
}

#[async_trait]
impl Reconciler for Liveness {
    fn name(&self) -> &'static str {
        "liveness"
    }

    async fn tick(&self) -> Result<()> {
        let now = self.app.clock.now();
        let leads = self.lease.acquire().await?.is_some();
        let leading_since = {
            let mut since = self.leading_since.lock().expect("no holder of this lock panics");
            *since = if leads { Some(since.unwrap_or(now)) } else { None };
            *since
        };
        let Some(leading_since) = leading_since else { return Ok(()) };
        let mut tx = db::begin(&self.app.pool).await?;
        let rules = Rules::load(&mut tx).await?;
        tx.commit().await?;
        for mut known in cluster::mortal(&self.app.pool).await? {
            let Some(last_seen) = known.last_seen_at else { continue };
            let signs = Signs {
                last_seen,
                steady_since: known.steady_since_at.unwrap_or(last_seen),
                has_inventory: known.inventory.is_some(),
                hub_up_since: leading_since,
            };
            let next = liveness(known.state, signs, now, self.thresholds(&known, rules.fleets()));
            if next == known.state {
                continue;
            }
            let kind = match next {
                State::Live => "cluster.live",
                State::Suspect => "cluster.suspect",
                State::Lost => "cluster.lost",
                State::Joining | State::NotEnrolled | State::Leaving | State::Left => "cluster.changed",
            };
            known.reason = match next {
                State::Suspect | State::Lost => format!("its agent was last heard at {last_seen:.0}"),
                State::Live | State::Joining | State::NotEnrolled | State::Leaving | State::Left => String::new(),
            };
            tracing::info!(cluster.name = known.name, from = ?known.state, to = ?next, "a cluster's state has changed");
            known.state = next;
            let mut tx = db::begin(&self.app.pool).await?;
            match cluster::update(&mut tx, &known).await {
                Ok(version) => known.version = version,
                // Somebody changed it meanwhile; the next pass sees what it is then.
                Err(error) if error.kind() == Kind::Conflict => continue,
                Err(error) => return Err(error),
            }
            events::cluster(&mut tx, kind, &known).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}
