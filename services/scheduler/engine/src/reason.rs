//! The words of an explanation: where a job stands, what holds it, and what each cluster answers.

use std::collections::BTreeSet;
use std::fmt;

use crate::amounts::show;
use crate::egress::Moving;
use crate::event::{Epoch, JobId, Time};
use crate::prefer::{ModelVerdict, Preference};
use crate::regions::SpanVerdict;
use crate::smaller::SizeVerdict;
use crate::spec::{Budget, BudgetUnit, Topology};

/// Everything there is to say about an unfinished job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Which job.
    pub job: JobId,
    /// Its queue.
    pub queue: String,
    /// Where it stands.
    pub standing: Standing,
    /// How large it is and may be; `None` for a gang of one size.
    pub size: Option<SizeVerdict>,
    /// Waiting jobs of its queue before it; 0 for the next one, and for a job that does not wait.
    pub ahead: u64,
    /// What must change first. Empty for a job that is next and has room.
    pub holds: Vec<Hold>,
    /// Where its queue stands among its siblings, and then those above it.
    pub shares: Vec<QueueShare>,
    /// Why its first place comes before another GPU model, or another cluster; `None` where there is no other.
    pub preference: Option<Preference>,
    /// Where it would be split, or what that lacks; `None` for a gang that stays on one cluster, or has room on one.
    pub span: Option<SpanVerdict>,
    /// Every known cluster, by name.
    pub clusters: Vec<ClusterVerdict>,
}

/// Where a queue stands: siblings are asked in the order of share ÷ weight, those within their guarantee first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueShare {
    /// Which.
    pub queue: String,
    /// Its weight.
    pub weight: u32,
    /// Its dominant share of everything, in millionths, with what it has used lately where that counts.
    pub share_ppm: u64,
    /// What it has used lately, on the mean, in thousandths of GPUs; 0 where that does not count.
    pub used_lately: i64,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In its queue.
    Waiting,
    /// Waits for the end of its back-off.
    BackOff {
        /// When that is.
        until: Time,
    },
    /// Kept aside until resumed.
    Suspended,
    /// In a cluster.
    Placed {
        /// Which.
        cluster: String,
        /// Of which run.
        epoch: Epoch,
        /// Since when it runs, if it does.
        started_at: Option<Time>,
    },
}

/// One thing that must change before the job can be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The capability of its queue or an ancestor would be exceeded.
    Capability {
        /// Whose.
        queue: String,
        /// Of what.
        resource: String,
        /// The limit, in base units.
        limit: i64,
        /// What is charged already.
        used: i64,
        /// What the job asks for.
        asked: i64,
    },
    /// Its queue or an ancestor would borrow more than it may.
    Borrowing {
        /// Which.
        queue: String,
        /// Of what.
        resource: String,
        /// What the queue is guaranteed, in base units.
        guaranteed: i64,
        /// What it may borrow beyond that.
        most: i64,
        /// What it uses already.
        used: i64,
        /// What the job asks for.
        asked: i64,
    },
    /// Other queues lend no more: it would need what they are guaranteed and keep for themselves.
    Lending {
        /// The queue in whose limit they keep it; `None`: in everything that there is.
        queue: Option<String>,
        /// Of what.
        resource: String,
        /// Who keeps it.
        keepers: BTreeSet<String>,
        /// The limit, in base units.
        limit: i64,
        /// What is used already.
        used: i64,
        /// What is kept.
        kept: i64,
        /// What the job would borrow.
        asked: i64,
    },
    /// A hard budget of its queue or an ancestor would be exceeded, at the cheapest place it may use.
    Budget {
        /// Whose.
        queue: String,
        /// Its place among the queue's budgets, from 0.
        number: usize,
        /// The budget.
        budget: Budget,
        /// What counts already.
        counted: i64,
        /// What the job would count with.
        asked: i64,
    },
    /// No open cluster has room: these resources are short somewhere it may go.
    Room {
        /// Their names.
        short_of: BTreeSet<String>,
    },
    /// No region has room for it on its clusters together, though one could hold it.
    Region(SpanVerdict),
    /// There is room on a cluster it may use, but not where the gang could stand together.
    Together {
        /// The level of which it needs one domain.
        level: String,
    },
    /// No cluster it may use could hold it at all.
    NoCluster,
    /// A further tier opens once more waits.
    MoreWaiting {
        /// Which, from 0.
        tier: usize,
        /// How much has to wait.
        threshold: Threshold,
    },
    /// A further tier opens by itself.
    TierOpens {
        /// Which, from 0.
        tier: usize,
        /// When.
        at: Time,
    },
    /// Its back-off must end.
    BackOff {
        /// When it does.
        until: Time,
    },
    /// Somebody must resume it.
    Resume,
}

/// One cluster's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterVerdict {
    /// Which cluster.
    pub cluster: String,
    /// The queue's tier it belongs to, from 0; `None` if the queue can't use it.
    pub tier: Option<usize>,
    /// The lesser, the sooner it is tried; `None` if it takes nothing.
    pub place: Option<usize>,
    /// The answer.
    pub reason: Reason,
    /// The dataset of the job, if it would have to be moved there.
    pub moving: Option<Moving>,
    /// Its GPU models that would do, the first one to be tried first; none for a gang without GPUs.
    pub models: Vec<ModelVerdict>,
}

/// Why a cluster takes a gang or doesn't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The gang is there.
    Here,
    /// It has room now.
    Room,
    /// No tier of the queue selects it.
    NotInTiers,
    /// It takes no jobs, and the queue has no tiers that name it all the same.
    TakesNoJobs,
    /// Its owner wants nothing new on it.
    Cordoned,
    /// It was not heard of lately.
    Suspect,
    /// It is lost.
    Lost,
    /// It is not a member yet, or no more.
    Absent,
    /// It doesn't serve the API of the job's manifest.
    NoApi {
        /// Group and version.
        wanted: String,
    },
    /// Its tier is not open to the job yet.
    TierClosed {
        /// When it opens by itself.
        opens: Option<Time>,
    },
    /// Its tier opens once more waits.
    TooFewWait(Threshold),
    /// It has none of the GPU models that would do.
    NoFlavor {
        /// Models that would do; empty: any.
        wanted: BTreeSet<String>,
        /// Models it has.
        present: BTreeSet<String>,
    },
    /// The gang does not fit, even with nothing else there.
    TooSmall(Gap),
    /// The gang does not fit now.
    Full(Gap),
    /// None of its nodes says where on the level it stands on which the gang must stand together.
    NoLevel {
        /// Which level.
        level: String,
    },
    /// No single domain of that level can hold the gang, even with nothing else there, though all of them together can.
    NoDomain(Apart),
    /// No single domain has room for the gang now, though the cluster has.
    Apart(Apart),
}

/// How much has to wait for a tier to open, each with what does: one of them is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// The queue that has the tier; what waits below it counts too.
    pub queue: String,
    /// More GPUs than this, and how many do.
    pub gpus: Option<(i64, i64)>,
    /// More jobs than this, and how many do.
    pub jobs: Option<(u64, u64)>,
}

impl fmt::Display for Threshold {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { queue, gpus, jobs } = self;
        let gpus = gpus.map(|(least, waiting)| (format!("{least} GPUs"), waiting.to_string()));
        let jobs = jobs.map(|(least, waiting)| (format!("{least} jobs"), waiting.to_string()));
        let (least, waiting): (Vec<String>, Vec<String>) = gpus.into_iter().chain(jobs).unzip();
        write!(out, "opens when more than {} wait in queue {queue:?}; {} do", least.join(" or "), waiting.join(" and "))
    }
}

/// How far a gang that must stand in one domain is from fitting into one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apart {
    /// The level.
    pub level: String,
    /// Its domain that comes closest.
    pub domain: String,
    /// How far the gang is from fitting there.
    pub gap: Gap,
}

/// A level in a word: `rack` for `cloud.provider.com/topology-rack`, `node` for a single one.
pub(crate) fn level_word(level: &str) -> &str {
    if level == Topology::NODE {
        return "node";
    }
    let name = level.rsplit('/').next().unwrap_or(level);
    name.strip_prefix("topology-").unwrap_or(name)
}

impl fmt::Display for Apart {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, domain, gap } = self;
        write!(out, "{domain:?} comes closest of {level}: {gap}")
    }
}

/// How far the gang is from fitting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Name of the worker group that doesn't fit.
    pub group: String,
    /// Its workers.
    pub workers: u32,
    /// How many of them there is room for.
    pub fitting: u32,
    /// What each of them asks for, in words.
    pub each: String,
    /// Of which resources the nodes have too little.
    pub short_of: BTreeSet<String>,
}

impl fmt::Display for Gap {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, workers, fitting, each, short_of } = self;
        write!(out, "gang needs {workers} {group:?} workers × ({each}), room for {fitting}")?;
        if short_of.is_empty() {
            return write!(out, ", no node of the kind");
        }
        write!(out, ", short of {}", short_of.iter().cloned().collect::<Vec<_>>().join(" and "))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
        match self {
            Self::Here => write!(out, "the gang is here"),
            Self::Room => write!(out, "has room"),
            Self::NotInTiers => write!(out, "no tier of the queue selects it"),
            Self::TakesNoJobs => write!(out, "takes no jobs, and the queue has no tiers that name it"),
            Self::Cordoned => write!(out, "cordoned"),
            Self::Suspect => write!(out, "not heard of lately"),
            Self::Lost => write!(out, "lost: not heard of"),
            Self::Absent => write!(out, "not a member"),
            Self::NoApi { wanted } => write!(out, "does not serve {wanted}"),
            Self::TierClosed { opens: Some(at) } => write!(out, "its tier opens for this job at {} ms", at.0),
            Self::TierClosed { opens: None } => write!(out, "its tier opens after an earlier one"),
            Self::TooFewWait(threshold) => write!(out, "its tier {threshold}"),
            Self::NoFlavor { wanted, present } if present.is_empty() => {
                write!(
                    out,
                    "has no GPUs{}",
                    if wanted.is_empty() { String::new() } else { format!("; wanted: {}", list(wanted)) }
                )
            }
            Self::NoFlavor { wanted, present } => write!(out, "has no {}, only {}", list(wanted), list(present)),
            Self::TooSmall(gap) => write!(out, "too small even when empty: {gap}"),
            Self::Full(gap) => write!(out, "{gap}"),
            Self::NoLevel { level } => write!(out, "no node has the label {level}, in one value of which the gang must stand"),
            Self::NoDomain(apart) => {
                let word = level_word(&apart.level);
                write!(out, "no single {word} could hold the gang even when empty, though the cluster could; {apart}")
            }
            Self::Apart(apart) => {
                write!(out, "no single {} has room for the gang, though the cluster has; {apart}", level_word(&apart.level))
            }
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capability { queue, resource, limit, used, asked } => write!(
                out,
                "capability of queue {queue:?} exceeded by {} {resource}: {} used + {} asked > {}",
                show(resource, used.saturating_add(*asked).saturating_sub(*limit)),
                show(resource, *used),
                show(resource, *asked),
                show(resource, *limit),
            ),
            Self::Borrowing { queue, resource, guaranteed, most, used, asked } => write!(
                out,
                "borrowing limit of queue {queue:?} exceeded by {} {resource}: {} used + {} asked > {} guaranteed + {} borrowed at most",
                show(resource, used.saturating_add(*asked).saturating_sub(guaranteed.saturating_add(*most))),
                show(resource, *used),
                show(resource, *asked),
                show(resource, *guaranteed),
                show(resource, *most),
            ),
            Self::Lending { queue, resource, keepers, limit, used, kept, asked } => {
                let keepers = keepers.iter().map(|keeper| format!("{keeper:?}")).collect::<Vec<_>>().join(" and ");
                let within = queue.as_ref().map_or("all clusters".to_owned(), |queue| format!("queue {queue:?}"));
                write!(
                    out,
                    "{keepers} lend no more {resource}: of {} in {within} {} are used and {} kept, {} are asked",
                    show(resource, *limit),
                    show(resource, *used),
                    show(resource, *kept),
                    show(resource, *asked),
                )
            }
            Self::Budget { queue, number, budget, counted, asked } => {
                let shown = |amount: i64| show_budget(budget.unit, amount);
                let beyond = shown(counted.saturating_add(*asked).saturating_sub(budget.amount));
                write!(
                    out,
                    "budget {} of queue {queue:?} exceeded by {beyond}: {} counted + {} expected > {}",
                    number + 1,
                    shown(*counted),
                    shown(*asked),
                    shown(budget.amount),
                )
            }
            Self::Room { short_of } => {
                write!(
                    out,
                    "room on a cluster it may use; short of {}",
                    short_of.iter().cloned().collect::<Vec<_>>().join(" and ")
                )
            }
            Self::Region(verdict) => write!(out, "room on several clusters of one region; {verdict}"),
            Self::Together { level } => write!(out, "room in a single {} of a cluster it may use", level_word(level)),
            Self::NoCluster => write!(out, "a cluster it may use that can hold it"),
            Self::MoreWaiting { tier, threshold } => write!(out, "tier {tier} {threshold}"),
            Self::TierOpens { tier, at } => write!(out, "tier {tier} opens at {} ms", at.0),
            Self::BackOff { until } => write!(out, "back-off until {} ms", until.0),
            Self::Resume => write!(out, "suspended: resume it"),
        }
    }
}

/// An amount of a budget for people.
#[must_use]
pub fn show_budget(unit: BudgetUnit, amount: i64) -> String {
    match unit {
        BudgetUnit::GpuMs => format!("{:.2} GPU-hours", amount as f64 / 3_600_000.0),
        BudgetUnit::Micros => format!("{:.2} of money", amount as f64 / 1_000_000.0),
    }
}
