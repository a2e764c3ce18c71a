//! Builders that read as prose, and a small generator of numbers that is the same on every machine.

use std::collections::{BTreeMap, BTreeSet};

use muster_scheduler_engine::{
    Amounts, ClusterSpec, ClusterState, Decision, Elastic, Engine, Event, Gang, JobId, JobSpec, NodeSpec, Placement, QueueSpec,
    Slot, Span, Tier, TierOpens, Time, Topology, TopologyMode, WorkerGroup,
};

pub const GPU: &str = "nvidia.com/gpu";
const GIB: i64 = 1 << 30;

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.roll(from.len() as u64) as usize) }
    }
}

/// cores, GiB, GPUs.
pub fn amounts(cores: i64, gib: i64, gpus: i64) -> Amounts {
    Amounts::new().with("cpu", cores * 1000).with("memory", gib * GIB).with(GPU, gpus)
}

/// Nodes with 8 GPUs, 96 cores and 768 GiB each.
pub fn cluster(name: &str, nodes: u32, flavor: &str, price_micros: i64) -> ClusterSpec {
    ClusterSpec {
        name: name.to_owned(),
        labels: BTreeMap::from([("pool".to_owned(), name.to_owned())]),
        state: ClusterState::Live,
        takes_jobs: true,
        region: String::new(),
        apis: BTreeSet::new(),
        nodes: NodeSpec::group("node", nodes, flavor, &amounts(96, 768, if flavor.is_empty() { 0 } else { 8 })),
        prices: BTreeMap::from([(flavor.to_owned(), price_micros)]),
        emissions: BTreeMap::new(),
        egress: BTreeMap::new(),
    }
}

/// The node label that says the rack.
pub const RACK: &str = "topology.kubernetes.io/rack";

/// The same cluster with so many of its nodes in a rack, `r0`, `r1` and so on.
pub fn racked(mut cluster: ClusterSpec, nodes: usize) -> ClusterSpec {
    for (number, node) in cluster.nodes.iter_mut().enumerate() {
        node.domains.insert(RACK.to_owned(), format!("r{}", number / nodes));
    }
    cluster
}

/// The job, whose workers are to stand together on a level.
pub fn together(mut job: JobSpec, level: &str, mode: TopologyMode) -> JobSpec {
    job.gang.topology = Some(Topology { level: level.to_owned(), mode });
    job
}

/// The job, whose first group may have fewer workers.
pub fn elastic(mut job: JobSpec, least: u32) -> JobSpec {
    job.gang.elastic = Some(Elastic { group: 0, least });
    job.gang.min_available = job.gang.at(least).workers() as u32;
    job
}

/// Parts of a GPU, in thousandths.
pub const PART: &str = "nvidia.com/gpu-milli";

/// The same cluster with GPUs of which parts may be used.
pub fn shared(mut cluster: ClusterSpec) -> ClusterSpec {
    for node in &mut cluster.nodes {
        node.allocatable.set(PART, 1_000 * node.allocatable.get(GPU));
    }
    cluster
}

/// A job whose workers get a part of a GPU each.
pub fn part(id: u64, queue: &str, workers: u32, thousandths: i64) -> JobSpec {
    JobSpec { gang: gang(workers, amounts(1, 4, 0).with(PART, thousandths)), ..job(id, queue, 1, 0) }
}

pub fn queue(name: &str, weight: u32) -> QueueSpec {
    QueueSpec { weight, ..QueueSpec::named(name) }
}

pub fn tier(clusters: &[&str], opens: TierOpens) -> Tier {
    let clusters = clusters.iter().zip(0..).map(|(name, place)| ((*name).to_owned(), place)).collect();
    Tier { clusters, selector: None, opens }
}

pub fn gang(workers: u32, each: Amounts) -> Gang {
    Gang {
        groups: vec![WorkerGroup { name: "worker".to_owned(), replicas: workers, each }],
        min_available: workers,
        flavors: BTreeSet::new(),
        api: String::new(),
        restart_ms: None,
        speeds: BTreeMap::new(),
        topology: None,
        dataset: None,
        elastic: None,
        span: Span::Cluster,
    }
}

/// A job of one-GPU workers' worth of cpu and memory.
pub fn job(id: u64, queue: &str, workers: u32, gpus_each: i64) -> JobSpec {
    JobSpec {
        id: JobId(id),
        queue: queue.to_owned(),
        priority: 0,
        kind: String::new(),
        submitted_at: Time(id as i64),
        deadline: None,
        gang: gang(workers, amounts(4 * gpus_each.max(1), 32 * gpus_each.max(1), gpus_each)),
    }
}

pub fn engine(clusters: Vec<ClusterSpec>, queues: Vec<QueueSpec>) -> Engine {
    let mut engine = Engine::new();
    for cluster in clusters {
        engine.apply(Event::Cluster(cluster)).expect("a sound cluster");
    }
    for queue in queues {
        engine.apply(Event::Queue(queue)).expect("a sound queue");
    }
    engine
}

pub fn submit(engine: &mut Engine, job: JobSpec) {
    engine.apply(Event::Submitted { job, suspended: false }).expect("a sound job");
}

pub fn plan(engine: &mut Engine) -> Vec<Placement> {
    engine
        .plan()
        .into_iter()
        .filter_map(|decision| match decision {
            Decision::Place(placement) => Some(placement),
            Decision::Interrupt(_) | Decision::Resize(_) => None,
        })
        .collect()
}

/// (job, cluster) of every placement, in the order of decision.
pub fn placed(placements: &[Placement]) -> Vec<(u64, &str)> {
    placements.iter().map(|placement| (placement.job.0, placement.cluster.as_str())).collect()
}

/// The workers of some slots that are not in others.
pub fn beyond(slots: &[Slot], others: &[Slot]) -> Vec<Slot> {
    let mut there: BTreeMap<(usize, &str, Option<u16>), u32> = BTreeMap::new();
    for slot in others {
        *there.entry((slot.group, &slot.node, slot.gpu)).or_default() += slot.workers;
    }
    let more = slots.iter().map(|slot| {
        let known = there.entry((slot.group, slot.node.as_str(), slot.gpu)).or_default();
        let same = slot.workers.min(*known);
        *known -= same;
        Slot { workers: slot.workers - same, ..slot.clone() }
    });
    more.filter(|slot| slot.workers > 0).collect()
}
