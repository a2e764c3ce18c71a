//! Nodes of which the same is free.

use std::collections::BTreeSet;

use super::NodeIndex;
use crate::amounts::WHOLE;
use crate::class::{ClassGroup, FlavorId};
use crate::vector::Vector;

/// Equal free amounts, in the order in which nodes are filled: the fewest whole GPUs first, then the least cpu, then the least
/// memory, then what is free of split GPUs. What comes after that keeps buckets apart and decides nothing: it depends on which
/// resource was heard of first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bucket {
    pub(super) flavor: FlavorId,
    pub(super) gpus: i64,
    pub(super) cpu: i64,
    pub(super) memory: i64,
    pub(super) split: Split,
    pub(super) free: Vector,
}

/// What is free of split GPUs, in thousandths, the least first.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Split {
    free: Vec<i64>,
    /// Which resource the GPUs are, if they may be split here.
    of: Option<usize>,
}

impl Split {
    pub(super) fn new(of: Option<usize>, free: impl Iterator<Item = i64>) -> Self {
        let mut free: Vec<i64> = free.collect();
        free.sort_unstable();
        Self { free, of }
    }

    /// Which resource the GPUs are, if they may be split.
    pub(super) fn of(&self) -> Option<usize> {
        self.of
    }

    pub(super) fn free(&self) -> &[i64] {
        &self.free
    }
}

impl Bucket {
    /// Which of two buckets is filled first, as far as that is decided by what is free.
    pub(super) fn filling(&self) -> (i64, i64, i64, &[i64]) {
        (self.gpus, self.cpu, self.memory, &self.split.free)
    }

    /// How many workers with such a part of a GPU there is room for on GPUs.
    pub(super) fn fits_on_gpus(&self, part: i64) -> u32 {
        // Where more whole GPUs are promised than there are, those that are split pay for it.
        if self.split.of.is_none() || self.gpus < 0 {
            return 0;
        }
        let split: i64 = self.split.free.iter().map(|free| (free / part).max(0)).sum();
        u32::try_from(split + self.gpus.saturating_mul(WHOLE / part)).unwrap_or(u32::MAX)
    }

    /// How many workers of a group fit on one of the nodes.
    pub(super) fn fits(&self, group: &ClassGroup) -> u32 {
        let fits = group.each.fits_into(&self.free);
        if group.part == 0 || fits == 0 { fits } else { fits.min(self.fits_on_gpus(group.part)) }
    }
}

/// The nodes of a bucket, and what was found out about them.
#[derive(Clone, Debug, Default)]
pub(super) struct Members {
    pub(super) nodes: BTreeSet<NodeIndex>,
    pub(super) known: Known,
}

/// How fragmented the nodes of a bucket are, and would be, under one version of the mix.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) version: u32,
    pub(super) now: i64,
    /// By shape.
    pub(super) with: Vec<Option<Growth>>,
}

/// By how much fragmentation grows if a worker comes to a node, and onto which split GPU it comes then, by what is free of that; a
/// whole GPU is one with all of it free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Growth {
    pub(super) by: i64,
    pub(super) onto: Option<i64>,
}
