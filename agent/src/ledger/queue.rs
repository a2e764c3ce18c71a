//! Observations that the hub has not stored yet, oldest first, bounded.
//!
//! Of one item, generation and phase only the newest is kept. Beyond the bound the oldest that is not the last word on
//! its item goes first; the last words go only when there are more items than the bound.

use crate::domain::{
    item::ItemKey,
    observation::{Observation, Phase},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Observations kept while the hub is away. At about 500 bytes each, 5 MB of disk.
pub const MAX_QUEUED: usize = 10_000;

/// An observation and the number it is acknowledged by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// Counts up over the life of the ledger.
    pub sequence: u64,
    /// What was seen.
    pub observation: Observation,
}

/// The queue as it is on disk, and the last word on each item as it is in memory.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Queue {
    next: u64,
    entries: VecDeque<Queued>,
    // Seen again after a restart, because every item is then looked at again.
    #[serde(skip)]
    latest: BTreeMap<ItemKey, Observation>,
}

impl Queue {
    /// Whether the last word on the item says the same.
    pub fn repeats(&self, observation: &Observation) -> bool {
        self.latest.get(&observation.key).is_some_and(|latest| latest.says_the_same(observation))
    }

    /// Adds an observation.
    pub fn push(&mut self, observation: Observation) {
        if self.repeats(&observation) {
            return;
        }
        self.latest.insert(observation.key.clone(), observation.clone());
        self.append(observation);
    }

    fn append(&mut self, observation: Observation) {
        let newest = self.entries.iter().rposition(|entry| entry.observation.key == observation.key);
        if let Some(index) = newest {
            let before = &self.entries[index].observation;
            // A drift is an event of its own: its healing must not hide it.
            if before.generation == observation.generation && before.phase == observation.phase && before.phase != Phase::Drifted
            {
                self.entries.remove(index);
            }
        }
        self.next += 1;
        self.entries.push_back(Queued { sequence: self.next, observation });
        if self.entries.len() > MAX_QUEUED {
            let superseded = (0..self.entries.len()).find(|index| !self.is_last_word(*index)).unwrap_or(0);
            self.entries.remove(superseded);
            tracing::warn!(queued = MAX_QUEUED, "the hub has been away for long; an old observation was dropped");
        }
    }

    fn is_last_word(&self, index: usize) -> bool {
        let entry = &self.entries[index].observation;
        self.latest.get(&entry.key).is_none_or(|latest| latest == entry)
    }

    /// Up to `limit` entries after the number `after`, oldest first.
    pub fn pending(&self, after: u64, limit: usize) -> Vec<Queued> {
        self.entries.iter().filter(|entry| entry.sequence > after).take(limit).cloned().collect()
    }

    /// Removes what the hub has stored.
    pub fn acknowledge(&mut self, sequences: &[u64]) {
        self.entries.retain(|entry| !sequences.contains(&entry.sequence));
    }

    /// Queues the last word on every item again.
    pub fn repeat_all(&mut self) {
        let all: Vec<_> = self.latest.values().cloned().collect();
        for observation in all {
            if !self.entries.iter().any(|entry| entry.observation == observation) {
                self.append(observation);
            }
        }
    }

    /// The number of the newest entry ever queued.
    pub fn newest(&self) -> u64 {
        self.next
    }
}
