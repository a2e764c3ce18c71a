//! The workloads of Kueue's scheduler performance test (`generator.yaml`): cohorts of equal queues, and in each queue sets of
//! workloads that are made one after the other at fixed intervals. A cohort becomes a queue whose capability is what its members
//! are guaranteed together; a member's capability is its quota and what it may borrow. Quotas know no nodes: unless the file has a
//! topology each cohort has a cluster of one node that holds its quotas.

use std::collections::BTreeMap;
use std::path::Path;

use muster_scheduler_engine::{Amounts, CPU, ClusterSpec, MEMORY, NodeSpec, QueueSpec, Tier, TierOpens};

use crate::fault::Fault;
use crate::play::{Stage, cluster, gang_of};
use crate::scenario::{Part, Scenario};
use crate::tree::{Document, Node};
use crate::workload::{Job, Shape, Unit, Workload};

/// More queues, jobs or nodes than this are taken for a mistake.
const MOST: i64 = 1_000_000;
/// A day; longer intervals and run times are taken for a mistake.
const MOST_MS: i64 = 86_400_000;

/// Reads a generator's file and makes its workloads. The same file gives the same workloads.
///
/// # Errors
/// The file, line and field at fault.
pub fn read(file: &Path) -> Result<Scenario, Fault> {
    let document = Document::one(file)?;
    let root = document.root();
    root.only(&["cohorts", "topology", "resourceFlavor"])?;
    let mut made = Made::default();
    for cohort in root.need("cohorts")?.items()? {
        cohort.only(&["className", "count", "queuesSets"])?;
        let class = cohort.need("className")?.text()?;
        for number in 0..cohort.need("count")?.whole(1, MOST)? {
            made.cohort(&format!("{class}-{number}"), &cohort)?;
        }
    }
    let clusters = match root.get("topology") {
        Some(topology) => {
            made.queues.iter_mut().for_each(|queue| queue.tiers.clear());
            vec![ClusterSpec { nodes: nodes(&topology)?, ..cluster("pool", 0) }]
        }
        None => made.clusters(),
    };
    made.jobs.sort_by_key(|job| (job.submitted_ms, job.line, job.queue));
    let nodes = clusters.iter().flat_map(|cluster| &cluster.nodes);
    let largest = nodes.map(|node| node.allocatable.get(CPU)).max().unwrap_or(0);
    if let Some(job) = made.jobs.iter().find(|job| i64::from(job.each) > largest) {
        let why = format!("{} m is more than the largest node has, {largest} m", job.each);
        return Err(Fault { file: file.to_owned(), line: Some(job.line), field: "request".to_owned(), why });
    }
    let window_ms = made.jobs.last().map_or(1, |job| job.submitted_ms.max(1));
    let (queues, shapes, unit) = (made.names, made.shapes, Unit::MilliCores);
    let notes = root.get("topology").map(|_| TOPOLOGY.to_owned());
    Ok(Scenario {
        workload: Workload { file: file.to_owned(), queues, shapes, unit, jobs: made.jobs, window_ms },
        stage: Stage { clusters, queues: made.queues, dear: None, priced: false },
        silos: made.silos,
        pools: made.pools,
        counted: None,
        dealt: None,
        notes: notes.into_iter().collect(),
    })
}

const TOPOLOGY: &str = "The engine doesn't decide by topology: pods are placed on these nodes, but tasConstraint is not held.";

/// What the sets of a file have come to so far.
#[derive(Default)]
struct Made {
    /// All queues, cohorts among them.
    queues: Vec<QueueSpec>,
    /// Queues with jobs.
    names: Vec<String>,
    shapes: Vec<Shape>,
    jobs: Vec<Job>,
    silos: Vec<Part>,
    pools: Vec<Part>,
    /// What all queues are guaranteed, in thousandths of a core.
    quota: i64,
}

impl Made {
    /// A cluster for each cohort.
    fn clusters(&self) -> Vec<ClusterSpec> {
        let cohorts = self.queues.iter().filter(|queue| queue.parent.is_none());
        let of_cohort = |queue: &QueueSpec| {
            let nodes = NodeSpec::group("node", 1, "", &Amounts::new().with(CPU, queue.guarantee.get(CPU)));
            ClusterSpec { nodes, ..cluster(&queue.name, 0) }
        };
        cohorts.map(of_cohort).collect()
    }

    fn cohort(&mut self, name: &str, node: &Node<'_>) -> Result<(), Fault> {
        let place = self.queues.len();
        let own = Tier { clusters: BTreeMap::from([(name.to_owned(), 0)]), selector: None, opens: TierOpens::WhenFull };
        self.queues.push(QueueSpec { min_runtime_ms: 0, tiers: vec![own], ..QueueSpec::named(name) });
        let (first, before) = (self.names.len(), self.quota);
        for set in node.need("queuesSets")?.items()? {
            set.only(&[
                "className",
                "count",
                "nominalQuota",
                "borrowingLimit",
                "reclaimWithinCohort",
                "withinClusterQueue",
                "workloadsSets",
            ])?;
            let class = set.need("className")?.text()?;
            let quota = set.need("nominalQuota")?.quantity(CPU)?;
            let borrows = set.get("borrowingLimit").map(|limit| limit.quantity(CPU)).transpose()?;
            let reclaimable = reclaimable(&set)?;
            for number in 0..set.need("count")?.whole(1, MOST)? {
                let queue = QueueSpec {
                    parent: Some(name.to_owned()),
                    guarantee: Amounts::new().with(CPU, quota),
                    capability: borrows.map(|borrows| (CPU.to_owned(), quota + borrows)).into_iter().collect(),
                    reclaimable,
                    min_runtime_ms: 0,
                    ..QueueSpec::named(&format!("{name}-{class}-{number}"))
                };
                self.silos.push(Part { queues: vec![self.names.len()], nodes: vec![cores(&set, quota)?] });
                self.names.push(queue.name.clone());
                self.queues.push(queue);
                self.quota += quota;
                for set in set.need("workloadsSets")?.items()? {
                    self.workloads(&set)?;
                }
            }
        }
        let quota = self.quota - before;
        self.queues[place].capability = BTreeMap::from([(CPU.to_owned(), quota)]);
        self.queues[place].guarantee = Amounts::new().with(CPU, quota);
        self.pools.push(Part { queues: (first..self.names.len()).collect(), nodes: vec![cores(node, quota)?] });
        Ok(())
    }

    /// The jobs of one set in the queue that was made last: each is submitted an interval after the one before it.
    fn workloads(&mut self, set: &Node<'_>) -> Result<(), Fault> {
        set.only(&["count", "creationIntervalMs", "workloads"])?;
        let count = set.need("count")?.whole(1, MOST)?;
        let every_ms = set.need("creationIntervalMs")?.whole(0, MOST_MS)?;
        let kinds = set.need("workloads")?.items()?;
        let (queue, mut at) = (self.names.len() - 1, 0);
        let kinds = kinds.iter().map(|kind| self.kind(kind, queue)).collect::<Result<Vec<Job>, Fault>>()?;
        for _ in 0..count {
            for job in &kinds {
                at += every_ms;
                self.jobs.push(Job { submitted_ms: at, ..*job });
            }
        }
        if self.jobs.len() as i64 > MOST {
            return Err(set.need("count")?.fault(format!("makes more than {MOST} workloads")));
        }
        Ok(())
    }

    fn kind(&mut self, node: &Node<'_>, queue: usize) -> Result<Job, Fault> {
        node.only(&[
            "className",
            "runtimeMs",
            "priority",
            "request",
            "podCount",
            "tasConstraint",
            "tasLevel",
            "balanced",
            "sliceSize",
        ])?;
        let class = node.need("className")?.text()?;
        let pods = node.get("podCount").map_or(Ok(1), |count| count.whole(1, 20_000))?;
        let priority = node.get("priority").map_or(Ok(0), |priority| priority.whole(i64::from(i32::MIN), i64::from(i32::MAX)))?;
        let (request, runtime) = (node.need("request")?, node.need("runtimeMs")?);
        let each = cores(&request, request.quantity(CPU)?)?;
        let sum = i64::from(each) * pods;
        let capability = self.queues.last().and_then(|queue| queue.capability.get(CPU));
        if capability.is_some_and(|most| sum > *most) {
            return Err(request.fault(format!("{pods} × {each} m is more than the queue's quota and what it may borrow")));
        }
        let each_pod = Amounts::new().with(CPU, i64::from(each));
        // At most 20,000 by the line above.
        let shape = Shape {
            class: class.to_owned(),
            kind: class.to_owned(),
            priority: i32::try_from(priority).map_err(|_| node.fault("priority is out of range"))?,
            gang: gang_of("pods", pods as u32, each_pod, None),
            speeds: BTreeMap::new(),
            deadline_ms: None,
        };
        let place = self.shapes.iter().position(|known| *known == shape).unwrap_or_else(|| {
            self.shapes.push(shape);
            self.shapes.len() - 1
        });
        let gpus = cores(&request, sum)?;
        let duration_ms = runtime.whole(0, MOST_MS)?;
        Ok(Job { line: node.line(), queue, shape: place, submitted_ms: 0, duration_ms, gpus, each })
    }
}

/// Thousandths of cores as jobs and baselines count them, at least one.
fn cores(node: &Node<'_>, milli: i64) -> Result<u32, Fault> {
    u32::try_from(milli)
        .ok()
        .filter(|milli| *milli > 0)
        .ok_or_else(|| node.fault("must be more than 0, and at most 4,000,000 cores"))
}

/// Whether members of the cohort take back what a queue has borrowed.
fn reclaimable(set: &Node<'_>) -> Result<bool, Fault> {
    if let Some(within) = set.get("withinClusterQueue") {
        match within.text()? {
            "LowerPriority" | "Never" | "LowerOrNewerEqualPriority" => {}
            other => return Err(within.fault(format!("{other:?} is no policy: LowerPriority, LowerOrNewerEqualPriority, Never"))),
        }
    }
    let Some(reclaim) = set.get("reclaimWithinCohort") else { return Ok(false) };
    match reclaim.text()? {
        "Any" | "LowerPriority" => Ok(true),
        "Never" => Ok(false),
        other => Err(reclaim.fault(format!("{other:?} is no policy: Any, LowerPriority, Never"))),
    }
}

/// The nodes of a topology: one per combination of the counts of its levels.
fn nodes(topology: &Node<'_>) -> Result<Vec<NodeSpec>, Fault> {
    topology.only(&["name", "levels"])?;
    let (mut count, mut each) = (1, Amounts::new());
    for level in topology.need("levels")?.items()? {
        level.only(&["name", "count", "nodeLabel", "capacity"])?;
        let of_level = level.need("count")?;
        count *= of_level.whole(1, MOST)?;
        if count > MOST {
            return Err(of_level.fault(format!("makes more than {MOST} nodes")));
        }
        if let Some(capacity) = level.get("capacity") {
            capacity.only(&[CPU, MEMORY])?;
            each = capacity.amounts()?;
        }
    }
    let count = u32::try_from(count).map_err(|_| topology.fault("makes too many nodes"))?;
    Ok(NodeSpec::group("node", count, "", &each))
}
