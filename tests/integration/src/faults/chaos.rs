//! Faults at random, one or two at once, again and again over the main job.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::Instant;

use super::round::{Breaks, Plan, Promised, Recovery, play};
use super::{Fault, Ground};
use crate::platform::Service;
use crate::proxy::Weather;

/// What the services are.
const SERVICES: [Fault; 4] = [
    Fault::Service(Service::Registry),
    Fault::Service(Service::Scheduler),
    Fault::Service(Service::Rollout),
    Fault::Service(Service::Policy),
];
/// What they stand on.
const PARTS: [Fault; 4] = [Fault::Kafka, Fault::Postgres, Fault::ApiServer, Fault::Etcd];
/// What is between them and a cluster.
const MEMBERS: [Fault; 7] = [
    Fault::Agents,
    Fault::Network(Weather::Cut),
    Fault::Network(Weather::Slow(Duration::from_millis(500))),
    Fault::Network(Weather::Lossy(5)),
    Fault::Network(Weather::HalfOpen),
    Fault::FullDisk,
    Fault::Clock,
];

/// Draws faults and plays rounds until the time is over; the last one is played to its end. `say` is told of each round.
///
/// # Errors
/// The first round in which something that must hold did not; the message names the round and the seed.
pub async fn run(ground: &mut Ground, seed: u64, time: Duration, mut say: impl FnMut(usize, &Plan, &Recovery)) -> Result<usize> {
    let mut draw = Draw::new(seed);
    let mut promised = Promised::default();
    let deadline = Instant::now() + time;
    let mut rounds = 0;
    while Instant::now() < deadline {
        rounds += 1;
        let plan = draw.plan();
        let recovery = play(ground, &plan, rounds, &mut promised).await.with_context(|| format!("seed {seed}"))?;
        say(rounds, &plan, &recovery);
    }
    Ok(rounds)
}

/// Seeded choices (xorshift, Marsaglia 2003).
struct Draw(u64);

impl Draw {
    fn new(seed: u64) -> Self {
        // Spread, since small seeds would begin alike, and never 0, which the generator does not leave.
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % limit
    }

    fn of(&mut self, faults: &[Fault]) -> Fault {
        faults[self.below(faults.len())]
    }

    /// One fault, or two of different kinds; it begins within eight seconds and lasts up to twenty.
    fn plan(&mut self) -> Plan {
        let mut faults = [self.of(&SERVICES), self.of(&PARTS), self.of(&MEMBERS)].to_vec();
        faults.remove(self.below(3));
        if self.below(2) == 0 {
            faults.remove(self.below(2));
        }
        let breaks = Breaks::After(Duration::from_millis(self.below(8_000) as u64));
        Plan { faults, breaks, lasts: Duration::from_millis(1_000 + self.below(19_000) as u64) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_the_whole_of_a_history() {
        let plans = |seed| {
            let mut draw = Draw::new(seed);
            (0..200).map(|_| draw.plan()).collect::<Vec<_>>()
        };
        let told = |plans: &[Plan]| format!("{plans:?}");
        assert_eq!(told(&plans(7)), told(&plans(7)));
        assert_ne!(told(&plans(7)), told(&plans(8)));
        let drawn = plans(7);
        for fault in Fault::ALL {
            assert!(drawn.iter().any(|plan| plan.faults.contains(&fault)), "{fault} never comes");
        }
        assert!(drawn.iter().all(|plan| (1..=2).contains(&plan.faults.len())));
    }
}
