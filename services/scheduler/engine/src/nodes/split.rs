//! Packing a gang onto several clusters: the one that holds the most of what is left first, of equals the one that is tried first. So it
//! is on few clusters; for equal workers on the fewest there can be.

use super::{Nodes, Place};
use crate::amounts::WHOLE;
use crate::class::{Class, FlavorId};
use crate::mix::Mix;
use crate::span::MOST_PARTS;
use crate::vector::ResourceTable;

/// What there is room for of each group of a gang on some clusters, each group looked at alone.
pub(crate) struct Spread(Vec<Vec<u64>>);

impl Spread {
    pub(crate) fn of(class: &Class, flavor: Option<FlavorId>, clusters: &[Nodes]) -> Self {
        Self(clusters.iter().map(|nodes| nodes.room(class, flavor).of(0).to_vec()).collect())
    }

    /// Whether each group alone has room on all of them together.
    pub(crate) fn is_enough(&self, class: &Class) -> bool {
        class.groups.iter().enumerate().all(|(index, group)| {
            let room: u64 = self.0.iter().map(|room| room[index]).sum();
            room >= u64::from(group.replicas)
        })
    }

    /// The cluster with room for the most of what is left, by GPUs, then by workers; `None` if none has room for any of it.
    fn most(&self, class: &Class, left: &[u32], used: &[usize]) -> Option<usize> {
        let mut most: Option<((i64, u64), usize)> = None;
        for (at, room) in self.0.iter().enumerate().filter(|(at, _)| !used.contains(at)) {
            let (mut gpus, mut workers) = (0_i64, 0);
            for ((group, room), left) in class.groups.iter().zip(room).zip(left) {
                let here = (*room).min(u64::from(*left));
                // No more than there are workers in a gang.
                gpus = gpus.saturating_add((group.gpus.saturating_mul(WHOLE) + group.part).saturating_mul(here as i64));
                workers += here;
            }
            if workers > 0 && most.is_none_or(|(known, _)| (gpus, workers) > known) {
                most = Some(((gpus, workers), at));
            }
        }
        most.map(|(_, at)| at)
    }
}

/// Workers of a gang on one of some clusters: its number among them, and where they go.
pub(crate) type Piece = (usize, Vec<Place>);

/// Packs a gang onto some of these clusters and reserves it, or reserves nothing and says what there would be room for.
pub(crate) fn split(
    class: &Class,
    flavor: Option<FlavorId>,
    clusters: &mut [Nodes],
    spread: &Spread,
    resources: &ResourceTable,
    mix: &Mix,
) -> Result<Vec<Piece>, Vec<Piece>> {
    let mut left: Vec<u32> = class.groups.iter().map(|group| group.replicas).collect();
    let (mut pieces, mut used) = (Vec::<Piece>::new(), Vec::new());
    while left.iter().any(|left| *left > 0) {
        let Some(at) = spread.most(class, &left, &used).filter(|_| used.len() < MOST_PARTS) else {
            for (at, places) in &pieces {
                clusters[*at].give_places(class, places, resources);
            }
            return Err(pieces);
        };
        used.push(at);
        pieces.push((at, clusters[at].fill_with(class, &mut left, flavor, resources, mix)));
    }
    Ok(pieces)
}

impl Nodes {
    /// Packs what there is room for of what is left of a gang, groups with many GPUs first, and reserves it.
    fn fill_with(
        &mut self,
        class: &Class,
        left: &mut [u32],
        flavor: Option<FlavorId>,
        resources: &ResourceTable,
        mix: &Mix,
    ) -> Vec<Place> {
        let (mut places, before) = (Vec::new(), left.to_vec());
        for group in &class.packing_order {
            let more = self.fill_anywhere(class, (*group, left[*group]), flavor, resources, mix);
            left[*group] -= more.iter().map(|place| place.workers).sum::<u32>();
            places.extend(more);
        }
        if class.gang.topology.is_some() {
            // How many there is room for is known; they go together as far as they can.
            let workers = before.iter().zip(left).map(|(before, left)| before - *left);
            let here = class.with_workers(workers);
            self.give_places(class, &places, resources);
            if let Ok(together) = self.place(&here, flavor, resources, mix) {
                return together;
            }
            self.take_places(class, &places, resources);
        }
        self.sort(&mut places);
        places
    }
}
