//! The first lane of each group that asks, in the order of a queue: what is looked through when the queue is asked for a lane that has
//! room. Which groups these are lies apart and close together, since most of them have none.

use crate::groups::GroupId;
use crate::lanes::{LaneId, LaneOrder};

/// Lanes of different groups, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heads {
    lanes: Vec<(LaneOrder, LaneId)>,
    /// Of each of them the group.
    groups: Vec<u32>,
}

impl Heads {
    pub(crate) fn len(&self) -> usize {
        self.lanes.len()
    }

    pub(super) fn insert(&mut self, lane: (LaneOrder, LaneId), group: GroupId) {
        if let Err(at) = self.lanes.binary_search(&lane) {
            self.lanes.insert(at, lane);
            self.groups.insert(at, u32::try_from(group).expect("fewer than 2^32 shapes at a time"));
        }
    }

    pub(super) fn remove(&mut self, lane: (LaneOrder, LaneId)) {
        if let Ok(at) = self.lanes.binary_search(&lane) {
            self.lanes.remove(at);
            self.groups.remove(at);
        }
    }

    /// Those of the groups that are wanted.
    pub(crate) fn of(&self, wanted: impl Fn(GroupId) -> bool) -> impl Iterator<Item = (LaneId, GroupId)> {
        let groups = self.groups.iter().map(|group| *group as GroupId).enumerate();
        groups.filter(move |(_, group)| wanted(*group)).map(|(at, group)| (self.lanes[at].1, group))
    }
}
