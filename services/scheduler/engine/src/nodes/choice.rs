//! On which node a worker goes: where expected fragmentation grows least, and of equals where the least is free.

use std::ops::Bound;

use super::bucket::{Bucket, Growth, Known, Members, Split};
use super::{NodeIndex, Nodes};
use crate::amounts::WHOLE;
use crate::class::{ClassGroup, FlavorId};
use crate::mix::{Mix, UNCOUNTED};
use crate::vector::Vector;

/// A node with room for a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) node: NodeIndex,
    /// How many workers fit there.
    pub(crate) fits: u32,
    /// The GPU of which a worker gets a part, by what is free of it.
    pub(crate) onto: Option<i64>,
    growth: i64,
}

impl Choice {
    /// By how much fragmentation grows.
    pub(crate) fn growth(&self) -> i64 {
        self.growth
    }
}

fn first(flavor: FlavorId, gpus: i64) -> Bucket {
    Bucket { flavor, gpus, cpu: i64::MIN, memory: i64::MIN, split: Split::default(), free: Vector::default() }
}

fn least(group: &ClassGroup) -> i64 {
    if group.gpus > 0 { group.gpus } else { i64::MIN }
}

impl Nodes {
    /// Buckets with room for at least one worker's GPUs, of one model or of all, in the order of filling per model.
    pub(super) fn eligible(&self, group: &ClassGroup, flavor: Option<FlavorId>) -> impl Iterator<Item = (&Bucket, &Members)> {
        let flavor = if group.on_gpu { flavor } else { None };
        let least = least(group);
        let models = self.gpus_free.iter().map(|(flavor, _)| *flavor).filter(move |have| flavor.is_none_or(|want| want == *have));
        models.flat_map(move |flavor| {
            self.buckets.range(first(flavor, least)..).take_while(move |(bucket, _)| bucket.flavor == flavor)
        })
    }

    /// The node that a worker goes to. Where parts of GPUs may be used, of those with room the one on which expected fragmentation
    /// grows least; with whole GPUs only that was no better than best fit on a real trace. Of equals the one with the fewest free
    /// GPUs, then the least free cpu, then the least free memory, so that whole nodes stay whole; then the first model by name, and
    /// the node that was told first.
    pub(crate) fn best(&mut self, group: &ClassGroup, flavor: Option<FlavorId>, mix: &Mix) -> Option<Choice> {
        let wanted = if group.on_gpu { flavor } else { None };
        let from = wanted.map_or(Bound::Unbounded, |flavor| Bound::Included(first(flavor, least(group))));
        let rank = |flavor: FlavorId| self.gpus_free.iter().position(|(model, _)| *model == flavor);
        let mut best: Option<(&Bucket, Choice)> = None;
        for (bucket, members) in self.buckets.range_mut((from, Bound::Unbounded)) {
            if wanted.is_some_and(|flavor| flavor != bucket.flavor) {
                break;
            }
            if !self.in_parts && wanted.is_some() && best.is_some_and(|(known, _)| bucket.filling() > known.filling()) {
                break;
            }
            let fits = bucket.fits(group);
            let (true, Some(node)) = (fits > 0, members.nodes.first().copied()) else { continue };
            let Growth { by, onto } =
                if self.in_parts { growth(bucket, &mut members.known, group, mix) } else { Growth { by: 0, onto: None } };
            let better = best.is_none_or(|(known, choice)| {
                let order = by.cmp(&choice.growth).then_with(|| bucket.filling().cmp(&known.filling()));
                order.then_with(|| (rank(bucket.flavor), node).cmp(&(rank(known.flavor), choice.node))).is_lt()
            });
            if better {
                best = Some((bucket, Choice { node, fits, onto, growth: by }));
            }
        }
        best.map(|(_, choice)| choice)
    }

    /// The number of a GPU of a node of which so much is free, or a number for one that is whole.
    pub(super) fn number(&self, node: NodeIndex, free: i64) -> u16 {
        let split = &self.nodes[node as usize].split;
        match split.iter().find(|(_, its)| *its == free).filter(|_| free < WHOLE) {
            Some((number, _)) => *number,
            // Split GPUs are in the order of their numbers: the first that is not taken.
            None => {
                (0..).zip(split).find(|(number, (taken, _))| number != taken).map_or(split.len() as u16, |(number, _)| number)
            }
        }
    }
}

/// By how much fragmentation grows on a node of the bucket if a worker of the group comes there.
fn growth(bucket: &Bucket, known: &mut Known, group: &ClassGroup, mix: &Mix) -> Growth {
    if group.shape == UNCOUNTED {
        let now = mix.fragments(bucket.flavor, &bucket.free, bucket.gpus, bucket.split.free());
        return grown(bucket, group, mix, now);
    }
    if known.version != mix.version {
        let now = mix.fragments(bucket.flavor, &bucket.free, bucket.gpus, bucket.split.free());
        *known = Known { version: mix.version, now, with: Vec::new() };
    }
    let shape = group.shape as usize;
    if known.with.len() <= shape {
        known.with.resize(shape + 1, None);
    }
    *known.with[shape].get_or_insert_with(|| grown(bucket, group, mix, known.now))
}

fn grown(bucket: &Bucket, group: &ClassGroup, mix: &Mix, now: i64) -> Growth {
    let mut free = bucket.free.clone();
    free.sub(&group.each);
    if group.part == 0 {
        let gpus = bucket.gpus - group.gpus;
        return Growth { by: mix.fragments(bucket.flavor, &free, gpus, bucket.split.free()) - now, onto: None };
    }
    let mut split = bucket.split.free().to_vec();
    let mut least: Option<Growth> = None;
    let mut consider = |by: i64, onto: i64| {
        if least.is_none_or(|known| by < known.by) {
            least = Some(Growth { by, onto: Some(onto) });
        }
    };
    for at in 0..split.len() {
        let onto = split[at];
        if onto < group.part || (at > 0 && split[at - 1] == onto) {
            continue;
        }
        split[at] -= group.part;
        consider(mix.fragments(bucket.flavor, &free, bucket.gpus, &split) - now, onto);
        split[at] = onto;
    }
    if bucket.gpus > 0 {
        split.push(WHOLE - group.part);
        if let Some(gpu) = bucket.split.of() {
            free.put(gpu, free.get(gpu) - WHOLE);
        }
        consider(mix.fragments(bucket.flavor, &free, bucket.gpus - 1, &split) - now, WHOLE);
    }
    least.unwrap_or(Growth { by: 0, onto: None })
}
