//! The engine at the size of a large fleet: 1,000 clusters of 100 nodes, four GPU models, 1,000 weighted queues in a tree with
//! guarantees and capabilities, gangs up to 64 GPUs with cpu and memory. Everything is on; nothing is random but the sizes, and
//! these are the same on every machine.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_scheduler_engine::{
    Amounts, CPU, ClusterSpec, Decision, Engine, Epoch, Event, JobId, JobSpec, MEMORY, NodeSpec, QueueSpec, Refused, RunEnd,
    Time, WorkerGroup,
};

use crate::dice::Dice;
use crate::play::{GPU, cluster, gang};
use crate::speed::Clock;

/// How large.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Clusters.
    pub clusters: u32,
    /// Nodes of each, with 8 GPUs, 96 cores and 1 TiB.
    pub nodes_each: u32,
    /// Queues that jobs are submitted to, in families of 25.
    pub queues: u32,
    /// Jobs that wait when the measurement begins.
    pub waiting: u64,
    /// Whether runs start, so that they may have to make room for gangs that their queues have lent it to.
    pub starts: Starts,
}

/// Whether it is told that runs have started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starts {
    /// Each, as soon as it is placed.
    AtOnce,
    /// None: nothing is ever reclaimed.
    Never,
}

/// What the steady state was like.
#[derive(Clone, Debug)]
pub struct Steady {
    /// Gangs that were placed before everything was full.
    pub filled: u64,
    /// How long that took, submissions included.
    pub fill: Duration,
    /// Gangs placed in the measured time.
    pub decisions: u64,
    /// Runs that were told to end for others in the measured time.
    pub interrupted: u64,
    /// The measured time: ends of runs, and plans.
    pub took: Duration,
    /// Entries looked at and fits tried.
    pub operations: u64,
    /// Per event, its fold and the plan after it, from the quickest to the slowest.
    pub events: Vec<Duration>,
    /// Over all placements in their order, jobs and clusters (FNV-1a): engines that decide alike have it alike.
    pub checksum: u64,
}

impl Steady {
    /// Decisions a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.decisions as f64 / self.took.as_secs_f64()
    }

    /// The time that so many of 1,000 events took at most.
    #[must_use]
    pub fn permille(&self, permille: usize) -> Duration {
        self.events
            .get((self.events.len() * permille / 1_000).min(self.events.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }
}

const FLAVORS: [&str; 4] = ["T4", "V100", "A100", "H100"];
const FAMILY: u32 = 25;
const GIB: i64 = 1 << 30;

/// An engine of that size with its queues full.
///
/// # Errors
/// What the engine refuses.
pub fn build(scale: Scale) -> Result<(Engine, Dice), Refused> {
    let mut engine = Engine::new();
    for number in 0..scale.clusters {
        engine.apply(Event::Cluster(site(number, scale.nodes_each)))?;
    }
    let gpus = i64::from(scale.clusters) * i64::from(scale.nodes_each) * 8;
    let families = scale.queues.div_ceil(FAMILY);
    for family in 0..families {
        // A family may use twice its part, and is guaranteed half of it.
        let part = gpus / i64::from(families);
        engine.apply(Event::Queue(limited(QueueSpec::named(&format!("family-{family}")), 1 + family % 3, part)))?;
    }
    for number in 0..scale.queues {
        let spec = QueueSpec { parent: Some(format!("family-{}", number / FAMILY)), ..QueueSpec::named(&name(number)) };
        engine.apply(Event::Queue(limited(spec, 1 + number % 4, gpus / i64::from(scale.queues))))?;
    }
    let mut dice = Dice(1);
    let mean_gpus = 6;
    let jobs = u64::try_from(gpus).unwrap_or(0) / mean_gpus + scale.waiting;
    for id in 0..jobs {
        let job = job(id, name((id % u64::from(scale.queues)) as u32), &mut dice);
        engine.apply(Event::Submitted { job, suspended: false })?;
    }
    Ok((engine, dice))
}

/// Fills the fleet, then ends so many runs, one after another, each followed by a plan.
///
/// # Errors
/// What the engine refuses.
pub fn steady(scale: Scale, ends: u64, clock: Clock<'_>) -> Result<Steady, Refused> {
    let began = clock();
    let (engine, mut dice) = build(scale)?;
    let mut fleet =
        Fleet { engine, starts: scale.starts, running: Vec::new(), checksum: Checksum::default(), stale: BTreeSet::new() };
    let filled = fleet.plan()?;
    let fill = clock().saturating_sub(began);
    let before = fleet.engine.stats();
    let (mut events, mut decisions) = (Vec::new(), 0);
    let began = clock();
    let mut last = began;
    for ended in 0..ends {
        fleet.engine.apply(Event::Time(Time(ended.cast_signed())))?;
        if !fleet.end_one(&mut dice)? {
            break;
        }
        decisions += fleet.plan()?;
        let now = clock();
        events.push(now.saturating_sub(last));
        last = now;
    }
    let after = fleet.engine.stats();
    events.sort_unstable();
    let operations = after.entries_visited + after.fits_tried - before.entries_visited - before.fits_tried;
    let (interrupted, checksum) = (after.interrupted - before.interrupted, fleet.checksum.0);
    Ok(Steady { filled, fill, decisions, interrupted, took: last.saturating_sub(began), operations, events, checksum })
}

/// An engine with what runs in it.
struct Fleet {
    engine: Engine,
    starts: Starts,
    running: Vec<(JobId, Epoch)>,
    /// Of these the runs that have ended for others.
    stale: BTreeSet<(JobId, Epoch)>,
    checksum: Checksum,
}

impl Fleet {
    /// Ends some run; false if there is none.
    fn end_one(&mut self, dice: &mut Dice) -> Result<bool, Refused> {
        while !self.running.is_empty() {
            let (job, epoch) = self.running.swap_remove(dice.roll(self.running.len() as u64) as usize);
            if !self.stale.remove(&(job, epoch)) {
                self.engine.apply(Event::Ended { job, epoch, end: RunEnd::Finished })?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Plans until nothing more is decided: runs that are told to end do at once. Gives how many gangs were placed.
    fn plan(&mut self) -> Result<u64, Refused> {
        let mut count = 0;
        loop {
            let mut ended = Vec::new();
            for decision in self.engine.plan() {
                match decision {
                    Decision::Place(placement) => {
                        let (job, epoch) = (placement.job, placement.epoch);
                        self.checksum.add(&job.0.to_le_bytes());
                        self.checksum.add(placement.cluster.as_bytes());
                        self.running.push((job, epoch));
                        count += 1;
                        if self.starts == Starts::AtOnce {
                            let at = self.engine.now();
                            self.engine.apply(Event::Started { job, epoch, at })?;
                        }
                    }
                    Decision::Interrupt(interruption) => ended.push((interruption.job, interruption.epoch)),
                    Decision::Resize(_) => unreachable!("all gangs are of one size"),
                }
            }
            if ended.is_empty() {
                return Ok(count);
            }
            for (job, epoch) in ended {
                let not_before = self.engine.now();
                self.engine.apply(Event::Ended { job, epoch, end: RunEnd::Retry { not_before } })?;
                self.stale.insert((job, epoch));
            }
        }
    }
}

/// How long it takes from rows to the first decision: what a new leader does.
///
/// # Errors
/// What the engine refuses.
pub fn restart(scale: Scale, clock: Clock<'_>) -> Result<Duration, Refused> {
    let (mut engine, _) = build(scale)?;
    let placed = engine.plan().into_iter().find_map(|decision| match decision {
        Decision::Place(placement) => Some((placement.job, placement.epoch)),
        Decision::Interrupt(_) | Decision::Resize(_) => None,
    });
    let (job, epoch) = placed.expect("an empty fleet takes something");
    let rows = engine.rows();
    drop(engine);
    let began = clock();
    let mut engine = Engine::restore(rows, Time(1))?;
    engine.apply(Event::Ended { job, epoch, end: RunEnd::Finished })?;
    engine.plan();
    Ok(clock().saturating_sub(began))
}

fn limited(spec: QueueSpec, weight: u32, part: i64) -> QueueSpec {
    let amounts = |gpus: i64| Amounts::new().with(GPU, gpus.max(64)).with(CPU, gpus.max(64) * 12_000);
    QueueSpec { weight, capability: amounts(part * 2).into(), guarantee: amounts(part / 2), ..spec }
}

fn name(number: u32) -> String {
    format!("queue-{number:04}")
}

fn site(number: u32, nodes: u32) -> ClusterSpec {
    let flavor = FLAVORS[number as usize % FLAVORS.len()];
    let each = Amounts::new().with(GPU, 8).with(CPU, 96_000).with(MEMORY, 1_024 * GIB);
    let mut spec = cluster(&format!("cluster-{number:04}"), 0);
    spec.nodes = NodeSpec::group("node", nodes, flavor, &each);
    spec.prices.insert(flavor.to_owned(), 1_000_000 * (1 + i64::from(number) % 4));
    spec
}

/// A worker per node: 1 to 8 GPUs on one, or whole nodes.
fn job(id: u64, queue: String, dice: &mut Dice) -> JobSpec {
    let gpus = [1, 1, 1, 1, 2, 2, 2, 4, 4, 8, 8, 8, 16, 16, 32, 64][dice.roll(16) as usize];
    let (workers, each) = if gpus > 8 { (gpus / 8, 8) } else { (1, gpus) };
    let amounts =
        Amounts::new().with(GPU, i64::from(each)).with(CPU, i64::from(each) * 10_000).with(MEMORY, i64::from(each) * 100 * GIB);
    let mut gang = gang(vec![WorkerGroup { name: "worker".to_owned(), replicas: workers, each: amounts }], None);
    if dice.roll(2) == 0 {
        gang.flavors.insert(FLAVORS[dice.roll(4) as usize].to_owned());
    }
    JobSpec { id: JobId(id), queue, priority: 0, kind: String::new(), submitted_at: Time(0), deadline: None, gang }
}

/// FNV-1a, 64 bits.
struct Checksum(u64);

impl Default for Checksum {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }
}
