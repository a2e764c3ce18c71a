//! The engine's state as a whole. It is changed by `fold.rs` (facts) and `plan.rs` (its own decisions) and by nothing else.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::class::{ClassId, Classes, FlavorId, Flavors};
use crate::cluster::{ClusterIndex, Site};
use crate::estimate::{Estimates, LikenessId};
use crate::event::{BoundNode, Epoch, JobId, Time};
use crate::groups::{Groups, Open};
use crate::jobs::Jobs;
use crate::lanes::{LaneId, Lanes, Waits};
use crate::mix::Mix;
use crate::moving::Misplaced;
use crate::nodes::Place;
use crate::parts::RunPart;
use crate::promise::Promise;
use crate::queues::{QueueIndex, Queues};
use crate::rows::{GrowthRefused, Remaining, Resized};
use crate::size::SizeListing;
use crate::spec::{JobSpec, TierOpens};
use crate::typical::Typical;
use crate::vector::{ResourceTable, Vector};

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
    /// Changes of the size of runs, each shrinking counted once it is asked for.
    pub resized: u64,
}

/// The scheduler's mind. See the crate's documentation.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) now: Time,
    pub(crate) resources: ResourceTable,
    pub(crate) flavors: Flavors,
    /// What has been asked for lately.
    pub(crate) mix: Mix,
    /// Clusters, also those that are gone and still have runs.
    pub(crate) sites: Vec<Site>,
    pub(crate) site_by_name: BTreeMap<String, ClusterIndex>,
    pub(crate) queues: Queues,
    pub(crate) classes: Classes,
    pub(crate) lanes: Lanes,
    pub(crate) groups: Groups,
    pub(crate) jobs: Jobs,
    pub(crate) timers: BTreeSet<(Time, Timer)>,
    /// How fast models are for the jobs there are.
    pub(crate) typical: Typical,
    /// What finished runs have taught.
    pub(crate) estimates: Estimates,
    /// Jobs with the room that is kept for them.
    pub(crate) promised: BTreeMap<JobId, Promise>,
    /// No head of a lane becomes overdue before this.
    pub(crate) overdue_at: Time,
    /// Whether one that is overdue was left without room by the last plan.
    pub(crate) overdue_waits: bool,
    /// Everything allocatable on clusters that some queue may use: what shares are parts of.
    pub(crate) everything: Vector,
    /// Queues in which runs could make room by right, but not enough for the gang; looked at again when something becomes free.
    pub(crate) in_vain: BTreeSet<QueueIndex>,
    /// Per cluster with runs that may be interrupted what the longest of them is expected to take still, the longest first.
    pub(crate) longest: BTreeSet<(Reverse<i64>, ClusterIndex)>,
    /// Runs that would go elsewhere if there were room.
    pub(crate) misplaced: Misplaced,
    /// Clusters on which something became free since the last plan.
    pub(crate) freed: BTreeSet<ClusterIndex>,
    /// Started runs below their full size, by cluster and GPU model.
    pub(crate) growing: BTreeMap<(ClusterIndex, FlavorId), BTreeSet<JobId>>,
    /// How many started runs have more workers than they need; they are listed by cluster.
    pub(crate) ample: usize,
    /// Runs of which workers were told to leave and have not yet.
    pub(crate) leaving: BTreeSet<JobId>,
    /// Runs whose clusters refused to have them larger since the last plan.
    pub(crate) refusals: BTreeSet<JobId>,
    pub(crate) stats: Stats,
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A back-off ends.
    Retry(JobId),
    /// A tier opens for the head of a lane.
    Tier(LaneId),
    /// A gang that is kept room for should have been there by now.
    Promised(JobId),
    /// A run is old enough to make room for others of its queue or of another.
    Ripe(QueueIndex),
    /// A run has lasted so long that it is expected to last longer than was thought.
    Longer(JobId),
    /// A run is old enough to move to a better place.
    Move,
    /// A run has been left at its size for long enough.
    Grow(JobId),
}

#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) queue: QueueIndex,
    /// What it needs at its full size.
    pub(crate) class: ClassId,
    /// What it waits for: the least size of an elastic gang; of others the same.
    pub(crate) asks: ClassId,
    /// Its queue's name, its kind and its GPUs: the key under which run times are learned.
    pub(crate) likeness: LikenessId,
    pub(crate) priority: i32,
    pub(crate) submitted_at: Time,
    pub(crate) deadline: Option<Time>,
    /// Of the latest run; 0 before the first.
    pub(crate) epoch: Epoch,
    /// The work of its earlier runs: how long they lasted together, each times its speed.
    pub(crate) attained_ms: i64,
    /// What was expected to remain when it was last put into a lane. It stays while it waits.
    pub(crate) expected_ms: i64,
    pub(crate) state: State,
}

impl Job {
    /// When it would have been submitted had it done nothing but wait since: its age without its runs. A run that was slower than
    /// normal has waited for a part of its time.
    pub(crate) fn waits_since(&self) -> Time {
        Time(self.submitted_at.0.saturating_add(self.attained_ms))
    }

    /// How long its earlier runs lasted together, in whole seconds of which the five highest bits count: no more than a
    /// sixteenth too little, and few jobs have run for different times.
    pub(crate) fn ran_ms(&self) -> i64 {
        let seconds = (self.attained_ms / 1_000).max(0);
        let dropped = seconds.max(1).ilog2().saturating_sub(4);
        (seconds >> dropped << dropped) * 1_000
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// In a lane.
    Waiting(LaneId),
    /// Not yet in a lane: a back-off runs until then.
    BackOff(Time),
    /// Kept aside.
    Suspended,
    /// In a cluster, started or not.
    Placed(Box<Run>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) cluster: ClusterIndex,
    /// What it is charged as: the class of its size.
    pub(crate) class: ClassId,
    pub(crate) places: Vec<Place>,
    /// Workers of these that were told to leave and have not yet.
    pub(crate) leaving: Vec<Place>,
    pub(crate) bound: Option<Vec<BoundNode>>,
    /// What it has on other clusters, if it is split; cluster, places and bound are what it has on the first one.
    pub(crate) elsewhere: Vec<RunPart>,
    pub(crate) started_at: Option<Time>,
    /// Its latest change of size.
    pub(crate) sized: Option<Resized>,
    /// That its cluster refused to have it larger.
    pub(crate) refused: Option<GrowthRefused>,
    /// How fast it works at its size, in thousandths: see [`crate::Gang::speeds`].
    pub(crate) speed: i64,
    pub(crate) stopping: bool,
    /// Its entry among the interruptible runs, while it has one.
    pub(crate) remaining: Option<Remaining>,
    /// Where it is listed by its size.
    pub(crate) listed: Option<SizeListing>,
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
            mix: Mix::default(),
            sites: Vec::new(),
            site_by_name: BTreeMap::new(),
            queues: Queues::new(),
            classes: Classes::default(),
            lanes: Lanes::default(),
            groups: Groups::default(),
            jobs: Jobs::default(),
            timers: BTreeSet::new(),
            typical: Typical::default(),
            estimates: Estimates::default(),
            promised: BTreeMap::new(),
            overdue_at: Time(i64::MAX),
            overdue_waits: false,
            everything: Vector::default(),
            in_vain: BTreeSet::new(),
            longest: BTreeSet::new(),
            misplaced: Misplaced::default(),
            freed: BTreeSet::new(),
            growing: BTreeMap::new(),
            ample: 0,
            leaving: BTreeSet::new(),
            refusals: BTreeSet::new(),
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
        let overdue = Some(self.overdue_at).filter(|at| *at != Time(i64::MAX));
        self.timers.first().map(|(at, _)| *at).into_iter().chain(overdue).min()
    }

    /// Unfinished jobs.
    #[must_use]
    pub fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Counts of work done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The queue's weighted dominant share of everything its clusters have (0 to 1 ÷ weight); `None` for an unknown queue.
    #[must_use]
    pub fn share(&self, queue: &str) -> Option<f64> {
        self.queues.find(queue).map(|index| self.queues.whole_share(index, &self.everything))
    }

    /// What is charged to the queue and those below it; `None` for an unknown queue.
    #[must_use]
    pub fn usage(&self, queue: &str) -> Option<crate::Amounts> {
        self.queues.find(queue).map(|index| self.resources.amounts(&self.queues.get(index).usage))
    }

    /// The site with this name, which is made if there is none.
    pub(crate) fn site(&mut self, name: &str) -> ClusterIndex {
        if let Some(index) = self.site_by_name.get(name) {
            return *index;
        }
        self.sites.push(Site::new(name));
        self.site_by_name.insert(name.to_owned(), self.sites.len() - 1);
        self.sites.len() - 1
    }

    /// A job as it was submitted.
    pub(crate) fn spec_of(&self, job: &Job) -> JobSpec {
        JobSpec {
            id: job.id,
            queue: self.queues.get(job.queue).spec.name.clone(),
            priority: job.priority,
            kind: self.estimates.kind(job.likeness).to_owned(),
            submitted_at: job.submitted_at,
            deadline: job.deadline,
            gang: self.classes.get(job.class).gang.clone(),
        }
    }

    /// What decides when a later tier opens for a job.
    pub(crate) fn waits(&self, job: &Job) -> Waits {
        Waits::of(job.submitted_at, job.ran_ms(), job.expected_ms, self.classes.get(job.class).gpus, job.deadline)
    }

    /// Which of the queue's tiers are open to a job, and when more of them are, whatever waits then.
    pub(crate) fn tiers_open(&self, owner: QueueIndex, waits: Waits) -> (Open, Option<Time>) {
        let tiers = self.queues.tiers(owner);
        let mut sure = None;
        for (index, tier) in tiers.iter().enumerate().skip(1) {
            if matches!(tier.opens, TierOpens::WhileWaiting { .. }) && waits.begin_by.is_none_or(|at| at > self.now) {
                sure = sure.or(Some(index));
            }
            let Some(wait_ms) = tier.opens.wait_ms(waits.ran_ms, waits.work_ms) else { continue };
            let waited = Time(waits.submitted_at.0.saturating_add(wait_ms));
            let opens = waits.begin_by.map_or(waited, |begin_by| begin_by.min(waited));
            if opens > self.now {
                return (Open { tiers: index, sure: sure.unwrap_or(index) }, Some(opens));
            }
        }
        let all = tiers.len().max(1);
        (Open { tiers: all, sure: sure.unwrap_or(all) }, waits.begin_by.filter(|_| sure.is_some()))
    }
}
