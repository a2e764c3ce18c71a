//! The nodes of one cluster and how gangs are packed onto them. Nodes with the same GPU model and the same free amounts
//! stand in one *bucket*; a fit looks at buckets, of which there are few, and never at every node.
//!
//! A GPU of which parts are in use is *split*: it is no whole GPU any more, and has a number on its node under which what runs on it
//! is known. Which of the node's GPUs it really is does not matter.

mod bucket;
mod choice;
mod domain;
mod packing;
mod split;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::amounts::{Amounts, WHOLE, part_of_gpu};
use crate::class::{Class, FlavorId, Flavors, NO_FLAVOR};
use crate::spec::NodeSpec;
use crate::vector::{AT_CPU, AT_MEMORY, ResourceTable, Vector};

use bucket::{Bucket, Members, Split};
use domain::Levels;
pub(crate) use domain::Rooms;
pub(crate) use packing::Shortage;
pub(crate) use split::{Piece, Spread, split};

/// Number of a node in its cluster.
pub(crate) type NodeIndex = u32;

/// Workers of one group of a gang on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) group: u32,
    pub(crate) node: NodeIndex,
    pub(crate) workers: u32,
    /// Number of the node's GPU of which its one worker gets a part.
    pub(crate) gpu: Option<u16>,
}

/// What is reserved on a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    pub(crate) amount: Vector,
    /// Parts of GPUs: the GPU's number on the node, and thousandths.
    pub(crate) parts: Vec<(u16, i64)>,
}

impl Held {
    pub(crate) fn add(&mut self, other: &Self) {
        self.amount.add(&other.amount);
        self.parts.extend_from_slice(&other.parts);
    }
}

impl Place {
    /// What workers of a class hold there.
    pub(crate) fn held(self, class: &Class) -> Held {
        let group = &class.groups[self.group as usize];
        Held { amount: group.each.times(self.workers), parts: self.gpu.map(|gpu| (gpu, group.part)).into_iter().collect() }
    }
}

/// The number of the GPU of which others use a part.
const OF_OTHERS: u16 = u16::MAX;

#[derive(Clone, Debug)]
struct Node {
    name: Arc<str>,
    flavor: FlavorId,
    /// False for a name that some run still has and the inventory hasn't: it takes nothing.
    present: bool,
    allocatable: Vector,
    /// Allocatable − used by others − reserved here. Below zero where others took what was planned for us, and where room is
    /// promised to a gang before it is there.
    free: Vector,
    /// Which resource its GPUs are, if parts of them may be used.
    parts_of: Option<usize>,
    /// Split GPUs: number and what is free, in thousandths. Below zero as `free`.
    split: Vec<(u16, i64)>,
}

impl Node {
    /// Changes what is free of a split GPU. One that is whole again is split no more, and one that was whole is split now.
    fn change_part(&mut self, gpu: u16, by: i64) {
        let Some(resource) = self.parts_of else { return };
        match self.split.binary_search_by_key(&gpu, |(gpu, _)| *gpu) {
            Ok(at) if self.split[at].1 + by == WHOLE => {
                self.split.remove(at);
                self.free.put(resource, self.free.get(resource) + WHOLE);
            }
            Ok(at) => self.split[at].1 += by,
            Err(at) => {
                self.split.insert(at, (gpu, WHOLE + by));
                self.free.put(resource, self.free.get(resource) - WHOLE);
            }
        }
    }
}

/// All nodes of a cluster with what is free on each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    by_name: BTreeMap<Arc<str>, NodeIndex>,
    buckets: BTreeMap<Bucket, Members>,
    /// Free whole GPUs per model that stands here, by the model's name: a model's number depends on which was heard of first, and
    /// nothing that is decided may.
    gpus_free: Vec<(FlavorId, i64)>,
    /// Whether parts of some GPUs may be used.
    pub(crate) in_parts: bool,
    /// Which nodes stand together.
    levels: Arc<Levels>,
}

impl Nodes {
    pub(crate) fn new(specs: &[NodeSpec], resources: &mut ResourceTable, flavors: &mut Flavors) -> Self {
        let mut all = Self::default();
        let models: BTreeSet<&str> = specs.iter().map(|spec| spec.flavor.as_str()).collect();
        all.gpus_free = models.into_iter().map(|model| (flavors.intern(model), 0)).collect();
        for spec in specs {
            let in_parts = spec.allocatable.iter().any(|(name, _)| part_of_gpu(name).is_some());
            // Parts of GPUs are allocatable as often as there are GPUs: what is said of them says only that they are.
            let whole: Amounts = spec.allocatable.iter().filter(|(name, _)| part_of_gpu(name).is_none()).map(owned).collect();
            let allocatable = resources.intern(&whole);
            let parts_of = resources.gpu_of(&allocatable).filter(|_| in_parts);
            all.in_parts |= parts_of.is_some();
            let mut free = allocatable.clone();
            free.sub(&resources.intern(&spec.used_by_others));
            let flavor = flavors.intern(&spec.flavor);
            let name: Arc<str> = spec.name.as_str().into();
            let mut node = Node { name, flavor, present: true, allocatable, free, parts_of, split: Vec::new() };
            // Others are taken to use whole GPUs but for one.
            let rest = parts_of.map_or(0, |gpu| (-node.free.get(gpu)).rem_euclid(WHOLE));
            if let Some(gpu) = parts_of.filter(|_| rest > 0) {
                node.free.put(gpu, node.free.get(gpu) + rest);
                node.change_part(OF_OTHERS, -rest);
            }
            let index = all.push(node);
            all.enter(index, resources);
        }
        all.levels = Arc::new(Levels::new(specs));
        all
    }

    fn push(&mut self, node: Node) -> NodeIndex {
        let index = NodeIndex::try_from(self.nodes.len()).expect("a cluster has fewer than 2^32 nodes");
        self.by_name.insert(Arc::clone(&node.name), index);
        self.nodes.push(node);
        index
    }

    /// The number of the node with this name; a name that is not in the inventory gets one too, and takes nothing.
    pub(crate) fn index_of(&mut self, name: &str) -> NodeIndex {
        match self.by_name.get(name) {
            Some(index) => *index,
            None => {
                let (allocatable, free) = (Vector::default(), Vector::default());
                let (parts_of, split) = (None, Vec::new());
                self.push(Node { name: name.into(), flavor: NO_FLAVOR, present: false, allocatable, free, parts_of, split })
            }
        }
    }

    /// The number of the node with this name, if it has one.
    pub(crate) fn find(&self, name: &str) -> Option<NodeIndex> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn name(&self, index: NodeIndex) -> &str {
        &self.nodes[index as usize].name
    }

    /// The same nodes with nothing on them.
    pub(crate) fn emptied(&self, resources: &ResourceTable) -> Self {
        let mut empty = self.clone();
        for index in 0..empty.nodes.len() {
            let allocatable = empty.nodes[index].allocatable.clone();
            empty.change(index as NodeIndex, resources, |node| (node.free, node.split) = (allocatable, Vec::new()));
        }
        empty
    }

    fn bucket(&self, index: NodeIndex, resources: &ResourceTable) -> Bucket {
        let node = &self.nodes[index as usize];
        let (cpu, memory) = (node.free.get(AT_CPU), node.free.get(AT_MEMORY));
        let split = Split::new(node.parts_of, node.split.iter().map(|(_, free)| *free));
        Bucket { flavor: node.flavor, gpus: resources.gpus(&node.free), cpu, memory, split, free: node.free.clone() }
    }

    /// Counts more or fewer free GPUs of a model that stands here.
    fn count(&mut self, flavor: FlavorId, gpus: i64) {
        if let Some((_, free)) = self.gpus_free.iter_mut().find(|(model, _)| *model == flavor) {
            *free += gpus;
        }
    }

    fn enter(&mut self, index: NodeIndex, resources: &ResourceTable) {
        let bucket = self.bucket(index, resources);
        self.count(bucket.flavor, bucket.gpus.max(0));
        self.buckets.entry(bucket).or_default().nodes.insert(index);
    }

    fn leave(&mut self, index: NodeIndex, resources: &ResourceTable) {
        let bucket = self.bucket(index, resources);
        self.count(bucket.flavor, -bucket.gpus.max(0));
        if let Some(members) = self.buckets.get_mut(&bucket) {
            members.nodes.remove(&index);
            if members.nodes.is_empty() {
                self.buckets.remove(&bucket);
            }
        }
    }

    fn change(&mut self, index: NodeIndex, resources: &ResourceTable, change: impl FnOnce(&mut Node)) {
        if !self.nodes[index as usize].present {
            return;
        }
        self.leave(index, resources);
        change(&mut self.nodes[index as usize]);
        self.enter(index, resources);
    }

    /// Reserves something on a node. A node that is not in the inventory (any more) holds nothing.
    pub(crate) fn take(&mut self, node: NodeIndex, held: &Held, resources: &ResourceTable) {
        self.change(node, resources, |node| {
            node.free.sub(&held.amount);
            held.parts.iter().for_each(|(gpu, part)| node.change_part(*gpu, -part));
        });
    }

    /// Gives back what [`Nodes::take`] took.
    pub(crate) fn give(&mut self, node: NodeIndex, held: &Held, resources: &ResourceTable) {
        self.change(node, resources, |node| {
            node.free.add(&held.amount);
            held.parts.iter().for_each(|(gpu, part)| node.change_part(*gpu, *part));
        });
    }

    /// Reserves the places of a gang, whether there is room or not.
    pub(crate) fn take_places(&mut self, class: &Class, places: &[Place], resources: &ResourceTable) {
        for place in places {
            self.take(place.node, &place.held(class), resources);
        }
    }

    /// Gives back the places of a gang.
    pub(crate) fn give_places(&mut self, class: &Class, places: &[Place], resources: &ResourceTable) {
        for place in places {
            self.give(place.node, &place.held(class), resources);
        }
    }

    /// Whether something could be reserved on a node, if it is in the inventory.
    pub(crate) fn has_room_for(&self, index: NodeIndex, held: &Held) -> bool {
        let Some(node) = self.nodes.get(index as usize).filter(|node| node.present) else { return true };
        let mut whole = node.parts_of.map_or(0, |gpu| node.free.get(gpu) - held.amount.get(gpu));
        held.amount.iter().all(|(resource, units)| node.free.get(resource) >= units)
            && held.parts.iter().all(|(gpu, part)| match node.split.iter().find(|(number, _)| number == gpu) {
                Some((_, free)) => free >= part,
                None => {
                    whole -= WHOLE;
                    whole >= 0
                }
            })
    }

    /// Whether what is reserved for a place is there: nothing is short on its node that its workers ask for.
    pub(crate) fn has_come(&self, class: &Class, place: Place) -> bool {
        let Some(node) = self.nodes.get(place.node as usize).filter(|node| node.present) else { return false };
        let group = &class.groups[place.group as usize];
        let part_has_come = place.gpu.is_none_or(|gpu| {
            node.parts_of.is_none_or(|resource| node.free.get(resource) >= 0)
                && node.split.iter().find(|(number, _)| *number == gpu).is_none_or(|(_, free)| *free >= 0)
        });
        group.each.iter().all(|(resource, _)| node.free.get(resource) >= 0) && part_has_come
    }

    /// What is free on a node; `None` if it is not in the inventory.
    pub(crate) fn free_on(&self, node: NodeIndex) -> Option<&Vector> {
        self.nodes.get(node as usize).filter(|node| node.present).map(|node| &node.free)
    }

    /// Which resource a node's GPUs are, if parts of them may be used.
    pub(crate) fn parts_of(&self, node: NodeIndex) -> Option<usize> {
        self.nodes[node as usize].parts_of
    }

    /// The GPU model of a node, as far as it is known.
    pub(crate) fn flavor_of(&self, node: NodeIndex) -> Option<FlavorId> {
        Some(self.nodes[node as usize].flavor).filter(|flavor| *flavor != NO_FLAVOR)
    }

    /// Free whole GPUs of a flavor, over all nodes.
    pub(crate) fn gpus_free(&self, flavor: FlavorId) -> i64 {
        self.gpus_free.iter().find(|(model, _)| *model == flavor).map_or(0, |(_, gpus)| *gpus)
    }

    /// GPU models that stand here.
    pub(crate) fn flavors(&self) -> impl Iterator<Item = FlavorId> + '_ {
        self.gpus_free.iter().map(|(flavor, _)| *flavor).filter(|flavor| *flavor != NO_FLAVOR)
    }

    /// Everything allocatable here.
    pub(crate) fn allocatable(&self) -> Vector {
        self.nodes.iter().fold(Vector::default(), |mut sum, node| {
            sum.add(&node.allocatable);
            sum
        })
    }

    /// Free amounts per node, for comparison with another engine.
    pub(crate) fn free(&self, resources: &ResourceTable) -> BTreeMap<String, Amounts> {
        let present = self.nodes.iter().filter(|node| node.present);
        let free = |node: &Node| {
            let mut free = node.free.clone();
            if let Some(gpu) = node.parts_of {
                free.put(gpu, free.get(gpu) + node.split.iter().map(|(_, free)| free).sum::<i64>());
            }
            resources.amounts(&free)
        };
        present.map(|node| (node.name.to_string(), free(node))).collect()
    }
}

fn owned((name, amount): (&str, i64)) -> (String, i64) {
    (name.to_owned(), amount)
}
