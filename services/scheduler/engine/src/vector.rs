//! The dense vectors the engine computes with, and the table that numbers the resources they are over.

use std::collections::BTreeMap;

use crate::amounts::{Amounts, CPU, MEMORY, THOUSANDTHS, WHOLE, is_gpu, part_of_gpu};

/// Vectors of up to so many resources need no heap: cpu, memory, ephemeral storage, GPUs and two more.
const INLINE: usize = 6;

/// A dense vector over the engine's resource table; trailing zeros are cut, so equal meaning is equal value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vector {
    /// Length while it is inline; 0 once it has spilled.
    len: usize,
    inline: [i64; INLINE],
    spilled: Vec<i64>,
}

impl PartialEq for Vector {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Vector {}

impl PartialOrd for Vector {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Vector {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl Vector {
    fn as_slice(&self) -> &[i64] {
        if self.spilled.is_empty() { &self.inline[..self.len] } else { &self.spilled }
    }

    fn as_mut_slice(&mut self) -> &mut [i64] {
        if self.spilled.is_empty() { &mut self.inline[..self.len] } else { &mut self.spilled }
    }

    pub(crate) fn get(&self, index: usize) -> i64 {
        self.as_slice().get(index).copied().unwrap_or(0)
    }

    pub(crate) fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub(crate) fn put(&mut self, index: usize, amount: i64) {
        self.set(index, amount);
        self.trim();
    }

    fn grow(&mut self, len: usize) {
        if len <= self.len() {
            return;
        }
        if self.spilled.is_empty() && len <= INLINE {
            self.inline[self.len..len].fill(0);
            self.len = len;
            return;
        }
        if self.spilled.is_empty() {
            self.spilled = self.inline[..self.len].to_vec();
            self.len = 0;
        }
        self.spilled.resize(len, 0);
    }

    fn set(&mut self, index: usize, amount: i64) {
        self.grow(index + 1);
        self.as_mut_slice()[index] = amount;
    }

    fn trim(&mut self) {
        let kept = self.as_slice().iter().rposition(|amount| *amount != 0).map_or(0, |last| last + 1);
        if self.spilled.is_empty() {
            self.len = kept;
        } else {
            self.spilled.truncate(kept);
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.grow(other.len());
        for (mine, amount) in self.as_mut_slice().iter_mut().zip(other.as_slice()) {
            *mine = mine.saturating_add(*amount);
        }
        self.trim();
    }

    pub(crate) fn sub(&mut self, other: &Self) {
        self.grow(other.len());
        for (mine, amount) in self.as_mut_slice().iter_mut().zip(other.as_slice()) {
            *mine = mine.saturating_sub(*amount);
        }
        self.trim();
    }

    /// `times` as much. Totals were checked for overflow when the job was admitted, so this never saturates there.
    pub(crate) fn times(&self, times: u32) -> Self {
        let mut product = self.clone();
        for amount in product.as_mut_slice() {
            *amount = amount.saturating_mul(i64::from(times));
        }
        product.trim();
        product
    }

    /// How many of `self` fit into `free`; `u32::MAX` for an empty request.
    pub(crate) fn fits_into(&self, free: &Self) -> u32 {
        let mut fits = i64::from(u32::MAX);
        for (index, need) in self.as_slice().iter().enumerate() {
            if *need > 0 {
                let free = free.get(index);
                if free < *need {
                    return 0;
                }
                // Most workers of large gangs fit once: a comparison is cheaper than a division.
                fits = fits.min(if free < need.saturating_mul(2) { 1 } else { free / need });
            }
        }
        u32::try_from(fits).unwrap_or(u32::MAX)
    }

    /// The lesser of both amounts, resource by resource.
    pub(crate) fn least(&self, other: &Self) -> Self {
        let mut least = self.clone();
        for (index, amount) in least.as_mut_slice().iter_mut().enumerate() {
            *amount = other.get(index).min(*amount);
        }
        least.trim();
        least
    }

    /// Each amount that is not negative rounded down to a power of two.
    pub(crate) fn rounded_down(mut self) -> Self {
        for amount in self.as_mut_slice() {
            *amount = if *amount > 0 { 1 << amount.ilog2() } else { *amount };
        }
        self
    }

    /// True if every amount is at least that of `other`.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        (0..self.len().max(other.len())).all(|index| self.get(index) >= other.get(index))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, i64)> + '_ {
        self.as_slice().iter().copied().enumerate().filter(|(_, amount)| *amount != 0)
    }
}

/// The resource that is counted, and how much of it in the engine's units.
pub(crate) fn units(name: &str, amount: i64) -> (&str, i64) {
    match part_of_gpu(name) {
        Some(whole) => (whole, amount),
        None if is_gpu(name) => (name, amount.saturating_mul(WHOLE)),
        None => (name, amount),
    }
}

/// The number of [`CPU`] in every table.
pub(crate) const AT_CPU: usize = 0;
/// The number of [`MEMORY`] in every table.
pub(crate) const AT_MEMORY: usize = 1;

/// Resource names: cpu and memory, and others numbered in the order they were first seen. Only grows: there are tens of them, never
/// thousands.
#[derive(Clone, Debug)]
pub(crate) struct ResourceTable {
    names: Vec<String>,
    gpus: Vec<usize>,
    index: BTreeMap<String, usize>,
}

impl Default for ResourceTable {
    fn default() -> Self {
        let mut table = Self { names: Vec::new(), gpus: Vec::new(), index: BTreeMap::new() };
        table.index_of(CPU);
        table.index_of(MEMORY);
        table
    }
}

impl ResourceTable {
    /// The amounts in the engine's units: those of the caller, but for GPUs, which are in thousandths.
    pub(crate) fn intern(&mut self, amounts: &Amounts) -> Vector {
        let mut vector = Vector::default();
        for (index, amount) in self.intern_all(amounts.iter()) {
            vector.set(index, vector.get(index).saturating_add(amount));
        }
        vector.trim();
        vector
    }

    /// Every named resource, also those of which there shall be none.
    pub(crate) fn intern_all<'a>(&mut self, amounts: impl Iterator<Item = (&'a str, i64)>) -> Vec<(usize, i64)> {
        let units = |(name, amount)| {
            let (name, amount) = units(name, amount);
            (self.index_of(name), amount)
        };
        amounts.map(units).collect()
    }

    /// Like [`ResourceTable::intern`], for resources that have been heard of; others are left out.
    pub(crate) fn find_all(&self, amounts: &Amounts) -> Vector {
        let mut vector = Vector::default();
        for (name, amount) in amounts.iter() {
            let (name, amount) = units(name, amount);
            if let Some(index) = self.find(name) {
                vector.set(index, vector.get(index).saturating_add(amount));
            }
        }
        vector.trim();
        vector
    }

    pub(crate) fn index_of(&mut self, name: &str) -> usize {
        if let Some(index) = self.index.get(name) {
            return *index;
        }
        let index = self.names.len();
        self.names.push(name.to_owned());
        self.index.insert(name.to_owned(), index);
        if is_gpu(name) {
            self.gpus.push(index);
        }
        index
    }

    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    pub(crate) fn name(&self, index: usize) -> &str {
        &self.names[index]
    }

    /// Whole GPUs.
    pub(crate) fn gpus(&self, vector: &Vector) -> i64 {
        self.gpus.iter().map(|index| vector.get(*index).div_euclid(WHOLE)).sum()
    }

    /// The resources that are GPUs.
    pub(crate) fn all_gpus(&self) -> &[usize] {
        &self.gpus
    }

    pub(crate) fn is_gpu(&self, index: usize) -> bool {
        self.gpus.contains(&index)
    }

    /// GPUs, a number that is not whole rounded up.
    pub(crate) fn gpus_rounded_up(&self, vector: &Vector) -> i64 {
        self.gpus.iter().map(|index| vector.get(*index).saturating_add(WHOLE - 1).div_euclid(WHOLE)).sum()
    }

    /// The first GPU resource of which there is some.
    pub(crate) fn gpu_of(&self, vector: &Vector) -> Option<usize> {
        self.gpus.iter().copied().find(|index| vector.get(*index) > 0)
    }

    /// Amounts under the name and in the unit of the caller: numbers of GPUs that are not all whole in thousandths.
    pub(crate) fn named<const SOME: usize>(&self, index: usize, amounts: [i64; SOME]) -> (String, [i64; SOME]) {
        let name = self.names[index].clone();
        if !self.is_gpu(index) {
            (name, amounts)
        } else if amounts.iter().all(|amount| amount % WHOLE == 0) {
            (name, amounts.map(|amount| amount / WHOLE))
        } else {
            (name + THOUSANDTHS, amounts)
        }
    }

    pub(crate) fn amounts(&self, vector: &Vector) -> Amounts {
        let named = |(index, amount)| {
            let (name, [amount]) = self.named(index, [amount]);
            (name, amount)
        };
        vector.iter().map(named).collect()
    }
}
