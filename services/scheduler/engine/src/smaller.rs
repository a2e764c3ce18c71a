//! How large an elastic gang is, and why it is not larger. Reads only.

use std::fmt;

use crate::engine::{Engine, Job, Run, State};
use crate::event::{ClusterState, Time};
use crate::queues::ROOT;
use crate::reason::Hold;
use crate::spec::Elastic;

/// How large an elastic gang is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizeVerdict {
    /// The group whose workers come and go.
    pub group: String,
    /// How many of them there are at least.
    pub least: u32,
    /// How many there are at most.
    pub full: u32,
    /// How many there are, those that are told to leave included; 0 while it has no run.
    pub workers: u32,
    /// Why there are not more; `None` where there are all, or none yet.
    pub why: Option<Smaller>,
}

/// Why a run of an elastic gang is not larger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Smaller {
    /// It has not started, or is told to end.
    NotRunning,
    /// So many of its workers are told to leave, for a gang that waits.
    Leaving {
        /// How many.
        workers: u32,
    },
    /// It has begun, or changed its size, only lately.
    TooSoon {
        /// When it may grow.
        at: Time,
    },
    /// Its cluster refused to have it larger.
    Refused {
        /// When it may grow.
        until: Time,
    },
    /// One worker more would be beyond a limit.
    Limit(Hold),
    /// Its pods have parts of GPUs and are elsewhere than planned: of which GPUs is not known.
    Elsewhere,
    /// Its cluster takes nothing new.
    NotLive,
    /// Its cluster has no room for one worker more that is of its GPU model and where the gang stands together.
    NoRoom,
}

impl fmt::Display for Smaller {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning => write!(out, "it does not run"),
            Self::Leaving { workers } => write!(out, "{workers} of its workers are told to leave, for a gang that waits"),
            Self::TooSoon { at } => write!(out, "its size is left as it is until {} ms", at.0),
            Self::Refused { until } => {
                write!(out, "its cluster refused to have it larger; its size is left as it is until {} ms", until.0)
            }
            Self::Limit(hold) => write!(out, "{hold}"),
            Self::Elsewhere => write!(out, "its pods have parts of GPUs that are not those that were planned"),
            Self::NotLive => write!(out, "its cluster takes nothing new"),
            Self::NoRoom => write!(out, "its cluster has no room for one worker more"),
        }
    }
}

impl Engine {
    /// What there is to say of the size of an elastic gang.
    pub(crate) fn size_verdict(&self, job: &Job) -> Option<SizeVerdict> {
        let Elastic { group, least } = self.elastic(job)?;
        let full = &self.classes.get(job.class).gang.groups[group];
        let State::Placed(run) = &job.state else {
            return Some(SizeVerdict { group: full.name.clone(), least, full: full.replicas, workers: 0, why: None });
        };
        let workers = self.workers_of(job, run.class);
        let why = (workers < full.replicas || !run.leaving.is_empty()).then(|| self.why_no_larger(job, run));
        Some(SizeVerdict { group: full.name.clone(), least, full: full.replicas, workers, why })
    }

    fn why_no_larger(&self, job: &Job, run: &Run) -> Smaller {
        if !run.leaving.is_empty() {
            return Smaller::Leaving { workers: run.leaving.iter().map(|place| place.workers).sum() };
        }
        let Some(may_change_at) = self.may_change_at(job, run).filter(|_| !run.stopping) else { return Smaller::NotRunning };
        let one = self.elastic(job).map(|elastic| &self.classes.get(job.class).groups[elastic.group].asked);
        let excess = one.and_then(|one| {
            let mut chain = self.queues.chain(job.queue).chain([ROOT]);
            chain.find_map(|queue| Some((queue, self.queues.excess(job.queue, queue, one).into_iter().next()?)))
        });
        if let Some((queue, excess)) = excess {
            return Smaller::Limit(self.limit_exceeded(queue, excess));
        }
        if self.is_of_unknown_gpus(run) {
            return Smaller::Elsewhere;
        }
        let is_live = self.sites[run.cluster].cluster.as_ref().is_some_and(|known| known.spec.state == ClusterState::Live);
        if !is_live {
            return Smaller::NotLive;
        }
        match run.refused_until().filter(|until| *until > self.now) {
            Some(until) => Smaller::Refused { until },
            None if may_change_at > self.now => Smaller::TooSoon { at: may_change_at },
            None => Smaller::NoRoom,
        }
    }
}
