//! Packing a gang onto nodes: whether it fits, where it goes, and what is short if it doesn't.

use std::collections::BTreeSet;

use super::choice::Choice;
use super::{NodeIndex, Nodes, Place};
use crate::class::{Class, ClassGroup, FlavorId};
use crate::mix::Mix;
use crate::spec::{Topology, TopologyMode};
use crate::vector::ResourceTable;

/// Why the gang's groups don't all fit on the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shortage {
    pub(crate) group: usize,
    pub(crate) fitting: u32,
    /// Resources of which the nodes that are left have too little.
    pub(crate) short_of: BTreeSet<usize>,
    /// The domain that comes closest, for a gang that must stand in one.
    pub(crate) domain: Option<String>,
}

impl Nodes {
    /// A necessary condition, without packing: every group alone has room, in one domain if the gang must stand in one. For a gang of
    /// one group it is sufficient.
    pub(crate) fn could_fit(&self, class: &Class, flavor: Option<FlavorId>) -> bool {
        if flavor.is_some_and(|flavor| self.gpus_free(flavor) < class.whole) {
            return false;
        }
        if let Some(level) = class.gang.required_level() {
            return self.rooms(level, class, flavor).is_some_and(|rooms| rooms.enough(class).next().is_some());
        }
        class.groups.iter().all(|group| {
            let mut room = 0_u64;
            for (bucket, members) in self.eligible(group, flavor) {
                room += u64::from(bucket.fits(group)).saturating_mul(members.nodes.len() as u64);
                if room >= u64::from(group.replicas) {
                    return true;
                }
            }
            false
        })
    }

    /// Whether workers of a group may run on a node, if that has enough free.
    pub(crate) fn may_take(&self, group: &ClassGroup, flavor: Option<FlavorId>, node: NodeIndex) -> bool {
        !group.on_gpu || flavor.is_none_or(|flavor| self.nodes[node as usize].flavor == flavor)
    }

    /// Whether the whole gang fits now. Nothing is kept reserved.
    pub(crate) fn fits(&mut self, class: &Class, flavor: Option<FlavorId>, resources: &ResourceTable, mix: &Mix) -> bool {
        if !self.could_fit(class, flavor) {
            return false;
        }
        if class.groups.len() == 1 {
            return true;
        }
        match self.place(class, flavor, resources, mix) {
            Ok(places) => {
                self.give_places(class, &places, resources);
                true
            }
            Err(_) => false,
        }
    }

    /// Packs the whole gang and reserves it, or reserves nothing and says what is short.
    pub(crate) fn place(
        &mut self,
        class: &Class,
        flavor: Option<FlavorId>,
        resources: &ResourceTable,
        mix: &Mix,
    ) -> Result<Vec<Place>, Shortage> {
        match &class.gang.topology {
            None => self.place_anywhere(class, flavor, resources, mix),
            Some(topology) => self.place_together(topology, class, flavor, resources, mix),
        }
    }

    /// Packs a gang wherever its workers fit. Groups with many GPUs go first.
    pub(crate) fn place_anywhere(
        &mut self,
        class: &Class,
        flavor: Option<FlavorId>,
        resources: &ResourceTable,
        mix: &Mix,
    ) -> Result<Vec<Place>, Shortage> {
        let mut places: Vec<Place> = Vec::new();
        for group_index in &class.packing_order {
            let group = &class.groups[*group_index];
            let mut left = group.replicas;
            while left > 0 {
                let Some(Choice { node, fits, onto, .. }) = self.best(group, flavor, mix) else {
                    let shortage = self.shortage(class, *group_index, group.replicas - left, flavor, resources);
                    self.give_places(class, &places, resources);
                    return Err(shortage);
                };
                let gpu = onto.map(|free| self.number(node, free));
                let workers = if gpu.is_some() { 1 } else { fits.min(left) };
                let place = Place { group: *group_index as u32, node, workers, gpu };
                self.take(node, &place.held(class), resources);
                places.push(place);
                left -= workers;
            }
        }
        self.sort(&mut places);
        Ok(places)
    }

    /// The order in which a plan names its nodes.
    pub(super) fn sort(&self, places: &mut [Place]) {
        if places.len() > 1 {
            places.sort_unstable_by(|left, right| {
                let key = |place: &Place| (place.group, place.workers, place.gpu);
                self.name(left.node).cmp(self.name(right.node)).then(key(left).cmp(&key(right)))
            });
        }
    }

    /// Packs as many workers of a group as there is room for, at most so many, and reserves them: beside the others of the gang where
    /// these must stand together, first beside them where that is preferred.
    pub(crate) fn fill(
        &mut self,
        class: &Class,
        workers: (usize, u32),
        flavor: Option<FlavorId>,
        beside: &[Place],
        resources: &ResourceTable,
        mix: &Mix,
    ) -> Vec<Place> {
        let (group, most) = workers;
        let Some(Topology { level, mode }) = &class.gang.topology else {
            return self.fill_anywhere(class, workers, flavor, resources, mix);
        };
        let mut places = self.fill_beside((level, beside), class, workers, flavor, resources, mix);
        if matches!(mode, TopologyMode::Preferred) {
            let left = most - places.iter().map(|place| place.workers).sum::<u32>();
            places.extend(self.fill_anywhere(class, (group, left), flavor, resources, mix));
        }
        places
    }

    pub(super) fn fill_anywhere(
        &mut self,
        class: &Class,
        (group, most): (usize, u32),
        flavor: Option<FlavorId>,
        resources: &ResourceTable,
        mix: &Mix,
    ) -> Vec<Place> {
        let mut places = Vec::new();
        let mut left = most;
        while left > 0 {
            let Some(Choice { node, fits, onto, .. }) = self.best(&class.groups[group], flavor, mix) else { break };
            let gpu = onto.map(|free| self.number(node, free));
            let workers = if gpu.is_some() { 1 } else { fits.min(left) };
            let place = Place { group: group as u32, node, workers, gpu };
            self.take(node, &place.held(class), resources);
            places.push(place);
            left -= workers;
        }
        places
    }

    fn shortage(
        &self,
        class: &Class,
        group: usize,
        fitting: u32,
        flavor: Option<FlavorId>,
        resources: &ResourceTable,
    ) -> Shortage {
        let wanted = if class.groups[group].on_gpu { flavor } else { None };
        let (each, part) = (&class.groups[group].each, class.groups[group].part);
        let mut short_of = BTreeSet::new();
        for bucket in self.buckets.keys().filter(|bucket| wanted.is_none_or(|want| want == bucket.flavor)) {
            short_of.extend(each.iter().filter(|(index, need)| bucket.free.get(*index) < *need).map(|(index, _)| index));
            if part > 0 && bucket.fits_on_gpus(part) == 0 {
                short_of.extend(class.total.iter().map(|(index, _)| index).filter(|index| resources.is_gpu(*index)));
            }
        }
        Shortage { group, fitting, short_of, domain: None }
    }
}
