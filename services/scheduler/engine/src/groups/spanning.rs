//! Gangs that may be split. Where no candidate of a group has room for a whole gang, the clusters of each region are looked at together,
//! tier by tier. What is found holds until something is taken or given back; it is looked for whenever the group is asked.

use std::collections::BTreeMap;

use super::{Group, GroupId};
use crate::class::{Class, ClassId, FlavorId};
use crate::cluster::{Candidate, Site};
use crate::engine::Engine;
use crate::event::{JobId, Placement};
use crate::nodes::{Nodes, Piece, Spread, split};
use crate::parts::gpus_at;
use crate::span::Span;

/// How the gangs of a group may be split.
#[derive(Clone, Debug, Default)]
pub(super) struct Splits {
    /// Over which candidates: see [`of_regions`]. At least one list.
    regions: Vec<Vec<u32>>,
    /// How they would be, where no candidate has room for a whole one and some have together.
    now: Option<Split>,
    /// Whether a gang of several groups, each of which has room alone, could not be packed.
    unsure: bool,
}

/// Where a gang is split.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Split {
    /// Number of the region in the list.
    region: usize,
    /// Candidates with the GPUs that the gang gets there.
    parts: Vec<(u32, i64)>,
}

/// Candidates over which a gang may be split, in order: those of one tier, one region and one GPU model, where there are at least two of
/// them. A cluster is among them once.
pub(crate) fn of_regions(candidates: &[Candidate], sites: &[Site]) -> Vec<Vec<u32>> {
    let mut found: BTreeMap<(usize, &str, Option<FlavorId>), Vec<u32>> = BTreeMap::new();
    for (place, Candidate { tier, cluster, flavor, .. }) in (0..).zip(candidates) {
        let region = sites[*cluster].cluster.as_ref().map_or("", |cluster| cluster.spec.region.as_str());
        if !region.is_empty() {
            found.entry((*tier, region, *flavor)).or_default().push(place);
        }
    }
    let mut regions: Vec<Vec<u32>> = found.into_values().filter(|places| places.len() > 1).collect();
    regions.sort_unstable();
    regions
}

/// So many GPUs have to be free on a cluster for a release there to be of use to a gang: those of all its workers, or of one if it may be
/// split. Room for parts may come where no GPU is whole.
pub(super) fn least_of_use(class: &Class) -> i64 {
    match class.gang.span {
        Span::Cluster => class.whole,
        Span::Region => class.groups.iter().map(|group| group.gpus).min().unwrap_or(0),
    }
}

impl Splits {
    pub(super) fn of(class: &Class, candidates: &[Candidate], sites: &[Site]) -> Option<Box<Self>> {
        match class.gang.span {
            Span::Cluster => None,
            Span::Region => {
                let regions = of_regions(candidates, sites);
                (!regions.is_empty()).then(|| Box::new(Self { regions, ..Self::default() }))
            }
        }
    }
}

impl Group {
    /// The candidates over which a gang is split, with the GPUs that it gets on each; `None` where one of them has room for all of it, or
    /// all together have not.
    pub(crate) fn split(&self) -> Option<impl Iterator<Item = (&Candidate, i64)>> {
        let parts = &self.splits.as_ref()?.now.as_ref()?.parts;
        Some(parts.iter().map(|(place, gpus)| (&self.candidates[*place as usize], *gpus)))
    }

    /// Whether its gangs may be split.
    pub(crate) fn may_span(&self) -> bool {
        self.splits.is_some()
    }

    /// The candidates over which a gang may be split, by region, in the tiers that are open now.
    pub(crate) fn open_regions(&self) -> Vec<Vec<u32>> {
        let regions = self.splits.iter().flat_map(|splits| &splits.regions);
        regions.take_while(|of_region| (of_region[0] as usize) < self.reach).cloned().collect()
    }

    /// Whether a gang might be split once something was taken, as little as that seems to help.
    pub(super) fn may_be_split(&self) -> bool {
        self.splits.as_ref().is_some_and(|splits| splits.unsure)
    }
}

impl Engine {
    /// Whether a group whose gangs may be split has room, and how they would be, where no candidate has room for a whole one.
    pub(super) fn has_split(&mut self, id: GroupId, whole: bool) -> bool {
        let Some(mut splits) = self.groups.get_mut(id).splits.take() else { return whole };
        let before = splits.now.take();
        splits.unsure = false;
        if !whole {
            let group = self.groups.get(id);
            let (class, (candidates, open)) = (group.class(), group.shared_candidates());
            let in_open_tiers = |(_, of_region): &(usize, &Vec<u32>)| (of_region[0] as usize) < open;
            for (region, of_region) in splits.regions.iter().enumerate().take_while(in_open_tiers) {
                match self.take_split(class, of_region, &candidates) {
                    Ok(pieces) => {
                        let parts =
                            pieces.into_iter().map(|(at, places)| self.give_back(class, (of_region[at], places), &candidates));
                        splits.now = Some(Split { region, parts: parts.collect() });
                        break;
                    }
                    Err(unsure) => splits.unsure |= unsure,
                }
            }
        }
        let (changed, has_room) = (splits.now != before, whole || splits.now.is_some());
        self.groups.get_mut(id).splits = Some(splits);
        if changed {
            // At another price, maybe.
            self.let_unpaid_go(id..=id);
        }
        has_room
    }

    /// Gives back what a gang would get at a candidate: that, and how many GPUs it was.
    fn give_back(
        &mut self,
        class: ClassId,
        (place, places): (u32, Vec<crate::nodes::Place>),
        candidates: &[Candidate],
    ) -> (u32, i64) {
        let class = self.classes.get(class);
        self.sites[candidates[place as usize].cluster].nodes.give_places(class, &places, &self.resources);
        (place, gpus_at(&self.resources, class, &places))
    }

    /// Packs a gang onto clusters of a region and reserves it, or reserves nothing and says whether each of its groups would have room
    /// alone.
    pub(crate) fn take_split(&mut self, class: ClassId, of_region: &[u32], candidates: &[Candidate]) -> Result<Vec<Piece>, bool> {
        let class = self.classes.get(class);
        self.stats.entries_visited += 1;
        let clusters = || of_region.iter().map(|place| &candidates[*place as usize]);
        let flavor = clusters().next().and_then(|candidate| candidate.flavor);
        if let Some(flavor) = flavor
            && clusters().map(|candidate| self.sites[candidate.cluster].nodes.gpus_free(flavor)).sum::<i64>() < class.whole
        {
            return Err(false);
        }
        let mut nodes: Vec<Nodes> =
            clusters().map(|candidate| std::mem::take(&mut self.sites[candidate.cluster].nodes)).collect();
        let spread = Spread::of(class, flavor, &nodes);
        let found = if spread.is_enough(class) {
            self.stats.fits_tried += 1;
            split(class, flavor, &mut nodes, &spread, &self.resources, &self.mix).map_err(|_| class.groups.len() > 1)
        } else {
            Err(false)
        };
        for (candidate, nodes) in clusters().zip(nodes) {
            self.sites[candidate.cluster].nodes = nodes;
        }
        found
    }

    /// Places a job of a group whose gangs are split as things are.
    pub(crate) fn place_split(&mut self, job: JobId, group: GroupId) -> Option<Placement> {
        let group = self.groups.get(group);
        let splits = group.splits.as_ref()?;
        let of_region = splits.regions[splits.now.as_ref()?.region].clone();
        let (candidates, _) = group.shared_candidates();
        let class = self.jobs.held(job).asks;
        let pieces = self.take_split(class, &of_region, &candidates).ok()?;
        let mut parts = pieces.into_iter().map(|(at, places)| (candidates[of_region[at] as usize].clone(), places));
        let (first, places) = parts.next()?;
        Some(self.placed_over(job, (&first, places), parts.collect(), class))
    }
}
