//! Verdicts on their way: per policy item what the hub holds, and the change that makes it what is said now.
//!
//! One part is under way at a time. In a new connection nobody knows yet what the hub holds: it is asked by the digest of
//! what is said now, and the whole follows where the hub wants it. So nothing about this is kept on disk.

use super::convert;
use crate::domain::{
    item::ItemKey,
    verdicts::{RowKey, VerdictSet},
};
use muster_kit::time::to_proto;
use muster_proto::agent::v1::{VerdictChange, VerdictEnd, VerdictRow};
use prost::Message as _;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// Rows that come in a part, and about how many bytes of them: heartbeats go in between.
const PART_ROWS: usize = 1_000;
const PART_BYTES: usize = 256 * 1024;
/// Keys of rows that go in a part.
const PART_KEYS: usize = 10_000;

/// What the hub holds of an item.
#[derive(Debug)]
enum Held {
    /// Not what is said here.
    Other,
    /// This.
    Set(Arc<VerdictSet>),
}

#[derive(Debug)]
struct UnderWay {
    item: ItemKey,
    set: Arc<VerdictSet>,
    rest: VecDeque<VerdictChange>,
}

/// What of the verdicts is told, and on its way, in this connection.
#[derive(Debug, Default)]
pub struct Telling {
    sequence: u64,
    held: BTreeMap<ItemKey, Held>,
    under_way: Option<UnderWay>,
}

impl Telling {
    /// The next part, if there is news and no part is on its way.
    pub fn next(&mut self, said: &BTreeMap<ItemKey, Arc<VerdictSet>>) -> Option<VerdictChange> {
        if self.under_way.is_some() {
            return None;
        }
        self.held.retain(|item, _| said.contains_key(item));
        let (item, set) = said.iter().find(|(item, set)| match self.held.get(*item) {
            Some(Held::Set(held)) => !held.says_the_same(set),
            Some(Held::Other) | None => true,
        })?;
        let rest = match self.held.get(item) {
            None => parts(item, set, Some(set)),
            Some(Held::Other) => parts(item, set, None),
            Some(Held::Set(held)) => parts(item, set, Some(held)),
        };
        self.under_way = Some(UnderWay { item: item.clone(), set: Arc::clone(set), rest });
        self.next_part()
    }

    fn next_part(&mut self) -> Option<VerdictChange> {
        let mut part = self.under_way.as_mut()?.rest.pop_front()?;
        self.sequence += 1;
        part.sequence = self.sequence;
        Some(part)
    }

    /// The hub has taken the part under way, or holds something else than was thought; gives the part that follows.
    pub fn acknowledged(&mut self, sequence: u64, whole_wanted: bool) -> Option<VerdictChange> {
        if sequence != self.sequence {
            return None;
        }
        if !whole_wanted && let Some(part) = self.next_part() {
            return Some(part);
        }
        let UnderWay { item, set, rest: _ } = self.under_way.take()?;
        self.held.insert(item, if whole_wanted { Held::Other } else { Held::Set(set) });
        None
    }
}

/// The parts of the change from what is held, or from nothing, to what is said.
fn parts(item: &ItemKey, said: &VerdictSet, held: Option<&VerdictSet>) -> VecDeque<VerdictChange> {
    let new = || VerdictChange {
        owner: item.owner.clone(),
        name: item.name.clone(),
        generation: Some(convert::generation(said.generation)),
        base: held.map(|held| held.digest.to_vec()).unwrap_or_default(),
        ..VerdictChange::default()
    };
    let mut parts = VecDeque::from([new()]);
    let mut bytes = 0;
    let mut add = |key: &RowKey, row: VerdictRow| {
        let part = parts.back_mut().expect("there is always one");
        bytes += row.encoded_len();
        part.added.push(VerdictRow { key: key.to_vec(), ..row });
        if part.added.len() == PART_ROWS || bytes >= PART_BYTES {
            parts.push_back(new());
            bytes = 0;
        }
    };
    match held {
        Some(held) => said.beyond(held).for_each(|(key, row)| add(key, convert::verdict_row(row))),
        None => said.rows.iter().for_each(|(key, row)| add(key, convert::verdict_row(row))),
    }
    let gone: Vec<Vec<u8>> = held.into_iter().flat_map(|held| held.beyond(said)).map(|(key, _)| key.to_vec()).collect();
    for (number, keys) in gone.chunks(PART_KEYS).enumerate() {
        if number > 0 {
            parts.push_back(new());
        }
        parts.back_mut().expect("there is always one").removed = keys.to_vec();
    }
    let end = VerdictEnd { digest: said.digest.to_vec(), evaluate_time: Some(to_proto(said.evaluated_at)) };
    parts.back_mut().expect("there is always one").end = Some(end);
    parts
}
