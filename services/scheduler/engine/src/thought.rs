//! Whether a gang might fit if runs were gone, found out without touching the nodes: how many workers of each of its groups there is
//! room for is counted once, and then only for nodes on which something is freed in thought.

use std::collections::BTreeMap;

use crate::amounts::WHOLE;
use crate::class::{Class, FlavorId};
use crate::nodes::{Held, NodeIndex, Nodes, Rooms};
use crate::vector::Vector;

/// Nodes with some runs gone.
pub(crate) struct Thought {
    flavor: Option<FlavorId>,
    /// What is free on nodes on which something was freed.
    free: BTreeMap<NodeIndex, Vector>,
    /// What there is room for in each domain, if the gang must stand in one, or in all.
    room: Rooms,
}

impl Thought {
    /// The nodes as they are. Parts of GPUs are taken to have room.
    pub(crate) fn new(class: &Class, flavor: Option<FlavorId>, nodes: &Nodes) -> Self {
        let mut room = nodes.room(class, flavor);
        for (index, group) in class.groups.iter().enumerate().filter(|(_, group)| group.part > 0) {
            room.fill(index, u64::from(group.replicas));
        }
        Self { flavor, free: BTreeMap::new(), room }
    }

    /// Frees an amount on a node.
    pub(crate) fn give(&mut self, class: &Class, nodes: &Nodes, node: NodeIndex, held: &Held) {
        let Some(known) = nodes.free_on(node) else { return };
        let free = self.free.entry(node).or_insert_with(|| known.clone());
        let before = free.clone();
        free.add(&held.amount);
        // A part that is given back may make its GPU whole.
        if let Some(gpu) = nodes.parts_of(node) {
            free.put(gpu, free.get(gpu) + held.parts.len() as i64 * WHOLE);
        }
        let Some(domain) = nodes.domain_of(class.gang.required_level(), node) else { return };
        for (index, group) in class.groups.iter().enumerate() {
            if group.part == 0 && nodes.may_take(group, self.flavor, node) {
                let most = group.replicas;
                let gained = group.each.fits_into(free).min(most) - group.each.fits_into(&before).min(most);
                self.room.gain(domain, index, u64::from(gained));
            }
        }
    }

    /// Whether each group of the gang would fit alone. For a gang of one group that is enough.
    pub(crate) fn could_fit(&self, class: &Class) -> bool {
        self.room.enough(class).next().is_some()
    }
}
