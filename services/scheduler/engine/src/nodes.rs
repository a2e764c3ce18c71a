//! The nodes of one cluster and how gangs are packed onto them. Nodes with the same GPU model and the same free amounts
//! stand in one *bucket*; a fit looks at buckets, of which there are few, and never at every node.

use std::collections::{BTreeMap, BTreeSet};

use crate::amounts::{Amounts, ResourceTable, Vector};
use crate::class::{Class, FlavorId, Flavors, NO_FLAVOR};
use crate::event::{NodeSpec, Slot};

#[derive(Clone, Debug)]
struct Node {
    name: String,
    flavor: FlavorId,
    allocatable: Vector,
    /// Allocatable − used by others − reserved here. Below zero where others took what was planned for us.
    free: Vector,
}

/// All nodes of a cluster with what is free on each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    by_name: BTreeMap<String, usize>,
    buckets: BTreeMap<(FlavorId, Vector), BTreeSet<usize>>,
    gpus_free: BTreeMap<FlavorId, i64>,
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
        for spec in specs {
            let allocatable = resources.intern(&spec.allocatable);
            let mut free = allocatable.clone();
            free.sub(&resources.intern(&spec.used_by_others));
            let flavor = flavors.intern(&spec.flavor);
            let index = all.nodes.len();
            all.by_name.insert(spec.name.clone(), index);
            *all.gpus_free.entry(flavor).or_default() += resources.gpus(&free).max(0);
            all.buckets.entry((flavor, free.clone())).or_default().insert(index);
            all.nodes.push(Node { name: spec.name.clone(), flavor, allocatable, free });
        }
        all
    }

    /// The same nodes with nothing on them.
    pub(crate) fn emptied(&self, resources: &ResourceTable) -> Self {
        let mut empty = self.clone();
        for index in 0..empty.nodes.len() {
            let allocatable = empty.nodes[index].allocatable.clone();
            empty.replace(index, allocatable, resources);
        }
        empty
    }

    fn replace(&mut self, index: usize, free: Vector, resources: &ResourceTable) {
        let node = &mut self.nodes[index];
        let old = std::mem::replace(&mut node.free, free);
        let flavor = node.flavor;
        *self.gpus_free.entry(flavor).or_default() += resources.gpus(&node.free).max(0) - resources.gpus(&old).max(0);
        let new_key = (flavor, node.free.clone());
        let old_key = (flavor, old);
        if let Some(bucket) = self.buckets.get_mut(&old_key) {
            bucket.remove(&index);
            if bucket.is_empty() {
                self.buckets.remove(&old_key);
            }
        }
        self.buckets.entry(new_key).or_default().insert(index);
    }

    /// Reserves amounts on a node by name. A node that is not in the inventory (any more) holds nothing.
    pub(crate) fn take(&mut self, node: &str, amount: &Vector, resources: &ResourceTable) {
        if let Some(index) = self.by_name.get(node).copied() {
            let mut free = self.nodes[index].free.clone();
            free.sub(amount);
            self.replace(index, free, resources);
        }
    }

    /// Gives back what [`Nodes::take`] took.
    pub(crate) fn give(&mut self, node: &str, amount: &Vector, resources: &ResourceTable) {
        if let Some(index) = self.by_name.get(node).copied() {
            let mut free = self.nodes[index].free.clone();
            free.add(amount);
            self.replace(index, free, resources);
        }
    }

    /// Free whole GPUs of a flavor, over all nodes.
    pub(crate) fn gpus_free(&self, flavor: FlavorId) -> i64 {
        self.gpus_free.get(&flavor).copied().unwrap_or(0)
    }

    /// GPU models that stand here.
    pub(crate) fn flavors(&self) -> impl Iterator<Item = FlavorId> + '_ {
        self.gpus_free.keys().copied().filter(|flavor| *flavor != NO_FLAVOR)
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
        self.nodes.iter().map(|node| (node.name.clone(), resources.amounts(&node.free))).collect()
    }

    fn eligible(&self, flavor: Option<FlavorId>) -> impl Iterator<Item = (&(FlavorId, Vector), &BTreeSet<usize>)> {
        self.buckets.iter().filter(move |((have, _), _)| flavor.is_none_or(|want| want == *have))
    }

    /// A necessary condition, without packing: every group alone has room.
    pub(crate) fn could_fit(&self, class: &Class, flavor: Option<FlavorId>) -> bool {
        class.groups.iter().all(|group| {
            let flavor = if group.gpus > 0 { flavor } else { None };
            let mut room = 0_u64;
            for ((_, free), nodes) in self.eligible(flavor) {
                room += u64::from(group.each.fits_into(free)).saturating_mul(nodes.len() as u64);
                if room >= u64::from(group.replicas) {
                    return true;
                }
            }
            false
        })
    }

    /// Packs the whole gang and reserves it, or reserves nothing and says what is short.
    ///
    /// Best fit: of the nodes with room for a worker the one with the fewest free GPUs, then the least free cpu
    /// (bucket order after that), is filled first, so that whole nodes stay whole; groups with many GPUs go first.
    pub(crate) fn place(
        &mut self,
        class: &Class,
        flavor: Option<FlavorId>,
        resources: &ResourceTable,
    ) -> Result<Vec<Slot>, Shortage> {
        let cpu = resources.find(crate::amounts::CPU);
        let mut slots: Vec<(usize, usize, u32)> = Vec::new();
        for group_index in &class.packing_order {
            let group = &class.groups[*group_index];
            let wanted = if group.gpus > 0 { flavor } else { None };
            let mut left = group.replicas;
            while left > 0 {
                let best = self
                    .eligible(wanted)
                    .filter_map(|((_, free), nodes)| {
                        let fits = group.each.fits_into(free);
                        (fits > 0).then(|| (resources.gpus(free), cpu.map_or(0, |cpu| free.get(cpu)), fits, nodes))
                    })
                    .min_by_key(|(gpus, cpu, _, _)| (*gpus, *cpu))
                    .and_then(|(_, _, fits, nodes)| nodes.first().map(|node| (*node, fits)));
                let Some((index, fits)) = best else {
                    let shortage = self.shortage(class, *group_index, group.replicas - left, wanted);
                    for (group, node, workers) in slots.into_iter().rev() {
                        let mut free = self.nodes[node].free.clone();
                        free.add(&class.groups[group].each.times(workers));
                        self.replace(node, free, resources);
                    }
                    return Err(shortage);
                };
                let workers = fits.min(left);
                let mut free = self.nodes[index].free.clone();
                free.sub(&group.each.times(workers));
                self.replace(index, free, resources);
                slots.push((*group_index, index, workers));
                left -= workers;
            }
        }
        let mut slots: Vec<Slot> = slots
            .into_iter()
            .map(|(group, node, workers)| Slot { group, node: self.nodes[node].name.clone(), workers })
            .collect();
        slots.sort();
        Ok(slots)
    }

    fn shortage(&self, class: &Class, group: usize, fitting: u32, flavor: Option<FlavorId>) -> Shortage {
        let each = &class.groups[group].each;
        let mut short_of = BTreeSet::new();
        for ((_, free), _) in self.eligible(flavor) {
            short_of.extend(each.iter().filter(|(index, need)| free.get(*index) < *need).map(|(index, _)| index));
        }
        Shortage { group, fitting, short_of }
    }
}
