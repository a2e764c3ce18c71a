//! The loop that gives items to the reconciler: each at most once at a time, several at once, again when something
//! happened to it, when it asked for it, and every now and then.

use super::{Next, Reconciler};
use crate::domain::item::ItemKey;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Drives a [`Reconciler`].
pub struct Engine {
    reconciler: Reconciler,
    ready: BTreeSet<ItemKey>,
    working: BTreeSet<ItemKey>,
    due: BTreeMap<ItemKey, Instant>,
}

impl Engine {
    /// An engine with nothing to do yet but to look at every item once.
    pub fn new(reconciler: Reconciler) -> Self {
        reconciler.mark_all();
        Self { reconciler, ready: BTreeSet::new(), working: BTreeSet::new(), due: BTreeMap::new() }
    }

    /// Works until `stop`; passes under way are finished.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut passes: JoinSet<(ItemKey, Next)> = JoinSet::new();
        loop {
            self.ready.extend(self.reconciler.dirty.take());
            let now = Instant::now();
            let due: Vec<ItemKey> = self.due.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()).collect();
            for key in due {
                self.due.remove(&key);
                self.ready.insert(key);
            }
            while self.working.len() < self.reconciler.settings.workers
                && let Some(key) = self.ready.iter().find(|key| !self.working.contains(key)).cloned()
            {
                self.ready.remove(&key);
                self.due.remove(&key);
                self.working.insert(key.clone());
                let reconciler = self.reconciler.clone();
                passes.spawn(async move {
                    let next = reconciler.reconcile(&key).await;
                    (key, next)
                });
            }
            let next_due = self.due.values().min().map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(now));
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.reconciler.dirty.marked() => {}
                Some(done) = passes.join_next() => match done {
                    Ok((key, next)) => {
                        self.working.remove(&key);
                        let after = match next {
                            Next::After(after) => after,
                            Next::Resync => self.reconciler.settings.resync,
                        };
                        self.due.insert(key, Instant::now() + after);
                    }
                    // A pass that panicked is a fault of the agent: better to start anew than to leave an item alone.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                () = tokio::time::sleep(next_due) => {}
            }
        }
        while passes.join_next().await.is_some() {}
    }
}
