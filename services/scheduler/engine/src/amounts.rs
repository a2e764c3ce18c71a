//! Amounts of named resources, and the dense vectors the engine computes with. An amount is a whole number of the
//! resource's *base unit*: `cpu` in thousandths of a core, everything else (bytes, GPUs, named extended resources) in ones.

use std::collections::BTreeMap;

/// The name of the one resource that is counted in thousandths.
pub const CPU: &str = "cpu";
/// Counted in bytes.
pub const MEMORY: &str = "memory";

/// True if units of this resource are whole GPUs: the part after the last `/` is `gpu` (`nvidia.com/gpu`,
/// `amd.com/gpu`, `gpu`). MIG profiles and shared fractions are named resources, but no whole GPUs.
#[must_use]
pub fn is_gpu(resource: &str) -> bool {
    resource.rsplit('/').next() == Some("gpu")
}

/// A map of resource name to amount in base units. Zero amounts are not stored, so equal meaning is equal value.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amounts(BTreeMap<String, i64>);

impl Amounts {
    /// Nothing of anything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same amounts with `resource` set to `amount` base units.
    #[must_use]
    pub fn with(mut self, resource: &str, amount: i64) -> Self {
        self.set(resource, amount);
        self
    }

    /// Sets one resource; zero removes it.
    pub fn set(&mut self, resource: &str, amount: i64) {
        if amount == 0 {
            self.0.remove(resource);
        } else {
            self.0.insert(resource.to_owned(), amount);
        }
    }

    /// The amount of one resource, 0 where it is not named.
    #[must_use]
    pub fn get(&self, resource: &str) -> i64 {
        self.0.get(resource).copied().unwrap_or(0)
    }

    /// Every named resource with its amount, in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    /// True if nothing is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whole GPUs of any vendor.
    #[must_use]
    pub fn gpus(&self) -> i64 {
        self.iter().filter(|(name, _)| is_gpu(name)).map(|(_, amount)| amount).sum()
    }

    /// The sum, or the name of the resource that overflows.
    ///
    /// # Errors
    /// The resource whose sum is beyond an `i64`.
    pub fn checked_add(&self, other: &Self) -> Result<Self, String> {
        let mut sum = self.clone();
        for (name, amount) in other.iter() {
            let total = sum.get(name).checked_add(amount).ok_or_else(|| name.to_owned())?;
            sum.set(name, total);
        }
        Ok(sum)
    }

    /// `times` as much, or the name of the resource that overflows.
    ///
    /// # Errors
    /// The resource whose product is beyond an `i64`.
    pub fn checked_times(&self, times: u32) -> Result<Self, String> {
        let mut product = Self::new();
        for (name, amount) in self.iter() {
            let total = amount.checked_mul(i64::from(times)).ok_or_else(|| name.to_owned())?;
            product.set(name, total);
        }
        Ok(product)
    }
}

impl FromIterator<(String, i64)> for Amounts {
    fn from_iter<I: IntoIterator<Item = (String, i64)>>(entries: I) -> Self {
        Self(entries.into_iter().filter(|(_, amount)| *amount != 0).collect())
    }
}

/// An amount in the words of the person who asked: `4` cores, `500m`, `32Gi`, `8`.
#[must_use]
pub fn show(resource: &str, amount: i64) -> String {
    if resource == CPU {
        if amount % 1000 == 0 { (amount / 1000).to_string() } else { format!("{amount}m") }
    } else if resource == MEMORY || resource == "ephemeral-storage" {
        for (unit, size) in [("Gi", 1_i64 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)] {
            if amount != 0 && amount % size == 0 {
                return format!("{}{unit}", amount / size);
            }
        }
        amount.to_string()
    } else {
        amount.to_string()
    }
}

/// A dense vector over the engine's resource table; trailing zeros are cut, so equal meaning is equal value.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Vector(Vec<i64>);

impl Vector {
    pub(crate) fn get(&self, index: usize) -> i64 {
        self.0.get(index).copied().unwrap_or(0)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn put(&mut self, index: usize, amount: i64) {
        self.set(index, amount);
        self.trim();
    }

    fn set(&mut self, index: usize, amount: i64) {
        if index >= self.0.len() {
            self.0.resize(index + 1, 0);
        }
        self.0[index] = amount;
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (index, amount) in other.0.iter().enumerate() {
            self.set(index, self.get(index).saturating_add(*amount));
        }
        self.trim();
    }

    pub(crate) fn sub(&mut self, other: &Self) {
        for (index, amount) in other.0.iter().enumerate() {
            self.set(index, self.get(index).saturating_sub(*amount));
        }
        self.trim();
    }

    /// `times` as much. Totals were checked for overflow when the job was admitted, so this never saturates there.
    pub(crate) fn times(&self, times: u32) -> Self {
        Self(self.0.iter().map(|amount| amount.saturating_mul(i64::from(times))).collect())
    }

    /// How many of `self` fit into `free`; `u32::MAX` for an empty request.
    pub(crate) fn fits_into(&self, free: &Self) -> u32 {
        let mut fits = i64::from(u32::MAX);
        for (index, need) in self.0.iter().enumerate() {
            if *need > 0 {
                fits = fits.min(free.get(index).max(0) / need);
            }
        }
        u32::try_from(fits).unwrap_or(u32::MAX)
    }

    /// True if every amount is at least that of `other`.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        (0..self.len().max(other.len())).all(|index| self.get(index) >= other.get(index))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, i64)> + '_ {
        self.0.iter().copied().enumerate().filter(|(_, amount)| *amount != 0)
    }
}

/// Resource names, numbered in the order they were first seen. Only grows: there are tens of them, never thousands.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResourceTable {
    names: Vec<String>,
    gpus: Vec<usize>,
    index: BTreeMap<String, usize>,
}

impl ResourceTable {
    pub(crate) fn intern(&mut self, amounts: &Amounts) -> Vector {
        let mut vector = Vector::default();
        for (name, amount) in amounts.iter() {
            vector.set(self.index_of(name), amount);
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

    pub(crate) fn gpus(&self, vector: &Vector) -> i64 {
        self.gpus.iter().map(|index| vector.get(*index)).sum()
    }

    pub(crate) fn amounts(&self, vector: &Vector) -> Amounts {
        vector.iter().map(|(index, amount)| (self.names[index].clone(), amount)).collect()
    }
}
