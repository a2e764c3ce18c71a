//! One item at a time: what is wanted against what is live, written in order, judged, pruned and observed.
//!
//! A pass has no memory that it could not do without: everything it needs to be right is in the ledger and the cluster.
//! What it remembers between passes (when a route moved, how often it healed) only paces it.

mod adopt;
mod desired;
mod engine;
mod leave;
mod objects;
mod pass;
mod prune;
mod routed;
mod runs;
mod verdict;
mod write;

pub use engine::Engine;
pub use runs::{run_label, run_of_label};

use crate::{
    cluster::Cluster,
    domain::{item::ItemKey, observation::Phase},
    lease::Lease,
    ledger::Ledger,
    policy::Said,
    watch::{Dirty, Watches},
};
use muster_core::{bundle::Digest, version::Version};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How soon to look again at what is on its way.
const SOON: Duration = Duration::from_millis(500);

/// How passes are paced.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Between the last change of a route and the removal of the pods it no longer names, so that requests under way end.
    pub drain: Duration,
    /// Every item is looked at this often even if nothing seems to happen.
    pub resync: Duration,
    /// Items worked on at once. Each waits for the API server most of the time.
    pub workers: usize,
    /// First wait after a refusal; doubled up to [`Settings::retry_limit`].
    pub retry: Duration,
    /// Longest wait after a refusal.
    pub retry_limit: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            drain: Duration::from_secs(5),
            resync: Duration::from_secs(120),
            workers: 8,
            retry: Duration::from_secs(2),
            retry_limit: Duration::from_secs(300),
        }
    }
}

/// Bundles that a pass needs and the ledger lacks, for whoever can fetch them. Bounded by the number of items.
#[derive(Clone, Default)]
pub struct Missing {
    inner: Arc<(Mutex<BTreeSet<Digest>>, Notify)>,
}

impl Missing {
    fn add(&self, digest: Digest) {
        self.inner.0.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
        self.inner.1.notify_one();
    }

    /// Takes what is missing.
    pub fn take(&self) -> BTreeSet<Digest> {
        std::mem::take(&mut *self.inner.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until something is missing.
    pub async fn wanted(&self) {
        self.inner.1.notified().await;
    }
}

/// What a pass remembers of an item to pace the next one.
#[derive(Debug, Clone, Default)]
struct Memory {
    generation: Version,
    phase: Option<Phase>,
    // The whole bundle was tried with a dry run in this generation.
    tried: bool,
    failures: u32,
    heals: VecDeque<Instant>,
    route_moved: Option<Instant>,
    traceparent: String,
}

/// When to look at an item again without being woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// At the next resync.
    Resync,
    /// After this long.
    After(Duration),
}

/// Makes items of the ledger true in the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Reconciler {
    /// The cluster.
    pub cluster: Cluster,
    /// The ledger.
    pub ledger: Ledger,
    /// What is live.
    pub watches: Watches,
    /// What woke up.
    pub dirty: Dirty,
    /// What has to be fetched.
    pub missing: Missing,
    /// The session's lease.
    pub lease: Lease,
    /// What policies say of the cluster's workloads.
    pub said: Said,
    settings: Settings,
    memory: Arc<Mutex<BTreeMap<ItemKey, Memory>>>,
    namespaces: Arc<Mutex<BTreeSet<String>>>,
}

impl Reconciler {
    /// A reconciler over a cluster and a ledger; its watchers end with `stop`.
    pub fn new(cluster: Cluster, ledger: Ledger, lease: Lease, settings: Settings, stop: CancellationToken) -> Self {
        let dirty = Dirty::default();
        let watches = Watches::new(cluster.client().clone(), dirty.clone(), stop);
        Self {
            cluster,
            ledger,
            watches,
            dirty,
            missing: Missing::default(),
            lease,
            settings,
            memory: Arc::default(),
            namespaces: Arc::default(),
            said: Said::default(),
        }
    }

    fn remembered(&self, key: &ItemKey, generation: Version) -> Memory {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        match memory.get(key) {
            Some(known) if known.generation == generation => known.clone(),
            // Heals and moved routes belong to the objects, not to the generation.
            Some(known) => Memory { generation, heals: known.heals.clone(), route_moved: known.route_moved, ..Memory::default() },
            None => Memory { generation, ..Memory::default() },
        }
    }

    fn remember(&self, key: &ItemKey, memory: Memory) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), memory);
    }

    /// Where an item stood after its last pass, with the generation it stood there in.
    pub fn phase(&self, key: &ItemKey) -> Option<(Version, Phase)> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.get(key).and_then(|memory| Some((memory.generation, memory.phase?)))
    }

    /// How many items stand in a phase.
    pub fn count(&self, phase: Phase) -> usize {
        let state = self.ledger.state();
        state.items().filter(|(key, _)| self.phase(key).is_some_and(|(_, at)| at == phase)).count()
    }

    /// Marks every item, as on start, after a hold, or when a definition arrived.
    pub fn mark_all(&self) {
        for (key, _) in self.ledger.state().items() {
            self.dirty.mark(key);
        }
    }
}
