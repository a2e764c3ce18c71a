//! A bundle is a list of manifests, compressed and addressed by SHA-256.
//!
//! The digest is taken over canonical JSON (keys sorted, no white space), so equal lists have equal digests however they
//! were written. One bundle is stored once for ten thousand clusters.

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde::de::IgnoredAny;
use serde_json::Value;
use sha2::Digest as _;
use std::{
    fmt,
    io::{Read, Write},
    str::FromStr,
};

/// A bundle's canonical JSON, at most: 8 MiB. A cluster's API server takes 1.5 MiB an object.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;

/// `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

/// Why a bundle cannot be read or made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BundleError {
    /// More than [`MAX_BYTES`] when unpacked.
    #[error("the bundle is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// Not gzip of a JSON list.
    #[error("the bundle is not a compressed list of manifests")]
    Malformed,
    /// The content has another digest than the name it came under.
    #[error("the bundle's content does not have the digest {0}")]
    WrongDigest(Digest),
    /// Not `sha256:` and 64 hexadecimal digits.
    #[error("{0:?} is not a digest such as sha256:…")]
    BadDigest(String),
}

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(format!("sha256:{}", hex::encode(sha2::Sha256::digest(bytes))))
    }

    /// The digest as text, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 hexadecimal digits alone, as in a file name.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Digest {
    type Err = BundleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("sha256:") {
            Some(hex) if hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(BundleError::BadDigest(text.chars().take(80).collect())),
        }
    }
}

/// Canonical JSON of a value: keys sorted at every depth, no white space.
pub fn canonical(value: &Value) -> Vec<u8> {
    serde_json::to_vec(&sorted(value)).expect("a JSON value always serialises")
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut entries: Vec<_> = fields.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        scalar => scalar.clone(),
    }
}

/// The digest of a list of manifests, without packing it.
pub fn digest(manifests: &[Value]) -> Digest {
    Digest::of(&canonical(&Value::Array(manifests.to_vec())))
}

/// Packs a list of manifests; gives its digest and the compressed bytes.
pub fn encode(manifests: &[Value]) -> Result<(Digest, Vec<u8>), BundleError> {
    let json = canonical(&Value::Array(manifests.to_vec()));
    if json.len() > MAX_BYTES {
        return Err(BundleError::TooLarge);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&json).expect("writing to memory does not fail");
    let packed = encoder.finish().expect("writing to memory does not fail");
    Ok((Digest::of(&json), packed))
}

/// Unpacks a bundle and checks that its content has the digest it came under.
pub fn decode(expected: &Digest, packed: &[u8]) -> Result<Vec<Value>, BundleError> {
    serde_json::from_slice(&unpack(expected, packed)?).map_err(|_| BundleError::Malformed)
}

/// Whether a bundle could be decoded.
pub fn check(expected: &Digest, packed: &[u8]) -> Result<(), BundleError> {
    let manifests: Result<Vec<IgnoredAny>, _> = serde_json::from_slice(&unpack(expected, packed)?);
    manifests.map(drop).map_err(|_| BundleError::Malformed)
}

fn unpack(expected: &Digest, packed: &[u8]) -> Result<Vec<u8>, BundleError> {
    let mut json = Vec::new();
    let mut reader = GzDecoder::new(packed).take(MAX_BYTES as u64 + 1);
    reader.read_to_end(&mut json).map_err(|_| BundleError::Malformed)?;
    if json.len() > MAX_BYTES {
        return Err(BundleError::TooLarge);
    }
    if Digest::of(&json) != *expected {
        return Err(BundleError::WrongDigest(expected.clone()));
    }
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn equal_lists_have_equal_digests_however_written() {
        let one: Value = serde_json::from_str(r#"{"a":1,"b":{"c":2,"d":3}}"#).expect("json");
        let two: Value = serde_json::from_str(r#"{ "b": {"d":3,"c":2}, "a":1 }"#).expect("json");
        assert_eq!(digest(&[one]), digest(&[two]));
    }

    #[test]
    fn a_bundle_reads_back_and_a_changed_one_is_refused() {
        let manifests = vec![json!({"kind": "ConfigMap", "data": {"k": "v"}})];
        let (name, packed) = encode(&manifests).expect("small");
        assert_eq!(decode(&name, &packed), Ok(manifests));
        let other = Digest::of(b"other");
        assert_eq!(decode(&other, &packed), Err(BundleError::WrongDigest(other)));
        assert_eq!(decode(&name, b"junk"), Err(BundleError::Malformed));
        assert_eq!((check(&name, &packed), check(&name, b"junk")), (Ok(()), Err(BundleError::Malformed)));
    }

    #[test]
    fn a_bomb_is_refused_before_it_unpacks() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&vec![b' '; MAX_BYTES + 1]).expect("memory");
        let bomb = encoder.finish().expect("memory");
        assert_eq!(decode(&Digest::of(b""), &bomb), Err(BundleError::TooLarge));
    }
}
