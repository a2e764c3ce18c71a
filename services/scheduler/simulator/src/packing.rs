//! Pods that come one by one and never end, until more is asked for than there is: how much of the GPUs is allocated then. The
//! engine is told the nodes and each pod as it comes; beside it stands best fit.

use std::time::Duration;

use muster_scheduler_engine::{ClusterSpec, Decision, Engine, Event, JobId, JobSpec, MEMORY, NodeSpec, QueueSpec, Refused, Time};

use crate::dice::Dice;
use crate::openb::Pod;
use crate::play::{GPU, cluster};
use crate::speed::Clock;

const WHOLE: i64 = 1_000;
const QUEUE: &str = "pods";

/// When it is looked at how much is allocated: GPUs asked for until then, in hundredths of those there are.
pub const ARRIVED: [i64; 3] = [95, 100, 130];

/// What came of one order of pods.
#[derive(Clone, Debug, PartialEq)]
pub struct Packed {
    /// Allocated GPUs, in hundredths of those there are, at each of [`ARRIVED`].
    pub allocated: [f64; 3],
    /// The same at every hundredth: asked for and allocated, in hundredths of the GPUs there are, and pods without room.
    pub curve: Vec<[f64; 3]>,
    /// Pods that came, and that found room.
    pub pods: usize,
    /// Of these.
    pub placed: usize,
    /// Time for all decisions.
    pub took: Duration,
}

/// Pods in the order of a seed, until 130 % of the GPUs are asked for; where there are too few of them they come again in another
/// order.
#[must_use]
pub fn draw<'a>(pods: &'a [Pod], nodes: &[NodeSpec], seed: u64) -> Vec<&'a Pod> {
    let most = milli(nodes) * ARRIVED[2] / 100;
    let mut dice = Dice(seed);
    let (mut drawn, mut asked) = (Vec::new(), 0);
    while asked < most {
        let mut order: Vec<&Pod> = pods.iter().collect();
        for last in (1..order.len()).rev() {
            order.swap(last, dice.roll(last as u64 + 1) as usize);
        }
        for pod in order {
            if asked >= most {
                break;
            }
            asked += pod.gpu_milli;
            drawn.push(pod);
        }
    }
    drawn
}

fn milli(nodes: &[NodeSpec]) -> i64 {
    nodes.iter().map(|node| node.allocatable.gpus() * WHOLE).sum()
}

/// Counts what is asked for and what is allocated.
struct Count {
    all: i64,
    asked: i64,
    allocated: i64,
    packed: Packed,
}

impl Count {
    fn new(nodes: &[NodeSpec]) -> Self {
        let packed = Packed { allocated: [0.0; 3], curve: Vec::new(), pods: 0, placed: 0, took: Duration::ZERO };
        Self { all: milli(nodes), asked: 0, allocated: 0, packed }
    }

    fn came(&mut self, pod: &Pod, placed: usize, allocated: i64) {
        self.asked += pod.gpu_milli;
        self.allocated += allocated;
        self.packed.pods += 1;
        self.packed.placed += placed;
        let part = |milli: i64| 100.0 * milli as f64 / self.all as f64;
        if part(self.asked).floor() > self.packed.curve.last().map_or(-1.0, |point| point[0].floor()) {
            let waiting = (self.packed.pods - self.packed.placed) as f64;
            self.packed.curve.push([part(self.asked), part(self.allocated), waiting]);
        }
        for (arrived, part) in ARRIVED.iter().zip(&mut self.packed.allocated) {
            if self.asked * 100 <= self.all * arrived || *part == 0.0 {
                *part = 100.0 * self.allocated as f64 / self.all as f64;
            }
        }
    }
}

/// The engine, with one queue and one cluster.
///
/// # Errors
/// What the engine refuses.
pub fn muster(nodes: &[NodeSpec], pods: &[&Pod], clock: Clock<'_>) -> Result<Packed, Refused> {
    let mut engine = Engine::new();
    engine.apply(Event::Cluster(ClusterSpec { nodes: nodes.to_vec(), ..cluster("openb", 0) }))?;
    engine.apply(Event::Queue(QueueSpec::named(QUEUE)))?;
    let mut count = Count::new(nodes);
    let jobs: Vec<JobSpec> = pods.iter().zip(0..).map(|(pod, row)| job(pod, row)).collect();
    let began = clock();
    for (pod, job) in pods.iter().zip(jobs) {
        engine.apply(Event::Submitted { job, suspended: false })?;
        let (mut placed, mut allocated) = (0, 0);
        for decision in engine.plan() {
            if let Decision::Place(placement) = decision {
                placed += 1;
                allocated += pods[placement.job.0 as usize].gpu_milli;
            }
        }
        count.came(pod, placed, allocated);
    }
    count.packed.took = clock() - began;
    Ok(count.packed)
}

fn job(pod: &Pod, row: u64) -> JobSpec {
    JobSpec {
        id: JobId(row),
        queue: QUEUE.to_owned(),
        priority: 0,
        kind: String::new(),
        submitted_at: Time(row as i64),
        deadline: None,
        gang: pod.gang(),
    }
}

/// A node as best fit sees it: what is free of cpu, memory and each GPU.
struct Free<'a> {
    model: &'a str,
    cpu_milli: i64,
    memory: i64,
    gpus: Vec<i64>,
}

impl Free<'_> {
    /// The GPUs a pod would get, those with the least room for it first; `None` if it doesn't fit.
    fn gpus_for(&self, pod: &Pod) -> Option<Vec<usize>> {
        let model_will_do = pod.gpu_milli == 0 || pod.models.is_empty() || pod.models.contains(self.model);
        if !model_will_do || self.cpu_milli < pod.cpu_milli || self.memory < pod.memory {
            return None;
        }
        let each = pod.gpu_milli.min(WHOLE);
        let wanted = if each == 0 { 0 } else { (pod.gpu_milli / each) as usize };
        let mut some: Vec<usize> = (0..self.gpus.len()).filter(|gpu| self.gpus[*gpu] >= each).collect();
        some.sort_by_key(|gpu| self.gpus[*gpu]);
        some.truncate(wanted);
        (some.len() == wanted).then_some(some)
    }

    /// What would be left, each resource as a part of what the largest node has.
    fn left(&self, pod: &Pod, most: (i64, i64, i64)) -> f64 {
        let part = |left: i64, most: i64| left as f64 / most.max(1) as f64;
        part(self.cpu_milli - pod.cpu_milli, most.0)
            + part(self.memory - pod.memory, most.1)
            + part(self.gpus.iter().sum::<i64>() - pod.gpu_milli, most.2)
    }
}

/// Best fit: the node on which the least is left, the sum over resources counted in parts of the largest node.
#[must_use]
pub fn best_fit(nodes: &[NodeSpec], pods: &[&Pod], clock: Clock<'_>) -> Packed {
    let free = |node: &'_ NodeSpec| (node.allocatable.get("cpu"), node.allocatable.get(MEMORY), node.allocatable.get(GPU));
    let most =
        nodes.iter().map(free).fold((0, 0, 0), |most, node| (most.0.max(node.0), most.1.max(node.1), most.2.max(node.2 * WHOLE)));
    let mut all: Vec<Free<'_>> = Vec::new();
    for node in nodes {
        let (cpu_milli, memory, gpus) = free(node);
        all.push(Free { model: &node.flavor, cpu_milli, memory, gpus: vec![WHOLE; gpus as usize] });
    }
    let mut count = Count::new(nodes);
    let began = clock();
    for pod in pods {
        let mut best: Option<(f64, usize, Vec<usize>)> = None;
        for (index, node) in all.iter().enumerate() {
            let Some(gpus) = node.gpus_for(pod) else { continue };
            let left = node.left(pod, most);
            if best.as_ref().is_none_or(|(least, ..)| left < *least) {
                best = Some((left, index, gpus));
            }
        }
        let found = best.is_some();
        if let Some((_, index, gpus)) = best {
            let node = &mut all[index];
            node.cpu_milli -= pod.cpu_milli;
            node.memory -= pod.memory;
            gpus.iter().for_each(|gpu| node.gpus[*gpu] -= pod.gpu_milli.min(WHOLE));
        }
        count.came(pod, usize::from(found), if found { pod.gpu_milli } else { 0 });
    }
    count.packed.took = clock() - began;
    count.packed
}

/// Mean and standard deviation of a sample.
#[must_use]
pub fn mean_and_sd(sample: &[f64]) -> (f64, f64) {
    let count = sample.len() as f64;
    let mean = sample.iter().sum::<f64>() / count.max(1.0);
    let squares: f64 = sample.iter().map(|one| (one - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}
