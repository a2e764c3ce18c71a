//! The objects of one kind as the watch last showed them; what the agent wrote itself goes in at once.

use crate::domain::object::{ObjectRef, resource_version};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// What is known of one kind.
#[derive(Default)]
pub struct Store {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    synced: bool,
    objects: BTreeMap<ObjectRef, Arc<Value>>,
}

impl Store {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object as last seen; `None` also where the watch has not listed yet.
    pub fn get(&self, object: &ObjectRef) -> Option<Arc<Value>> {
        self.lock().objects.get(object).cloned()
    }

    /// Whether the watch has listed what there is.
    pub fn is_synced(&self) -> bool {
        self.lock().synced
    }

    /// Everything as last seen.
    pub fn all(&self) -> Vec<Arc<Value>> {
        self.lock().objects.values().cloned().collect()
    }

    /// Takes an object unless something newer is known; says whether it was taken.
    pub fn put(&self, object: ObjectRef, live: Arc<Value>) -> bool {
        let mut inner = self.lock();
        let stale = inner.objects.get(&object).is_some_and(|known| !is_newer(&live, known));
        if !stale {
            inner.objects.insert(object, live);
        }
        !stale
    }

    /// Forgets an object; gives what was known.
    pub fn remove(&self, object: &ObjectRef) -> Option<Arc<Value>> {
        self.lock().objects.remove(object)
    }

    /// Replaces everything with a list; gives what changed, with what was known of what went.
    pub fn replace(&self, mut listed: BTreeMap<ObjectRef, Arc<Value>>) -> Vec<(ObjectRef, Arc<Value>)> {
        let mut inner = self.lock();
        let mut changed = Vec::new();
        for (object, known) in &inner.objects {
            if !listed.contains_key(object) {
                changed.push((object.clone(), known.clone()));
            }
        }
        for (object, live) in &mut listed {
            // The list may have been taken before the agent's own last write.
            if let Some(known) = inner.objects.get(object).filter(|known| is_newer(known, live)) {
                *live = known.clone();
            }
            if inner.objects.get(object).is_none_or(|known| is_newer(live, known)) {
                changed.push((object.clone(), live.clone()));
            }
        }
        inner.synced = true;
        inner.objects = listed;
        changed
    }
}

fn is_newer(live: &Value, known: &Value) -> bool {
    match (resource_version(live), resource_version(known)) {
        (Some(live), Some(known)) => live > known,
        // An API server whose versions are no numbers: believe the later message.
        _ => true,
    }
}
