//! Job shapes, interned. Jobs that ask for the same are of one *class*: whether one of them fits is the answer for all,
//! so that a hundred thousand equal jobs wait as one entry.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::amounts::{WHOLE, is_gpu, part_of_gpu};
use crate::event::Refused;
use crate::jobs::Hashing;
use crate::mix::{Mix, Shape, ShapeId};
use crate::span::Span;
use crate::spec::{Elastic, Gang};
use crate::vector::{ResourceTable, Vector};

/// Number of a GPU model in [`Flavors`].
pub(crate) type FlavorId = u32;
/// The model of nodes without GPUs.
pub(crate) const NO_FLAVOR: FlavorId = 0;
/// Number of a class in [`Classes`].
pub(crate) type ClassId = u32;

/// At most this many workers in a gang. A plan names each node, and a plan is a row and a message.
pub const MAX_WORKERS: u64 = 20_000;
/// At most this many groups in a gang.
pub const MAX_GROUPS: usize = 64;

/// GPU models, numbered in the order they were first seen.
#[derive(Clone, Debug)]
pub(crate) struct Flavors {
    names: Vec<String>,
    index: BTreeMap<String, FlavorId>,
}

impl Default for Flavors {
    fn default() -> Self {
        Self { names: vec![String::new()], index: BTreeMap::from([(String::new(), NO_FLAVOR)]) }
    }
}

impl Flavors {
    pub(crate) fn intern(&mut self, name: &str) -> FlavorId {
        if let Some(id) = self.index.get(name) {
            return *id;
        }
        let id = u32::try_from(self.names.len()).expect("fewer than 2^32 GPU models exist");
        self.names.push(name.to_owned());
        self.index.insert(name.to_owned(), id);
        id
    }

    /// Numbers that were given so far.
    pub(crate) fn ids(&self) -> std::ops::Range<FlavorId> {
        0..self.names.len() as FlavorId
    }

    pub(crate) fn name(&self, id: FlavorId) -> &str {
        &self.names[id as usize]
    }
}

/// A worker group with its amounts as a vector.
#[derive(Clone, Debug)]
pub(crate) struct ClassGroup {
    pub(crate) replicas: u32,
    /// What a worker asks for.
    pub(crate) asked: Vector,
    /// The same without a part of a GPU.
    pub(crate) each: Vector,
    /// Whole GPUs of each worker.
    pub(crate) gpus: i64,
    /// The part of one GPU that each worker gets, in thousandths; 0 if it gets none.
    pub(crate) part: i64,
    /// Whether its workers run on GPUs, whole ones, parts or MIG profiles, and so on nodes of the gang's model.
    pub(crate) on_gpu: bool,
    /// What the mix counts it as.
    pub(crate) shape: ShapeId,
}

/// What one gang of the class needs.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    pub(crate) gang: Gang,
    pub(crate) groups: Vec<ClassGroup>,
    pub(crate) total: Vector,
    /// GPUs of all workers together, parts rounded up to whole ones.
    pub(crate) gpus: i64,
    /// Of these what workers get whole.
    pub(crate) whole: i64,
    /// Whether some of its workers run on GPUs.
    pub(crate) on_gpu: bool,
    /// Whether some of its workers get a part of a GPU.
    pub(crate) in_parts: bool,
    /// Models that will do; empty: any. Without meaning for a class without GPUs.
    pub(crate) flavors: BTreeSet<FlavorId>,
    /// How fast it is on models, in thousandths, where that is not the normal speed.
    pub(crate) speeds: BTreeMap<FlavorId, i64>,
    /// What was learned of speeds from its like, in thousandths; empty where the gang says its speeds.
    pub(crate) learned: BTreeMap<String, u32>,
    /// How fast it is on models as far as that is said or learned: by this places are ordered.
    pub(crate) known_speeds: BTreeMap<FlavorId, i64>,
    /// Group indices, most GPUs per worker first, then most of everything: large pieces are packed before small ones.
    pub(crate) packing_order: Vec<usize>,
}

impl Class {
    /// How fast it is on a model, in thousandths.
    pub(crate) fn speed(&self, flavor: Option<FlavorId>) -> i64 {
        flavor.and_then(|flavor| self.speeds.get(&flavor).copied()).unwrap_or(NORMAL_SPEED)
    }

    /// Some of its workers, as they are packed: sums stay those of all.
    pub(crate) fn with_workers(&self, workers: impl Iterator<Item = u32>) -> Self {
        let mut some = self.clone();
        for (group, workers) in some.groups.iter_mut().zip(workers) {
            group.replicas = workers;
        }
        some
    }

    /// How fast it is on a model, said or learned.
    pub(crate) fn known_speed(&self, flavor: Option<FlavorId>) -> i64 {
        flavor.and_then(|flavor| self.known_speeds.get(&flavor).copied()).unwrap_or(NORMAL_SPEED)
    }

    /// How fast it is where it is fastest, as far as that is known.
    pub(crate) fn most_speed(&self) -> i64 {
        self.speeds.values().copied().max().unwrap_or(NORMAL_SPEED).max(NORMAL_SPEED)
    }
}

/// The normal speed, in thousandths.
pub(crate) const NORMAL_SPEED: i64 = Gang::NORMAL_SPEED as i64;

/// How long so much work takes at a speed: work is the time it takes at the normal one.
pub(crate) fn time_of(work_ms: i64, speed: i64) -> i64 {
    scaled(work_ms, NORMAL_SPEED, speed)
}

/// How much work is done in a time at a speed.
pub(crate) fn work_of(time_ms: i64, speed: i64) -> i64 {
    scaled(time_ms, speed, NORMAL_SPEED)
}

fn scaled(value: i64, times: i64, by: i64) -> i64 {
    if times == by {
        return value;
    }
    i64::try_from(i128::from(value) * i128::from(times) / i128::from(by)).unwrap_or(i64::MAX)
}

/// All classes that some job has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Classes {
    entries: Vec<Option<(Class, u64)>>,
    unused: Vec<ClassId>,
    /// By gang and what was learned of its speeds.
    index: HashMap<Gang, BTreeMap<BTreeMap<String, u32>, ClassId>, Hashing>,
    /// The class of the latest job: jobs often come in rows of equals.
    latest: Option<ClassId>,
}

impl Classes {
    pub(crate) fn get(&self, id: ClassId) -> &Class {
        &self.entries[id as usize].as_ref().expect("a job holds its class").0
    }

    /// The class of one more job.
    ///
    /// # Errors
    /// What [`check`] finds, which it needs to look for once a shape only.
    pub(crate) fn acquire(
        &mut self,
        gang: &Gang,
        learned: &BTreeMap<String, u32>,
        resources: &mut ResourceTable,
        flavors: &mut Flavors,
        mix: &mut Mix,
    ) -> Result<ClassId, Refused> {
        let known = match self.latest {
            Some(id) if self.get(id).gang == *gang && self.get(id).learned == *learned => Some(id),
            Some(_) | None => self.index.get(gang).and_then(|classes| classes.get(learned)).copied(),
        };
        if let Some(id) = known {
            self.entries[id as usize].as_mut().expect("the index names entries").1 += 1;
            self.latest = Some(id);
            return Ok(id);
        }
        check(gang)?;
        let mut class = build(gang, resources, flavors, mix);
        if !learned.is_empty() {
            class.known_speeds = by_flavor(learned, flavors);
            class.learned.clone_from(learned);
        }
        let entry = Some((class, 1));
        let id = match self.unused.pop() {
            Some(id) => {
                self.entries[id as usize] = entry;
                id
            }
            None => {
                self.entries.push(entry);
                ClassId::try_from(self.entries.len() - 1).expect("fewer than 2^32 shapes at a time")
            }
        };
        self.index.entry(gang.clone()).or_default().insert(learned.clone(), id);
        self.latest = Some(id);
        Ok(id)
    }

    /// True if this was the last job of the class.
    pub(crate) fn release(&mut self, id: ClassId, mix: &mut Mix) -> bool {
        let entry = self.entries[id as usize].as_mut().expect("a job holds its class");
        entry.1 -= 1;
        if entry.1 > 0 {
            return false;
        }
        if let Some((class, _)) = self.entries[id as usize].take() {
            if let Some(classes) = self.index.get_mut(&class.gang) {
                classes.remove(&class.learned);
                if classes.is_empty() {
                    self.index.remove(&class.gang);
                }
            }
            class.groups.iter().for_each(|group| mix.release(group.shape));
        }
        self.unused.push(id);
        self.latest = self.latest.filter(|latest| *latest != id);
        true
    }
}

pub(crate) fn build(gang: &Gang, resources: &mut ResourceTable, flavors: &mut Flavors, mix: &mut Mix) -> Class {
    let models: BTreeSet<FlavorId> = gang.flavors.iter().map(|name| flavors.intern(name)).collect();
    let mut total = Vector::default();
    let groups: Vec<ClassGroup> = gang
        .groups
        .iter()
        .map(|group| {
            let asked = resources.intern(&group.each);
            total.add(&asked.times(group.replicas));
            let shape = Shape::new(&group.each, models.clone(), resources);
            let Shape { each, part, on_gpu, models: _ } = shape.clone();
            let gpus = resources.gpus(&each);
            let shape = mix.acquire(&group.each, &gang.flavors, || shape);
            ClassGroup { replicas: group.replicas, asked, each, gpus, part, on_gpu, shape }
        })
        .collect();
    let mut packing_order: Vec<usize> = (0..groups.len()).collect();
    // By names, never by numbers: those depend on which resource was heard of first.
    packing_order.sort_by_key(|index| (Reverse(groups[*index].gpus), Reverse(&gang.groups[*index].each), *index));
    let speeds = by_flavor(&gang.speeds, flavors);
    Class {
        known_speeds: speeds.clone(),
        learned: BTreeMap::new(),
        speeds,
        gang: gang.clone(),
        gpus: resources.gpus_rounded_up(&total),
        whole: groups.iter().map(|group| group.gpus.saturating_mul(i64::from(group.replicas))).sum(),
        on_gpu: groups.iter().any(|group| group.on_gpu),
        in_parts: groups.iter().any(|group| group.part > 0),
        groups,
        total,
        flavors: models,
        packing_order,
    }
}

fn by_flavor(speeds: &BTreeMap<String, u32>, flavors: &mut Flavors) -> BTreeMap<FlavorId, i64> {
    speeds.iter().map(|(name, speed)| (flavors.intern(name), i64::from(*speed))).collect()
}

/// Checks a gang by itself, without looking at queues and clusters.
///
/// # Errors
/// The field at fault: no groups, no replicas, a negative amount, a sum beyond what can be counted, too many workers,
/// `minAvailable` out of range, an elastic group that can't be smaller, a gang that may be split and must not.
pub fn check(gang: &Gang) -> Result<(), Refused> {
    if gang.groups.is_empty() {
        return Err(Refused::new("groups", "a job needs at least one group of workers"));
    }
    if gang.groups.len() > MAX_GROUPS {
        return Err(Refused::new("groups", format!("{} groups of workers, at most {MAX_GROUPS} are allowed", gang.groups.len())));
    }
    for (index, group) in gang.groups.iter().enumerate() {
        if group.replicas == 0 {
            return Err(Refused::new(format!("groups[{index}].replicas"), "must be at least 1"));
        }
        for (name, amount) in group.each.iter() {
            if amount < 0 {
                return Err(Refused::new(format!("groups[{index}].each[{name}]"), "must not be negative"));
            }
            let Some(whole) = part_of_gpu(name) else { continue };
            if amount >= WHOLE {
                let why = format!("must be less than {WHOLE} thousandths; {whole} counts whole GPUs");
                return Err(Refused::new(format!("groups[{index}].each[{name}]"), why));
            }
            let gpus = group.each.iter().filter(|(other, _)| is_gpu(other) || part_of_gpu(other).is_some()).count();
            if gpus > 1 {
                return Err(Refused::new(
                    format!("groups[{index}].each[{name}]"),
                    "a worker gets whole GPUs or a part of one, not both",
                ));
            }
        }
    }
    if gang.workers() > MAX_WORKERS {
        return Err(Refused::new("groups", format!("{} workers, at most {MAX_WORKERS} are allowed", gang.workers())));
    }
    if gang.min_available == 0 || u64::from(gang.min_available) > gang.workers() {
        return Err(Refused::new("min_available", format!("must be from 1 to {}, the number of workers", gang.workers())));
    }
    if let Some(elastic) = gang.elastic {
        check_elastic(gang, elastic)?;
    }
    check_span(gang)?;
    if let Some((model, speed)) = gang.speeds.iter().find(|(_, speed)| !(1..=Gang::MOST_SPEED).contains(*speed)) {
        return Err(Refused::new(
            format!("speeds[{model}]"),
            format!("{speed} thousandths is not from 1 to {}", Gang::MOST_SPEED),
        ));
    }
    if gang.topology.as_ref().is_some_and(|topology| topology.level.is_empty()) {
        return Err(Refused::new("topology.level", "must not be empty"));
    }
    if let Some(dataset) = &gang.dataset {
        if dataset.region.is_empty() {
            return Err(Refused::new("dataset.region", "must not be empty"));
        }
        if dataset.bytes < 0 {
            return Err(Refused::new("dataset.bytes", "must not be negative"));
        }
    }
    // A thousandth of the range leaves room for sums over queues without a check at every addition.
    match gang.total() {
        Err(name) => Err(Refused::new(format!("groups[{name}]"), "the sum over all workers is too large to be counted")),
        Ok(total) => match total.iter().find(|(_, amount)| *amount > i64::MAX / (1 << 10)) {
            Some((name, _)) => {
                Err(Refused::new(format!("groups[{name}]"), "the sum over all workers is too large to be counted"))
            }
            None => Ok(()),
        },
    }
}

/// Checks that a gang that may be split asks for nothing that needs all of it in one cluster.
fn check_span(gang: &Gang) -> Result<(), Refused> {
    match gang.span {
        Span::Cluster => Ok(()),
        Span::Region if gang.elastic.is_some() => Err(Refused::new("span", "a gang that may be smaller stays on one cluster")),
        Span::Region if gang.required_level().is_some() => {
            Err(Refused::new("span", "a gang that must stand in one domain stays on one cluster"))
        }
        Span::Region => Ok(()),
    }
}

/// Checks that there is a size between none and all, and that a gang of the least one counts as running.
fn check_elastic(gang: &Gang, Elastic { group, least }: Elastic) -> Result<(), Refused> {
    let Some(replicas) = gang.groups.get(group).map(|group| group.replicas) else {
        return Err(Refused::new("elastic.group", format!("there is no group {group}")));
    };
    if least == 0 || least >= replicas {
        let why = format!("must be from 1 to {}, less than the group's {replicas} workers", replicas.saturating_sub(1));
        return Err(Refused::new("elastic.least", why));
    }
    let workers = gang.workers() - u64::from(replicas - least);
    if u64::from(gang.min_available) > workers {
        let why = format!("{} of {workers} workers would be too few to count as running", gang.min_available);
        return Err(Refused::new("elastic.least", why));
    }
    Ok(())
}
