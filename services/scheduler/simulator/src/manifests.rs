//! Muster's own YAML: queues as the platform has them, beside clusters and jobs that are made up. Kinds of `muster.dev/v1`:
//! `Queue` as it is applied, without budgets; `SimulatedCluster`: nodes and prices; `SimulatedJobs`: jobs of one shape in one queue,
//! submitted at equal or random intervals, lasting equally or randomly long. What is random is drawn from the seed.

mod jobs;
mod queues;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use muster_scheduler_engine::{ClusterSpec, NodeSpec, Topology};

use crate::fault::Fault;
use crate::play::{Stage, cluster};
use crate::scenario::{Part, Scenario};
use crate::tree::{Document, Node};
use crate::workload::{Unit, Workload};

pub(crate) const API: &str = "muster.dev/v1";
/// More nodes or jobs than this are taken for a mistake.
const MOST: i64 = 1_000_000;
const KINDS: [&str; 3] = ["Queue", "SimulatedCluster", "SimulatedJobs"];

/// Reads a file of documents. The same file and seed give the same jobs.
///
/// # Errors
/// The file, line and field at fault.
pub fn read(file: &Path, seed: u64) -> Result<Scenario, Fault> {
    let documents = Document::all(file)?;
    for document in &documents {
        if document.api_version() != API || !KINDS.contains(&document.kind()) {
            let why = format!("{} {} is none of {API}'s {}", document.api_version(), document.kind(), KINDS.join(", "));
            return Err(document.root().need("kind")?.fault(why));
        }
    }
    let of_kind = |kind: &'static str| documents.iter().filter(move |document| document.kind() == kind).map(Document::root);
    let whole = |why: &str| Fault { file: file.to_owned(), line: None, field: String::new(), why: why.to_owned() };
    let mut clusters = Clusters::default();
    for node in of_kind("SimulatedCluster") {
        clusters.add(&node)?;
    }
    if clusters.specs.is_empty() {
        return Err(whole("has no SimulatedCluster"));
    }
    let queues = queues::read(of_kind("Queue"), &clusters.fleets)?;
    let mut made = jobs::Made::new(&queues, seed);
    for node in of_kind("SimulatedJobs") {
        made.add(&node)?;
    }
    if made.jobs.is_empty() {
        return Err(whole("has no SimulatedJobs"));
    }
    let unit = if made.jobs.iter().any(|job| job.gpus > 0) { Unit::Gpus } else { Unit::MilliCores };
    let jobs = made.counted(unit);
    let window_ms = jobs.last().map_or(1, |job| (job.submitted_ms - jobs[0].submitted_ms).max(1));
    let workload = Workload { file: file.to_owned(), queues: made.queues, shapes: made.shapes, unit, jobs, window_ms };
    let priced = clusters.specs.iter().any(|cluster| !cluster.prices.is_empty());
    let stage = Stage { clusters: clusters.specs, queues, dear: None, priced };
    let pools = pool(&workload, &stage).into_iter().collect();
    Ok(Scenario { workload, stage, silos: Vec::new(), pools, counted: None, dealt: None, notes: Vec::new() })
}

/// All nodes as one pool for the baselines, if these can play it: they know neither models, speeds, tiers, racks and
/// datasets nor what is asked for besides the unit.
fn pool(workload: &Workload, stage: &Stage) -> Option<Part> {
    let plain = workload.shapes.iter().all(|shape| {
        let one_amount = shape.gang.groups.iter().all(|group| group.each.iter().count() == 1);
        let anywhere = shape.gang.topology.is_none() && shape.gang.dataset.is_none();
        shape.gang.flavors.is_empty() && shape.speeds.is_empty() && anywhere && one_amount
    });
    let plain = plain && stage.clusters.len() == 1 && stage.queues.iter().all(|queue| queue.tiers.is_empty());
    let nodes = stage.clusters.iter().flat_map(|cluster| &cluster.nodes).map(|node| match workload.unit {
        Unit::Gpus => node.allocatable.gpus(),
        Unit::MilliCores => node.allocatable.get(muster_scheduler_engine::CPU),
    });
    let nodes: Vec<u32> = nodes.map(u32::try_from).collect::<Result<_, _>>().ok()?;
    let mut sorted = nodes.clone();
    sorted.sort_unstable();
    let fits = workload.jobs.iter().all(|job| {
        let workers = (job.gpus / job.each) as usize;
        sorted.iter().map(|node| (node / job.each) as usize).sum::<usize>() >= workers
    });
    (plain && fits).then(|| Part { queues: (0..workload.queues.len()).collect(), nodes })
}

/// Clusters, and which fleets each is in.
#[derive(Default)]
struct Clusters {
    specs: Vec<ClusterSpec>,
    fleets: BTreeMap<String, BTreeSet<String>>,
}

impl Clusters {
    fn add(&mut self, root: &Node<'_>) -> Result<(), Fault> {
        root.only(&["apiVersion", "kind", "metadata", "spec"])?;
        let metadata = root.need("metadata")?;
        metadata.only(&["name", "labels"])?;
        let name = metadata.need("name")?;
        if self.specs.iter().any(|known| Ok(known.name.as_str()) == name.text()) {
            return Err(name.fault("is there twice"));
        }
        let spec = root.need("spec")?;
        spec.only(&["fleets", "region", "takesJobs", "nodes", "prices", "emissions", "egress"])?;
        let mut nodes = Vec::new();
        for (number, group) in spec.need("nodes")?.items()?.iter().enumerate() {
            group.only(&["count", "flavor", "allocatable", "domains"])?;
            let count = group.need("count")?;
            let allocatable = group.need("allocatable")?.amounts()?;
            let flavor = match group.get("flavor") {
                Some(flavor) => flavor.text()?,
                None if allocatable.gpus() > 0 => group.need("flavor")?.text()?,
                None => "",
            };
            let many = count.whole(1, MOST - nodes.len() as i64)?;
            // At most a million by the line above.
            let domains = group.get("domains").map(|domains| self::domains(&domains)).transpose()?.unwrap_or_default();
            let group = NodeSpec::group(&format!("node-{number}"), many as u32, flavor, &allocatable);
            nodes.extend(group.into_iter().map(|node| NodeSpec { domains: domains.clone(), ..node }));
        }
        let labels = metadata.get("labels").map(|labels| labels.read::<BTreeMap<String, String>>()).transpose()?;
        let prices = numbers(&spec, "prices", 1e6, "a GPU-hour")?;
        // Grams, counted in milligrams.
        let emissions = numbers(&spec, "emissions", 1e3, "a GPU-hour")?;
        let egress = numbers(&spec, "egress", 1e6, "a GiB")?;
        for fleet in spec.get("fleets").map(|fleets| fleets.texts()).transpose()?.unwrap_or_default() {
            self.fleets.entry(fleet.to_owned()).or_default().insert(name.text()?.to_owned());
        }
        self.specs.push(ClusterSpec {
            labels: labels.unwrap_or_default(),
            takes_jobs: spec.get("takesJobs").map(|takes| takes.boolean()).transpose()?.unwrap_or(true),
            region: spec.get("region").map(|region| region.text()).transpose()?.unwrap_or_default().to_owned(),
            nodes,
            prices,
            emissions,
            egress,
            ..cluster(name.text()?, 0)
        });
        Ok(())
    }
}

/// Where nodes stand: the name of their domain by level.
fn domains(node: &Node<'_>) -> Result<BTreeMap<String, String>, Fault> {
    let entries = node.entries()?.into_iter();
    let domain = |(level, name): (&str, Node<'_>)| match level {
        // Each node is a domain of its own there.
        Topology::NODE => Err(name.fault("is what every node has by itself")),
        level => Ok((level.to_owned(), name.text()?.to_owned())),
    };
    entries.map(domain).collect()
}

/// Numbers by GPU model or region, each in so many parts.
fn numbers(spec: &Node<'_>, field: &str, parts: f64, of: &str) -> Result<BTreeMap<String, i64>, Fault> {
    let entries = spec.get(field).map(|numbers| numbers.entries()).transpose()?.unwrap_or_default();
    let read = |(name, number): (&str, Node<'_>)| {
        let number_of_parts = number.number()? * parts;
        if number_of_parts > 1e6 * parts {
            return Err(number.fault(format!("is more than a million for {of}")));
        }
        Ok((name.to_owned(), number_of_parts.round() as i64))
    };
    entries.into_iter().map(read).collect()
}
