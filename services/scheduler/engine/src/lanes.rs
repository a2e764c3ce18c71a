//! Where jobs wait. A *lane* holds the waiting jobs of one (queue, class, priority, expectation) in order of submission: if its head
//! can't be placed none behind it can, so a lane is tried, parked and woken as one entry, however many jobs it holds.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::class::{ClassId, FlavorId};
use crate::event::{JobId, Time};
use crate::queues::QueueIndex;

/// Number of a lane.
pub(crate) type LaneId = u64;
/// The order inside a queue: priority (higher first), *standing*, row. The standing is the time of submission moved back by the
/// GPU-time that the job is expected to take: a job passes one that came before it only if it is smaller by more than it came
/// later, so that nothing is passed for ever.
pub(crate) type LaneOrder = (Reverse<i32>, Time, JobId);

/// What a parked lane waits for: GPUs of a model and how many its gang needs together. A release of fewer can't help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WaitKey {
    pub(crate) what: WaitsFor,
    pub(crate) gpus: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WaitsFor {
    /// Cpu, memory or named resources only.
    NoGpu,
    /// GPUs of any model.
    AnyGpu,
    /// GPUs of this model.
    Gpu(FlavorId),
}

/// Where a lane stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parked {
    /// To be tried by the next plan.
    Ready,
    /// Waits until this queue's capability has room.
    Capability(QueueIndex),
    /// Waits until a cluster has room, or until a tier opens.
    Room { keys: Vec<WaitKey>, tier_opens: Option<Time> },
}

#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) queue: QueueIndex,
    pub(crate) class: ClassId,
    pub(crate) priority: i32,
    /// Expected remaining time of each of its jobs.
    pub(crate) expected_ms: i64,
    /// The same times the gang's GPUs.
    pub(crate) expected_gpu_ms: i64,
    pub(crate) jobs: BTreeSet<(Time, JobId)>,
    pub(crate) parked: Parked,
    /// Its entry in the queue's ready set, while it has one.
    pub(crate) ready_as: Option<LaneOrder>,
}

impl Lane {
    pub(crate) fn head(&self) -> Option<(Time, JobId)> {
        self.jobs.first().copied()
    }

    pub(crate) fn order(&self) -> Option<LaneOrder> {
        self.head().map(|(at, job)| (Reverse(self.priority), self.standing(at), job))
    }

    /// Where a job stands that was submitted then.
    pub(crate) fn standing(&self, submitted_at: Time) -> Time {
        Time(submitted_at.0.saturating_add(self.expected_gpu_ms))
    }
}

/// What the jobs of a lane have in common: queue, class, priority, expected remaining time in milliseconds.
pub(crate) type LaneKey = (QueueIndex, ClassId, i32, i64);

/// All lanes and the lists that blocked ones wait on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lanes {
    pub(crate) all: BTreeMap<LaneId, Lane>,
    by_key: BTreeMap<LaneKey, LaneId>,
    /// Lanes that wait for room, by what would make it.
    pub(crate) waiting: BTreeMap<WaitKey, BTreeSet<LaneId>>,
    /// Lanes that wait for room, the least expected GPU-time first.
    pub(crate) shortest: BTreeSet<(i64, LaneId)>,
    next: LaneId,
}

impl Lanes {
    pub(crate) fn get(&self, id: LaneId) -> &Lane {
        self.all.get(&id).expect("a queue's set names living lanes")
    }

    pub(crate) fn get_mut(&mut self, id: LaneId) -> &mut Lane {
        self.all.get_mut(&id).expect("a queue's set names living lanes")
    }

    pub(crate) fn find(&self, key: &LaneKey) -> Option<LaneId> {
        self.by_key.get(key).copied()
    }

    /// A lane for gangs of so many GPUs.
    pub(crate) fn create(&mut self, key: LaneKey, gpus: i64) -> LaneId {
        let id = self.next;
        self.next += 1;
        let (queue, class, priority, expected_ms) = key;
        let expected_gpu_ms = expected_ms.saturating_mul(gpus.max(1));
        let lane = Lane {
            queue,
            class,
            priority,
            expected_ms,
            expected_gpu_ms,
            jobs: BTreeSet::new(),
            parked: Parked::Ready,
            ready_as: None,
        };
        self.all.insert(id, lane);
        self.by_key.insert(key, id);
        id
    }

    pub(crate) fn remove(&mut self, id: LaneId) {
        if let Some(lane) = self.all.remove(&id) {
            self.by_key.remove(&(lane.queue, lane.class, lane.priority, lane.expected_ms));
        }
    }

    pub(crate) fn unlist(&mut self, id: LaneId, keys: &[WaitKey]) {
        for key in keys {
            if let Some(lanes) = self.waiting.get_mut(key) {
                lanes.remove(&id);
                if lanes.is_empty() {
                    self.waiting.remove(key);
                }
            }
        }
    }
}
