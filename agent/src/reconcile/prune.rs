//! Removing what is no longer wanted: by the ledger, in the reverse order, and never what somebody else holds.

use super::{
    Memory, Next, Reconciler, SOON,
    desired::Wanted,
    verdict::{Findings, refuse},
};
use crate::{
    cluster::ClusterError,
    domain::{
        item::{Applied, ItemKey, Record},
        manifest::belongs_to,
        object::{ObjectRef, text},
        order::{Stage, may_be_pruned, stage},
    },
    ledger::LedgerError,
};
use std::time::Instant;

/// What is left of the objects that were to go.
#[derive(Debug, Default)]
pub(super) struct Removal {
    /// Still there, on their way out or waiting for those before them.
    pub remaining: Vec<Applied>,
    /// What is waited for, for people.
    pub waits: Vec<String>,
    /// What the API server refused.
    pub refused: Vec<(Applied, ClusterError)>,
}

impl Reconciler {
    pub(super) async fn prune_leftovers(
        &self,
        key: &ItemKey,
        record: &Record,
        wanted: &[Wanted],
        routes_settled: bool,
        memory: &mut Memory,
        findings: &mut Findings,
    ) -> Result<Next, LedgerError> {
        let leftover = |applied: &&Applied| !wanted.iter().any(|wanted| wanted.object == applied.object);
        if !record.applied.iter().any(|applied| leftover(&applied)) {
            return Ok(Next::Resync);
        }
        let routed = wanted.iter().any(|wanted| wanted.stage >= Stage::Subset);
        let serves = |applied: &Applied| stage(&applied.object) < Stage::Subset;
        if routed && record.options.prune && record.applied.iter().filter(leftover).any(serves) {
            if !routes_settled {
                findings.waits.push("what the routes still need is removed after them".to_owned());
                return Ok(Next::After(SOON));
            }
            let moved = *memory.route_moved.get_or_insert_with(Instant::now);
            let left = self.settings.drain.saturating_sub(moved.elapsed());
            if !left.is_zero() {
                findings.waits.push("requests under way end before their pods go".to_owned());
                return Ok(Next::After(left));
            }
        }
        let names: Vec<_> = wanted.iter().map(|wanted| wanted.object.clone()).collect();
        self.prune(key, record, &names, findings).await
    }

    /// Removes, or lets go, what is applied and not among `wanted`.
    pub(super) async fn prune(
        &self,
        key: &ItemKey,
        record: &Record,
        wanted: &[ObjectRef],
        findings: &mut Findings,
    ) -> Result<Next, LedgerError> {
        let (mut kept, leaving): (Vec<Applied>, Vec<Applied>) =
            record.applied.iter().cloned().partition(|applied| wanted.contains(&applied.object));
        if !record.options.prune {
            self.keep_applied(key, record, kept).await?;
            return Ok(Next::Resync);
        }
        let removal = self.remove(key, leaving).await;
        let done = removal.remaining.is_empty();
        for (applied, error) in removal.refused {
            refuse(findings, Some(applied.object), &error);
        }
        findings.waits.extend(removal.waits);
        kept.extend(removal.remaining);
        self.keep_applied(key, record, kept).await?;
        Ok(if done { Next::Resync } else { Next::After(SOON) })
    }

    /// Takes the next step in removing `leaving`: all of the last stage that is still there. Objects that may not be
    /// removed, or are not the item's any more, are let go.
    pub(super) async fn remove(&self, key: &ItemKey, leaving: Vec<Applied>) -> Removal {
        let mut removal = Removal::default();
        let mut leaving: Vec<Applied> = leaving.into_iter().filter(|applied| may_be_pruned(&applied.object)).collect();
        leaving.sort_by_key(|applied| std::cmp::Reverse(stage(&applied.object)));
        let mut current: Option<Stage> = None;
        for applied in leaving {
            if current.is_some_and(|current| stage(&applied.object) != current) {
                removal.remaining.push(applied);
                continue;
            }
            match self.remove_one(key, &applied).await {
                Ok(true) => {}
                Ok(false) => {
                    current = Some(stage(&applied.object));
                    removal.waits.push(format!("{} is being removed", applied.object));
                    removal.remaining.push(applied);
                }
                Err(error) => {
                    current = Some(stage(&applied.object));
                    removal.refused.push((applied.clone(), error));
                    removal.remaining.push(applied);
                }
            }
        }
        removal
    }

    /// Whether the object is gone, or not ours to remove.
    async fn remove_one(&self, key: &ItemKey, applied: &Applied) -> Result<bool, ClusterError> {
        let live = match self.cluster.get(&applied.version, &applied.object).await {
            // A kind that is not served any more has no objects.
            Ok(None) | Err(ClusterError::NoSuchKind { .. }) => return Ok(true),
            Ok(Some(live)) => live,
            Err(error) => return Err(error),
        };
        if !belongs_to(&live, key) {
            tracing::info!(object = %applied.object, item = %key, "left in place: it is not the item's any more");
            return Ok(true);
        }
        if live.pointer("/metadata/deletionTimestamp").is_none() {
            self.cluster.delete(&applied.version, &applied.object, text(&live, "/metadata/uid")).await?;
            // Most objects are gone at once; only those with dependents or finalizers take their time.
            return Ok(self.cluster.get(&applied.version, &applied.object).await?.is_none());
        }
        Ok(false)
    }
}
