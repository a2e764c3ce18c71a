//! What differs between what an agent holds and what it should hold: pure, so that a reconnect is a comparison.

use crate::store::desired::Item;
use muster_proto::agent::v1::OwnerDigest;
use std::collections::HashMap;

/// What a comparison came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Indexes of the items to send.
    pub send: Vec<usize>,
    /// The agent holds, for a generation of ours, other content than we do: our database is not the one it knows.
    pub diverged: bool,
    /// The greatest incarnation among what the agent holds.
    pub newest_incarnation: u64,
}

/// Compares item by item. What the agent holds and we don't know is left alone: it is shown as orphaned, never deleted.
pub fn compare(desired: &[Item], held: &[OwnerDigest]) -> Difference {
    let mut known = HashMap::new();
    let mut difference = Difference::default();
    for owner in held {
        for item in &owner.items {
            let generation = item.generation.unwrap_or_default();
            difference.newest_incarnation = difference.newest_incarnation.max(generation.incarnation);
            known.insert((owner.owner.as_str(), item.name.as_str()), (generation, item.bundle_digest.as_str()));
        }
    }
    for (index, item) in desired.iter().enumerate() {
        let ours = (item.incarnation.cast_unsigned(), item.generation.cast_unsigned());
        let digest = item.bundle_digest.as_deref().unwrap_or_default();
        match known.get(&(item.owner.as_str(), item.name.as_str())) {
            Some((theirs, held)) => {
                let theirs = (theirs.incarnation, theirs.n);
                if theirs > ours || (theirs == ours && *held != digest) {
                    difference.diverged = true;
                } else if theirs < ours {
                    difference.send.push(index);
                }
            }
            // A tombstone of something the agent does not hold has nothing to remove.
            None if item.tombstone => {}
            None => difference.send.push(index),
        }
    }
    difference
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::agent::v1::{Generation, HeldItem};
    use serde_json::json;

    fn item(name: &str, generation: i64, digest: Option<&str>) -> Item {
        Item {
            owner: "rollout".to_owned(),
            name: name.to_owned(),
            incarnation: 1,
            generation,
            sequence: generation,
            bundle_digest: digest.map(str::to_owned),
            tombstone: digest.is_none(),
            options: json!({}),
        }
    }

    fn held(items: &[(&str, u64, u64, &str)]) -> Vec<OwnerDigest> {
        let items = items.iter().map(|(name, incarnation, n, digest)| HeldItem {
            name: (*name).to_owned(),
            generation: Some(Generation { incarnation: *incarnation, n: *n }),
            bundle_digest: (*digest).to_owned(),
        });
        vec![OwnerDigest { owner: "rollout".to_owned(), digest: String::new(), generation: None, items: items.collect() }]
    }

    #[test]
    fn only_what_differs_is_sent() {
        let desired =
            [item("same", 3, Some("d1")), item("newer", 4, Some("d2")), item("gone", 5, None), item("missing", 2, Some("d3"))];
        let agent = held(&[("same", 1, 3, "d1"), ("newer", 1, 2, "d0"), ("gone", 1, 4, "d9"), ("unknown", 1, 1, "d8")]);
        let difference = compare(&desired, &agent);
        assert_eq!((difference.send, difference.diverged), (vec![1, 2, 3], false));
    }

    #[test]
    fn a_tombstone_the_agent_holds_is_not_sent_again() {
        let difference = compare(&[item("gone", 5, None), item("never-there", 5, None)], &held(&[("gone", 1, 5, "")]));
        assert_eq!(difference, Difference { send: vec![], diverged: false, newest_incarnation: 1 });
    }

    #[test]
    fn other_content_under_our_generation_means_another_database() {
        assert!(compare(&[item("a", 3, Some("d1"))], &held(&[("a", 1, 3, "d2")])).diverged);
        assert!(compare(&[item("a", 3, Some("d1"))], &held(&[("a", 1, 9, "d1")])).diverged);
    }
}
