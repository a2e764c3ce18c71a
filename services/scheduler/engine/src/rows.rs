//! What survives a restart. [`Engine::rows`] is everything a service has to keep in tables, and [`Engine::restore`] is
//! the fold over them: an engine made from rows decides as the one that wrote them would have.

use std::collections::{BTreeMap, BTreeSet};

use crate::Amounts;
use crate::engine::{Engine, State};
use crate::event::{BoundNode, Epoch, JobId, Slot, Time};
use crate::learned::ModelRuns;
use crate::nodes::Place;
use crate::parts::RunPart;
use crate::span::PartRow;
use crate::spec::{ClusterSpec, JobSpec, QueueSpec};

/// The whole persisted state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// Known clusters, by name.
    pub clusters: Vec<ClusterSpec>,
    /// Queues, by name; parents may stand behind their children.
    pub queues: Vec<QueueSpec>,
    /// What counts in the budgets of the queues that have some.
    pub counted: BTreeMap<String, Vec<i64>>,
    /// What queues have used lately, in thousandths of GPUs, where that counts.
    pub used_lately: BTreeMap<String, i64>,
    /// Unfinished jobs, by row.
    pub jobs: Vec<JobRow>,
    /// How long finished runs took.
    pub histories: Vec<HistoryRow>,
    /// What was asked for lately. Without it the unfinished jobs stand for that: an engine decides the same then, but may choose other
    /// nodes.
    pub mix: Vec<MixRow>,
}

/// How often a worker of a shape was asked for, older ones counted for less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MixRow {
    /// What it asks for.
    pub each: Amounts,
    /// GPU models that will do; empty: any.
    pub flavors: BTreeSet<String>,
    /// Workers.
    pub counted: u64,
    /// Workers when the mix was looked at last.
    pub published: u64,
}

/// Finished runs that were alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRow {
    /// Their queue.
    pub queue: String,
    /// Their kind.
    pub kind: String,
    /// GPUs of each.
    pub gpus: i64,
    /// Runs by level of duration: level 2n begins at 2ⁿ s, level 2n + 1 in the middle of the doubling.
    pub finished: BTreeMap<u8, u32>,
    /// Those of jobs that don't say how fast they are and were on one GPU model all the time, by model.
    pub models: BTreeMap<String, ModelRuns>,
}

/// One unfinished job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRow {
    /// As submitted.
    pub spec: JobSpec,
    /// Of its latest run; 0 before the first.
    pub epoch: Epoch,
    /// The work of its earlier runs: how long they lasted together, each times its speed ([`Gang::speeds`](crate::Gang::speeds)).
    pub attained_ms: i64,
    /// How fast its like was on GPU models, in thousandths, when it was taken in; `None`: to be looked up now.
    pub learned_speeds: Option<BTreeMap<String, u32>>,
    /// Where it stands.
    pub state: JobState,
}

/// Where an unfinished job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Waits for its turn, after a failed run not before the given instant.
    Waiting {
        /// End of the back-off.
        not_before: Option<Time>,
        /// Expected remaining time when it was put into its queue; `None`: to be estimated now.
        expected_ms: Option<i64>,
        /// Room that is kept for it.
        promised: Option<Promised>,
    },
    /// Kept aside.
    Suspended,
    /// In a cluster.
    Placed {
        /// Which, or the first one of a run that is split.
        cluster: String,
        /// The plan there.
        slots: Vec<Slot>,
        /// Where its pods there are, once all are bound.
        bound: Option<Vec<BoundNode>>,
        /// What else a run has that is split.
        elsewhere: Vec<PartRow>,
        /// Since when it runs.
        started_at: Option<Time>,
        /// True once it is to end early.
        stopping: bool,
        /// What it was expected to take still when that was last looked at; `None`: to be estimated now.
        remaining: Option<Remaining>,
        /// Workers of the plan that were told to leave and have not yet.
        leaving: Vec<Slot>,
        /// Its latest change of size; `None`: it has the size with which it began.
        sized: Option<Resized>,
        /// The better place that is kept for it, once it is to end for that.
        promised: Option<Promised>,
    },
}

/// Room that is kept for a gang before it is free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promised {
    /// In which cluster.
    pub cluster: String,
    /// On nodes with which GPU model.
    pub flavor: Option<String>,
    /// Index of the queue's tier, from 0.
    pub tier: usize,
    /// On which nodes.
    pub slots: Vec<Slot>,
    /// On which further clusters and nodes, for a gang that will be split.
    pub further: Vec<(String, Vec<Slot>)>,
    /// Runs that were told to end for it and have not yet.
    pub left: BTreeSet<JobId>,
    /// When the room should have come at the latest; `None` if only the runs in `left` are in its way.
    pub expected_at: Option<Time>,
    /// Whether workers that left for it stood elsewhere than was thought: it is given up unless its room is there all the same.
    pub elsewhere: bool,
}

/// When a run got its present size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resized {
    /// When.
    pub at: Time,
    /// The work that it had done by then: its times at each size, each times its speed and its part of the full size.
    pub done_ms: i64,
    /// For whom workers left that stood elsewhere than was thought: as long as that one waits, an hour at most, the run does not grow into
    /// the room that came of it, only to give it back.
    pub scattered_for: Option<JobId>,
}

/// What a run was expected to take still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// Time × GPUs, in milliseconds.
    pub gpu_ms: i64,
    /// When more is to be expected.
    pub until: Time,
}

/// The derived state in a form that can be compared: what a fold must reproduce.
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// Free amounts per cluster and node; negative where others took what was planned.
    pub free: BTreeMap<String, BTreeMap<String, Amounts>>,
    /// Charged per queue.
    pub usage: BTreeMap<String, Amounts>,
    /// Waiting jobs per queue in the queue's order.
    pub waiting: BTreeMap<String, Vec<JobId>>,
    /// Placed jobs with their clusters.
    pub placed: BTreeMap<JobId, BTreeSet<String>>,
}

impl Engine {
    /// Everything that has to be kept.
    #[must_use]
    pub fn rows(&self) -> Rows {
        let clusters: BTreeMap<&str, &ClusterSpec> =
            self.sites.iter().filter_map(|site| Some((site.name.as_str(), &site.cluster.as_ref()?.spec))).collect();
        Rows {
            clusters: clusters.into_values().cloned().collect(),
            queues: self.queues.iter().map(|(_, queue)| queue.spec.clone()).collect(),
            counted: self
                .queues
                .iter()
                .filter(|(_, queue)| !queue.counted.is_empty())
                .map(|(_, queue)| (queue.spec.name.clone(), queue.counted.clone()))
                .collect(),
            used_lately: self
                .queues
                .iter()
                .filter_map(|(_, queue)| Some((queue.spec.name.clone(), queue.lately.as_ref()?.gpus)))
                .collect(),
            jobs: self.jobs.by_row().into_iter().map(|job| self.row(job)).collect(),
            histories: self.estimates.rows(),
            mix: self.mix.rows(),
        }
    }

    /// One unfinished job.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<JobRow> {
        self.jobs.get(id).map(|job| self.row(job))
    }

    /// The derived state, for tests and for a check of the running engine against a fold of its tables.
    #[must_use]
    pub fn audit(&self) -> Audit {
        let mut waiting: BTreeMap<String, BTreeSet<(std::cmp::Reverse<i32>, Time, JobId)>> = BTreeMap::new();
        for lane in self.lanes.ids() {
            let lane = self.lanes.get(lane);
            let order = waiting.entry(self.queues.get(lane.queue).spec.name.clone()).or_default();
            order.extend(lane.jobs.iter().map(|(at, job)| (std::cmp::Reverse(lane.priority), lane.standing(*at), *job)));
        }
        let known = self.sites.iter().filter(|site| site.cluster.is_some());
        let mut placed: BTreeMap<JobId, BTreeSet<String>> = BTreeMap::new();
        for (site, job) in self.sites.iter().flat_map(|site| site.runs.iter().map(move |job| (site, *job))) {
            placed.entry(job).or_default().insert(site.name.clone());
        }
        Audit {
            free: known.map(|site| (site.name.clone(), site.nodes.free(&self.resources))).collect(),
            usage: self.queues.iter().map(|(_, queue)| (queue.spec.name.clone(), self.resources.amounts(&queue.usage))).collect(),
            waiting: waiting
                .into_iter()
                .map(|(queue, order)| (queue, order.into_iter().map(|(_, _, job)| job).collect()))
                .collect(),
            placed,
        }
    }

    pub(crate) fn slots(&self, cluster: usize, places: &[Place]) -> Vec<Slot> {
        let nodes = &self.sites[cluster].nodes;
        let slot = |place: &Place| {
            let Place { group, node, workers, gpu } = *place;
            Slot { group: group as usize, node: nodes.name(node).to_owned(), workers, gpu }
        };
        places.iter().map(slot).collect()
    }

    fn part_row(&self, part: &RunPart) -> PartRow {
        let RunPart { cluster, places, bound } = part;
        PartRow { cluster: self.sites[*cluster].name.clone(), slots: self.slots(*cluster, places), bound: bound.clone() }
    }

    fn promised_row(&self, id: JobId) -> Option<Promised> {
        let promise = self.promised.get(&id)?;
        Some(Promised {
            cluster: self.sites[promise.cluster].name.clone(),
            flavor: promise.flavor.map(|flavor| self.flavors.name(flavor).to_owned()),
            tier: promise.tier,
            slots: self.slots(promise.cluster, &promise.places),
            further: promise
                .further
                .iter()
                .map(|(cluster, places)| (self.sites[*cluster].name.clone(), self.slots(*cluster, places)))
                .collect(),
            left: promise.left.clone(),
            expected_at: promise.expected_at,
            elsewhere: promise.elsewhere,
        })
    }

    fn row(&self, job: &crate::engine::Job) -> JobRow {
        JobRow {
            spec: self.spec_of(job),
            epoch: job.epoch,
            attained_ms: job.attained_ms,
            learned_speeds: Some(self.classes.get(job.class).learned.clone()),
            state: match &job.state {
                State::Waiting(_) => JobState::Waiting {
                    not_before: None,
                    expected_ms: Some(job.expected_ms),
                    promised: self.promised_row(job.id),
                },
                State::BackOff(until) => JobState::Waiting { not_before: Some(*until), expected_ms: None, promised: None },
                State::Suspended => JobState::Suspended,
                State::Placed(run) => JobState::Placed {
                    cluster: self.sites[run.cluster].name.clone(),
                    slots: self.slots(run.cluster, &run.places),
                    bound: run.bound.clone(),
                    elsewhere: run.elsewhere.iter().map(|part| self.part_row(part)).collect(),
                    started_at: run.started_at,
                    stopping: run.stopping,
                    remaining: run.remaining,
                    leaving: self.slots(run.cluster, &run.leaving),
                    sized: run.sized,
                    promised: self.promised_row(job.id),
                },
            },
        }
    }
}
