//! Clusters that leave an application: their fleet or their labels changed, or no target names them any more.
//!
//! The one thing to know: nothing is withdrawn before the application stands at another cluster. Until then the target is
//! `Leaving` in the present release; [`Pass::leave`] then withdraws what it has where the document prunes, else leaves it.

use super::pass::Pass;
use crate::app::release::spec;
use crate::domain::release::{Target, TargetPhase};
use crate::domain::spec::ApplicationSpec;
use crate::store::{
    desired::{self, Wish},
    release::{self, TargetProgress},
    target::{self, TargetRow},
};
use jiff::Timestamp;
use muster_core::name::{ApplicationName, ReleaseName};
use muster_kit::{Result, Tx};
use std::collections::BTreeMap;

/// Marks, in the release that is the application's present one, every cluster that holds the application or waits for it
/// and is not selected any more.
pub async fn mark(
    tx: &mut Tx,
    application: &ApplicationName,
    name: &ReleaseName,
    spec: &ApplicationSpec,
    selected: &BTreeMap<String, String>,
    now: Timestamp,
) -> Result<()> {
    let mut targets: BTreeMap<String, TargetProgress> =
        release::targets(tx, name).await?.into_iter().map(|target| (target.target.cluster.clone(), target)).collect();
    targets.retain(|cluster, _| !selected.contains_key(cluster));
    let known = target::of(tx, application).await?;
    for (cluster, item) in desired::items(tx, &desired::item_of(application)).await? {
        if item.wish.tombstone || selected.contains_key(&cluster) {
            continue;
        }
        // Left to it before, and still to be.
        let is_done = !spec.prune && !item.wish.prune && !item.wish.self_heal;
        let (phase, reason) = if is_done { (TargetPhase::Left, KEPT) } else { (TargetPhase::Leaving, LEAVING) };
        let mut progress = targets.remove(&cluster).unwrap_or_else(|| newcomer(&cluster, known.get(&cluster), &item.wish, now));
        if progress.target.phase != phase {
            stand(&mut progress.target, phase, reason, now);
            release::save_target(tx, name, &progress).await?;
        }
    }
    for mut progress in targets.into_values().filter(|progress| !progress.target.has_left()) {
        stand(&mut progress.target, TargetPhase::Left, NOTHING, now);
        release::save_target(tx, name, &progress).await?;
    }
    Ok(())
}

const LEAVING: &str = "no target selects it any more; it keeps what it has until the application stands elsewhere";
const WITHDRAWN: &str = "no target selects it any more; what it had is withdrawn, as syncPolicy prunes";
const KEPT: &str = "no target selects it any more; what it has is left there, and nobody heals it, as syncPolicy does not prune";
const NOTHING: &str = "no target selects it any more; it has nothing of the application";
const GONE: &str = "no target selects it any more, and the registry does not know it";

fn stand(target: &mut Target, phase: TargetPhase, reason: &str, now: Timestamp) {
    target.phase = phase;
    target.since = now;
    reason.clone_into(&mut target.reason);
}

/// A cluster that the release itself never meant.
fn newcomer(cluster: &str, known: Option<&TargetRow>, wish: &Wish, now: Timestamp) -> TargetProgress {
    let desired = known.and_then(|row| row.desired_digest.clone().or_else(|| row.last_good_digest.clone()));
    TargetProgress {
        target: Target::new(cluster, 0, now),
        rendered_digest: desired.unwrap_or_else(|| wish.bundle_digest.clone()),
        last_good_digest: known.and_then(|row| row.last_good_digest.clone()),
        subsets: BTreeMap::new(),
        candidate_version: String::new(),
        candidate_revision: String::new(),
        told_revision: 0,
    }
}

impl Pass {
    /// Withdraws what a cluster has, or leaves it there, as the application says now.
    pub(super) async fn leave(&mut self, tx: &mut Tx, index: usize, traceparent: &str) -> Result<()> {
        let cluster = self.targets[index].target.cluster.clone();
        let item = desired::item_of(&self.application.name);
        let Some(known) = desired::items(tx, &item).await?.remove(&cluster) else { return Ok(()) };
        let prune = spec(&self.application.manifest)?.prune;
        let mut row = self.known.get(&cluster).cloned().unwrap_or_default();
        let reason = if !self.view.availability.contains_key(&cluster) {
            desired::forget(tx, &cluster, &item).await?;
            row = TargetRow::default();
            GONE
        } else {
            let traceparent = traceparent.to_owned();
            let wish = Wish { tombstone: prune, self_heal: false, prune: false, traceparent, ..known.wish };
            self.targets[index].told_revision = desired::wish(tx, &cluster, &item, &wish).await?;
            if prune {
                row = TargetRow::default();
                WITHDRAWN
            } else {
                // If it is meant again it is told again: meanwhile anybody may have changed what it has.
                row.desired_digest = None;
                row.touched = true;
                KEPT
            }
        };
        target::save(tx, &self.application.name, &cluster, &row).await?;
        self.known.insert(cluster, row);
        reason.clone_into(&mut self.targets[index].target.reason);
        reason.clone_into(&mut self.view.targets[index].reason);
        Ok(())
    }
}
