//! Bundles on disk, one file a digest, checked when they are read. A small cache spares unpacking them again.

use super::{LedgerError, disk};
use muster_core::bundle::{self, Digest};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Unpacked bundles kept in memory: most clusters hold fewer items, and a bundle is a few KiB.
const CACHED: usize = 256;

pub(super) struct Bundles {
    directory: PathBuf,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    clock: u64,
    entries: BTreeMap<Digest, (u64, Arc<Vec<Value>>)>,
}

impl Bundles {
    pub fn open(directory: &Path) -> Result<Self, LedgerError> {
        disk::make_directory(directory)?;
        Ok(Self { directory: directory.to_owned(), cache: Mutex::default() })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.hex())
    }

    pub fn put(&self, digest: &Digest, packed: &[u8]) -> Result<(), LedgerError> {
        let manifests = bundle::decode(digest, packed)?;
        disk::replace(&self.path(digest), packed)?;
        self.remember(digest, Arc::new(manifests));
        Ok(())
    }

    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    pub fn get(&self, digest: &Digest) -> Result<Arc<Vec<Value>>, LedgerError> {
        let path = self.path(digest);
        let packed = disk::read(&path)?.ok_or_else(|| LedgerError::NoBundle(digest.clone()))?;
        match bundle::decode(digest, &packed) {
            Ok(manifests) => {
                let manifests = Arc::new(manifests);
                self.remember(digest, manifests.clone());
                Ok(manifests)
            }
            Err(error) => {
                tracing::warn!(digest = %digest, error = %error, "a bundle on disk is damaged; it will be fetched again");
                disk::remove(&path)?;
                Err(LedgerError::NoBundle(digest.clone()))
            }
        }
    }

    pub fn cached(&self, digest: &Digest) -> Option<Arc<Vec<Value>>> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.clock += 1;
        let now = cache.clock;
        let (used, manifests) = cache.entries.get_mut(digest)?;
        *used = now;
        Some(manifests.clone())
    }

    fn remember(&self, digest: &Digest, manifests: Arc<Vec<Value>>) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.clock += 1;
        let now = cache.clock;
        cache.entries.insert(digest.clone(), (now, manifests));
        if cache.entries.len() > CACHED {
            let oldest = cache.entries.iter().min_by_key(|(_, (used, _))| *used).map(|(digest, _)| digest.clone());
            if let Some(oldest) = oldest {
                cache.entries.remove(&oldest);
            }
        }
    }

    /// Removes files that nothing uses and that are older than `grace`; gives how many.
    pub fn remove_unused(&self, used: &BTreeSet<String>, grace: Duration) -> Result<usize, LedgerError> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.directory).map_err(disk::fault("list", &self.directory))? {
            let entry = entry.map_err(disk::fault("list", &self.directory))?;
            let named = format!("sha256:{}", entry.file_name().to_string_lossy());
            let age = entry.metadata().and_then(|data| data.modified()).ok().and_then(|at| at.elapsed().ok());
            if !used.contains(&named) && age.is_some_and(|age| age > grace) {
                disk::remove(&entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}
