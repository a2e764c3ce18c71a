//! A remembered answer about a queue: which lane it would offer. It never changes what is answered, only how fast.

use crate::groups::GroupId;
use crate::lanes::LaneId;
use crate::queues::QueueIndex;

/// A lane that a queue offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) lane: LaneId,
    /// Its group.
    pub(crate) group: GroupId,
    /// Its queue.
    pub(crate) queue: QueueIndex,
}

/// The answer under one state of things, which is numbered from 1; 0: nothing is remembered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memo {
    under: u64,
    offer: Option<Offer>,
}

impl Memo {
    /// What is remembered under this state of things.
    pub(crate) fn get(&self, under: u64) -> Option<Option<Offer>> {
        (under != 0 && self.under == under).then_some(self.offer)
    }

    pub(crate) fn set(&mut self, under: u64, offer: Option<Offer>) {
        (self.under, self.offer) = (under, offer);
    }

    pub(crate) fn forget(&mut self) {
        self.under = 0;
    }
}
