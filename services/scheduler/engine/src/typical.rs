//! How fast GPU models typically are for the jobs there are: the yardstick by which a job's own speeds are compared. A job that is
//! twice as fast on a model as jobs typically are belongs there rather than one that is half as fast, whichever of the two is
//! the faster one: what counts in a full pool is *comparative* advantage.

use std::collections::BTreeMap;

use crate::class::{Class, FlavorId, NORMAL_SPEED};

/// Bits of a typical speed that count behind the first, to the nearest: it is off by no more than a sixty-fourth, and speeds that change
/// a little change no order.
const BITS: u32 = 5;

/// Sums over the unfinished jobs of which it is known how fast they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Typical {
    /// Per model what jobs say of it: (sum of speed × GPUs, sum of GPUs).
    sums: BTreeMap<FlavorId, (i128, i128)>,
}

impl Typical {
    /// A job has come. Whether a typical speed has become another one.
    pub(crate) fn add(&mut self, class: &Class) -> bool {
        self.change(class, 1)
    }

    /// A job has gone. Whether a typical speed has become another one.
    pub(crate) fn sub(&mut self, class: &Class) -> bool {
        self.change(class, -1)
    }

    fn change(&mut self, class: &Class, sign: i128) -> bool {
        let gpus = sign * i128::from(class.gpus.max(1));
        let mut changed = false;
        for (flavor, speed) in &class.known_speeds {
            let before = self.speed(*flavor);
            let (sum, all) = self.sums.entry(*flavor).or_default();
            *sum += gpus * i128::from(*speed);
            *all += gpus;
            if *all == 0 {
                self.sums.remove(flavor);
            }
            changed |= self.speed(*flavor) != before;
        }
        changed
    }

    /// How fast a model typically is, in thousandths.
    pub(crate) fn speed(&self, flavor: FlavorId) -> i64 {
        let Some((sum, all)) = self.sums.get(&flavor) else { return NORMAL_SPEED };
        // A mean of speeds is not more than the greatest of them.
        let mean = i64::try_from(sum / all).unwrap_or(i64::MAX).max(1);
        let dropped = mean.ilog2().saturating_sub(BITS);
        (mean + (1 << dropped) / 2) >> dropped << dropped
    }

    /// By how much a job of this speed is ahead of what is typical of a model, in eighths of a doubling, to the nearest: about as far
    /// ahead is equally far. Only products and the exponent of a number, which are the same on every machine.
    pub(crate) fn advantage(&self, flavor: FlavorId, speed: i64) -> i64 {
        let ratio = speed as f64 / self.speed(flavor) as f64;
        let squared = ratio * ratio;
        let eighth_power = squared * squared * squared * squared;
        let bits = (eighth_power * std::f64::consts::SQRT_2).to_bits();
        i64::try_from(bits >> 52).unwrap_or(0) - 1_023
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Amounts;
    use crate::class::{Flavors, build};
    use crate::mix::Mix;
    use crate::spec::{Gang, WorkerGroup};
    use crate::vector::ResourceTable;
    use std::collections::BTreeSet;

    fn class(flavors: &mut Flavors, speed: u32) -> Class {
        let each = Amounts::new().with("nvidia.com/gpu", 2);
        let gang = Gang {
            groups: vec![WorkerGroup { name: "w".to_owned(), replicas: 1, each }],
            min_available: 1,
            flavors: BTreeSet::new(),
            api: String::new(),
            restart_ms: None,
            speeds: BTreeMap::from([("K80".to_owned(), speed)]),
            topology: None,
            dataset: None,
            elastic: None,
            span: crate::Span::Cluster,
        };
        build(&gang, &mut ResourceTable::default(), flavors, &mut Mix::default())
    }

    #[test]
    fn it_is_the_mean_of_those_that_are_there_in_steps() {
        let mut flavors = Flavors::default();
        let (slow, fast) = (class(&mut flavors, 100), class(&mut flavors, 1_500));
        let k80 = flavors.intern("K80");
        let mut typical = Typical::default();
        assert_eq!(typical.speed(k80), 1_000, "nobody says anything");
        assert!(typical.add(&slow) && typical.speed(k80) == 100);
        assert!(typical.add(&fast) && typical.speed(k80) == 800);
        let advantage = |speed| typical.advantage(k80, speed);
        assert_eq!([400, 750, 800, 850, 950, 1_600].map(advantage), [-8, -1, 0, 1, 2, 8]);
        assert!(typical.sub(&fast) && typical.speed(k80) == 100);
        typical.sub(&slow);
        assert_eq!(typical, Typical::default(), "nothing is left of who has gone");
    }
}
