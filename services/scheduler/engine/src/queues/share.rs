//! Weighted dominant shares: of a queue as it is, with a candidate, and without something it gives up.

use super::{Queue, QueueIndex, Queues};
use crate::engine::Engine;
use crate::event::Refused;
use crate::ranking::Share;
use crate::vector::Vector;

/// What a queue has used lately.
#[derive(Clone, Debug)]
pub(crate) struct Lately {
    /// On the mean, in thousandths of GPUs.
    pub(crate) gpus: i64,
    /// Which resources are GPUs.
    resources: Vec<usize>,
}

impl Engine {
    /// Takes in what a queue has used lately.
    pub(crate) fn used_lately(&mut self, queue: &str, gpus: i64) -> Result<(), Refused> {
        let index = self.queues.find(queue).ok_or_else(|| Refused::new("queue", format!("queue {queue:?} does not exist")))?;
        if gpus < 0 {
            return Err(Refused::new("gpus", "must not be negative"));
        }
        let resources = self.resources.all_gpus().to_vec();
        self.queues.get_mut(index).lately = (gpus > 0).then_some(Lately { gpus, resources });
        self.queues.mark(index);
        Ok(())
    }
}

impl Queues {
    /// The share of a queue with a candidate, or without one (an empty vector), less something that it gives up.
    pub(crate) fn share(&self, queue: QueueIndex, candidate: &Vector, everything: &Vector) -> Share {
        self.get(queue).share_with(candidate, everything)
    }

    /// Like [`Queues::share`], with something taken from it.
    pub(crate) fn share_without(&self, queue: QueueIndex, taken: &Vector, everything: &Vector) -> Share {
        let mut less = self.get(queue).usage.clone();
        less.sub(taken);
        self.share_of(queue, &less, everything)
    }

    /// The share of a queue that uses so much.
    pub(crate) fn share_of(&self, queue: QueueIndex, usage: &Vector, everything: &Vector) -> Share {
        self.get(queue).share_of(usage, &Vector::default(), everything)
    }

    /// A queue's weighted dominant share of everything, without a candidate.
    pub(crate) fn whole_share(&self, queue: QueueIndex, everything: &Vector) -> f64 {
        f64::from_bits(self.get(queue).share_with(&Vector::default(), everything).whole)
    }
}

impl Queue {
    /// Computes what is guaranteed of each resource. What the guarantee does not name is guaranteed in the same part as the resource
    /// that it names most of.
    pub(super) fn set_guaranteed(&mut self, everything: &Vector) {
        let part = self.guarantee.iter().filter(|(index, _)| everything.get(*index) > 0);
        let part = part.map(|(index, amount)| amount as f64 / everything.get(index) as f64).fold(0.0, f64::max);
        let of = |index: usize| match self.guarantee.get(index) {
            named if named > 0 => named as f64,
            _ => part * everything.get(index) as f64,
        };
        self.guaranteed = (0..everything.len()).map(of).collect();
    }

    pub(super) fn share_with(&self, candidate: &Vector, everything: &Vector) -> Share {
        self.share_of(&self.usage, candidate, everything)
    }

    fn share_of(&self, usage: &Vector, candidate: &Vector, everything: &Vector) -> Share {
        let (mut borrowed, mut whole) = (0.0_f64, 0.0_f64);
        for index in 0..usage.len().max(candidate.len()) {
            let used = usage.get(index).saturating_add(candidate.get(index));
            let all = everything.get(index);
            if used > 0 && all > 0 {
                whole = whole.max(used as f64 / all as f64);
                let guaranteed = self.guaranteed.get(index).copied().unwrap_or(0.0);
                if used as f64 > guaranteed {
                    borrowed = borrowed.max((used as f64 - guaranteed) / all as f64);
                }
            }
        }
        if let Some(lately) = &self.lately {
            let sum = |of: &dyn Fn(usize) -> f64| lately.resources.iter().map(|index| of(*index)).sum::<f64>();
            let all = sum(&|index| everything.get(index) as f64);
            let used = sum(&|index| usage.get(index).saturating_add(candidate.get(index)) as f64);
            let guaranteed = sum(&|index| self.guaranteed.get(index).copied().unwrap_or(0.0));
            if all > 0.0 {
                let mean = lately.gpus as f64;
                whole = whole.max((used + mean) / all);
                // What is guaranteed is there whatever was used.
                if used > guaranteed {
                    borrowed = borrowed.max((used - guaranteed + (mean - guaranteed).max(0.0)) / all);
                }
            }
        }
        let weight = f64::from(self.spec.weight) / self.handicap();
        Share::of(borrowed / weight, whole / weight)
    }
}
