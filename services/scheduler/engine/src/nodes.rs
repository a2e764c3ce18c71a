//! The nodes of one cluster and how gangs are packed onto them. Nodes with the same GPU model and the same free amounts
//! stand in one *bucket*; a fit looks at buckets, of which there are few, and never at every node.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::amounts::{Amounts, CPU, MEMORY, ResourceTable, Vector};
use crate::class::{Class, ClassGroup, FlavorId, Flavors, NO_FLAVOR};
use crate::event::NodeSpec;

/// Number of a node in its cluster.
pub(crate) type NodeIndex = u32;

/// Workers of one group of a gang on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) group: u32,
    pub(crate) node: NodeIndex,
    pub(crate) workers: u32,
}

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
}

/// Equal free amounts, in the order in which nodes are filled: the fewest GPUs first, then the least cpu, then the least memory.
/// What comes after that keeps buckets apart and decides nothing: it depends on which resource was heard of first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bucket {
    flavor: FlavorId,
    gpus: i64,
    cpu: i64,
    memory: i64,
    free: Vector,
}

impl Bucket {
    /// Which of two buckets is filled first, as far as that is decided by what is free.
    fn filling(&self) -> (i64, i64, i64) {
        (self.gpus, self.cpu, self.memory)
    }
}

/// All nodes of a cluster with what is free on each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    by_name: BTreeMap<Arc<str>, NodeIndex>,
    buckets: BTreeMap<Bucket, BTreeSet<NodeIndex>>,
    /// Free whole GPUs per model that stands here, by the model's name: a model's number depends on which was heard of first, and
    /// nothing that is decided may.
    gpus_free: Vec<(FlavorId, i64)>,
}

/// Why the gang's groups don't all fit on the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shortage {
    pub(crate) group: usize,
    pub(crate) fitting: u32,
    /// Resources of which the nodes that are left have too little.
    pub(crate) short_of: BTreeSet<usize>,
}

impl Nodes {
    pub(crate) fn new(specs: &[NodeSpec], resources: &mut ResourceTable, flavors: &mut Flavors) -> Self {
        let mut all = Self::default();
        let models: BTreeSet<&str> = specs.iter().map(|spec| spec.flavor.as_str()).collect();
        all.gpus_free = models.into_iter().map(|model| (flavors.intern(model), 0)).collect();
        for spec in specs {
            let allocatable = resources.intern(&spec.allocatable);
            let mut free = allocatable.clone();
            free.sub(&resources.intern(&spec.used_by_others));
            let flavor = flavors.intern(&spec.flavor);
            let name: Arc<str> = spec.name.as_str().into();
            let index = all.push(Node { name, flavor, present: true, allocatable, free });
            all.enter(index, resources);
        }
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
                self.push(Node { name: name.into(), flavor: NO_FLAVOR, present: false, allocatable, free })
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
            empty.change(index as NodeIndex, resources, |free| *free = allocatable);
        }
        empty
    }

    fn bucket(&self, index: NodeIndex, resources: &ResourceTable) -> Bucket {
        let node = &self.nodes[index as usize];
        let free = |name| resources.find(name).map_or(0, |index| node.free.get(index));
        let (cpu, memory) = (free(CPU), free(MEMORY));
        Bucket { flavor: node.flavor, gpus: resources.gpus(&node.free), cpu, memory, free: node.free.clone() }
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
        self.buckets.entry(bucket).or_default().insert(index);
    }

    fn leave(&mut self, index: NodeIndex, resources: &ResourceTable) {
        let bucket = self.bucket(index, resources);
        self.count(bucket.flavor, -bucket.gpus.max(0));
        if let Some(nodes) = self.buckets.get_mut(&bucket) {
            nodes.remove(&index);
            if nodes.is_empty() {
                self.buckets.remove(&bucket);
            }
        }
    }

    fn change(&mut self, index: NodeIndex, resources: &ResourceTable, change: impl FnOnce(&mut Vector)) {
        if !self.nodes[index as usize].present {
            return;
        }
        self.leave(index, resources);
        change(&mut self.nodes[index as usize].free);
        self.enter(index, resources);
    }

    /// Reserves amounts on a node. A node that is not in the inventory (any more) holds nothing.
    pub(crate) fn take(&mut self, node: NodeIndex, amount: &Vector, resources: &ResourceTable) {
        self.change(node, resources, |free| free.sub(amount));
    }

    /// Gives back what [`Nodes::take`] took.
    pub(crate) fn give(&mut self, node: NodeIndex, amount: &Vector, resources: &ResourceTable) {
        self.change(node, resources, |free| free.add(amount));
    }

    /// Reserves the places of a gang, whether there is room or not.
    pub(crate) fn take_places(&mut self, class: &Class, places: &[Place], resources: &ResourceTable) {
        for place in places {
            self.take(place.node, &class.groups[place.group as usize].each.times(place.workers), resources);
        }
    }

    /// Gives back the places of a gang.
    pub(crate) fn give_places(&mut self, class: &Class, places: &[Place], resources: &ResourceTable) {
        for place in places {
            self.give(place.node, &class.groups[place.group as usize].each.times(place.workers), resources);
        }
    }

    /// What is free on a node; `None` if it is not in the inventory.
    pub(crate) fn free_on(&self, node: NodeIndex) -> Option<&Vector> {
        self.nodes.get(node as usize).filter(|node| node.present).map(|node| &node.free)
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
        present.map(|node| (node.name.to_string(), resources.amounts(&node.free))).collect()
    }

    /// Buckets with room for at least one worker's GPUs, of one model or of all, in the order of filling per model.
    fn eligible(&self, group: &ClassGroup, flavor: Option<FlavorId>) -> impl Iterator<Item = (&Bucket, &BTreeSet<NodeIndex>)> {
        let flavor = if group.gpus > 0 { flavor } else { None };
        let least = if group.gpus > 0 { group.gpus } else { i64::MIN };
        let models = self.gpus_free.iter().map(|(flavor, _)| *flavor).filter(move |have| flavor.is_none_or(|want| want == *have));
        models.flat_map(move |flavor| {
            let from = Bucket { flavor, gpus: least, cpu: i64::MIN, memory: i64::MIN, free: Vector::default() };
            self.buckets.range(from..).take_while(move |(bucket, _)| bucket.flavor == flavor)
        })
    }

    /// A necessary condition, without packing: every group alone has room. For a gang of one group it is sufficient.
    pub(crate) fn could_fit(&self, class: &Class, flavor: Option<FlavorId>) -> bool {
        if flavor.is_some_and(|flavor| self.gpus_free(flavor) < class.gpus) {
            return false;
        }
        class.groups.iter().all(|group| {
            let mut room = 0_u64;
            for (bucket, nodes) in self.eligible(group, flavor) {
                room += u64::from(group.each.fits_into(&bucket.free)).saturating_mul(nodes.len() as u64);
                if room >= u64::from(group.replicas) {
                    return true;
                }
            }
            false
        })
    }

    /// Per group of a gang how many of its workers have room, each node counted for as many as the group has at most.
    pub(crate) fn room(&self, class: &Class, flavor: Option<FlavorId>) -> Vec<u64> {
        let room = |group: &ClassGroup| {
            let on = |(bucket, nodes): (&Bucket, &BTreeSet<NodeIndex>)| {
                u64::from(group.each.fits_into(&bucket.free).min(group.replicas)) * nodes.len() as u64
            };
            self.eligible(group, flavor).map(on).sum()
        };
        class.groups.iter().map(room).collect()
    }

    /// Whether workers of a group may run on a node, if that has enough free.
    pub(crate) fn may_take(&self, group: &ClassGroup, flavor: Option<FlavorId>, node: NodeIndex) -> bool {
        group.gpus == 0 || flavor.is_none_or(|flavor| self.nodes[node as usize].flavor == flavor)
    }

    /// Whether the whole gang fits now. Nothing is kept reserved.
    pub(crate) fn fits(&mut self, class: &Class, flavor: Option<FlavorId>, resources: &ResourceTable) -> bool {
        if !self.could_fit(class, flavor) {
            return false;
        }
        if class.groups.len() == 1 {
            return true;
        }
        match self.place(class, flavor, resources) {
            Ok(places) => {
                self.give_places(class, &places, resources);
                true
            }
            Err(_) => false,
        }
    }

    /// The node that is filled first of those with room for a worker, with how many workers fit there: the fewest free GPUs, then
    /// the least free cpu, then the least free memory, so that whole nodes stay whole; of equals the first model by name, then the
    /// node that was told first.
    fn best(&self, group: &ClassGroup, flavor: Option<FlavorId>) -> Option<(NodeIndex, u32)> {
        let mut best: Option<(&Bucket, NodeIndex, u32)> = None;
        for (bucket, nodes) in self.eligible(group, flavor) {
            if let Some((known, node, _)) = best {
                let same_model = known.flavor == bucket.flavor;
                match bucket.filling().cmp(&known.filling()) {
                    Ordering::Less => {}
                    Ordering::Equal if same_model && nodes.first().is_some_and(|first| *first < node) => {}
                    Ordering::Greater if same_model && group.gpus > 0 && flavor.is_some() => break,
                    Ordering::Equal | Ordering::Greater => continue,
                }
            }
            let fits = group.each.fits_into(&bucket.free);
            if fits > 0
                && let Some(first) = nodes.first()
            {
                best = Some((bucket, *first, fits));
            }
        }
        best.map(|(_, node, fits)| (node, fits))
    }

    /// Packs the whole gang and reserves it, or reserves nothing and says what is short. Groups with many GPUs go first.
    pub(crate) fn place(
        &mut self,
        class: &Class,
        flavor: Option<FlavorId>,
        resources: &ResourceTable,
    ) -> Result<Vec<Place>, Shortage> {
        let mut places: Vec<Place> = Vec::new();
        for group_index in &class.packing_order {
            let group = &class.groups[*group_index];
            let mut left = group.replicas;
            while left > 0 {
                let Some((node, fits)) = self.best(group, flavor) else {
                    let shortage = self.shortage(class, *group_index, group.replicas - left, flavor);
                    self.give_places(class, &places, resources);
                    return Err(shortage);
                };
                let workers = fits.min(left);
                self.take(node, &group.each.times(workers), resources);
                places.push(Place { group: *group_index as u32, node, workers });
                left -= workers;
            }
        }
        if places.len() > 1 {
            places.sort_unstable_by(|left, right| {
                (left.group, self.name(left.node), left.workers).cmp(&(right.group, self.name(right.node), right.workers))
            });
        }
        Ok(places)
    }

    fn shortage(&self, class: &Class, group: usize, fitting: u32, flavor: Option<FlavorId>) -> Shortage {
        let wanted = if class.groups[group].gpus > 0 { flavor } else { None };
        let each = &class.groups[group].each;
        let mut short_of = BTreeSet::new();
        for bucket in self.buckets.keys().filter(|bucket| wanted.is_none_or(|want| want == bucket.flavor)) {
            short_of.extend(each.iter().filter(|(index, need)| bucket.free.get(*index) < *need).map(|(index, _)| index));
        }
        Shortage { group, fitting, short_of }
    }
}
