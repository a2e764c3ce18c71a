//! What goes into the engine and what comes out: facts and decisions, with every instant inside them. Nothing here computes.

use crate::amounts::Amounts;
use crate::rows::Resized;
use crate::span::Part;
use crate::spec::{ClusterSpec, Gang, JobSpec, QueueSpec};

/// An instant in milliseconds since the Unix epoch. The engine has no clock: its *now* is the latest instant it was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

/// A job's row number. Rows are numbered in the order of submission, so it also breaks ties between equal times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// The running number of a job's run, from 1. Facts about a run count only while they name the current epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u32);

/// Whether new gangs may go to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// Takes gangs.
    Live,
    /// Its owner wants nothing new on it; what runs goes on.
    Cordoned,
    /// Not heard of lately: nothing new goes there until it is.
    Suspect,
    /// Not heard of for so long that nothing new goes there; what runs there waits for it.
    Lost,
    /// Not a member yet, or no more.
    Absent,
}

/// Workers of one group on one node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// Index into [`Gang::groups`](crate::Gang::groups).
    pub group: usize,
    /// The node's name.
    pub node: String,
    /// How many workers.
    pub workers: u32,
    /// Number, on its node, of the GPU of which its one worker gets a part; slots with one number share a GPU.
    pub gpu: Option<u16>,
}

/// What was decided about a gang.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Which job.
    pub job: JobId,
    /// The new run's epoch.
    pub epoch: Epoch,
    /// Where the whole gang goes, or the first part of one that is split. Model, tier and time are the same for all parts; price, egress,
    /// GPUs and slots are of what goes here.
    pub cluster: String,
    /// The GPU model it gets; `None` for a gang without GPUs.
    pub flavor: Option<String>,
    /// Price of one GPU-hour at the moment of the decision, in millionths; `None` if there is none for it.
    pub price_micros: Option<i64>,
    /// What moving the gang's dataset there costs, once, in millionths; 0 if it has none, if it is there, or if nobody says.
    pub egress_micros: i64,
    /// Index of the queue's tier that was used, from 0.
    pub tier: usize,
    /// GPUs of all its workers at the size at which it starts, or of those that go here of one that is split, parts rounded up to whole
    /// ones.
    pub gpus: i64,
    /// How long the run counts in budgets at least, as long as it is not over: what it is expected to take, or
    /// [`TierOpens::UNKNOWN_MS`] where nothing is known.
    pub counted_ms: i64,
    /// The plan down to nodes.
    pub slots: Vec<Slot>,
    /// What else a gang has that is split, at most [`MOST_PARTS`](crate::MOST_PARTS) with this one; empty for every other.
    pub elsewhere: Vec<Part>,
}

/// What the engine wants done. Its own state already has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start a run.
    Place(Placement),
    /// End a run early. The caller tells its end, as a retry, once it has come; then the other job is placed before anybody is
    /// asked.
    Interrupt(Interruption),
    /// Change the size of a run of an elastic gang.
    Resize(Resize),
}

/// A run of an elastic gang gets another size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resize {
    /// Whose run.
    pub job: JobId,
    /// Which run.
    pub epoch: Epoch,
    /// Workers that the elastic group has from then on.
    pub workers: u32,
    /// The plan from then on, of all groups.
    pub slots: Vec<Slot>,
    /// Workers that are to leave, besides; none unless it shrinks.
    pub leaving: Vec<Slot>,
    /// When it got the size that it is charged for, and what it had done by then; `None` as long as that is the one with which it began.
    pub sized: Option<Resized>,
    /// Which way, and what for.
    pub change: SizeChange,
}

impl Resize {
    /// What is bound once all pods are where the plan says.
    #[must_use]
    pub fn bound(&self, gang: &Gang) -> Vec<BoundNode> {
        let bound = self.slots.iter().map(|slot| BoundNode {
            node: slot.node.clone(),
            used: gang.groups[slot.group].each.checked_times(slot.workers).unwrap_or_default(),
        });
        bound.collect()
    }
}

/// Which way the size of a run changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeChange {
    /// It gets workers for which there is room that nobody who waits can use. They are charged at once.
    Grows,
    /// Workers are to leave. They are charged until [`Event::Bound`] shows that they have left, which is then told by
    /// [`SizeChange::HasShrunk`].
    Shrinks {
        /// For which waiting job.
        in_favour_of: JobId,
        /// Why.
        cause: Cause,
    },
    /// Workers that its cluster refused to have are to leave; else as [`SizeChange::Shrinks`].
    Refused,
    /// The workers that were to leave have left: they are charged no more.
    HasShrunk,
}

/// Why a run makes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The gang is expected to be done much sooner.
    Sooner,
    /// The gang has waited longer than anything should.
    Overdue,
    /// The gang's priority is higher, in the same queue.
    Priority,
    /// The run's queue uses more than its share, and the gang's queue less.
    Share,
    /// The run itself goes on in a better place, which is kept for it.
    Better,
    /// The run has more workers than it needs, and the gang has not what it needs.
    Surplus,
}

impl Cause {
    /// For a sentence such as "interrupted for …, which is expected to be done much sooner".
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Sooner => "is expected to be done much sooner",
            Self::Overdue => "has waited for too long",
            Self::Priority => "has a higher priority",
            Self::Share => "is within its queue's share",
            Self::Better => "goes on in a better place",
            Self::Surplus => "needs them to start",
        }
    }
}

/// A run that makes room for a gang, or moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interruption {
    /// Whose run.
    pub job: JobId,
    /// Which run.
    pub epoch: Epoch,
    /// For which waiting job; with [`Cause::Better`] for itself.
    pub in_favour_of: JobId,
    /// Why.
    pub cause: Cause,
}

/// Where a run's pods really are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundNode {
    /// The node's name.
    pub node: String,
    /// What the run's pods on it ask for.
    pub used: Amounts,
}

/// How a run came to its end. Its resources are free from this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// The job is done; the engine forgets it.
    Finished,
    /// It goes back into its queue, at its original place, not before this instant.
    Retry {
        /// End of the back-off.
        not_before: Time,
    },
    /// It was stopped because the job is to be suspended; the job is kept aside until it is resumed.
    Suspended,
}

/// A fact. Facts are folded in the order they are given; each carries the instant at which it is true.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A cluster joined or changed.
    Cluster(ClusterSpec),
    /// A cluster left. What runs there stays charged to its queues until its end is told.
    ClusterGone(String),
    /// A queue was made or changed.
    Queue(QueueSpec),
    /// A queue without jobs and children was deleted.
    QueueGone(String),
    /// What counts in a queue's budgets now, those placed runs included that the engine has decided. Until the next such fact it adds
    /// what it places.
    Counted {
        /// The queue.
        queue: String,
        /// Per budget, in its order and unit.
        counted: Vec<i64>,
    },
    /// What a queue and those below it have used lately, on the mean, in thousandths of GPUs: over what time and how much less what is
    /// longer ago counts is the caller's business. It counts besides what is used now where queues are compared; 0: nothing does.
    UsedLately {
        /// Which.
        queue: String,
        /// How much.
        gpus: i64,
    },
    /// A job was accepted.
    Submitted {
        /// The job.
        job: JobSpec,
        /// True if it shall be kept aside until resumed.
        suspended: bool,
    },
    /// A waiting or suspended job was taken back. A placed one is told by the end of its run.
    Withdrawn(JobId),
    /// A waiting job is kept aside.
    Suspended(JobId),
    /// A job that was kept aside waits again, at its original place.
    Resumed(JobId),
    /// A run is to end early and its end has not been seen: it is charged until then.
    Stopping {
        /// Which job.
        job: JobId,
        /// Of which run.
        epoch: Epoch,
    },
    /// A run has at least `minAvailable` workers running.
    Started {
        /// Which job.
        job: JobId,
        /// Of which run.
        epoch: Epoch,
        /// Since when.
        at: Time,
    },
    /// A cluster refuses to have a run of an elastic gang as large as it was to become.
    GrowthRefused {
        /// Which job.
        job: JobId,
        /// Of which run.
        epoch: Epoch,
        /// Workers of its elastic group that are there.
        workers: u32,
        /// When.
        at: Time,
    },
    /// All pods of a run are bound, or those on the first cluster of one that is split. Replaces the plan if it accounts for at least
    /// what was planned, or, where workers were told to leave, for what is left of that: once fewer are there than one more than that,
    /// they have left.
    Bound {
        /// Which job.
        job: JobId,
        /// Of which run.
        epoch: Epoch,
        /// Where they are.
        nodes: Vec<BoundNode>,
    },
    /// All pods are bound that a run has on one of its clusters. Replaces the plan of this cluster if it accounts for at least what was
    /// planned there.
    BoundOn {
        /// Which job.
        job: JobId,
        /// Of which run.
        epoch: Epoch,
        /// On which cluster.
        cluster: String,
        /// Where they are.
        nodes: Vec<BoundNode>,
    },
    /// A run's end.
    Ended {
        /// Which job.
        job: JobId,
        /// Of which run.
        epoch: Epoch,
        /// How.
        end: RunEnd,
    },
    /// Nothing but the time. Tells back-offs and tier waits that they are over.
    Time(Time),
}

/// A fact that can't be folded. The state is as before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The path of the field at fault, in the words of the specs above.
    pub field: String,
    /// What is wrong with it.
    pub why: String,
}

impl Refused {
    pub(crate) fn new(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { field: field.into(), why: why.into() }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}", self.field, self.why)
    }
}

impl std::error::Error for Refused {}
