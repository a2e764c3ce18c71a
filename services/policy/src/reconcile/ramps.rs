//! Ramps go on: wave after wave, or stop where violations were added.
//!
//! What is to be is a function of what is stored and seen, and is written in one transaction with the revision and the event, so
//! that a pass may be repeated, broken off or taken over by another leader at any point.

use super::Leader;
use crate::{
    app::{App, fleet_policy, ramp},
    domain::{Catalog, Ramp, RampState, Seen},
    store,
};
use async_trait::async_trait;
use muster_kit::{Result, clock::SharedClock, db, reconcile::Reconciler};
use std::sync::Arc;

/// Takes ramps on.
pub struct Ramps {
    /// The use cases.
    pub app: App,
    /// Who leads.
    pub leader: Arc<Leader>,
    /// What soaks are measured by.
    pub clock: SharedClock,
}

#[async_trait]
impl Reconciler for Ramps {
    fn name(&self) -> &'static str {
        "ramps"
    }

    async fn tick(&self) -> Result<()> {
        let Some(epoch) = self.leader.epoch() else { return Ok(()) };
        let bindings = store::ramp::bindings(&self.app.pool).await?;
        if bindings.is_empty() {
            return Ok(());
        }
        let catalog = self.app.catalog().await?;
        for binding in bindings {
            self.step(epoch, &catalog, &binding).await?;
        }
        Ok(())
    }
}

impl Ramps {
    async fn step(&self, epoch: u64, catalog: &Catalog, binding: &str) -> Result<()> {
        // A binding made since the catalog was read has its turn next time.
        let Some(content) = catalog.ramps.get(binding) else { return Ok(()) };
        let mut tx = db::begin(&self.app.pool).await?;
        Leader::check(&mut tx, epoch).await?;
        store::catalog::lock(&mut tx).await?;
        let Some(record) = store::ramp::lock(&mut tx, binding).await? else { return Ok(()) };
        let members = store::ramp::members(&mut tx, &record.fleet, &content.enforced).await?;
        let seen = Seen { now: self.clock.now(), members };
        let next = record.ramp.clone().step(&record.spec, &content.digest, &seen);
        if next == record.ramp {
            return Ok(());
        }
        ramp::write(&mut tx, binding, &record.ramp, &next).await?;
        if let Some(kind) = news(&record.ramp, &next) {
            fleet_policy::tell(&mut tx, binding, kind).await?;
            tracing::info!(fleet_policy.name = binding, wave = next.wave, kind, reason = next.reason, "a ramp moved");
        }
        tx.commit().await?;
        if next.turned != record.ramp.turned {
            self.app.distribute.now();
        }
        Ok(())
    }
}

/// What is to be told; `None` where only what it waits for has changed.
fn news(before: &Ramp, after: &Ramp) -> Option<&'static str> {
    let begins = before.digest != after.digest;
    if !begins && (before.state, before.wave) == (after.state, after.wave) && before.turned.len() >= after.turned.len() {
        return None;
    }
    Some(match after.state {
        RampState::Soaking if begins => "policy.ramp_began",
        RampState::Soaking if before.state == RampState::Stopped => "policy.ramp_resumed",
        RampState::Soaking => "policy.ramp_advanced",
        RampState::Stopped => "policy.ramp_stopped",
        RampState::Paused => "policy.ramp_paused",
        RampState::Completed => "policy.ramp_completed",
        RampState::Aborted => "policy.ramp_aborted",
    })
}
