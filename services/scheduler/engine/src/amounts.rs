//! Amounts of named resources. An amount is a whole number of the resource's *base unit*: `cpu` in thousandths of a core, everything else (bytes, GPUs, named extended resources) in ones. A part
//! of a GPU is asked for as `nvidia.com/gpu-milli`, in thousandths; inside the engine it counts as so much of `nvidia.com/gpu`.

use std::collections::BTreeMap;

/// The name of the one resource that is counted in thousandths.
pub const CPU: &str = "cpu";
/// Counted in bytes.
pub const MEMORY: &str = "memory";

/// Ends the name of a GPU resource of which thousandths are counted.
pub(crate) const THOUSANDTHS: &str = "-milli";
/// Thousandths of a whole GPU.
pub(crate) const WHOLE: i64 = 1_000;

/// True if units of this resource are whole GPUs: the part after the last `/` is `gpu` (`nvidia.com/gpu`,
/// `amd.com/gpu`, `gpu`). MIG profiles and shared fractions are named resources, but no whole GPUs.
#[must_use]
pub fn is_gpu(resource: &str) -> bool {
    resource.rsplit('/').next() == Some("gpu")
}

/// The GPU resource of which this one counts thousandths: `nvidia.com/gpu` for `nvidia.com/gpu-milli`.
#[must_use]
pub fn part_of_gpu(resource: &str) -> Option<&str> {
    resource.strip_suffix(THOUSANDTHS).filter(|whole| is_gpu(whole))
}

/// True if what has this resource runs on a GPU: whole ones, parts of one, or a MIG profile (`nvidia.com/mig-1g.5gb`).
#[must_use]
pub fn is_on_gpu(resource: &str) -> bool {
    is_gpu(resource)
        || part_of_gpu(resource).is_some()
        || resource.rsplit('/').next().is_some_and(|name| name.starts_with("mig-"))
}

/// A map of resource name to amount in base units. Zero amounts are not stored, so equal meaning is equal value.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amounts(BTreeMap<String, i64>);

impl From<Amounts> for BTreeMap<String, i64> {
    /// As limits: each named amount is one.
    fn from(amounts: Amounts) -> Self {
        amounts.0
    }
}

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

    /// GPUs of any vendor, parts together rounded up to whole ones.
    #[must_use]
    pub fn gpus_rounded_up(&self) -> i64 {
        let parts: i64 = self.iter().filter(|(name, _)| part_of_gpu(name).is_some()).map(|(_, part)| part).sum();
        self.gpus().saturating_add(parts.saturating_add(WHOLE - 1) / WHOLE)
    }

    /// Whether anything named here runs on a GPU: see [`is_on_gpu`].
    #[must_use]
    pub fn on_gpu(&self) -> bool {
        self.iter().any(|(name, _)| is_on_gpu(name))
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
