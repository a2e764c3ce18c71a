//! A remembered answer about a queue: which lane it would offer. It never changes what is answered, only how fast.

use crate::lanes::LaneId;

/// The answer under one state of things, which is numbered from 1; 0: nothing is remembered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memo {
    under: u64,
    lane: Option<LaneId>,
}

impl Memo {
    /// What is remembered under this state of things.
    pub(crate) fn get(&self, under: u64) -> Option<Option<LaneId>> {
        (under != 0 && self.under == under).then_some(self.lane)
    }

    pub(crate) fn set(&mut self, under: u64, lane: Option<LaneId>) {
        (self.under, self.lane) = (under, lane);
    }

    pub(crate) fn forget(&mut self) {
        self.under = 0;
    }
}
