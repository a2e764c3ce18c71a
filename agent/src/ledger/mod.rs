//! What the agent keeps on disk: what it was told last, what it put into the cluster, what was last good, what the hub
//! has not acknowledged yet, and who it is.
//!
//! One directory: `state.json`, `observations.json` and `identity.json` (0600), each replaced whole and synced, and
//! `bundles/<sha256>`. Whatever instant the machine dies at, the old file or the new one is there. A write that fails
//! (a full disk) changes nothing: the caller gets the error and the old state stays, in memory and on disk.

mod bundles;
mod disk;
mod identity;
mod queue;
mod state;
mod writer;

pub use identity::Identity;
pub use queue::{Queue, Queued};
pub use state::{Leaving, State, Taken};

use crate::domain::observation::Observation;
use bundles::Bundles;
use muster_core::bundle::{BundleError, Digest};
use serde_json::Value;
use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use writer::Writer;

/// A bundle that no item names is kept this long: the item may be on its way.
const BUNDLE_GRACE: Duration = Duration::from_secs(600);

/// Why the ledger cannot do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// Another process holds the directory.
    #[error("{0} is in use by another agent")]
    InUse(PathBuf),
    /// The disk refused; what was there before still is.
    #[error("cannot {action} {path}: {source}")]
    Disk {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's words.
        source: Arc<std::io::Error>,
    },
    /// A file of the ledger is not what the agent wrote.
    #[error("{path} is damaged: {message}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A bundle that is not on disk, or not whole; it has to be fetched again.
    #[error("bundle {0} is not in the ledger")]
    NoBundle(Digest),
    /// What arrived is not the bundle it was said to be.
    #[error("{0}")]
    Bundle(Arc<BundleError>),
    /// The process is ending.
    #[error("the ledger is closed")]
    Closed,
}

impl From<BundleError> for LedgerError {
    fn from(error: BundleError) -> Self {
        Self::Bundle(Arc::new(error))
    }
}

/// The agent's durable memory. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    directory: PathBuf,
    writer: Writer,
    bundles: Bundles,
    // Held for as long as the ledger is open.
    _lock: File,
}

impl Ledger {
    /// Opens a directory, making it where it is missing, and reads what is there.
    pub fn open(directory: &Path) -> Result<Self, LedgerError> {
        disk::make_directory(directory)?;
        let lock = disk::lock(directory)?;
        let bundles = Bundles::open(&directory.join("bundles"))?;
        let writer = Writer::open(directory)?;
        Ok(Self { inner: Arc::new(Inner { directory: directory.to_owned(), writer, bundles, _lock: lock }) })
    }

    /// The state as it is on disk.
    pub fn state(&self) -> Arc<State> {
        self.inner.writer.state()
    }

    /// Changes the state; answers once the change is on disk. Changes that arrive together share one write.
    pub async fn update<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut State) -> R + Send + 'static,
    ) -> Result<R, LedgerError> {
        self.inner.writer.update(change).await
    }

    /// Queues an observation unless the last one of its item says the same; answers once it is on disk.
    pub async fn observe(&self, observation: Observation) -> Result<(), LedgerError> {
        if self.inner.writer.queue().repeats(&observation) {
            return Ok(());
        }
        self.inner.writer.change_queue(move |queue| queue.push(observation)).await
    }

    /// Up to `limit` observations that are not acknowledged and come after `after`, oldest first.
    pub fn unacknowledged(&self, after: u64, limit: usize) -> Vec<Queued> {
        self.inner.writer.queue().pending(after, limit)
    }

    /// Forgets observations that the hub has stored.
    pub async fn acknowledge(&self, sequences: Vec<u64>) -> Result<(), LedgerError> {
        self.inner.writer.change_queue(move |queue| queue.acknowledge(&sequences)).await
    }

    /// Queues the latest observation of every item again: the hub remembers less than was acknowledged.
    pub async fn observe_all_again(&self) -> Result<(), LedgerError> {
        self.inner.writer.change_queue(Queue::repeat_all).await
    }

    /// Woken whenever an observation was queued.
    pub fn observed(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.writer.observed()
    }

    /// Stores a bundle after checking that it has the digest it came under.
    pub async fn put_bundle(&self, digest: Digest, packed: Vec<u8>) -> Result<(), LedgerError> {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || inner.bundles.put(&digest, &packed)).await.map_err(|_| LedgerError::Closed)?
    }

    /// The manifests of a bundle; a damaged file is removed and counts as missing.
    pub async fn bundle(&self, digest: Digest) -> Result<Arc<Vec<Value>>, LedgerError> {
        if let Some(manifests) = self.inner.bundles.cached(&digest) {
            return Ok(manifests);
        }
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || inner.bundles.get(&digest)).await.map_err(|_| LedgerError::Closed)?
    }

    /// Whether a bundle's file is there.
    pub fn has_bundle(&self, digest: &Digest) -> bool {
        self.inner.bundles.has(digest)
    }

    /// Removes bundles that nothing has named for a while.
    pub async fn remove_unused_bundles(&self) -> Result<usize, LedgerError> {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || {
            let used = inner.writer.state().bundles();
            inner.bundles.remove_unused(&used, BUNDLE_GRACE)
        })
        .await
        .map_err(|_| LedgerError::Closed)?
    }

    /// Who the agent is; `None` before it is enrolled.
    pub fn identity(&self) -> Result<Option<Identity>, LedgerError> {
        identity::read(&self.inner.directory)
    }

    /// Replaces who the agent is.
    pub fn set_identity(&self, identity: &Identity) -> Result<(), LedgerError> {
        identity::write(&self.inner.directory, identity)
    }

    /// The key of an enrolment under way, made on first use: after a crash between the hub's answer and the disk the
    /// same key asks again.
    pub fn enrolment_key(&self, make: impl FnOnce() -> String) -> Result<String, LedgerError> {
        identity::enrolment_key(&self.inner.directory, make)
    }

    /// Forgets who the agent is, after it has left.
    pub fn forget_identity(&self) -> Result<(), LedgerError> {
        identity::forget(&self.inner.directory)
    }
}

#[cfg(test)]
mod tests;
