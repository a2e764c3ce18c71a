//! Files that are replaced whole: written beside, synced, renamed over, and the directory synced.

use super::LedgerError;
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
};

pub(super) fn fault(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> LedgerError {
    let path = path.to_owned();
    move |source| LedgerError::Disk { action, path, source: Arc::new(source) }
}

/// Makes a directory that only its owner may enter.
pub(super) fn make_directory(path: &Path) -> Result<(), LedgerError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fault("make", path))
}

/// Takes the directory for this process; freed by the system however the process ends.
pub(super) fn lock(directory: &Path) -> Result<File, LedgerError> {
    let path = directory.join("lock");
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(fault("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(LedgerError::InUse(directory.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(fault("lock", &path)(error)),
    }
}

/// Replaces a file; 0600. On an error the old file is untouched and nothing is left beside it.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), LedgerError> {
    let beside = path.with_extension("new");
    let written = write_synced(&beside, content);
    if let Err(error) = written {
        // The disk may be full of just this file; that it could not be removed changes nothing for the old one.
        _ = fs::remove_file(&beside);
        return Err(fault("write", path)(error));
    }
    fs::rename(&beside, path).map_err(fault("replace", path))?;
    sync_directory(path)
}

fn write_synced(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn sync_directory(path: &Path) -> Result<(), LedgerError> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(fault("sync", directory))
}

/// Reads a file; `None` where there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, LedgerError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fault("read", path)(error)),
    }
}

/// Removes a file; that it is not there is fine.
pub(super) fn remove(path: &Path) -> Result<(), LedgerError> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(fault("remove", path)(error)),
    }
}

/// Reads a JSON file of the ledger; `None` where there is none.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, LedgerError> {
    let Some(content) = read(path)? else { return Ok(None) };
    serde_json::from_slice(&content)
        .map(Some)
        .map_err(|error| LedgerError::Damaged { path: path.to_owned(), message: error.to_string() })
}

/// Replaces a JSON file of the ledger.
pub(super) fn replace_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<(), LedgerError> {
    replace(path, &serde_json::to_vec(value).expect("the ledger's types have string keys and serialise"))
}
