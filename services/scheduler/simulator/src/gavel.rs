//! Gavel's workload *continuous-single* (Narayanan et al., OSDI 2020): jobs of one GPU and of types whose throughput was
//! measured on three GPU models. Jobs come at random at a mean rate (Poisson); the type is drawn evenly, and how long the job
//! takes on a V100 is 10^U minutes, with U even in 1.5 to 3 for four of five jobs, and in 3 to 4 for the fifth.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use muster_scheduler_engine::{Amounts, ClusterSpec, Gang, NodeSpec, Prefers, QueueSpec};

use crate::dice::Dice;
use crate::fault::Fault;
use crate::play::{GPU, Stage, cluster, gang_of, queue};
use crate::scenario::Scenario;
use crate::tree::{Document, Node};
use crate::workload::{Job, Shape, Unit, Workload};

/// The model on which durations are drawn.
const REFERENCE: &str = "v100";
/// The models, their names here, and what an hour costs: the prices of the paper, in millionths of a dollar.
const MODELS: [(&str, &str, i64); 3] = [("v100", "V100", 2_850_000), ("p100", "P100", 1_680_000), ("k80", "K80", 520_000)];
const GPUS_PER_NODE: i64 = 4;
const QUEUE: &str = "jobs";
/// What going on from a checkpoint costs a job of one GPU.
const RESTART_MS: i64 = 7_000;
/// Jobs that come after those that count, so that these meet the same load until they are done.
const AFTERWARDS: usize = 3_000;
/// More jobs than this are taken for a mistake.
const MOST: usize = 100_000;

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Jobs in an hour on the mean.
    pub per_hour: f64,
    /// GPUs of each model.
    pub gpus_each: u32,
    /// The first job that counts, from 0, and the first that doesn't any more.
    pub counted: (usize, usize),
    /// The same seed gives the same jobs.
    pub seed: u64,
}

impl Default for Terms {
    /// The paper's cluster and window, at the rate where policies differ most.
    fn default() -> Self {
        Self { per_hour: 5.6, gpus_each: 36, counted: (4_000, 5_000), seed: 1 }
    }
}

/// Reads measured throughputs, by model and `('TYPE', GPUs)` with the throughput alone at `null`, and draws jobs.
///
/// # Errors
/// The file, line and field at fault; terms that can't be played.
pub fn read(file: &Path, terms: Terms) -> Result<Scenario, Fault> {
    let fault = |field: &str, why: String| Fault { file: file.to_owned(), line: None, field: field.to_owned(), why };
    if !(terms.per_hour > 0.0 && terms.per_hour <= 1e6) {
        return Err(fault("per-hour", format!("{} is no number of jobs in an hour", terms.per_hour)));
    }
    let (first, last) = terms.counted;
    if first >= last || last + AFTERWARDS > MOST {
        return Err(fault("counted", format!("{first} to {last} is no window of at most {} jobs", MOST - AFTERWARDS)));
    }
    if terms.gpus_each == 0 || terms.gpus_each > 100_000 {
        return Err(fault("gpus", format!("{} GPUs of each model is not from 1 to 100000", terms.gpus_each)));
    }
    let document = Document::one(file)?;
    let shapes = shapes(&document.root())?;
    let jobs = draw(terms, shapes.len());
    let window_ms = jobs.last().map_or(1, |job| job.submitted_ms.max(1));
    let queues = vec![QUEUE.to_owned()];
    Ok(Scenario {
        workload: Workload { file: file.to_owned(), queues, shapes, unit: Unit::Gpus, jobs, window_ms },
        stage: Stage {
            clusters: vec![pool(terms.gpus_each)],
            queues: vec![QueueSpec { prefers: Some(Prefers::Fastest), ..queue(QUEUE, 1) }],
            dear: None,
            priced: true,
        },
        silos: Vec::new(),
        pools: Vec::new(),
        counted: Some(first..last),
        dealt: Some(terms.seed),
        notes: vec![format!("Jobs {first} to {last} count; waiting is completion − what the job takes on a V100.")],
    })
}

fn pool(gpus_each: u32) -> ClusterSpec {
    let mut nodes = Vec::new();
    for (_, model, _) in MODELS {
        let mut left = i64::from(gpus_each);
        while left > 0 {
            let gpus = left.min(GPUS_PER_NODE);
            let name = format!("{}-{}", model.to_lowercase(), nodes.len());
            let allocatable = Amounts::new().with(GPU, gpus);
            nodes.push(NodeSpec {
                name,
                flavor: model.to_owned(),
                allocatable,
                used_by_others: Amounts::new(),
                domains: BTreeMap::new(),
            });
            left -= gpus;
        }
    }
    let prices = MODELS.iter().map(|(_, model, micros)| ((*model).to_owned(), *micros)).collect();
    ClusterSpec { nodes, prices, ..cluster("pool", 0) }
}

/// A shape per type that runs on one GPU of the reference, by name.
fn shapes(root: &Node<'_>) -> Result<Vec<Shape>, Fault> {
    let reference = root.need(REFERENCE)?;
    let mut shapes = Vec::new();
    for (key, _) in reference.entries()? {
        let Some(class) = key.strip_prefix("('").and_then(|rest| rest.strip_suffix("', 1)")) else { continue };
        let of_reference = throughput(&reference, key)?;
        if of_reference <= 0.0 {
            return Err(reference.need(key)?.need("null")?.fault("is 0 on the model that durations are drawn for"));
        }
        let (mut speeds, mut flavors) = (BTreeMap::new(), BTreeSet::new());
        for (name, model, _) in MODELS {
            let permille = (1e3 * throughput(&root.need(name)?, key)? / of_reference).round();
            if (1.0..=1e6).contains(&permille) {
                speeds.insert(model.to_owned(), permille as u32);
                flavors.insert(model.to_owned());
            }
        }
        let each = Amounts::new().with(GPU, 1);
        let flavors = if flavors.len() == MODELS.len() { BTreeSet::new() } else { flavors };
        let gang = Gang { flavors, speeds: speeds.clone(), ..gang_of("worker", 1, each, Some(RESTART_MS)) };
        shapes.push(Shape { class: class.to_owned(), kind: class.to_owned(), priority: 0, gang, speeds, deadline_ms: None });
    }
    if shapes.is_empty() {
        return Err(reference.fault("has no type of one GPU, such as ('A3C', 1)"));
    }
    shapes.sort_by(|left, right| left.class.cmp(&right.class));
    Ok(shapes)
}

fn throughput(model: &Node<'_>, key: &str) -> Result<f64, Fault> {
    model.need(key)?.need("null")?.number()
}

fn draw(terms: Terms, shapes: usize) -> Vec<Job> {
    let mut dice = Dice(terms.seed);
    let mut at = 0.0;
    let mut jobs = Vec::new();
    for number in 0..terms.counted.1 + AFTERWARDS {
        at += dice.waits() / terms.per_hour * 3.6e6;
        let shape = dice.roll(shapes as u64) as usize;
        let (from, width) = if dice.part() >= 0.8 { (3.0, 1.0) } else { (1.5, 1.5) };
        let duration_ms = (60_000.0 * 10_f64.powf(from + width * dice.part())).round() as i64;
        jobs.push(Job { line: number as u64 + 1, queue: 0, shape, submitted_ms: at as i64, duration_ms, gpus: 1, each: 1 });
    }
    jobs
}
