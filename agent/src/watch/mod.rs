//! What is live of what the agent applied, and which items a change concerns.
//!
//! One watcher per kind over the whole cluster, by the label of ownership: bounded by the kinds in use, not by objects or
//! namespaces. The store is a help and never the truth: what looks missing or changed is read again before the agent acts.

mod store;

pub use store::Store;

use crate::{
    cluster::KindInfo,
    domain::{
        item::{ItemKey, OWNERS},
        manifest::annotation,
        object::ObjectRef,
    },
};
use futures::StreamExt;
use kube::{
    Api, Client,
    core::DynamicObject,
    runtime::{WatchStreamExt, watcher},
};
use muster_core::labels::{ITEM, OWNER};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Items that something happened to, until somebody takes them. Bounded by the number of items.
#[derive(Clone, Default)]
pub struct Dirty {
    inner: Arc<(Mutex<BTreeSet<ItemKey>>, Notify)>,
}

impl Dirty {
    /// Says that an item has to be looked at.
    pub fn mark(&self, key: ItemKey) {
        let (keys, woken) = &*self.inner;
        keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        woken.notify_one();
    }

    /// Takes what is marked.
    pub fn take(&self) -> BTreeSet<ItemKey> {
        std::mem::take(&mut *self.inner.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until something is marked.
    pub async fn marked(&self) {
        self.inner.1.notified().await;
    }
}

/// The watchers of one agent. Cheap to clone.
#[derive(Clone)]
pub struct Watches {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    dirty: Dirty,
    stop: CancellationToken,
    stores: Mutex<BTreeMap<(String, String), Arc<Store>>>,
    // Items with routes, by the namespaces the routes point to: a pod that becomes ready there moves their weights.
    routed: Mutex<BTreeMap<String, BTreeSet<ItemKey>>>,
    changes: tokio::sync::watch::Sender<u64>,
}

impl Watches {
    /// No watchers yet; they begin with the first object of a kind and end with `stop`.
    pub fn new(client: Client, dirty: Dirty, stop: CancellationToken) -> Self {
        let (changes, _) = tokio::sync::watch::channel(0);
        let inner = Inner { client, dirty, stop, stores: Mutex::default(), routed: Mutex::default(), changes };
        Self { inner: Arc::new(inner) }
    }

    /// The store of a kind; its watcher begins on first use.
    pub fn store(&self, info: &KindInfo) -> Arc<Store> {
        let key = (info.resource.group.clone(), info.resource.kind.clone());
        let mut stores = self.inner.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = stores.get(&key) {
            return store.clone();
        }
        let store = Arc::new(Store::default());
        stores.insert(key, store.clone());
        tokio::spawn(follow(self.clone(), info.clone(), store.clone()));
        store
    }

    /// Every store, for those who go over all live objects.
    pub fn stores(&self) -> Vec<Arc<Store>> {
        self.inner.stores.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Says which namespaces an item's routes point to; none takes it out.
    pub fn set_routed(&self, key: &ItemKey, namespaces: &BTreeSet<String>) {
        let mut routed = self.inner.routed.lock().unwrap_or_else(PoisonError::into_inner);
        for keys in routed.values_mut() {
            keys.remove(key);
        }
        for namespace in namespaces {
            routed.entry(namespace.clone()).or_default().insert(key.clone());
        }
        routed.retain(|_, keys| !keys.is_empty());
    }

    /// Counts up with every change of an object of ours.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    fn changed(&self, object: &ObjectRef, live: &Value) {
        self.inner.changes.send_modify(|count| *count += 1);
        if let Some(key) = item_of(live) {
            self.inner.dirty.mark(key);
        }
        let routed = self.inner.routed.lock().unwrap_or_else(PoisonError::into_inner);
        for key in routed.get(&object.namespace).into_iter().flatten() {
            self.inner.dirty.mark(key.clone());
        }
    }
}

/// The item an object says it belongs to.
pub fn item_of(live: &Value) -> Option<ItemKey> {
    let (owner, name) = annotation(live, ITEM).split_once('/')?;
    OWNERS.contains(&owner).then(|| ItemKey::new(owner, name))
}

async fn follow(watches: Watches, info: KindInfo, store: Arc<Store>) {
    let api: Api<DynamicObject> = Api::all_with(watches.inner.client.clone(), &info.resource);
    let stream = watcher(api, watcher::Config::default().labels(OWNER)).default_backoff();
    let stop = watches.inner.stop.clone();
    futures::pin_mut!(stream);
    let mut listed = BTreeMap::new();
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = stream.next() => event,
        };
        match event {
            None => return,
            Some(Err(error)) => {
                tracing::debug!(kind = %info.resource.kind, error = %error, "a watch was interrupted");
            }
            Some(Ok(watcher::Event::Init)) => listed.clear(),
            Some(Ok(watcher::Event::InitApply(object))) => {
                let (object, live) = plain(object, &info);
                listed.insert(object, Arc::new(live));
            }
            Some(Ok(watcher::Event::InitDone)) => {
                for (object, live) in store.replace(std::mem::take(&mut listed)) {
                    watches.changed(&object, &live);
                }
            }
            Some(Ok(watcher::Event::Apply(object))) => {
                let (object, live) = plain(object, &info);
                if store.put(object.clone(), Arc::new(live.clone())) {
                    watches.changed(&object, &live);
                } else {
                    // The agent's own write, known already: no reason for a pass, but one for the evaluator.
                    watches.inner.changes.send_modify(|count| *count += 1);
                }
            }
            Some(Ok(watcher::Event::Delete(object))) => {
                let (object, live) = plain(object, &info);
                // The label may be what was taken away; what was known before still names the item.
                let before = store.remove(&object);
                watches.changed(&object, &live);
                if let Some(before) = before {
                    watches.changed(&object, &before);
                }
            }
        }
    }
}

fn plain(object: DynamicObject, info: &KindInfo) -> (ObjectRef, Value) {
    let mut live = serde_json::to_value(object).expect("an object from the API server serialises");
    // Objects of a list do not say of what kind they are.
    live["apiVersion"] = info.resource.api_version.clone().into();
    live["kind"] = info.resource.kind.clone().into();
    (ObjectRef::of(&live), live)
}
