//! How fast GPU models are for jobs of a kind that don't say so themselves: what their finished runs lasted on each. These speeds
//! only say which places come first; what a run has done is counted in time, as long as its job says no speeds.

use std::collections::BTreeMap;

use crate::class::{ClassId, FlavorId};
use crate::engine::{Engine, Job, State};
use crate::estimate::LikenessId;
use crate::event::{JobId, Refused};
use crate::spec::{Gang, JobSpec};

/// A model counts once so many runs have finished on it.
const LEAST_RUNS: u32 = 3;
/// Models of one kind that are remembered; a run on another one teaches nothing.
const MOST_MODELS: usize = 8;
/// Logarithms are counted in so many parts of a doubling.
const PARTS: i64 = 1_024;
/// Speeds are learned in steps of a quarter of a doubling: they change seldom, and kinds with nearly equal ones share their groups.
const STEPS: i64 = 4;

/// Runs of a kind on one GPU model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelRuns {
    /// How many.
    pub runs: u32,
    /// The sum of the logarithms of what they lasted, in 1024ths of a doubling of a millisecond.
    pub logarithms: i64,
}

impl ModelRuns {
    /// The mean of the logarithms, rounded down.
    fn mean(self) -> i64 {
        self.logarithms / i64::from(self.runs.max(1))
    }
}

/// Takes in a run on a model.
pub(crate) fn add(models: &mut BTreeMap<String, ModelRuns>, model: &str, lasted_ms: i64) {
    if model.is_empty() || (models.len() >= MOST_MODELS && !models.contains_key(model)) {
        return;
    }
    let known = match models.get_mut(model) {
        Some(known) => known,
        None => models.entry(model.to_owned()).or_default(),
    };
    known.runs = known.runs.saturating_add(1);
    known.logarithms = known.logarithms.saturating_add(logarithm(lasted_ms));
}

/// Speeds in thousandths, compared with the model on which most runs have finished, that one among them; none, unless enough is known
/// of two models. The mean of logarithms is that of ratios: a few runs that lasted very long don't outweigh the others.
pub(crate) fn speeds(models: &BTreeMap<String, ModelRuns>) -> BTreeMap<String, u32> {
    let known = || models.iter().filter(|(_, runs)| runs.runs >= LEAST_RUNS);
    // Of equally many the first by name.
    let most = known().rev().max_by_key(|(_, runs)| runs.runs);
    let Some((_, most)) = most.filter(|_| known().count() > 1) else { return BTreeMap::new() };
    let speed = |runs: &ModelRuns| {
        let ahead = (most.mean() - runs.mean()) * STEPS;
        power((ahead + PARTS / 2).div_euclid(PARTS))
    };
    known().map(|(model, runs)| (model.clone(), speed(runs))).collect()
}

/// A thousand times 2 to the power of so many quarters. Only products and square roots, which are the same on every machine.
fn power(quarters: i64) -> u32 {
    let quarter = 2.0_f64.sqrt().sqrt();
    let steps = quarters.unsigned_abs().min(4 * 20);
    let power = (0..steps).fold(1.0, |power, _| power * quarter);
    let speed = if quarters < 0 { 1_000.0 / power } else { 1_000.0 * power };
    (speed.round() as u32).clamp(1, Gang::MOST_SPEED)
}

/// The logarithm to base 2 in [`PARTS`], rounded down. Only whole numbers.
fn logarithm(lasted_ms: i64) -> i64 {
    let value = lasted_ms.max(1).cast_unsigned();
    let whole = value.ilog2();
    // From 1 to 2, times 2^31.
    let mut rest = if whole > 31 { value >> (whole - 31) } else { value << (31 - whole) };
    let mut logarithm = i64::from(whole);
    for _ in 0..PARTS.ilog2() {
        rest = (rest * rest) >> 31;
        logarithm *= 2;
        if rest >= 1 << 32 {
            rest >>= 1;
            logarithm += 1;
        }
    }
    logarithm
}

impl Engine {
    /// The class of one more job, by what it asks for and what was learned of its speeds, and its likeness.
    pub(crate) fn class_of(
        &mut self,
        spec: &JobSpec,
        learned: Option<BTreeMap<String, u32>>,
    ) -> Result<(ClassId, LikenessId), Refused> {
        let Self { classes, resources, flavors, mix, estimates, .. } = self;
        let class = classes.acquire(&spec.gang, &BTreeMap::new(), resources, flavors, mix)?;
        let likeness = estimates.acquire(&spec.queue, &spec.kind, classes.get(class).gpus);
        let learned = match &learned {
            Some(learned) => Some(learned).filter(|learned| !learned.is_empty()),
            None => estimates.speeds(likeness),
        };
        let Some(learned) = learned.filter(|_| spec.gang.speeds.is_empty()) else { return Ok((class, likeness)) };
        let with_speeds = classes.acquire(&spec.gang, learned, resources, flavors, mix)?;
        if classes.release(class, mix) {
            self.groups.forget(class);
        }
        Ok((with_speeds, likeness))
    }

    /// The GPU model of a run, if its job is of a kind, has run nowhere else and does not say how fast it is.
    pub(crate) fn learns_of(&self, id: JobId) -> Option<FlavorId> {
        let Job { class, likeness, attained_ms: 0, state: State::Placed(run), .. } = self.jobs.held(id) else { return None };
        if self.estimates.kind(*likeness).is_empty() {
            return None;
        }
        let class = self.classes.get(*class);
        if !class.gang.speeds.is_empty() {
            return None;
        }
        self.model_of(class, run.cluster, &run.places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(runs: &[(&str, i64)]) -> BTreeMap<String, u32> {
        let mut models = BTreeMap::new();
        for (model, minutes) in runs {
            add(&mut models, model, minutes * 60_000);
        }
        speeds(&models)
    }

    #[test]
    fn logarithms_are_right_to_a_thousandth_of_a_doubling() {
        for value in [1, 2, 3, 1_000, 59_999, 3_600_000, i64::MAX] {
            let exact = (value as f64).log2() * PARTS as f64;
            assert!((exact - logarithm(value) as f64).abs() < 1.5, "{value}: {exact} and {}", logarithm(value));
        }
    }

    #[test]
    fn a_speed_is_the_ratio_of_what_runs_last_once_enough_have_finished_on_two_models() {
        assert_eq!(after(&[("V100", 10), ("V100", 12), ("V100", 9), ("K80", 40), ("K80", 41)]), BTreeMap::new());
        let speeds = after(&[("V100", 10), ("V100", 12), ("V100", 9), ("V100", 9), ("K80", 40), ("K80", 41), ("K80", 39)]);
        assert_eq!(speeds, BTreeMap::from([("V100".to_owned(), 1_000), ("K80".to_owned(), 250)]));
        let outlier = [("A", 10), ("A", 10), ("A", 10), ("A", 10), ("B", 5), ("B", 5), ("B", 5)];
        assert_eq!(after(&outlier)["B"], 2_000);
    }

    #[test]
    fn no_more_models_are_remembered_than_there_may_be() {
        let mut models = BTreeMap::new();
        for number in 0..100 {
            add(&mut models, &format!("model-{number:02}"), 1_000);
        }
        add(&mut models, "", 1_000);
        assert_eq!(models.len(), MOST_MODELS);
    }
}
