//! Invariants of releases under thousands of seeded histories of agents that come, go, fail and heal.

use super::tests::{World, wave};
use super::*;
use crate::domain::spec::{GateSpec, Proportion};
use std::time::Duration;

/// A small generator (xorshift64*, Vigna 2016), so that a failing seed is the whole reproduction.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit
    }
}

const NAMES: [&str; 9] = ["a1", "a2", "b1", "b2", "b3", "c1", "c2", "c3", "c4"];

fn world(random: &mut Random) -> World {
    let mut waves = vec![wave(&NAMES[..2]), wave(&NAMES[2..5]), wave(&NAMES[5..])];
    for wave in &mut waves {
        wave.max_concurrency = [Proportion::Count(1), Proportion::Percent(50), Proportion::Count(3)][random.below(3)];
        wave.max_failures = [Proportion::Count(0), Proportion::Percent(50)][random.below(2)];
        wave.min_success_time = Duration::from_secs([0, 60][random.below(2)]);
        wave.gate =
            [None, Some(GateSpec { query: "q".into(), min: Some(0.9), max: None, interval: Duration::from_secs(30), count: 2 })]
                [random.below(2)]
            .clone();
    }
    let mut world = World::new(waves);
    world.view.release.fast_concurrency = [1, 2, 100][random.below(3)];
    let first_deployment = random.below(4) == 0;
    for target in &mut world.view.targets {
        target.has_last_good = !first_deployment;
        target.weights = [vec![], vec![10, 100], vec![100]][random.below(3)].clone();
        target.two_copies = target.weights.len() > 1;
        target.unchanged = random.below(8) == 0;
    }
    world
}

/// What must hold of the changes of one settling, given the state they were made from.
fn check(before: &View, changes: &[Change], now: jiff::Timestamp, seed: u64) {
    let mut view = before.clone();
    for change in changes {
        if let Change::Start { cluster, .. } = change {
            let target = view.targets.iter().find(|target| target.cluster == *cluster).unwrap();
            let wave = target.wave;
            let limit = view.release.waves[wave].max_concurrency.of_rounded_up(view.members(wave).count()).max(1);
            let in_flight = view.members(wave).filter(|target| target.in_flight()).count();
            assert!(in_flight < limit, "seed {seed}: {cluster} starts with {in_flight} of {limit} in flight");
            assert!(view.here(cluster), "seed {seed}: {cluster} is away and is told");
            assert!(!target.unchanged, "seed {seed}: {cluster} runs it already");
            let done_at = |earlier: &Target| {
                earlier.unchanged
                    || earlier.has_failed()
                    || !view.here(&earlier.cluster)
                    || earlier.phase == TargetPhase::Healthy
                    || view.release.state.is_final()
                    // A straggler that returned after its wave had passed catches up beside the later ones.
                    || earlier.wave < view.release.wave
            };
            assert!(
                view.targets.iter().filter(|earlier| earlier.wave < wave).all(done_at),
                "seed {seed}: wave {wave} starts before the one before it is done"
            );
        }
        if matches!(change, Change::NextStep | Change::NextWave | Change::Complete) && !view.release.promoted {
            let wave = view.release.wave;
            if let Some(gate) = &view.release.waves[wave].gate
                && view.members(wave).any(|target| !target.unchanged)
            {
                let passes = view
                    .measurements
                    .iter()
                    .filter(|one| (one.wave, one.step) == (wave, view.release.step) && one.verdict == Verdict::Pass)
                    .count();
                assert!(passes >= gate.count as usize, "seed {seed}: a gate passed with {passes} measurements");
            }
        }
        view.apply(change, now);
        if view.release.state == ReleaseState::RollingBack && matches!(change, Change::TurnBack { .. }) {
            let going = view.targets.iter().filter(|target| target.phase == TargetPhase::RollingBack && !target.away).count();
            let limit = view.release.fast_concurrency.max(single_failures(before));
            assert!(going <= limit, "seed {seed}: {going} of {limit} go back at once");
        }
        if view.release.state == ReleaseState::Failed {
            assert!(
                view.targets.iter().all(|target| target.phase != TargetPhase::AwaitingRollback),
                "seed {seed}: a failed release has told all that it touched"
            );
        }
        if matches!(change, Change::Fail { .. }) {
            for target in &view.targets {
                let back =
                    matches!(target.phase, TargetPhase::AwaitingRollback | TargetPhase::RollingBack | TargetPhase::RolledBack);
                assert!(!target.touched || !target.has_last_good || back, "seed {seed}: {} stays", target.cluster);
            }
        }
    }
    if view.release.state != ReleaseState::Completed {
        assert!(view.targets.iter().all(|target| target.settled_at.is_none()), "seed {seed}: last good moved early");
    }
}

/// Targets that go back because they alone failed: the waves bound them.
fn single_failures(view: &View) -> usize {
    view.targets.iter().filter(|target| target.phase == TargetPhase::RollingBack && !target.away).count()
}

#[test]
fn the_invariants_hold_in_every_history() {
    let mut ends = std::collections::BTreeMap::<String, usize>::new();
    for seed in 1..=800_u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut world = world(&mut random);
        let temper = random.below(4);
        for _ in 0..120 {
            let before = world.view.clone();
            let cluster = NAMES[random.below(NAMES.len())];
            let mut before_with_input = before;
            match random.below(10) {
                0..=5 => {
                    let phase = match random.below(20) {
                        0 if temper == 0 => ObservedPhase::Refused,
                        1 | 2 if temper <= 1 => ObservedPhase::Unhealthy,
                        3 => ObservedPhase::Underway,
                        _ => ObservedPhase::Healthy,
                    };
                    if let Some(generation) = world.target(cluster).generation {
                        let observation = Observation { generation, phase, reason: String::new() };
                        world.view.observations.insert(cluster.into(), observation);
                    }
                }
                6 => {
                    let availability = [Availability::Here, Availability::Away("offline".into())][random.below(2)].clone();
                    world.view.availability.insert(cluster.into(), availability);
                }
                7 if matches!(world.last, Outcome::Wait { measure: true, .. }) => {
                    let verdict = match random.below(12) {
                        0 if temper <= 1 => Verdict::Fail,
                        1 | 2 => Verdict::Inconclusive,
                        _ => Verdict::Pass,
                    };
                    world.view.measurements.push(Measurement {
                        wave: world.view.release.wave,
                        step: world.view.release.step,
                        at: world.now,
                        verdict,
                        reason: String::new(),
                    });
                }
                _ => world.now += jiff::SignedDuration::from_secs(random.below(90) as i64),
            }
            before_with_input.observations.clone_from(&world.view.observations);
            before_with_input.availability.clone_from(&world.view.availability);
            before_with_input.measurements.clone_from(&world.view.measurements);
            let changes = world.settle();
            check(&before_with_input, &changes, world.now, seed);
        }
        *ends.entry(format!("{:?}", world.view.release.state)).or_default() += 1;
    }
    for state in ["Completed", "Failed", "Progressing"] {
        assert!(ends.get(state).is_some_and(|count| *count > 15), "the histories reach every end: {ends:?}");
    }
}
