//! What the evaluator says now, for whoever tells it.

use crate::domain::{item::ItemKey, verdicts::VerdictSet};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;

/// What the evaluator says of each policy item now. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Said {
    sets: Arc<Mutex<BTreeMap<ItemKey, Arc<VerdictSet>>>>,
    changed: Arc<watch::Sender<()>>,
}

impl Said {
    /// Keeps what is said of an item; who waits is woken where that is news.
    pub fn put(&self, item: ItemKey, set: VerdictSet) {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if sets.get(&item).is_none_or(|known| !known.says_the_same(&set)) {
            sets.insert(item, Arc::new(set));
            self.changed.send_replace(());
        }
    }

    /// Forgets what is said of other items than these.
    pub fn keep_only(&self, keep: impl Fn(&ItemKey) -> bool) {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner).retain(|item, _| keep(item));
    }

    /// What is said of all items.
    pub fn all(&self) -> BTreeMap<ItemKey, Arc<VerdictSet>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Woken whenever something else is said.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
