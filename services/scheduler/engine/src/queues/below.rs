//! What the children of a queue have to ask for: which of them has lanes of which group at or below it, and how little more than its
//! share each would have with the least of what is asked for.

use super::{QueueIndex, Queues, ROOT};
use crate::groups::GroupId;
use crate::lanes::LaneId;
use crate::ranking::{Share, Tournament};
use crate::vector::Vector;

/// So many amounts have trees of their own in one queue; the one that was not asked for longest makes room for another.
const MOST_TREES: usize = 16;

/// A bit per group and child: set if a lane of the group asks at or below the child, i.e. is not held back by a capability.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Words of each group.
    words: usize,
    bits: Vec<u64>,
}

impl Asked {
    pub(super) fn new(children: usize) -> Self {
        Self { words: children.div_ceil(64), bits: Vec::new() }
    }

    fn of(&self, group: GroupId) -> &[u64] {
        self.bits.get(group * self.words..(group + 1) * self.words).unwrap_or(&[])
    }

    pub(super) fn any(&self, group: GroupId) -> bool {
        self.of(group).iter().any(|bits| *bits != 0)
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        (0..self.bits.len() / self.words.max(1)).filter(|group| self.any(*group))
    }

    pub(super) fn set(&mut self, group: GroupId, place: usize, asks: bool) {
        let end = (group + 1) * self.words;
        if self.bits.len() < end {
            if !asks {
                return;
            }
            self.bits.resize(end, 0);
        }
        let (word, bit) = (group * self.words + place / 64, 1 << (place % 64));
        if asks {
            self.bits[word] |= bit;
        } else {
            self.bits[word] &= !bit;
        }
    }

    /// The children with one of the groups.
    pub(crate) fn among(&self, groups: &[GroupId], mask: &mut Vec<u64>) {
        mask.clear();
        mask.resize(self.words, 0);
        for group in groups {
            for (all, bits) in mask.iter_mut().zip(self.of(*group)) {
                *all |= bits;
            }
        }
    }
}

/// Places of children whose shares have changed, in order, so that whoever keeps something of them knows what to compute anew.
#[derive(Clone, Debug)]
pub(crate) struct Changes {
    children: usize,
    /// Changes that are forgotten.
    before: u64,
    places: Vec<u32>,
}

impl Changes {
    pub(super) fn new(children: usize) -> Self {
        Self { children, before: 1, places: Vec::new() }
    }

    pub(super) fn note(&mut self, place: usize) {
        if self.places.len() > 2 * self.children + 16 {
            self.before += self.places.len() as u64;
            self.places.clear();
        }
        self.places.push(u32::try_from(place).expect("fewer than 2^32 queues"));
    }

    /// How many there have been.
    pub(crate) fn count(&self) -> u64 {
        self.before + self.places.len() as u64
    }

    /// Calls `anew` for each place that has changed since there had been so many changes; 0: for every place.
    pub(crate) fn since(&self, count: u64, anew: &mut dyn FnMut(usize)) {
        let missed = usize::try_from(self.count() - count).unwrap_or(usize::MAX);
        if count < self.before || missed >= self.children {
            (0..self.children).for_each(anew);
        } else {
            self.places[self.places.len() - missed..].iter().for_each(|place| anew(*place as usize));
        }
    }
}

/// The shares of children with some amount more, for several amounts. A tree is brought up to date when it is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bounds {
    /// (amount, count of changes taken in, tree), the latest asked for first.
    trees: Vec<(Vector, u64, Tournament)>,
    /// The children that are asked.
    pub(crate) mask: Vec<u64>,
}

impl Bounds {
    /// The tree of the shares with this amount; `share` gives one. Also how many shares were computed for it.
    pub(crate) fn with(
        &mut self,
        amount: &Vector,
        changes: &Changes,
        share: &mut dyn FnMut(usize) -> Share,
    ) -> (&Tournament, u64) {
        let at = self.trees.iter().position(|(known, ..)| known == amount).unwrap_or_else(|| {
            self.trees.truncate(MOST_TREES - 1);
            self.trees.push((amount.clone(), 0, Tournament::new(changes.children)));
            self.trees.len() - 1
        });
        self.trees[..=at].rotate_right(1);
        let (_, seen, tree) = &mut self.trees[0];
        let mut computed = 0;
        changes.since(*seen, &mut |place| {
            computed += 1;
            tree.set(place, share(place));
        });
        *seen = changes.count();
        (tree, computed)
    }
}

/// The next lanes of children, whether they have room or not, with the children's shares with these lanes' gangs. Brought up to
/// date when it is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blocked {
    /// Count of changes taken in.
    pub(crate) seen: u64,
    /// Empty until it is asked for.
    pub(crate) lanes: Vec<Option<LaneId>>,
    pub(crate) tree: Option<Tournament>,
}

impl Queues {
    /// Notes whether a queue has lanes of a group that ask, also for those above it.
    pub(super) fn show(&mut self, queue: QueueIndex, group: GroupId, asks: bool) {
        let (mut at, mut asks) = (queue, asks);
        while at != ROOT {
            let (parent, place) = (self.get(at).parent, self.get(at).place);
            let asked = &mut self.get_mut(parent).asked;
            let had = asked.any(group);
            asked.set(group, place, asks);
            asks = asked.any(group);
            if asks == had {
                return;
            }
            at = parent;
        }
    }

    /// Notes it for all children of a queue, whose places are others now.
    pub(super) fn show_children(&mut self, parent: QueueIndex) {
        let entry = self.get(parent);
        let mut asked = Asked::new(entry.children.len());
        for (place, child) in entry.children.iter().enumerate() {
            let child = self.get(*child);
            let own = child.sections.iter().filter(|(_, section)| section.held_by.is_none()).map(|(group, _)| *group);
            for group in own.chain(child.asked.groups()) {
                asked.set(group, place, true);
            }
        }
        let old = std::mem::replace(&mut self.get_mut(parent).asked, asked);
        let new = &self.get(parent).asked;
        let differ: Vec<GroupId> =
            old.groups().filter(|group| !new.any(*group)).chain(new.groups().filter(|group| !old.any(*group))).collect();
        for group in differ {
            let asks = self.get(parent).asked.any(group);
            self.show(parent, group, asks);
        }
    }
}
