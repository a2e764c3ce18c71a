//! Seeded chance: the same seed gives the same names and UIDs in the same order, so that a failing run can be had again.

use serde_json::{Map, Value};

/// A SplitMix64 generator (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

/// The letters Kubernetes draws name suffixes from: no vowels and no 0, 1, 3, so that no word appears by accident.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

impl Random {
    /// A generator for one cluster: its name and its seed decide everything.
    pub fn new(name: &str, seed: u64) -> Self {
        Self { state: fnv64(name.as_bytes()) ^ seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Five letters, as `generateName` appends them.
    pub fn suffix(&mut self) -> String {
        let mut bits = self.bits();
        (0..5)
            .map(|_| {
                let letter = SUFFIX_LETTERS[(bits % SUFFIX_LETTERS.len() as u64) as usize];
                bits /= SUFFIX_LETTERS.len() as u64;
                char::from(letter)
            })
            .collect()
    }

    /// A UID in the form of a version 4 UUID.
    pub fn uid(&mut self) -> String {
        let (high, low) = (self.bits(), self.bits());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            0x8000 | ((low >> 48) & 0x3fff),
            low & 0xffff_ffff_ffff
        )
    }
}

/// FNV-1a over bytes.
pub fn fnv64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A short name for content, in the letters of a name suffix: the `pod-template-hash` of a template. The order of keys
/// does not count.
pub fn content_suffix(content: &Value) -> String {
    let mut hash = fnv64(sorted(content).to_string().as_bytes());
    (0..9)
        .map(|_| {
            let letter = SUFFIX_LETTERS[(hash % SUFFIX_LETTERS.len() as u64) as usize];
            hash /= SUFFIX_LETTERS.len() as u64;
            char::from(letter)
        })
        .collect()
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut pairs: Vec<(&String, &Value)> = fields.iter().collect();
            pairs.sort_by_key(|(name, _)| *name);
            Value::Object(pairs.into_iter().map(|(name, child)| (name.clone(), sorted(child))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}
