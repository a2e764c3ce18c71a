//! Jobs that are made up: how many, when, how long, and what they ask for.

use std::collections::{BTreeMap, BTreeSet};

use muster_scheduler_engine::{CPU, Dataset, Gang, MEMORY, QueueSpec, Span, Topology, TopologyMode, check};

use super::MOST;
use crate::dice::Dice;
use crate::fault::Fault;
use crate::play::gang_of;
use crate::tree::Node;
use crate::workload::{Job, Shape, Unit};

/// A century of milliseconds; sums of times are exact below it.
const MOST_MS: i64 = 3_200_000_000_000;

/// What the documents have come to so far.
pub(super) struct Made<'a> {
    known: &'a [QueueSpec],
    dice: Dice,
    /// Queues with jobs.
    pub(super) queues: Vec<String>,
    pub(super) shapes: Vec<Shape>,
    /// In whole GPUs.
    pub(super) jobs: Vec<Job>,
}

impl<'a> Made<'a> {
    pub(super) fn new(known: &'a [QueueSpec], seed: u64) -> Self {
        Self { known, dice: Dice(seed), queues: Vec::new(), shapes: Vec::new(), jobs: Vec::new() }
    }

    pub(super) fn add(&mut self, root: &Node<'_>) -> Result<(), Fault> {
        root.only(&["apiVersion", "kind", "metadata", "spec"])?;
        let name = root.need("metadata")?.need("name")?.text()?;
        let spec = root.need("spec")?;
        spec.only(&[
            "queue",
            "count",
            "start",
            "every",
            "arrivals",
            "duration",
            "workers",
            "each",
            "priority",
            "restartCost",
            "flavors",
            "speeds",
            "topology",
            "deadline",
            "dataset",
            "span",
        ])?;
        let queue = self.queue(&spec.need("queue")?)?;
        let shape = shape(name, &spec)?;
        let count = spec.get("count").map_or(Ok(1), |count| count.whole(1, MOST - self.jobs.len() as i64))?;
        let mut at = spec.get("start").map_or(Ok(0), |start| start.span_ms())?;
        let every_ms = spec.get("every").map_or(Ok(0), |every| every.span_ms())?;
        let poisson = match spec.get("arrivals") {
            None => false,
            Some(arrivals) => match arrivals.text()? {
                "regular" => false,
                "poisson" => true,
                other => return Err(arrivals.fault(format!("{other:?} is neither regular nor poisson"))),
            },
        };
        let lasts = Lasts::read(&spec.need("duration")?)?;
        let each = u32::try_from(shape.gang.groups[0].each.gpus()).map_err(|_| spec.fault("asks for too many GPUs"))?;
        let gpus = each.checked_mul(shape.gang.groups[0].replicas).ok_or_else(|| spec.fault("asks for too many GPUs"))?;
        let line = spec.line();
        for _ in 0..count {
            let duration_ms = lasts.draw(&mut self.dice);
            self.jobs.push(Job { line, queue, shape: self.shapes.len(), submitted_ms: at, duration_ms, gpus, each });
            let after = if poisson { self.dice.waits() } else { 1.0 };
            at += (every_ms as f64 * after).round() as i64;
            if at > MOST_MS {
                return Err(spec.fault("the last of these jobs would come after more than a century"));
            }
        }
        self.shapes.push(shape);
        Ok(())
    }

    fn queue(&mut self, node: &Node<'_>) -> Result<usize, Fault> {
        let name = node.text()?;
        if !self.known.iter().any(|queue| queue.name == name) {
            return Err(node.fault(format!("{name:?} is no queue of this file")));
        }
        Ok(self.queues.iter().position(|known| known == name).unwrap_or_else(|| {
            self.queues.push(name.to_owned());
            self.queues.len() - 1
        }))
    }

    /// All jobs by time, counted in the unit. A job without any of it counts as one.
    pub(super) fn counted(&mut self, unit: Unit) -> Vec<Job> {
        let mut jobs = std::mem::take(&mut self.jobs);
        for job in &mut jobs {
            let group = &self.shapes[job.shape].gang.groups[0];
            if unit == Unit::MilliCores {
                job.each = u32::try_from(group.each.get(CPU)).unwrap_or(u32::MAX);
                job.gpus = job.each.saturating_mul(group.replicas);
            }
            job.each = job.each.max(1);
            job.gpus = job.gpus.max(1);
        }
        jobs.sort_by_key(|job| (job.submitted_ms, job.line));
        jobs
    }
}

fn shape(name: &str, spec: &Node<'_>) -> Result<Shape, Fault> {
    // Both at most 20,000 and 2^31 by these lines.
    let workers = spec.get("workers").map_or(Ok(1), |workers| workers.whole(1, 20_000))? as u32;
    let priority = spec.get("priority").map_or(Ok(0), |one| one.whole(i64::from(i32::MIN), i64::from(i32::MAX)))? as i32;
    let restart_ms = spec.get("restartCost").map(|cost| cost.span_ms()).transpose()?;
    let each = spec.need("each")?;
    let flavors = spec.get("flavors").map(|flavors| flavors.texts()).transpose()?.unwrap_or_default();
    let flavors: BTreeSet<String> = flavors.into_iter().map(str::to_owned).collect();
    let speeds = speeds(spec)?;
    let topology = spec.get("topology").map(|topology| self::topology(&topology)).transpose()?;
    let dataset = spec.get("dataset").map(|dataset| self::dataset(&dataset)).transpose()?;
    let span = spec.get("span").map(|span| self::span(&span)).transpose()?.unwrap_or_default();
    let deadline_ms = spec.get("deadline").map(|deadline| deadline.span_ms()).transpose()?;
    let gang = Gang {
        flavors,
        speeds: speeds.clone(),
        topology,
        dataset,
        span,
        ..gang_of("workers", workers, each.amounts()?, restart_ms)
    };
    check(&gang).map_err(|refused| match spec.get("span").filter(|_| refused.field == "span") {
        Some(span) => span.fault(refused.why),
        None => each.fault(refused.to_string()),
    })?;
    Ok(Shape { class: name.to_owned(), kind: name.to_owned(), priority, gang, speeds, deadline_ms })
}

/// `{required: LEVEL}` or `{preferred: LEVEL}`, a level being a key of the nodes' `domains`, or [`Topology::NODE`] for a single node.
fn topology(node: &Node<'_>) -> Result<Topology, Fault> {
    node.only(&["required", "preferred"])?;
    let (level, mode) = match (node.get("required"), node.get("preferred")) {
        (Some(level), None) => (level, TopologyMode::Required),
        (None, Some(level)) => (level, TopologyMode::Preferred),
        (Some(_), Some(level)) => return Err(level.fault("can't stand beside required")),
        (None, None) => return Err(node.fault("must say the level that is required or preferred")),
    };
    Ok(Topology { level: level.text()?.to_owned(), mode })
}

/// How far the workers of a job may be apart: all on one `cluster`, or on several of one `region`.
fn span(node: &Node<'_>) -> Result<Span, Fault> {
    match node.text()? {
        "cluster" => Ok(Span::Cluster),
        "region" => Ok(Span::Region),
        other => Err(node.fault(format!("{other:?} is neither cluster nor region"))),
    }
}

/// Where the data is that the jobs read, and how large it is.
fn dataset(node: &Node<'_>) -> Result<Dataset, Fault> {
    node.only(&["region", "size"])?;
    Ok(Dataset { region: node.need("region")?.text()?.to_owned(), bytes: node.need("size")?.quantity(MEMORY)? })
}

/// How fast the job is on each model, in thousandths.
pub(super) fn speeds(spec: &Node<'_>) -> Result<BTreeMap<String, u32>, Fault> {
    let mut speeds = BTreeMap::new();
    for (flavor, speed) in spec.get("speeds").map(|speeds| speeds.entries()).transpose()?.unwrap_or_default() {
        let permille = (speed.number()? * 1e3).round();
        if !(1.0..=1e6).contains(&permille) {
            return Err(speed.fault("is no speed from 0.001 to 1000"));
        }
        speeds.insert(flavor.to_owned(), permille as u32);
    }
    Ok(speeds)
}

/// How long jobs last.
struct Lasts {
    from_ms: i64,
    to_ms: i64,
}

impl Lasts {
    /// A span, or `{from, to}`.
    fn read(node: &Node<'_>) -> Result<Self, Fault> {
        if let Ok(ms) = node.span_ms() {
            return Ok(Self { from_ms: ms, to_ms: ms });
        }
        if node.text().is_ok() {
            node.span_ms()?;
        }
        node.only(&["from", "to"])?;
        let (from, to) = (node.need("from")?, node.need("to")?);
        let (from_ms, to_ms) = (from.span_ms()?, to.span_ms()?);
        if from_ms == 0 {
            return Err(from.fault("must be more than nothing"));
        }
        if to_ms < from_ms {
            return Err(to.fault("is shorter than from"));
        }
        Ok(Self { from_ms, to_ms })
    }

    /// Every doubling is equally likely: job durations span orders of magnitude.
    fn draw(&self, dice: &mut Dice) -> i64 {
        if self.from_ms == self.to_ms {
            return self.from_ms;
        }
        let (from, to) = ((self.from_ms as f64).ln(), (self.to_ms as f64).ln());
        dice.part().mul_add(to - from, from).exp().round() as i64
    }
}
