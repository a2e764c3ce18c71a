//! The engine at work on a workload. What the service would learn from an agent is learned here from the trace: a run starts
//! at its decision and ends when its job's duration has passed. One that is interrupted ends at once, has kept what it did, and
//! pays its restart when it goes on.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use muster_scheduler_engine::{
    Amounts, ClusterSpec, ClusterState, Decision, Engine, Epoch, Event, Gang, Interruption, JobId, JobSpec, NodeSpec, Placement,
    QueueSpec, Refused, RunEnd, Tier, TierOpens, Time, WorkerGroup,
};

use crate::figures::Outcome;
use crate::timeline::{Moment, Timeline};
use crate::workload::{GPUS_PER_NODE, Job, Workload};

pub(crate) const GPU: &str = "nvidia.com/gpu";
const MODEL: &str = "GPU";

const OWN: &str = "pool";
const DEAR: &str = "dear";

/// Where a workload is played, all of it equal nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Nodes of the cluster that is used first.
    pub own: u32,
    /// Nodes of a dear one, and when a job may go there.
    pub dear: Option<(u32, TierOpens)>,
}

impl Fleet {
    fn clusters(self) -> Vec<ClusterSpec> {
        let dear = self.dear.map(|(nodes, _)| ClusterSpec {
            prices: BTreeMap::from([(MODEL.to_owned(), 2)]),
            takes_jobs: false,
            ..cluster(DEAR, nodes)
        });
        let own = ClusterSpec { prices: BTreeMap::from([(MODEL.to_owned(), 1)]), ..cluster(OWN, self.own) };
        std::iter::once(own).chain(dear).collect()
    }

    fn tiers(self) -> Vec<Tier> {
        let Some((_, opens)) = self.dear else { return Vec::new() };
        let tier = |name: &str, opens| Tier { clusters: BTreeSet::from([name.to_owned()]), selector: None, opens };
        vec![tier(OWN, TierOpens::WhenFull), tier(DEAR, opens)]
    }
}

/// Plays a workload on one cluster of equal nodes, shared by its queues with these weights.
///
/// # Errors
/// What the engine refuses; it takes everything that [`crate::study`] lets through.
pub fn play(workload: &Workload, nodes: u32, weights: &[u32]) -> Result<Outcome, Refused> {
    play_on(workload, Fleet { own: nodes, dear: None }, weights)
}

/// Like [`play`], where there may be a dear cluster beside the own one.
///
/// # Errors
/// What the engine refuses.
pub fn play_on(workload: &Workload, fleet: Fleet, weights: &[u32]) -> Result<Outcome, Refused> {
    let mut play = Play::new(workload, fleet, weights)?;
    play.until_waits(i64::MAX)?;
    Ok(play.outcome)
}

/// Like [`play_on`], with what was going on meanwhile.
///
/// # Errors
/// What the engine refuses.
pub fn play_recorded(workload: &Workload, fleet: Fleet, weights: &[u32]) -> Result<(Outcome, Timeline), Refused> {
    let mut play = Play::new(workload, fleet, weights)?;
    play.timeline = Some(Timeline::new(workload.jobs.first().map_or(0, |job| job.submitted_ms)));
    play.until_waits(i64::MAX)?;
    Ok((play.outcome, play.timeline.unwrap_or_default()))
}

/// Like [`play`], but gives up, with `None`, as soon as all jobs together are certain to wait longer than this many milliseconds.
///
/// # Errors
/// What the engine refuses.
pub fn play_while(workload: &Workload, nodes: u32, weights: &[u32], most_wait_ms: i64) -> Result<Option<Outcome>, Refused> {
    let mut play = Play::new(workload, Fleet { own: nodes, dear: None }, weights)?;
    Ok(play.until_waits(most_wait_ms)?.then_some(play.outcome))
}

#[derive(Clone, Copy)]
struct Run {
    epoch: Epoch,
    /// If it is on the dear cluster, since when.
    dear_since_ms: Option<i64>,
    /// From when on it does work: its start, after what starting again costs.
    works_from_ms: i64,
}

struct Play<'a> {
    workload: &'a Workload,
    engine: Engine,
    /// (end, job, epoch), earliest first.
    ends: BinaryHeap<Reverse<(i64, usize, Epoch)>>,
    /// Each job's run while it has one.
    runs: Vec<Option<Run>>,
    /// Work done by earlier runs of each job.
    done_ms: Vec<i64>,
    /// Jobs that run, and jobs that are done.
    running: usize,
    finished: usize,
    /// In use on the dear cluster.
    dear_gpus: u32,
    dear_workers: u32,
    /// In use by each queue.
    queue_gpus: Vec<u32>,
    timeline: Option<Timeline>,
    outcome: Outcome,
}

impl<'a> Play<'a> {
    fn new(workload: &'a Workload, fleet: Fleet, weights: &[u32]) -> Result<Self, Refused> {
        let mut play = Self {
            workload,
            engine: Engine::new(),
            ends: BinaryHeap::new(),
            runs: vec![None; workload.jobs.len()],
            done_ms: vec![0; workload.jobs.len()],
            running: 0,
            finished: 0,
            dear_gpus: 0,
            dear_workers: 0,
            queue_gpus: vec![0; workload.queues.len()],
            timeline: None,
            outcome: Outcome::new(workload, fleet.own),
        };
        for cluster in fleet.clusters() {
            play.engine.apply(Event::Cluster(cluster))?;
        }
        for (name, weight) in workload.queues.iter().zip(weights) {
            play.engine.apply(Event::Queue(QueueSpec { tiers: fleet.tiers(), ..queue(name, *weight) }))?;
        }
        Ok(play)
    }

    /// Plays all of it, or until it is certain that all jobs together wait longer than this: then `false`.
    fn until_waits(&mut self, most_wait_ms: i64) -> Result<bool, Refused> {
        let mut next = 0;
        // What was waited until `last`, in all: a job waits while it is there and does not run.
        let (mut waited_ms, mut last) = (0_i64, 0);
        loop {
            let arrival = self.workload.jobs.get(next).map(|job| job.submitted_ms);
            let end = self.ends.peek().map(|Reverse((at, _, _))| *at);
            let timer = self.engine.next_timer().map(|Time(at)| at);
            // With nothing running and nothing to come, a timer could only ring for a job that waits.
            let Some(now) = [arrival, end, timer].into_iter().flatten().min() else { break };
            let waiting = next - self.running - self.finished;
            waited_ms = waited_ms.saturating_add((now - last).saturating_mul(waiting as i64));
            if waited_ms > most_wait_ms {
                return Ok(false);
            }
            last = now;
            if let Some(timeline) = &mut self.timeline {
                timeline.until(now, &Moment { waiting, dear_gpus: self.dear_gpus, queue_gpus: &self.queue_gpus });
            }
            self.end_until(now)?;
            while let Some(job) = self.workload.jobs.get(next).filter(|job| job.submitted_ms <= now) {
                let job = spec(self.workload, next, job);
                self.engine.apply(Event::Submitted { job, suspended: false })?;
                next += 1;
            }
            self.engine.apply(Event::Time(Time(now)))?;
            self.decide(now)?;
        }
        Ok(true)
    }

    fn end_until(&mut self, now: i64) -> Result<(), Refused> {
        while let Some(Reverse((at, job, epoch))) = self.ends.peek().copied().filter(|Reverse((at, _, _))| *at <= now) {
            self.ends.pop();
            if self.runs[job].is_some_and(|run| run.epoch == epoch) {
                self.leave(job, at);
                self.finished += 1;
                self.outcome.finished(job, at);
                self.engine.apply(Event::Ended { job: id(job), epoch, end: RunEnd::Finished })?;
            }
        }
        Ok(())
    }

    fn decide(&mut self, now: i64) -> Result<(), Refused> {
        loop {
            let decisions = self.engine.plan();
            if decisions.is_empty() {
                return Ok(());
            }
            for decision in decisions {
                match decision {
                    Decision::Place(placement) => self.start(&placement, now)?,
                    Decision::Interrupt(interruption) => self.interrupt(interruption, now)?,
                }
            }
        }
    }

    fn start(&mut self, placement: &Placement, now: i64) -> Result<(), Refused> {
        let index = placement.job.0 as usize;
        let job = &self.workload.jobs[index];
        let restart_ms = if placement.epoch == Epoch(1) { 0 } else { job.restart_ms() };
        let works_from_ms = now + restart_ms;
        self.running += 1;
        self.queue_gpus[job.queue] += job.gpus;
        let dear_since_ms = (placement.cluster == DEAR).then_some(now);
        if dear_since_ms.is_some() {
            self.dear_gpus += job.gpus;
            self.dear_workers += job.nodes();
            self.outcome.most_dear_gpus = self.outcome.most_dear_gpus.max(u64::from(self.dear_gpus));
            self.outcome.most_dear_workers = self.outcome.most_dear_workers.max(self.dear_workers);
        }
        self.runs[index] = Some(Run { epoch: placement.epoch, dear_since_ms, works_from_ms });
        self.ends.push(Reverse((works_from_ms + job.duration_ms - self.done_ms[index], index, placement.epoch)));
        self.outcome.decisions += 1;
        self.outcome.restart_gpu_ms += restart_ms * i64::from(job.gpus);
        self.engine.apply(Event::Started { job: placement.job, epoch: placement.epoch, at: Time(now) })
    }

    /// Takes a job's run from where it is.
    fn leave(&mut self, job: usize, now: i64) -> Option<Run> {
        let run = self.runs[job].take()?;
        let job = &self.workload.jobs[job];
        self.running -= 1;
        self.queue_gpus[job.queue] -= job.gpus;
        if let Some(since) = run.dear_since_ms {
            self.dear_gpus -= job.gpus;
            self.dear_workers -= job.nodes();
            self.outcome.dear_gpu_ms += (now - since) * i64::from(job.gpus);
        }
        Some(run)
    }

    fn interrupt(&mut self, interruption: Interruption, now: i64) -> Result<(), Refused> {
        let Interruption { job, epoch, in_favour_of: _, cause: _ } = interruption;
        if let Some(run) = self.leave(job.0 as usize, now) {
            self.done_ms[job.0 as usize] += (now - run.works_from_ms).max(0);
        }
        self.outcome.preemptions += 1;
        self.engine.apply(Event::Ended { job, epoch, end: RunEnd::Retry { not_before: Time(now) } })
    }
}

fn id(job: usize) -> JobId {
    JobId(job as u64)
}

/// A cluster of equal nodes.
pub(crate) fn cluster(name: &str, nodes: u32) -> ClusterSpec {
    ClusterSpec {
        name: name.to_owned(),
        labels: BTreeMap::new(),
        state: ClusterState::Live,
        takes_jobs: true,
        region: String::new(),
        apis: BTreeSet::new(),
        nodes: NodeSpec::group("node", nodes, MODEL, &Amounts::new().with(GPU, i64::from(GPUS_PER_NODE))),
        prices: BTreeMap::new(),
    }
}

/// A queue without limits.
pub(crate) fn queue(name: &str, weight: u32) -> QueueSpec {
    QueueSpec { weight, ..QueueSpec::named(name) }
}

/// Equal workers with so many GPUs each.
pub(crate) fn group(name: &str, replicas: u32, gpus: u32) -> WorkerGroup {
    WorkerGroup { name: name.to_owned(), replicas, each: Amounts::new().with(GPU, i64::from(gpus)) }
}

/// A gang of equal workers.
pub(crate) fn gang_of(name: &str, replicas: u32, each: Amounts, restart_ms: Option<i64>) -> Gang {
    gang(vec![WorkerGroup { name: name.to_owned(), replicas, each }], restart_ms)
}

/// A gang that is placed whole.
pub(crate) fn gang(groups: Vec<WorkerGroup>, restart_ms: Option<i64>) -> Gang {
    let min_available = groups.iter().map(|group| group.replicas).sum();
    Gang { groups, min_available, flavors: BTreeSet::new(), api: String::new(), restart_ms }
}

fn spec(workload: &Workload, index: usize, job: &Job) -> JobSpec {
    let (whole, rest) = (job.gpus / GPUS_PER_NODE, job.gpus % GPUS_PER_NODE);
    let mut groups = Vec::new();
    if whole > 0 {
        groups.push(group("whole", whole, GPUS_PER_NODE));
    }
    if rest > 0 {
        groups.push(group("rest", 1, rest));
    }
    JobSpec {
        id: id(index),
        queue: workload.queues[job.queue].clone(),
        priority: 0,
        kind: String::new(),
        submitted_at: Time(job.submitted_ms),
        gang: gang(groups, Some(job.restart_ms())),
    }
}
