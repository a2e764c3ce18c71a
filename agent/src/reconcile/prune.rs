//! Removing what is no longer wanted: by the ledger, in the reverse order, and never what somebody else holds.

use super::Reconciler;
use crate::{
    cluster::ClusterError,
    domain::{
        item::{Applied, ItemKey},
        manifest::belongs_to,
        object::text,
        order::{Stage, may_be_pruned, stage},
    },
};

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
