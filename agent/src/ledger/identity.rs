//! Who the agent is: its key, its certificate and whom it trusts, in one file so that they never disagree.

use super::{LedgerError, disk};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{fmt, path::Path};

/// The agent's identity. Its key never leaves the machine.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `clusters/{cluster}`: the name the hub knows the cluster by.
    pub cluster: String,
    /// UID of the `kube-system` namespace at enrolment.
    pub cluster_uid: String,
    /// Private key, PKCS#8 PEM.
    pub key_pem: String,
    /// Certificate for `spiffe://muster/cluster/{cluster}`, PEM.
    pub certificate_pem: String,
    /// The authority to trust, PEM.
    pub ca_pem: String,
    /// When the certificate was taken; two thirds of its life are counted from here.
    pub issued_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, cluster_uid, expires_at, .. } = self;
        write!(f, "Identity({cluster}, {cluster_uid}, until {expires_at})")
    }
}

const FILE: &str = "identity.json";
const ENROLMENT_KEY: &str = "enrolment-key.pem";

pub(super) fn read(directory: &Path) -> Result<Option<Identity>, LedgerError> {
    disk::read_json(&directory.join(FILE))
}

pub(super) fn write(directory: &Path, identity: &Identity) -> Result<(), LedgerError> {
    disk::replace_json(&directory.join(FILE), identity)?;
    disk::remove(&directory.join(ENROLMENT_KEY))
}

pub(super) fn forget(directory: &Path) -> Result<(), LedgerError> {
    disk::remove(&directory.join(FILE))
}

pub(super) fn enrolment_key(directory: &Path, make: impl FnOnce() -> String) -> Result<String, LedgerError> {
    let path = directory.join(ENROLMENT_KEY);
    if let Some(key) = disk::read(&path)? {
        return String::from_utf8(key).map_err(|_| LedgerError::Damaged { path, message: "not text".to_owned() });
    }
    let key = make();
    disk::replace(&path, key.as_bytes())?;
    Ok(key)
}
