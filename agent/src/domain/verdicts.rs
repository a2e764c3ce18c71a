//! What the evaluation of live workloads says of a policy item, as a set of rows: what the hub holds is compared by keys, and only
//! rows that differ are told.

use super::observation::{RuleCount, Verdicts, Violation};
use jiff::Timestamp;
use muster_core::version::Version;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Equal for equal rows and, but for a collision of SHA-256, for no others.
pub type RowKey = [u8; 16];

/// One thing the evaluation says. A row that reads otherwise is another row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// A count.
    Count(RuleCount),
    /// A violation.
    Violation(Violation),
}

impl Row {
    fn key(&self) -> RowKey {
        let mut hash = Sha256::new();
        // Each part with its length before it, so that no two rows make one text.
        let mut part = |text: &str| {
            hash.update(text.len().to_be_bytes());
            hash.update(text);
        };
        match self {
            Self::Count(RuleCount { policy, rule, pass, fail, not_evaluated }) => {
                ["count", policy, rule].into_iter().for_each(&mut part);
                [pass, fail, not_evaluated].into_iter().for_each(|count| part(&count.to_string()));
            }
            Self::Violation(Violation { policy, rule, object, path, message }) => {
                let object = [&object.group, &object.kind, &object.namespace, &object.name];
                ["violation", policy, rule].into_iter().chain(object.map(String::as_str)).for_each(&mut part);
                [path, message].into_iter().for_each(|text| part(text));
            }
        }
        let mut key = RowKey::default();
        key.copy_from_slice(&hash.finalize()[..16]);
        key
    }
}

/// The rows of one evaluation.
#[derive(Debug, PartialEq, Eq)]
pub struct VerdictSet {
    /// Which generation of the item was evaluated.
    pub generation: Version,
    /// By this machine's clock.
    pub evaluated_at: Timestamp,
    /// By key.
    pub rows: BTreeMap<RowKey, Row>,
    /// The exclusive or of the keys.
    pub digest: RowKey,
}

impl VerdictSet {
    /// The rows of verdicts.
    pub fn of(generation: Version, evaluated_at: Timestamp, verdicts: Verdicts) -> Self {
        let Verdicts { counts, violations } = verdicts;
        let rows = counts.into_iter().map(Row::Count).chain(violations.into_iter().map(Row::Violation));
        let rows: BTreeMap<RowKey, Row> = rows.map(|row| (row.key(), row)).collect();
        let mut digest = RowKey::default();
        for key in rows.keys() {
            digest.iter_mut().zip(key).for_each(|(digest, key)| *digest ^= key);
        }
        Self { generation, evaluated_at, rows, digest }
    }

    /// Whether another says the same of the same generation.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.generation == other.generation && self.digest == other.digest && self.rows.len() == other.rows.len()
    }

    /// The rows that are here and not there.
    pub fn beyond<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a RowKey, &'a Row)> {
        self.rows.iter().filter(|(key, _)| !other.rows.contains_key(*key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::object::ObjectRef;

    fn violation(name: &str, group: &str) -> Violation {
        let object = ObjectRef { group: group.into(), kind: "Job".into(), namespace: "ml".into(), name: name.into() };
        Violation { policy: "p".into(), rule: "r".into(), object, path: "spec".into(), message: "no".into() }
    }

    fn set(violations: &[Violation], fail: u32) -> VerdictSet {
        let counts = vec![RuleCount { policy: "p".into(), rule: "r".into(), pass: 1, fail, not_evaluated: 0 }];
        let verdicts = Verdicts { counts, violations: violations.to_vec() };
        VerdictSet::of(Version::new(1, 1), Timestamp::UNIX_EPOCH, verdicts)
    }

    #[test]
    fn only_what_differs_is_beyond() {
        let before = set(&[violation("a", ""), violation("b", "")], 2);
        let after = set(&[violation("b", ""), violation("c", ""), violation("c", "batch")], 3);
        assert_eq!(before.beyond(&after).count(), 2, "a, and the old count");
        assert_eq!(after.beyond(&before).count(), 3, "both named c, and the new count");
        assert!(before.says_the_same(&set(&[violation("b", ""), violation("a", "")], 2)), "in whatever order");
        assert!(!before.says_the_same(&after));
    }

    #[test]
    fn the_digest_moves_by_what_differs() {
        let (before, after) = (set(&[violation("a", "")], 1), set(&[violation("b", "")], 1));
        let mut digest = before.digest;
        for (key, _) in before.beyond(&after).chain(after.beyond(&before)) {
            digest.iter_mut().zip(key).for_each(|(digest, key)| *digest ^= key);
        }
        assert_eq!(digest, after.digest);
    }
}
