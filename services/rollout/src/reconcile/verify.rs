//! Compares what the registry holds for us with what we believe: after a restore of either side they differ.
//!
//! What the registry lost it is told again; numbers it remembers otherwise are adopted; what it holds and we do not know is
//! shown as orphaned and never deleted by itself.

use super::leader::{self, Leader};
use crate::app::App;
use crate::peers::Held;
use crate::store::desired::{self, Item};
use async_trait::async_trait;
use muster_kit::{Result, db, health::Health, reconcile::Reconciler};
use std::collections::BTreeSet;

/// Orphans named in the health report.
const SHOWN: usize = 10;

/// Compares.
pub struct VerifyReconciler {
    /// The use cases.
    pub app: App,
    /// Who decides.
    pub leader: Leader,
    /// Where orphans show.
    pub health: Health,
}

#[async_trait]
impl Reconciler for VerifyReconciler {
    fn name(&self) -> &'static str {
        "verify"
    }

    async fn tick(&self) -> Result<()> {
        let Some(epoch) = self.leader.epoch().await? else { return Ok(()) };
        // Ours first: what is told between the two looks is newer in the second, and left alone below.
        let believed = desired::settled(&self.app.pool).await?;
        let numbers = desired::generations(&self.app.pool).await?;
        let open: BTreeSet<(String, String)> =
            desired::open(&self.app.pool).await?.into_iter().map(|item| (item.cluster, item.item)).collect();
        let held = self.app.registry.list_desired().await?;
        self.show_orphans(&believed, &open, &held);
        let lost: Vec<&Item> = believed.iter().filter(|item| is_lost(item, &held)).collect();
        let renumbered: Vec<(&Item, (u64, u64))> = believed.iter().filter_map(|item| renumbered(item, &held)).collect();
        if lost.is_empty() && renumbered.is_empty() {
            return Ok(());
        }
        let digests: Vec<String> = lost.iter().map(|item| item.wish.bundle_digest.clone()).collect();
        desired::mark_uploaded(&self.app.pool, &digests, false).await?;
        let mut tx = db::begin(&self.app.pool).await?;
        leader::check(&mut tx, epoch).await?;
        for item in lost {
            tracing::warn!(
                cluster.name = item.cluster,
                item = item.item,
                "the registry does not have it as it was told; it is told again"
            );
            desired::tell_again(&mut tx, item).await?;
            let current = held.generations.get(&item.cluster).copied().unwrap_or(0);
            if numbers.get(&item.cluster) != Some(&current) {
                desired::remember_generation(&mut tx, &item.cluster, current).await?;
            }
        }
        for (item, generation) in renumbered {
            desired::renumber(&mut tx, item, generation).await?;
        }
        tx.commit().await?;
        self.app.wakes.dispatch.now();
        self.app.wakes.advance.now();
        Ok(())
    }
}

/// The registry lacks it, has another bundle under its name, or still holds what was to go.
fn is_lost(item: &Item, held: &Held) -> bool {
    match held.items.get(&(item.cluster.clone(), item.item.clone())) {
        None => !item.wish.tombstone,
        Some((digest, _)) => item.wish.tombstone || *digest != item.wish.bundle_digest,
    }
}

fn renumbered<'a>(item: &'a Item, held: &Held) -> Option<(&'a Item, (u64, u64))> {
    let (digest, generation) = held.items.get(&(item.cluster.clone(), item.item.clone()))?;
    (*digest == item.wish.bundle_digest && *generation != item.generation).then_some((item, *generation))
}

impl VerifyReconciler {
    fn show_orphans(&self, believed: &[Item], open: &BTreeSet<(String, String)>, held: &Held) {
        let known: BTreeSet<(String, String)> = believed.iter().map(|item| (item.cluster.clone(), item.item.clone())).collect();
        let orphans: Vec<String> = held
            .items
            .keys()
            .filter(|key| !known.contains(*key) && !open.contains(*key))
            .map(|(cluster, item)| format!("clusters/{cluster} {item}"))
            .collect();
        let shown = orphans.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
        let problem = (!orphans.is_empty())
            .then(|| format!("Orphaned: {} items are held by the registry and unknown here: {shown}", orphans.len()));
        self.health.report("orphans", problem);
    }
}
