//! The engine's state as a whole. It is changed by `fold.rs` (facts) and `plan.rs` (its own decisions) and by nothing else.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::amounts::{ResourceTable, Vector};
use crate::class::{ClassId, Classes, Flavors};
use crate::cluster::{Candidate, Cluster, ClusterIndex};
use crate::estimate::{Estimates, Likeness};
use crate::event::{BoundNode, Epoch, JobId, JobSpec, Slot, Time};
use crate::lanes::{LaneId, Lanes};
use crate::queues::{QueueIndex, Queues};
use crate::rows::Remaining;

/// Counts of work done since the engine was made. Differences around a call say what that call cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Facts folded.
    pub events: u64,
    /// Entries of queues looked at: lanes tried, parked, or considered for waking. Jobs behind a lane's head are not
    /// looked at, so this does not grow with how many wait.
    pub entries_visited: u64,
    /// Tests of a gang against a cluster.
    pub fits_tried: u64,
    /// Gangs placed.
    pub placed: u64,
    /// Runs ended early for another gang.
    pub interrupted: u64,
}

/// The scheduler's mind. See the crate's documentation.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) now: Time,
    pub(crate) resources: ResourceTable,
    pub(crate) flavors: Flavors,
    pub(crate) clusters: Vec<Option<Cluster>>,
    pub(crate) cluster_by_name: BTreeMap<String, ClusterIndex>,
    pub(crate) queues: Queues,
    pub(crate) classes: Classes,
    pub(crate) lanes: Lanes,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    /// Placed jobs by the name of their cluster, known or not.
    pub(crate) runs_at: BTreeMap<String, BTreeSet<JobId>>,
    pub(crate) timers: BTreeSet<(Time, Timer)>,
    /// What finished runs have taught.
    pub(crate) estimates: Estimates,
    /// Runs that may be interrupted, per cluster, the longest expected remaining GPU-time first.
    pub(crate) interruptible: BTreeMap<String, BTreeSet<(Reverse<i64>, JobId)>>,
    /// Waiting jobs for which runs were interrupted, with those runs that have not ended yet.
    pub(crate) promised: BTreeMap<JobId, BTreeSet<JobId>>,
    /// Everything allocatable on clusters that some queue may use: what shares are parts of.
    pub(crate) everything: Vector,
    /// Where a class may go, per queue that owns tiers. Emptied when clusters or tiers change.
    pub(crate) candidates: BTreeMap<ClassId, BTreeMap<QueueIndex, Arc<[Candidate]>>>,
    /// Clusters on which something became free since the last plan.
    pub(crate) freed: BTreeSet<ClusterIndex>,
    /// (class, owner of the tiers, tiers open) that found no room since something became free.
    pub(crate) no_room: BTreeSet<(ClassId, QueueIndex, usize)>,
    /// Lanes made or woken since the last plan.
    pub(crate) fresh: BTreeSet<LaneId>,
    pub(crate) stats: Stats,
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A back-off ends.
    Retry(JobId),
    /// A tier opens for the head of a lane.
    Tier(LaneId),
    /// A run has lasted so long that it is expected to last longer than was thought.
    Longer(JobId),
}

#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) spec: JobSpec,
    pub(crate) queue: QueueIndex,
    pub(crate) class: ClassId,
    /// Of the latest run; 0 before the first.
    pub(crate) epoch: Epoch,
    /// How long its earlier runs lasted together.
    pub(crate) attained_ms: i64,
    /// What was expected to remain when it was last put into a lane. It stays while it waits.
    pub(crate) expected_ms: i64,
    pub(crate) state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// In a lane.
    Waiting,
    /// Not yet in a lane: a back-off runs until then.
    BackOff(Time),
    /// Kept aside.
    Suspended,
    /// In a cluster, started or not.
    Placed(Run),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) cluster: String,
    pub(crate) slots: Vec<Slot>,
    pub(crate) bound: Option<Vec<BoundNode>>,
    pub(crate) started_at: Option<Time>,
    pub(crate) stopping: bool,
    /// Its entry among the interruptible runs, while it has one.
    pub(crate) remaining: Option<Remaining>,
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine {
    /// An engine that knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            now: Time::default(),
            resources: ResourceTable::default(),
            flavors: Flavors::default(),
            clusters: Vec::new(),
            cluster_by_name: BTreeMap::new(),
            queues: Queues::new(),
            classes: Classes::default(),
            lanes: Lanes::default(),
            jobs: BTreeMap::new(),
            runs_at: BTreeMap::new(),
            timers: BTreeSet::new(),
            estimates: Estimates::default(),
            interruptible: BTreeMap::new(),
            promised: BTreeMap::new(),
            everything: Vector::default(),
            candidates: BTreeMap::new(),
            freed: BTreeSet::new(),
            no_room: BTreeSet::new(),
            fresh: BTreeSet::new(),
            stats: Stats::default(),
        }
    }

    /// The latest instant the engine was told.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// When the next back-off or tier wait ends: the engine wants an [`crate::Event::Time`] then. `None`: nothing is timed.
    #[must_use]
    pub fn next_timer(&self) -> Option<Time> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Counts of work done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The queue's weighted dominant share of everything its clusters have (0 to 1 ÷ weight); `None` for an unknown queue.
    #[must_use]
    pub fn share(&self, queue: &str) -> Option<f64> {
        self.queues.find(queue).map(|index| self.queues.share(index, &self.everything))
    }

    /// What is charged to the queue and those below it; `None` for an unknown queue.
    #[must_use]
    pub fn usage(&self, queue: &str) -> Option<crate::Amounts> {
        self.queues.find(queue).map(|index| self.resources.amounts(&self.queues.get(index).usage))
    }

    pub(crate) fn refresh(&mut self, queue: QueueIndex) {
        let Self { queues, lanes, classes, everything, .. } = self;
        queues.refresh(queue, everything, &|lane| classes.get(lanes.get(lane).class).total.clone());
    }

    pub(crate) fn refresh_all(&mut self) {
        // Leaves first is not needed: refreshing a queue refreshes its ancestors after it.
        let all: Vec<QueueIndex> = self.queues.iter().map(|(index, _)| index).collect();
        for index in all {
            self.refresh(index);
        }
    }

    pub(crate) fn likeness(&self, id: JobId) -> Likeness {
        let job = &self.jobs[&id];
        Likeness { queue: job.spec.queue.clone(), kind: job.spec.kind.clone(), gpus: self.classes.get(job.class).gpus }
    }

    /// Where the class may go from this queue, in order.
    pub(crate) fn candidates(&mut self, queue: QueueIndex, class: ClassId) -> (QueueIndex, Arc<[Candidate]>) {
        let owner = self.queues.tier_owner(queue);
        if let Some(known) = self.candidates.get(&class).and_then(|by_owner| by_owner.get(&owner)) {
            return (owner, Arc::clone(known));
        }
        let tiers = &self.queues.get(owner).spec.tiers;
        let found: Arc<[Candidate]> =
            crate::cluster::candidates(tiers, self.classes.get(class), &self.clusters, &self.flavors).into();
        self.candidates.entry(class).or_default().insert(owner, Arc::clone(&found));
        (owner, found)
    }

    /// How many of the queue's tiers are open to a job that was submitted then, and when the next one opens by itself.
    pub(crate) fn tiers_open(&self, owner: QueueIndex, submitted_at: Time) -> (usize, Option<Time>) {
        let tiers = &self.queues.get(owner).spec.tiers;
        for (index, tier) in tiers.iter().enumerate().skip(1) {
            match tier.opens {
                crate::TierOpens::WhenFull => {}
                crate::TierOpens::AfterWaitingMs(wait) => {
                    let opens = Time(submitted_at.0.saturating_add(wait));
                    if opens > self.now {
                        return (index, Some(opens));
                    }
                }
            }
        }
        (tiers.len().max(1), None)
    }
}
