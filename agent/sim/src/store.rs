//! The objects of one cluster with their history. Every write takes the next number of one counter, the resource version;
//! each kind keeps a bounded tail of its changes, from which watches are served.

use crate::json;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};
use tokio::sync::watch;

/// An object's place: qualified kind, namespace, name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `deployments.apps`.
    pub resource: Arc<str>,
    /// "" for what is cluster scoped.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl Key {
    /// The place of an object.
    pub fn new(resource: &str, namespace: &str, name: &str) -> Self {
        Self { resource: Arc::from(resource), namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The place of an object of this kind.
    pub fn of(resource: &str, object: &Value) -> Self {
        Self::new(resource, json::namespace(object), json::name(object))
    }
}

/// One change of one object.
#[derive(Debug, Clone)]
pub struct Change {
    /// The resource version this change made.
    pub revision: u64,
    /// Which object.
    pub key: Key,
    /// Before; absent where it was created.
    pub before: Option<Arc<Value>>,
    /// After; where it was removed, its last state with the revision of the removal.
    pub after: Arc<Value>,
    /// The object is gone.
    pub removed: bool,
}

#[derive(Debug)]
struct Table {
    objects: BTreeMap<(String, String), Arc<Value>>,
    history: VecDeque<Change>,
    /// Changes up to and including this revision are no longer kept.
    compacted: u64,
    changed: watch::Sender<u64>,
}

/// The objects of a cluster.
#[derive(Debug)]
pub struct Store {
    revision: u64,
    tables: HashMap<Arc<str>, Table>,
    dependents: HashMap<String, BTreeSet<Key>>,
    by_uid: HashMap<String, Key>,
    feed: Vec<Change>,
    feed_overflowed: bool,
    history_limit: usize,
    wake: watch::Sender<u64>,
}

/// Changes kept for the controllers between two of their passes; beyond this they look at everything once.
const FEED_LIMIT: usize = 20_000;

impl Store {
    /// An empty store that keeps `history_limit` changes of each kind.
    pub fn new(history_limit: usize) -> Self {
        Self {
            revision: 1,
            tables: HashMap::new(),
            dependents: HashMap::new(),
            by_uid: HashMap::new(),
            feed: Vec::new(),
            feed_overflowed: false,
            history_limit,
            wake: watch::channel(1).0,
        }
    }

    /// The newest resource version.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Wakes whoever waits for any change.
    pub fn wakes(&self) -> watch::Receiver<u64> {
        self.wake.subscribe()
    }

    /// Wakes the controllers without a change.
    pub fn wake(&mut self) {
        self.wake.send_replace(self.revision);
    }

    fn table(&mut self, resource: &str) -> &mut Table {
        let revision = self.revision;
        self.tables.entry(Arc::from(resource)).or_insert_with(|| Table {
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            compacted: 0,
            changed: watch::channel(revision).0,
        })
    }

    /// The object at a place.
    pub fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.tables.get(&key.resource)?.objects.get(&(key.namespace.clone(), key.name.clone()))
    }

    /// The object of a kind by namespace and name.
    pub fn find(&self, resource: &str, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        self.tables.get(resource)?.objects.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// The place of the object with this UID.
    pub fn by_uid(&self, uid: &str) -> Option<&Key> {
        self.by_uid.get(uid)
    }

    /// The objects that name this UID as an owner.
    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &Key> {
        self.dependents.get(uid).into_iter().flatten()
    }

    /// The objects of a kind that name this UID as an owner.
    pub fn owned<'a>(&'a self, uid: &str, resource: &'a str) -> impl Iterator<Item = &'a Arc<Value>> {
        self.dependents(uid).filter(move |key| &*key.resource == resource).filter_map(|key| self.get(key))
    }

    /// The objects of a kind, of one namespace or of all (""), by namespace and name.
    pub fn list<'a>(&'a self, resource: &str, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Value>> {
        let start = (namespace.to_owned(), String::new());
        self.tables
            .get(resource)
            .into_iter()
            .flat_map(move |table| table.objects.range(start.clone()..))
            .take_while(move |((found, _), _)| namespace.is_empty() || found == namespace)
            .map(|(_, object)| object)
    }

    /// The objects of a kind as they were at `revision`; an error carries the compacted revision where that is forgotten.
    pub fn list_at(&self, resource: &str, namespace: &str, revision: u64) -> Result<Vec<Arc<Value>>, u64> {
        let place = |object: &Value| (json::namespace(object).to_owned(), json::name(object).to_owned());
        let later: Vec<&Change> = self.changes_since(resource, revision)?.collect();
        let mut objects: BTreeMap<_, _> =
            self.list(resource, namespace).map(|object| (place(object), Arc::clone(object))).collect();
        for change in later.into_iter().rev().filter(|change| namespace.is_empty() || change.key.namespace == namespace) {
            match &change.before {
                Some(before) => objects.insert(place(before), Arc::clone(before)),
                None => objects.remove(&place(&change.after)),
            };
        }
        Ok(objects.into_values().collect())
    }

    /// The number of objects of a kind in a namespace, or in all ("").
    pub fn count(&self, resource: &str, namespace: &str) -> usize {
        self.list(resource, namespace).count()
    }

    /// Every kind that has or had objects.
    pub fn resources(&self) -> Vec<Arc<str>> {
        let mut names: Vec<Arc<str>> = self.tables.keys().cloned().collect();
        names.sort();
        names
    }

    /// Writes an object and gives it its resource version.
    pub fn put(&mut self, key: &Key, mut object: Value) -> Arc<Value> {
        self.revision += 1;
        json::set(&mut object, &["metadata", "resourceVersion"], Value::String(self.revision.to_string()));
        let object = Arc::new(object);
        let place = (key.namespace.clone(), key.name.clone());
        let before = self.table(&key.resource).objects.insert(place, Arc::clone(&object));
        if let Some(before) = &before {
            self.unlink(key, before);
        }
        self.by_uid.insert(json::uid(&object).to_owned(), key.clone());
        for owner in json::list(&object, "/metadata/ownerReferences") {
            self.dependents.entry(json::text(owner, "/uid").to_owned()).or_default().insert(key.clone());
        }
        self.record(Change { revision: self.revision, key: key.clone(), before, after: Arc::clone(&object), removed: false });
        object
    }

    /// Removes an object; answers its last state.
    pub fn remove(&mut self, key: &Key) -> Option<Arc<Value>> {
        let before = self.table(&key.resource).objects.remove(&(key.namespace.clone(), key.name.clone()))?;
        self.unlink(key, &before);
        self.by_uid.remove(json::uid(&before));
        self.revision += 1;
        let mut last = (*before).clone();
        json::set(&mut last, &["metadata", "resourceVersion"], Value::String(self.revision.to_string()));
        let last = Arc::new(last);
        let change =
            Change { revision: self.revision, key: key.clone(), before: Some(before), after: Arc::clone(&last), removed: true };
        self.record(change);
        Some(last)
    }

    fn unlink(&mut self, key: &Key, object: &Value) {
        for owner in json::list(object, "/metadata/ownerReferences") {
            let uid = json::text(owner, "/uid");
            if let Some(set) = self.dependents.get_mut(uid) {
                set.remove(key);
                if set.is_empty() {
                    self.dependents.remove(uid);
                }
            }
        }
    }

    fn record(&mut self, change: Change) {
        let (revision, limit) = (self.revision, self.history_limit);
        if self.feed.len() < FEED_LIMIT {
            self.feed.push(change.clone());
        } else {
            self.feed.clear();
            self.feed_overflowed = true;
        }
        let table = self.table(&change.key.resource);
        table.history.push_back(change);
        while table.history.len() > limit {
            table.compacted = table.history.pop_front().map_or(table.compacted, |oldest| oldest.revision);
        }
        table.changed.send_replace(revision);
        self.wake.send_replace(revision);
    }

    /// What changed since the last call, for the controllers; `None` where it was too much to remember.
    pub fn take_feed(&mut self) -> Option<Vec<Change>> {
        let feed = std::mem::take(&mut self.feed);
        if std::mem::take(&mut self.feed_overflowed) { None } else { Some(feed) }
    }

    /// Begins the history of a kind that is served from now on: what was before it is expired.
    pub fn begin(&mut self, resource: &str) {
        let revision = self.revision;
        let table = self.table(resource);
        table.compacted = table.compacted.max(revision);
    }

    /// Wakes whoever watches a kind.
    pub fn watch(&mut self, resource: &str) -> watch::Receiver<u64> {
        self.table(resource).changed.subscribe()
    }

    /// The oldest revision from which the changes of a kind are complete.
    pub fn compacted(&self, resource: &str) -> u64 {
        self.tables.get(resource).map_or(0, |table| table.compacted)
    }

    /// The changes of a kind after `revision`; an error carries the compacted revision where some are gone.
    pub fn changes_since(&self, resource: &str, revision: u64) -> Result<impl Iterator<Item = &Change>, u64> {
        let compacted = self.compacted(resource);
        if revision < compacted {
            return Err(compacted);
        }
        Ok(self.tables.get(resource).into_iter().flat_map(move |table| {
            let from = table.history.partition_point(|change| change.revision <= revision);
            table.history.range(from..)
        }))
    }

    /// Forgets all history, as a compaction of etcd does: every older watch gets 410.
    pub fn compact(&mut self) {
        let revision = self.revision;
        for table in self.tables.values_mut() {
            table.history.clear();
            table.compacted = revision;
        }
    }
}
