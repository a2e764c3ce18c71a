//! What the engine is told of clusters, queues and jobs: plain values. Nothing here decides.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::selector::LabelSelector;

use crate::amounts::Amounts;
use crate::event::{ClusterState, JobId, Slot, Time};
use crate::span::Span;

/// One node as the cluster's agent reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// Unique in its cluster.
    pub name: String,
    /// GPU model, empty for a node without GPUs.
    pub flavor: String,
    /// What pods may ask for in total. Parts of its GPUs may be used if it names them (`nvidia.com/gpu-milli`, of whatever amount).
    pub allocatable: Amounts,
    /// What pods ask for that were not placed by this engine.
    pub used_by_others: Amounts,
    /// Where it stands: the name of its domain by level, as in `topology.kubernetes.io/rack` and `r7`.
    pub domains: BTreeMap<String, String>,
}

impl NodeSpec {
    /// `count` equal nodes named `{prefix}-0`, `{prefix}-1`, … with nothing used by others.
    #[must_use]
    pub fn group(prefix: &str, count: u32, flavor: &str, allocatable: &Amounts) -> Vec<Self> {
        (0..count)
            .map(|number| Self {
                name: format!("{prefix}-{number}"),
                flavor: flavor.to_owned(),
                allocatable: allocatable.clone(),
                used_by_others: Amounts::new(),
                domains: BTreeMap::new(),
            })
            .collect()
    }
}

/// A cluster as the scheduler's projection of the registry has it.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterSpec {
    /// Unique.
    pub name: String,
    /// What tier selectors look at.
    pub labels: BTreeMap<String, String>,
    /// Whether new gangs may go there.
    pub state: ClusterState,
    /// Whether queues *without* tiers may use it. Serving and edge clusters say no.
    pub takes_jobs: bool,
    /// Where it stands; empty if unknown.
    pub region: String,
    /// API group versions it serves (`batch.volcano.sh/v1alpha1`); empty: not known, nothing is ruled out.
    pub apis: BTreeSet<String>,
    /// All nodes.
    pub nodes: Vec<NodeSpec>,
    /// Price of one GPU-hour per flavor in millionths of the currency. A flavor without a price is used last in its tier.
    pub prices: BTreeMap<String, i64>,
    /// Milligrams of CO2e that a GPU-hour emits per flavor now: watts × grams per kWh. A flavor that is not named comes last where the
    /// greenest places are preferred.
    pub emissions: BTreeMap<String, i64>,
    /// Price of moving a GiB here, in millionths, by the region it comes out of; [`ClusterSpec::ANY_REGION`] for those that are not
    /// named. A cluster to which a job's dataset would have to be moved at a price that nobody says comes last in its tier.
    pub egress: BTreeMap<String, i64>,
}

impl ClusterSpec {
    /// Every region that is not named.
    pub const ANY_REGION: &str = "*";
}

/// Which clusters belong to a tier: those named, and those the selector matches.
#[derive(Clone, Debug, PartialEq)]
pub struct Tier {
    /// Clusters by name, each with its place among those that are listed, the first one 0; [`Tier::UNLISTED`] for the members of a
    /// fleet.
    pub clusters: BTreeMap<String, u32>,
    /// Clusters by label.
    pub selector: Option<LabelSelector>,
    /// When a job may use this tier. Of no effect on the first one, which is always open.
    pub opens: TierOpens,
}

impl Tier {
    /// The place of a cluster that is not listed by name.
    pub const UNLISTED: u32 = u32::MAX;

    /// The place of one of its clusters among those that are listed.
    pub(crate) fn place_of(&self, cluster: &str) -> u32 {
        self.clusters.get(cluster).copied().unwrap_or(Self::UNLISTED)
    }
}

/// The overflow condition of a tier. A tier that opens after a time, or while enough waits, opens whatever that is to a job that would
/// miss its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierOpens {
    /// As soon as no earlier tier has room for the gang.
    WhenFull,
    /// Once the job has waited this long since it was submitted, and no earlier tier has room.
    AfterWaitingMs(i64),
    /// Once the job has waited, its runs not counted, for a multiple of the GPU-time that it is expected to take still, and no
    /// earlier tier has room: what takes little soon goes elsewhere, and what takes much waits for longer. A job without GPUs
    /// counts as one of one GPU, and one that has not run and like which nothing has finished as if it took
    /// [`TierOpens::UNKNOWN_MS`].
    AfterWaitingForWork {
        /// The multiple in thousandths. 1000: a job of 2 GPUs that is expected to take an hour waits for two.
        permille: u32,
    },
    /// While more than so much waits in the queue that has the tier and in those below it, the job itself counted, and no earlier
    /// tier has room. Where both are named either will do; at least one is.
    WhileWaiting {
        /// GPUs that waiting jobs ask for, parts rounded up for each job; not negative.
        gpus: Option<i64>,
        /// Waiting jobs.
        jobs: Option<u64>,
    },
}

impl TierOpens {
    /// How long a job is taken to last that has not run and like which nothing has finished: an hour.
    pub const UNKNOWN_MS: i64 = 60 * 60 * 1_000;

    /// How long a job is taken to last still of which this is expected; 0: nothing is known.
    pub(crate) const fn lasts_ms(expected_ms: i64) -> i64 {
        if expected_ms == 0 { Self::UNKNOWN_MS } else { expected_ms }
    }

    /// How long after its submission a job may use the tier that has run for so long and is of this much work in GPU-time; `None`
    /// if it doesn't wait for a time.
    pub(crate) fn wait_ms(self, ran_ms: i64, work_ms: i64) -> Option<i64> {
        match self {
            Self::WhenFull | Self::WhileWaiting { .. } => None,
            Self::AfterWaitingMs(wait) => Some(wait),
            Self::AfterWaitingForWork { permille } => {
                let wait = i128::from(ran_ms) + i128::from(work_ms) * i128::from(permille) / 1_000;
                Some(i64::try_from(wait).unwrap_or(i64::MAX))
            }
        }
    }
}

/// Which places come first inside a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefers {
    /// Where a unit of the job's work costs least: price of a GPU-hour ÷ its speed there, with what moving its dataset there costs
    /// spread over the work that is expected.
    Cheapest,
    /// Where the job is fastest compared with how fast the model typically is for the jobs there are. So each model gets the jobs that
    /// gain most from it, and all of them together are done sooner than if each took the fastest one.
    Fastest,
    /// Where a unit of the job's work emits least: emissions of a GPU-hour ÷ its speed there; then where it costs least.
    Greenest,
    /// The clusters in the order in which the tier lists them, those it does not list by name behind them; on one cluster the model on
    /// which a unit of work costs least.
    Listed,
}

/// What a queue and those below it may spend. Over what time is the caller's business, who tells what counts now:
/// [`Event::Counted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// What is counted.
    pub unit: BudgetUnit,
    /// How much may count, in units; not negative.
    pub amount: i64,
    /// What happens when that much counts.
    pub limit: BudgetLimit,
}

/// What a budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetUnit {
    /// GPUs × milliseconds.
    GpuMs,
    /// Millionths of the currency of the prices.
    Micros,
}

/// What a budget does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetLimit {
    /// No gang starts with which more than its amount would count.
    Hard,
    /// Once its amount counts, what the queue has beyond its guarantee weighs a thousand times as much: siblings go first.
    Soft,
}

/// A queue in the vocabulary of Volcano.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueSpec {
    /// Unique.
    pub name: String,
    /// The queue whose share and capability this one lives in.
    pub parent: Option<String>,
    /// Its part of its parent's share is weight ÷ sum of the weights of the siblings that ask. At least 1.
    pub weight: u32,
    /// Upper limit per named resource, over all clusters together; 0: nothing. A resource that is not named is not limited.
    pub capability: BTreeMap<String, i64>,
    /// What it gets before anything is divided by weight, whenever it asks for it. Others may borrow it meanwhile.
    pub guarantee: Amounts,
    /// How much it may use beyond its guarantee, per named resource; 0: nothing. What is not named is not limited.
    pub borrowing_limit: BTreeMap<String, i64>,
    /// How much of its guarantee others may use while it does not, per named resource; 0: nothing. What is not named is lent whole, and
    /// more than its guarantee it has not to lend.
    pub lending_limit: BTreeMap<String, i64>,
    /// Whether others may take back what this queue uses beyond its share.
    pub reclaimable: bool,
    /// Its runs are left alone for so long after their start, whoever wants their place. Not negative.
    pub min_runtime_ms: i64,
    /// In order of preference; empty: those of the nearest ancestor that has some, else every cluster that takes jobs.
    pub tiers: Vec<Tier>,
    /// Which places come first inside a tier; `None`: what the nearest ancestor says, else [`Prefers::Cheapest`].
    pub prefers: Option<Prefers>,
    /// What it may spend.
    pub budgets: Vec<Budget>,
}

impl QueueSpec {
    /// A run is left alone for a minute, unless its queue says otherwise: what starts again and again gets nothing done.
    pub const MIN_RUNTIME_MS: i64 = 60_000;

    /// A reclaimable queue of weight 1 without limits, guarantee and tiers.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            parent: None,
            weight: 1,
            capability: BTreeMap::new(),
            guarantee: Amounts::new(),
            borrowing_limit: BTreeMap::new(),
            lending_limit: BTreeMap::new(),
            reclaimable: true,
            min_runtime_ms: Self::MIN_RUNTIME_MS,
            tiers: Vec::new(),
            prefers: None,
            budgets: Vec::new(),
        }
    }
}

/// Equal workers of a gang.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerGroup {
    /// The task's name in the manifest.
    pub name: String,
    /// How many, at least 1.
    pub replicas: u32,
    /// What each asks for.
    pub each: Amounts,
}

/// Where the workers of a gang are to stand together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topology {
    /// Whose domains count: a level of [`NodeSpec::domains`], or [`Topology::NODE`].
    pub level: String,
    /// What if no domain has room.
    pub mode: TopologyMode,
}

impl Topology {
    /// The level on which each node is a domain.
    pub const NODE: &str = "kubernetes.io/hostname";
}

/// What a gang does for which no domain has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopologyMode {
    /// It waits.
    Required,
    /// It goes into the fewest domains.
    Preferred,
}

/// The workers of a gang of which there may be fewer. All others are always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Elastic {
    /// Index into [`Gang::groups`].
    pub group: usize,
    /// How many of its workers there are at least, from 1 to one less than its replicas.
    pub least: u32,
}

/// All workers of a job. Placed whole, all replicas charged, or not at all: in one cluster, unless its workers may span a region. An
/// elastic one is placed at any size from its least to its full one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gang {
    /// At least one group.
    pub groups: Vec<WorkerGroup>,
    /// How many workers must run for the job to count as running; 1 to the number of workers.
    pub min_available: u32,
    /// GPU models that will do; empty: any. All GPU workers of a gang get the same model.
    pub flavors: BTreeSet<String>,
    /// The API group version its cluster has to serve (`batch.volcano.sh/v1alpha1`); empty: none.
    pub api: String,
    /// What going on from its last checkpoint costs it, in milliseconds, when it was interrupted; `None`: it is never
    /// interrupted for another.
    pub restart_ms: Option<i64>,
    /// How fast it works on a GPU model, in thousandths of the speed at which durations are counted, 1 to [`Gang::MOST_SPEED`];
    /// [`Gang::NORMAL_SPEED`] on models that are not named.
    pub speeds: BTreeMap<String, u32>,
    /// Where inside a cluster its workers are to stand together; `None`: anywhere.
    pub topology: Option<Topology>,
    /// What it reads, where that has to be near; `None`: nothing that counts.
    pub dataset: Option<Dataset>,
    /// The group that may be smaller than its replicas say; `None`: all workers, or none.
    pub elastic: Option<Elastic>,
    /// How far its workers may be apart.
    pub span: Span,
}

/// What a job reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dataset {
    /// The region it is in.
    pub region: String,
    /// How large it is; not negative.
    pub bytes: i64,
}

impl Dataset {
    /// Bytes of a GiB, for which prices of egress are.
    pub const GIB: i64 = 1 << 30;
}

impl Gang {
    /// The speed at which a job's expected time is counted, in thousandths.
    pub const NORMAL_SPEED: u32 = 1_000;
    /// A thousand times as fast; more is taken for a mistake.
    pub const MOST_SPEED: u32 = 1_000_000;

    /// The work that is done in a time on a GPU model (empty: without GPUs): the time it takes at the normal speed.
    #[must_use]
    pub fn work_ms(&self, model: &str, lasted_ms: i64) -> i64 {
        let speed = self.speeds.get(model).copied().unwrap_or(Self::NORMAL_SPEED);
        crate::class::work_of(lasted_ms, i64::from(speed))
    }

    /// The gang with so many workers in its elastic group, which is a gang of that size and no other; itself where it is not elastic.
    #[must_use]
    pub fn at(&self, workers: u32) -> Self {
        let Some(Elastic { group, .. }) = self.elastic else { return self.clone() };
        let mut gang = Self { elastic: None, ..self.clone() };
        if let Some(group) = gang.groups.get_mut(group) {
            group.replicas = workers;
        }
        gang
    }

    /// How many workers of the elastic group a plan places; `None` for a gang that is not elastic.
    #[must_use]
    pub fn size_of(&self, slots: &[Slot]) -> Option<u32> {
        let Elastic { group, .. } = self.elastic?;
        Some(slots.iter().filter(|slot| slot.group == group).map(|slot| slot.workers).sum())
    }

    /// Which part of the full gang a plan places, in thousandths: by GPUs, or without these by workers. So much of the full gang's work is
    /// done in a time.
    #[must_use]
    pub fn permille_of(&self, slots: &[Slot]) -> u32 {
        let placed = self.as_placed(slots);
        let gpus = |gang: &Self| gang.total().map_or(0, |total| total.gpus_rounded_up());
        let (part, all) = match gpus(self) {
            0 => (placed.workers(), self.workers()),
            gpus_of_all => (gpus(&placed).unsigned_abs(), gpus_of_all.unsigned_abs()),
        };
        u32::try_from(part.saturating_mul(1_000) / all.max(1)).unwrap_or(1_000).clamp(1, 1_000)
    }

    /// The gang as a plan places it.
    #[must_use]
    pub fn as_placed(&self, slots: &[Slot]) -> Self {
        self.size_of(slots).map_or_else(|| self.clone(), |workers| self.at(workers))
    }

    /// The level in one of whose domains it must stand.
    pub(crate) fn required_level(&self) -> Option<&str> {
        self.topology.as_ref().filter(|topology| topology.mode == TopologyMode::Required).map(|topology| topology.level.as_str())
    }

    /// Workers of all groups.
    #[must_use]
    pub fn workers(&self) -> u64 {
        self.groups.iter().map(|group| u64::from(group.replicas)).sum()
    }

    /// What all workers ask for together.
    ///
    /// # Errors
    /// The resource whose sum is beyond an `i64`.
    pub fn total(&self) -> Result<Amounts, String> {
        self.groups.iter().try_fold(Amounts::new(), |sum, group| sum.checked_add(&group.each.checked_times(group.replicas)?))
    }
}

/// A job as it was submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSpec {
    /// Its row.
    pub id: JobId,
    /// The queue it waits in.
    pub queue: String,
    /// Higher goes first within the queue.
    pub priority: i32,
    /// What jobs are alike, as the caller sees it (owner and name pattern): together with queue and GPUs the key under which
    /// run times are learned. May be empty.
    pub kind: String,
    /// Earlier goes first among equal priorities and expectations; kept over retries, interruptions and suspensions.
    pub submitted_at: Time,
    /// When it should be done. As late as it can begin and be done by then, as far as its time is known, every later tier is open to
    /// it; nothing else goes by it.
    pub deadline: Option<Time>,
    /// What it needs.
    pub gang: Gang,
}
