//! A remembered answer about a queue: which lane it would offer. It can be written while queues are only read, and copies of an
//! engine have copies of it; it never changes what is answered, only how fast.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::lanes::LaneId;

/// Stands for "no lane".
const NOTHING: usize = usize::MAX;

/// The answer under one state of things, which is numbered from 1; 0: nothing is remembered.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    under: AtomicU64,
    lane: AtomicUsize,
}

impl Clone for Memo {
    fn clone(&self) -> Self {
        let (under, lane) = (self.under.load(Ordering::Relaxed), self.lane.load(Ordering::Relaxed));
        Self { under: AtomicU64::new(under), lane: AtomicUsize::new(lane) }
    }
}

impl Memo {
    /// What is remembered under this state of things.
    pub(crate) fn get(&self, under: u64) -> Option<Option<LaneId>> {
        if under == 0 || self.under.load(Ordering::Relaxed) != under {
            return None;
        }
        let lane = self.lane.load(Ordering::Relaxed);
        Some((lane != NOTHING).then_some(lane))
    }

    pub(crate) fn set(&self, under: u64, lane: Option<LaneId>) {
        self.lane.store(lane.unwrap_or(NOTHING), Ordering::Relaxed);
        self.under.store(under, Ordering::Relaxed);
    }

    pub(crate) fn forget(&self) {
        self.under.store(0, Ordering::Relaxed);
    }
}
