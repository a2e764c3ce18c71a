//! Secrets of tokens: made from the system's randomness, shown once, hashed at rest.
//!
//! 256 bits of randomness need no salt and no slow hash: there is nothing to guess.

use sha2::{Digest, Sha256};
use std::fmt;

/// A token's secret, as its bearer holds it.
pub struct Secret(String);

impl Secret {
    /// A new secret; `kind` is a prefix by which people and scanners recognise it, as in `mst`.
    pub fn new(kind: &str) -> Self {
        let bytes: [u8; 32] = rand::random();
        Self(format!("{kind}_{}", hex::encode(bytes)))
    }

    /// For its bearer, once.
    pub fn reveal(self) -> String {
        self.0
    }

    /// What is stored.
    pub fn hash(&self) -> Vec<u8> {
        hash(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What is stored of a secret.
pub fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret).to_vec()
}
