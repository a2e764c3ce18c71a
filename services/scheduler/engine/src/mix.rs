//! What has been asked for lately, worker by worker, and how much of what is free on a node is of no use to it: the *expected
//! fragmentation* of FGD (Weng et al., *Beware of Fragmentation*, USENIX ATC 2023). Nodes are filled where it grows least.
//!
//! The one thing to know: what is decided depends on the mix as it was *published* last, which happens each time that half as
//! many again have been submitted, so that what was found out about a node stays true for long.

use std::collections::{BTreeMap, BTreeSet};

use crate::Amounts;
use crate::amounts::{WHOLE, part_of_gpu};
use crate::class::{FlavorId, Flavors};
use crate::rows::MixRow;
use crate::vector::{ResourceTable, Vector};

/// Number of a shape, or [`UNCOUNTED`].
pub(crate) type ShapeId = u32;
/// Stands for a shape that came when there were too many.
pub(crate) const UNCOUNTED: ShapeId = ShapeId::MAX;

/// Shapes known at a time.
const MOST_SHAPES: usize = 1_024;
/// Shapes that are looked at, the most frequent ones.
const MOST_COMMON: usize = 96;
/// Workers before the first publication, and between two at least.
const LEAST: u64 = 16;
/// Workers that are remembered: when twice as many are counted, all count half.
const MEMORY: u64 = 8_192;

/// What a worker asks for.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// Besides a part of a GPU.
    pub(crate) each: Vector,
    /// Thousandths of one GPU; 0: none.
    pub(crate) part: i64,
    pub(crate) on_gpu: bool,
    /// Models that will do; empty: any.
    pub(crate) models: BTreeSet<FlavorId>,
}

impl Shape {
    /// What a worker asks for that may run on these models.
    pub(crate) fn new(each: &Amounts, models: BTreeSet<FlavorId>, resources: &mut ResourceTable) -> Self {
        let part = each.iter().find(|(name, _)| part_of_gpu(name).is_some()).map_or(0, |(_, part)| part);
        let mut vector = resources.intern(each);
        if part > 0
            && let Some(gpu) = resources.gpu_of(&vector)
        {
            vector.put(gpu, 0);
        }
        Self { each: vector, part, on_gpu: each.on_gpu(), models }
    }
}

type ShapeKey = (Amounts, BTreeSet<String>);

#[derive(Clone, Debug)]
struct Entry {
    key: ShapeKey,
    shape: Shape,
    /// Classes that have it.
    classes: u32,
    /// Workers submitted, older ones counted for less.
    counted: u64,
    /// The same when the mix was published last.
    published: u64,
}

/// What the most frequent shapes that may run on a model ask for.
#[derive(Clone, Debug, Default)]
struct OnModel {
    /// (shape, weight) of those that run on GPUs of this model.
    common: Vec<(Shape, i64)>,
    /// Weight of those that make no use of its GPUs.
    others: i64,
}

/// Shapes with how often they were asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mix {
    entries: Vec<Option<Entry>>,
    unused: Vec<ShapeId>,
    by_key: BTreeMap<ShapeKey, ShapeId>,
    /// Workers counted, now and when published last.
    counted: u64,
    published: u64,
    /// Per model.
    models: Vec<OnModel>,
    /// Counts publications. Who knows this count knows that what was found out holds still.
    pub(crate) version: u32,
}

impl Mix {
    /// The number of a shape, which one more class has.
    pub(crate) fn acquire(&mut self, each: &Amounts, models: &BTreeSet<String>, shape: impl FnOnce() -> Shape) -> ShapeId {
        let key = (each.clone(), models.clone());
        if let Some(id) = self.by_key.get(&key) {
            if let Some(entry) = &mut self.entries[*id as usize] {
                entry.classes += 1;
            }
            return *id;
        }
        if self.by_key.len() >= MOST_SHAPES {
            return UNCOUNTED;
        }
        let entry = Some(Entry { key: key.clone(), shape: shape(), classes: 1, counted: 0, published: 0 });
        let id = match self.unused.pop() {
            Some(id) => {
                self.entries[id as usize] = entry;
                id
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as ShapeId
            }
        };
        self.by_key.insert(key, id);
        // Nodes may remember something of the shape that had this number before.
        self.version += 1;
        id
    }

    /// A class that has the shape is gone.
    pub(crate) fn release(&mut self, id: ShapeId) {
        if let Some(Some(entry)) = self.entries.get_mut(id as usize) {
            entry.classes -= 1;
        }
        self.forget_unless_used(id);
    }

    fn forget_unless_used(&mut self, id: ShapeId) {
        let Some(slot) = self.entries.get_mut(id as usize) else { return };
        if let Some(gone) = slot.take_if(|entry| entry.classes == 0 && entry.counted == 0 && entry.published == 0) {
            self.by_key.remove(&gone.key);
            self.unused.push(id);
        }
    }

    /// So many workers of a shape were submitted.
    pub(crate) fn count(&mut self, id: ShapeId, workers: u32) {
        if let Some(Some(entry)) = self.entries.get_mut(id as usize) {
            entry.counted += u64::from(workers);
            self.counted += u64::from(workers);
        }
    }

    /// Publishes the mix if enough has been counted since it was last.
    pub(crate) fn publish_if_due(&mut self, flavors: &Flavors) {
        if self.counted < self.published + LEAST.max(self.published / 2) {
            return;
        }
        let halve = self.counted >= 2 * MEMORY;
        for entry in self.entries.iter_mut().flatten() {
            if halve {
                entry.counted /= 2;
            }
            entry.published = entry.counted;
        }
        self.counted = self.entries.iter().flatten().map(|entry| entry.counted).sum();
        self.published = self.counted;
        if halve {
            (0..self.entries.len()).for_each(|id| self.forget_unless_used(id as ShapeId));
        }
        self.show(flavors);
    }

    /// Works out what was published for each model. To be called too when there are more models.
    pub(crate) fn show(&mut self, flavors: &Flavors) {
        self.version += 1;
        let mut common: Vec<&Entry> = self.entries.iter().flatten().filter(|entry| entry.published > 0).collect();
        common.sort_by(|left, right| right.published.cmp(&left.published).then_with(|| left.key.cmp(&right.key)));
        common.truncate(MOST_COMMON);
        let on = |model: FlavorId| {
            let mut on = OnModel::default();
            for Entry { shape, published, .. } in &common {
                let weight = *published as i64;
                if shape.on_gpu && (shape.models.is_empty() || shape.models.contains(&model)) {
                    on.common.push((shape.clone(), weight));
                } else {
                    on.others += weight;
                }
            }
            on
        };
        self.models = flavors.ids().map(on).collect();
    }

    /// Whether there are models of which nothing was worked out.
    pub(crate) fn lacks_models(&self, flavors: &Flavors) -> bool {
        self.models.len() < flavors.ids().len()
    }

    /// Thousandths of GPUs that are free on a node and of no use to a worker, weighted by how often such a worker comes: all of them
    /// where it finds no room or needs none, else those of GPUs with too little left for it. `whole` and `split` are the free
    /// GPUs, and what is free, in thousandths, of those of which parts are in use. Weng et al., section 3.2.
    pub(crate) fn fragments(&self, model: FlavorId, free: &Vector, whole: i64, split: &[i64]) -> i64 {
        let in_split: i64 = split.iter().map(|free| (*free).max(0)).sum();
        let all = whole.max(0) * WHOLE + in_split;
        let Some(on) = self.models.get(model as usize).filter(|_| all > 0) else { return 0 };
        let mut sum = on.others * all;
        for (shape, weight) in &on.common {
            let useless = if shape.each.fits_into(free) == 0 {
                all
            } else if shape.part == 0 {
                in_split
            } else {
                let most = split.iter().copied().max().unwrap_or(0);
                if whole <= 0 && most < shape.part {
                    all
                } else {
                    split.iter().filter(|free| **free < shape.part).map(|free| (*free).max(0)).sum()
                }
            };
            sum += useless * weight;
        }
        sum
    }

    /// What has to be kept for a mix that says the same.
    pub(crate) fn rows(&self) -> Vec<MixRow> {
        let counted = |id: &ShapeId| self.entries[*id as usize].as_ref().filter(|entry| entry.counted + entry.published > 0);
        let row = |entry: &Entry| {
            let (each, flavors) = entry.key.clone();
            MixRow { each, flavors, counted: entry.counted, published: entry.published }
        };
        self.by_key.values().filter_map(counted).map(row).collect()
    }

    /// Puts what was kept in place of what has been counted since the start.
    pub(crate) fn restore(&mut self, rows: impl Iterator<Item = (Shape, MixRow)>, flavors: &Flavors) {
        for entry in self.entries.iter_mut().flatten() {
            (entry.counted, entry.published) = (0, 0);
        }
        for (shape, MixRow { each, flavors, counted, published }) in rows {
            let id = self.acquire(&each, &flavors, || shape);
            if let Some(Some(entry)) = self.entries.get_mut(id as usize) {
                entry.classes -= 1;
                (entry.counted, entry.published) = (counted, published);
            }
        }
        (0..self.entries.len()).for_each(|id| self.forget_unless_used(id as ShapeId));
        self.counted = self.entries.iter().flatten().map(|entry| entry.counted).sum();
        self.published = self.entries.iter().flatten().map(|entry| entry.published).sum();
        self.show(flavors);
    }
}
