//! What member clusters should hold for the scheduler, and the difference to what they were told last.

use std::collections::BTreeMap;

/// Items added, and items removed, in one change; the registry takes 1,000.
pub const MAX_ITEMS: usize = 500;

/// An item a cluster was told of, or should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Digest of its bundle.
    pub bundle_digest: String,
    /// Trace context of what caused it.
    pub traceparent: String,
    /// The run it is, with whether it may be moved; `None` for a queue.
    pub run: Option<(String, bool)>,
    /// Items that must be healthy before it.
    pub after: Vec<String>,
}

/// A change of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Items to add or replace, by name.
    pub upserts: BTreeMap<String, Item>,
    /// Names of items to remove.
    pub deletes: Vec<String>,
}

impl Change {
    /// What has to be told so that a cluster that was told `told` is told `wanted`. A trace context alone is no change.
    #[must_use]
    pub fn between(told: &BTreeMap<String, Item>, wanted: &BTreeMap<String, Item>) -> Self {
        let same = |item: &Item, other: &Item| {
            item.bundle_digest == other.bundle_digest && item.run == other.run && item.after == other.after
        };
        Self {
            upserts: wanted
                .iter()
                .filter(|(name, item)| told.get(*name).is_none_or(|told| !same(told, item)))
                .map(|(name, item)| (name.clone(), item.clone()))
                .collect(),
            deletes: told.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect(),
        }
    }

    /// Keeps at most [`MAX_ITEMS`] of each; true if something was left for the next change.
    #[must_use]
    pub fn cut(&mut self) -> bool {
        let surplus = self.upserts.keys().nth(MAX_ITEMS).cloned();
        let rest = surplus.map(|first| self.upserts.split_off(&first));
        let cut = rest.is_some() || self.deletes.len() > MAX_ITEMS;
        self.deletes.truncate(MAX_ITEMS);
        cut
    }

    /// True if it adds, replaces or removes an item of this name.
    #[must_use]
    pub fn touches(&self, name: &str) -> bool {
        self.upserts.contains_key(name) || self.deletes.iter().any(|gone| gone == name)
    }

    /// True if there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.deletes.is_empty()
    }
}

/// The item of a run: `jobs/{namespace}/{job}/{epoch}`.
#[must_use]
pub fn run_item(namespace: &str, job: &str, epoch: u32) -> String {
    format!("jobs/{namespace}/{job}/{epoch}")
}

/// The item of a queue: `queues/{queue}`.
#[must_use]
pub fn queue_item(queue: &str) -> String {
    format!("queues/{queue}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(digest: &str) -> Item {
        Item { bundle_digest: digest.to_owned(), traceparent: String::new(), run: None, after: Vec::new() }
    }

    #[test]
    fn only_what_differs_is_told() {
        let told = BTreeMap::from([("a".to_owned(), item("1")), ("b".to_owned(), item("2")), ("c".to_owned(), item("3"))]);
        let wanted = BTreeMap::from([("b".to_owned(), item("2")), ("c".to_owned(), item("4")), ("d".to_owned(), item("5"))]);
        let change = Change::between(&told, &wanted);
        assert_eq!(change.upserts.keys().collect::<Vec<_>>(), ["c", "d"]);
        assert_eq!(change.deletes, ["a"]);
        assert!(Change::between(&wanted, &wanted).is_empty());
    }

    #[test]
    fn a_large_difference_is_told_in_pieces_until_nothing_is_left() {
        let wanted: BTreeMap<String, Item> = (0..1_200).map(|number| (format!("{number:04}"), item("1"))).collect();
        let mut told = BTreeMap::new();
        let mut pieces = Vec::new();
        loop {
            let mut change = Change::between(&told, &wanted);
            if change.is_empty() {
                break;
            }
            let more = change.cut();
            pieces.push((change.upserts.len(), more));
            told.extend(change.upserts);
        }
        assert_eq!(pieces, [(500, true), (500, true), (200, false)]);
    }
}
