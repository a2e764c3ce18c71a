//! The engine at work on a workload. What the service would learn from an agent is learned here from the trace: a run starts
//! at its decision and ends when its job's duration has passed. One that is interrupted ends at once, has kept what it did, and
//! pays its restart when it goes on.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use muster_scheduler_engine::{
    Amounts, CPU, ClusterSpec, ClusterState, Decision, Engine, Epoch, Event, Gang, Interruption, JobId, JobSpec, NodeSpec,
    Placement, QueueSpec, Refused, RunEnd, Span, Tier, TierOpens, Time, WorkerGroup,
};

use crate::figures::Outcome;
use crate::timeline::{Moment, Timeline};
use crate::workload::{GPUS_PER_NODE, Job, Unit, Workload};

pub(crate) const GPU: &str = "nvidia.com/gpu";
const MODEL: &str = "GPU";
/// A speed of one, in thousandths.
const NORMAL: i64 = 1_000;
const HOUR_MS: i64 = 3_600_000;

const OWN: &str = "pool";
const DEAR: &str = "dear";

/// Where a workload is played.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// All clusters.
    pub clusters: Vec<ClusterSpec>,
    /// All queues, parents before their children. Those of the workload are among them.
    pub queues: Vec<QueueSpec>,
    /// The cluster that is counted by itself because it is dear.
    pub dear: Option<String>,
    /// Whether prices are money, and not only an order.
    pub priced: bool,
}

impl Stage {
    /// What its clusters have together of what the workload counts, the dear one aside.
    #[must_use]
    pub fn size(&self, unit: Unit) -> u64 {
        let own = self.clusters.iter().filter(|cluster| Some(&cluster.name) != self.dear.as_ref());
        let sizes = own.flat_map(|cluster| &cluster.nodes).map(|node| match unit {
            Unit::Gpus => node.allocatable.gpus(),
            Unit::MilliCores => node.allocatable.get(CPU),
        });
        sizes.sum::<i64>().unsigned_abs()
    }
}

/// Equal nodes of eight GPUs that all queues of a workload share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Nodes of the cluster that is used first.
    pub own: u32,
    /// Nodes of a dear one, and when a job may go there.
    pub dear: Option<(u32, TierOpens)>,
}

impl Fleet {
    /// The fleet as a stage, with the workload's queues of these weights.
    #[must_use]
    pub fn stage(self, workload: &Workload, weights: &[u32]) -> Stage {
        let queues = workload.queues.iter().zip(weights);
        let queues = queues.map(|(name, weight)| QueueSpec { tiers: self.tiers(), ..queue(name, *weight) });
        Stage { clusters: self.clusters(), queues: queues.collect(), dear: self.dear.map(|_| DEAR.to_owned()), priced: false }
    }

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
        let tier = |name: &str, opens| Tier { clusters: BTreeMap::from([(name.to_owned(), 0)]), selector: None, opens };
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
    let stage = fleet.stage(workload, weights);
    let mut play = Play::new(workload, &stage)?;
    play.until_waits(i64::MAX, &mut |_| {})?;
    Ok(play.outcome)
}

/// Plays a workload on a stage, with what was going on meanwhile. `progress` is told, at most a thousand times, how many jobs are done.
///
/// # Errors
/// What the engine refuses.
pub fn play_recorded(
    workload: &Workload,
    stage: &Stage,
    progress: &mut dyn FnMut(usize),
) -> Result<(Outcome, Timeline), Refused> {
    let mut play = Play::new(workload, stage)?;
    play.timeline = Some(Timeline::new(workload.jobs.first().map_or(0, |job| job.submitted_ms)));
    play.until_waits(i64::MAX, progress)?;
    Ok((play.outcome, play.timeline.unwrap_or_default()))
}

/// Like [`play`], but gives up, with `None`, as soon as all jobs together are certain to wait longer than this many milliseconds.
///
/// # Errors
/// What the engine refuses.
pub fn play_while(workload: &Workload, nodes: u32, weights: &[u32], most_wait_ms: i64) -> Result<Option<Outcome>, Refused> {
    let stage = Fleet { own: nodes, dear: None }.stage(workload, weights);
    let mut play = Play::new(workload, &stage)?;
    Ok(play.until_waits(most_wait_ms, &mut |_| {})?.then_some(play.outcome))
}

#[derive(Clone, Copy)]
struct Run {
    epoch: Epoch,
    since_ms: i64,
    /// Whether it is on the dear cluster.
    dear: bool,
    /// Price of what it has for an hour, in millionths.
    micros_per_hour: i64,
    /// How fast it works, in thousandths.
    speed: i64,
    /// From when on it does work: its start, after what starting again costs.
    works_from_ms: i64,
}

struct Play<'a> {
    workload: &'a Workload,
    dear: Option<&'a str>,
    engine: Engine,
    /// (end, job, epoch), earliest first.
    ends: BinaryHeap<Reverse<(i64, usize, Epoch)>>,
    /// Each job's run while it has one.
    runs: Vec<Option<Run>>,
    /// Work done by earlier runs of each job, in milliseconds at speed 1,000.
    done_ms: Vec<i64>,
    /// Jobs that run, and jobs that are done.
    running: usize,
    finished: usize,
    /// In use on the dear cluster.
    dear_gpus: u32,
    dear_workers: u32,
    /// In use by each queue.
    queue_gpus: Vec<u32>,
    /// What all runs cost in an hour, in millionths.
    micros_per_hour: i64,
    timeline: Option<Timeline>,
    outcome: Outcome,
}

impl<'a> Play<'a> {
    fn new(workload: &'a Workload, stage: &'a Stage) -> Result<Self, Refused> {
        let mut play = Self {
            workload,
            dear: stage.dear.as_deref(),
            engine: Engine::new(),
            ends: BinaryHeap::new(),
            runs: vec![None; workload.jobs.len()],
            done_ms: vec![0; workload.jobs.len()],
            running: 0,
            finished: 0,
            dear_gpus: 0,
            dear_workers: 0,
            queue_gpus: vec![0; workload.queues.len()],
            micros_per_hour: 0,
            timeline: None,
            outcome: Outcome::new(workload, stage.size(workload.unit)),
        };
        for cluster in &stage.clusters {
            play.engine.apply(Event::Cluster(cluster.clone()))?;
        }
        for queue in &stage.queues {
            play.engine.apply(Event::Queue(queue.clone()))?;
        }
        Ok(play)
    }

    /// Plays all of it, or until it is certain that all jobs together wait longer than this: then `false`.
    fn until_waits(&mut self, most_wait_ms: i64, progress: &mut dyn FnMut(usize)) -> Result<bool, Refused> {
        let mut next = 0;
        // What was waited until `last`, in all: a job waits while it is there and does not run.
        let (mut waited_ms, mut last) = (0_i64, 0);
        let (step, mut told) = ((self.workload.jobs.len() / 1_000).max(1), 0);
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
                let (dear_gpus, micros_per_hour) = (self.dear_gpus, self.micros_per_hour);
                timeline.until(now, &Moment { waiting, dear_gpus, micros_per_hour, queue_gpus: &self.queue_gpus });
            }
            self.end_until(now)?;
            while let Some(job) = self.workload.jobs.get(next).filter(|job| job.submitted_ms <= now) {
                let job = spec(self.workload, next, job);
                self.engine.apply(Event::Submitted { job, suspended: false })?;
                next += 1;
            }
            self.engine.apply(Event::Time(Time(now)))?;
            self.decide(now)?;
            if self.finished / step > told {
                told = self.finished / step;
                progress(self.finished);
            }
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
                    Decision::Resize(_) => unreachable!("no workload has gangs of several sizes"),
                }
            }
        }
    }

    fn start(&mut self, placement: &Placement, now: i64) -> Result<(), Refused> {
        let index = placement.job.0 as usize;
        let job = &self.workload.jobs[index];
        let shape = self.workload.shape(job);
        let restart_ms = if placement.epoch == Epoch(1) { 0 } else { shape.gang.restart_ms.unwrap_or(0) };
        let works_from_ms = now + restart_ms;
        let speed =
            placement.flavor.as_ref().and_then(|flavor| shape.speeds.get(flavor)).map_or(NORMAL, |speed| i64::from(*speed));
        let micros_per_hour = micros_per_hour(placement, job);
        let dear = self.dear == Some(placement.cluster.as_str());
        self.running += 1;
        self.queue_gpus[job.queue] += job.gpus;
        self.micros_per_hour += micros_per_hour;
        if dear {
            self.dear_gpus += job.gpus;
            self.dear_workers += job.nodes();
            self.outcome.most_dear_gpus = self.outcome.most_dear_gpus.max(u64::from(self.dear_gpus));
            self.outcome.most_dear_workers = self.outcome.most_dear_workers.max(self.dear_workers);
        }
        // Moving its dataset is paid at once, for each cluster of a gang that is split.
        let egress_micros = placement.elsewhere.iter().fold(placement.egress_micros, |sum, part| sum + part.egress_micros);
        self.outcome.cost_micros += egress_micros;
        self.outcome.job_cost_micros[index] += egress_micros;
        self.runs[index] = Some(Run { epoch: placement.epoch, since_ms: now, dear, micros_per_hour, speed, works_from_ms });
        let lasts_ms = (job.duration_ms - self.done_ms[index]).saturating_mul(NORMAL) / speed;
        self.ends.push(Reverse((works_from_ms + lasts_ms, index, placement.epoch)));
        self.outcome.decisions += 1;
        self.outcome.restart_gpu_ms += restart_ms * i64::from(job.gpus);
        self.engine.apply(Event::Started { job: placement.job, epoch: placement.epoch, at: Time(now) })
    }

    /// Takes a job's run from where it is.
    fn leave(&mut self, index: usize, now: i64) -> Option<Run> {
        let run = self.runs[index].take()?;
        let job = &self.workload.jobs[index];
        let lasted_ms = now - run.since_ms;
        self.running -= 1;
        self.queue_gpus[job.queue] -= job.gpus;
        self.micros_per_hour -= run.micros_per_hour;
        let cost = i128::from(run.micros_per_hour) * i128::from(lasted_ms) / i128::from(HOUR_MS);
        let cost = i64::try_from(cost).unwrap_or(i64::MAX);
        self.outcome.cost_micros += cost;
        self.outcome.job_cost_micros[index] += cost;
        if run.dear {
            self.dear_gpus -= job.gpus;
            self.dear_workers -= job.nodes();
            self.outcome.dear_gpu_ms += lasted_ms * i64::from(job.gpus);
        }
        Some(run)
    }

    fn interrupt(&mut self, interruption: Interruption, now: i64) -> Result<(), Refused> {
        let Interruption { job, epoch, in_favour_of: _, cause: _ } = interruption;
        let index = job.0 as usize;
        if let Some(run) = self.leave(index, now)
            && self.workload.shape(&self.workload.jobs[index]).gang.restart_ms.is_some()
        {
            self.done_ms[index] += (now - run.works_from_ms).max(0).saturating_mul(run.speed) / NORMAL;
        }
        self.outcome.preemptions += 1;
        self.engine.apply(Event::Ended { job, epoch, end: RunEnd::Retry { not_before: Time(now) } })
    }
}

/// What a run costs in an hour, each part at the price of its cluster.
fn micros_per_hour(placement: &Placement, job: &Job) -> i64 {
    let of = |price: Option<i64>, gpus: i64| price.unwrap_or(0).saturating_mul(gpus);
    if placement.elsewhere.is_empty() {
        return of(placement.price_micros, i64::from(job.gpus));
    }
    let first = of(placement.price_micros, placement.gpus);
    placement.elsewhere.iter().fold(first, |sum, part| sum.saturating_add(of(part.price_micros, part.gpus)))
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
        emissions: BTreeMap::new(),
        egress: BTreeMap::new(),
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
    Gang {
        groups,
        min_available,
        flavors: BTreeSet::new(),
        api: String::new(),
        restart_ms,
        speeds: BTreeMap::new(),
        topology: None,
        dataset: None,
        elastic: None,
        span: Span::Cluster,
    }
}

fn spec(workload: &Workload, index: usize, job: &Job) -> JobSpec {
    let shape = workload.shape(job);
    JobSpec {
        id: id(index),
        queue: workload.queues[job.queue].clone(),
        priority: shape.priority,
        kind: shape.kind.clone(),
        submitted_at: Time(job.submitted_ms),
        deadline: shape.deadline_ms.map(|after| Time(job.submitted_ms.saturating_add(after))),
        gang: shape.gang.clone(),
    }
}
