//! What the agent was told and did, as one value: every change of it is one file replaced.

use crate::domain::{
    generation::{Arrival, arrival},
    item::{Applied, Desired, ItemKey, Options, Record},
};
use crate::lease::Deadline;
use muster_core::version::Version;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The format of the file; a newer agent reads older ones.
const FORMAT: u32 = 1;
/// Tombstones kept of an owner after their objects are gone. The hub does not send a tombstone of something the agent
/// does not hold, so the oldest may be forgotten; the newest refuse what comes late.
const KEPT_TOMBSTONES: usize = 1_000;

/// Everything durable that is not a bundle, an observation or the identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    format: u32,
    /// The highest incarnation of the hub that was seen.
    pub hub_incarnation: u64,
    /// The cluster is on hold from its own side: nothing is written to it.
    pub on_hold: bool,
    /// Set once the hub or somebody at the cluster asked to leave.
    pub leaving: Option<Leaving>,
    /// Until when the session lasts; kept only while a movable run is here.
    pub lease: Option<Deadline>,
    items: BTreeMap<String, BTreeMap<String, Record>>,
}

/// How the cluster leaves the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// What was applied is removed first; else it stays and runs on.
    pub remove_workloads: bool,
}

/// What became of an item that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Which item.
    pub key: ItemKey,
    /// Whether it was taken.
    pub arrival: Arrival,
    /// The generation that arrived.
    pub generation: Version,
}

impl Default for State {
    fn default() -> Self {
        Self { format: FORMAT, hub_incarnation: 0, on_hold: false, leaving: None, lease: None, items: BTreeMap::new() }
    }
}

impl State {
    /// Why a file of this state cannot be used, if so.
    pub(super) fn fault(&self) -> Option<String> {
        (self.format > FORMAT).then(|| format!("it was written by a newer agent (format {})", self.format))
    }

    /// The record of an item.
    pub fn item(&self, key: &ItemKey) -> Option<&Record> {
        self.items.get(&key.owner)?.get(&key.name)
    }

    /// The record of an item, to change it.
    pub fn item_mut(&mut self, key: &ItemKey) -> Option<&mut Record> {
        self.items.get_mut(&key.owner)?.get_mut(&key.name)
    }

    /// Every item with its record, by owner and name.
    pub fn items(&self) -> impl Iterator<Item = (ItemKey, &Record)> {
        self.items.iter().flat_map(|(owner, items)| items.iter().map(move |(name, record)| (ItemKey::new(owner, name), record)))
    }

    /// The items of one owner.
    pub fn items_of(&self, owner: &str) -> impl Iterator<Item = (&str, &Record)> {
        self.items.get(owner).into_iter().flatten().map(|(name, record)| (name.as_str(), record))
    }

    /// The owners that hold something here.
    pub fn owners(&self) -> impl Iterator<Item = &str> {
        self.items.keys().map(String::as_str)
    }

    /// Takes what the hub says of items; older generations are refused, conflicts keep what is held.
    pub fn take(&mut self, desired: Vec<Desired>) -> Vec<Taken> {
        let taken = desired.into_iter().map(|desired| self.take_one(desired)).collect();
        self.items.values_mut().for_each(forget_old_tombstones);
        taken
    }

    fn take_one(&mut self, desired: Desired) -> Taken {
        let Desired { key, generation, bundle, options } = desired;
        let bundle = bundle.map(|digest| digest.to_string());
        let items = self.items.entry(key.owner.clone()).or_default();
        let held = items.get_mut(&key.name);
        let arrival = arrival(held.as_ref().map(|record| (record.generation, &record.bundle)), generation, &bundle);
        if arrival == Arrival::Newer {
            self.hub_incarnation = self.hub_incarnation.max(generation.incarnation);
            let before = held.as_deref().cloned();
            let (applied, last_good, ended) = match before {
                Some(before) => (before.applied, before.last_good, before.ended),
                None => (Vec::new(), None, None),
            };
            // A run that has ended stays ended when only its options change.
            let run = options.run.as_ref().map(|run| run.name.clone());
            let ended = ended.filter(|ended| Some(&ended.run) == run.as_ref());
            let record =
                Record { generation, bundle, options, applied, last_good, heal_count: 0, stopped: false, deleted: false, ended };
            items.insert(key.name.clone(), record);
        }
        Taken { key, arrival, generation }
    }

    /// Replaces what is known to be in the cluster for an item, if the item is still the one meant.
    pub fn set_applied(&mut self, key: &ItemKey, generation: Version, applied: Vec<Applied>) {
        if let Some(record) = self.item_mut(key).filter(|record| record.generation == generation) {
            record.applied = applied;
        }
    }

    /// Turns every item into a tombstone of its own generation, so that leaving removes it.
    pub fn remove_everything(&mut self) {
        for record in self.items.values_mut().flat_map(BTreeMap::values_mut) {
            record.bundle = None;
            record.options = Options::default();
        }
    }

    /// Forgets every item; what is in the cluster stays there.
    pub fn forget_everything(&mut self) {
        self.items.clear();
    }

    /// Digests of the bundles that items name, wanted or last good.
    pub fn bundles(&self) -> BTreeSet<String> {
        let records = self.items.values().flat_map(BTreeMap::values);
        records.flat_map(|record| [&record.bundle, &record.last_good]).flatten().cloned().collect()
    }
}

fn forget_old_tombstones(items: &mut BTreeMap<String, Record>) {
    let mut gone: Vec<(Version, String)> =
        items.iter().filter(|(_, record)| record.deleted).map(|(name, record)| (record.generation, name.clone())).collect();
    if gone.len() > KEPT_TOMBSTONES {
        gone.sort();
        for (_, name) in gone.iter().take(gone.len() - KEPT_TOMBSTONES) {
            items.remove(name);
        }
    }
}
