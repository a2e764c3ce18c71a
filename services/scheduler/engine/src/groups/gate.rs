//! Tiers that are open to a group only while enough waits. Its candidates are found for all tiers that time opens; how many of them
//! are in tiers that are open now moves with what waits, so that a tier that opens and closes costs a step a group.

use super::{GroupId, Groups};
use crate::engine::Engine;
use crate::queues::{QueueIndex, ROOT};

/// Which tiers of its queue are open to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Open {
    /// How many are, if enough waits in the queue.
    pub(crate) tiers: usize,
    /// How many are whatever waits.
    pub(crate) sure: usize,
}

impl Open {
    /// All of so many tiers; without any there is one for all clusters.
    pub(crate) fn all(tiers: usize) -> Self {
        Self { tiers: tiers.max(1), sure: tiers.max(1) }
    }

    /// The same with one of so many tiers, and those before it, surely open.
    pub(crate) fn with(self, tier: usize, tiers: usize) -> Self {
        let least = (tier + 1).min(tiers.max(1));
        if self.sure >= least { self } else { Self { tiers: self.tiers.max(least), sure: least } }
    }

    /// How many are open while `shut` is the first one for which too little waits.
    pub(crate) fn now(self, shut: usize) -> usize {
        self.tiers.min(self.sure.max(shut))
    }
}

impl Groups {
    /// Notes the queue whose waiting jobs decide which tiers are open to a group; `None`: that depends on no queue.
    pub(super) fn depends_on(&mut self, id: GroupId, says: Option<QueueIndex>) {
        let Some(group) = self.all[id].as_mut() else { return };
        let was = std::mem::replace(&mut group.says, says.unwrap_or(ROOT));
        if was == group.says {
            return;
        }
        if let Some(groups) = self.gated.get_mut(&was) {
            groups.remove(&id);
            if groups.is_empty() {
                self.gated.remove(&was);
            }
        }
        if let Some(says) = says {
            self.gated.entry(says).or_default().insert(id);
        }
    }
}

impl Engine {
    /// So much or so little waits now in a queue or below it that other tiers of it are open.
    pub(crate) fn gate_moved(&mut self, says: QueueIndex) {
        let shut = self.queues.shut(says);
        let groups: Vec<GroupId> = self.groups.gated.get(&says).into_iter().flatten().copied().collect();
        let mut opened = false;
        for id in groups {
            let group = self.groups.get_mut(id);
            if group.stale {
                continue;
            }
            let open_now = group.key.open.now(shut);
            let reach = group.candidates.partition_point(|candidate| candidate.tier < open_now);
            let before = std::mem::replace(&mut group.reach, reach);
            group.fits_at = group.fits_at.filter(|(place, _)| *place < reach);
            if reach > before && group.lanes > 0 {
                self.stats.entries_visited += 1;
                if group.maybe_from(before).is_some() || group.splits.is_some() {
                    self.groups.opened(id);
                }
                self.let_unpaid_go(id..=id);
                opened = true;
            }
        }
        // Where no room is, runs may have to make some now.
        if opened {
            for queue in self.queues.subtree(says) {
                self.queues.touch(queue);
            }
        }
    }
}
