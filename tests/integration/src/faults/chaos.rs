//! Faults at random, one or two at once, again and again over the main job.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::Instant;

use super::round::{Breaks, Plan, Promised, Recovery, play};
use super::{Fault, Ground};
use crate::draw::Draw;

/// Faults of different kinds may come at once.
const KINDS: [fn(&Fault) -> bool; 3] = [
    |fault| matches!(fault, Fault::Service(_)),
    // What the services stand on, and a member's.
    |fault| matches!(fault, Fault::Kafka | Fault::Postgres | Fault::ApiServer | Fault::Etcd),
    // What is between them and a cluster.
    |fault| matches!(fault, Fault::Agents | Fault::Network(_) | Fault::FullDisk | Fault::Clock),
];

/// Draws faults and plays rounds until the time is over; the last one is played to its end. `say` is told of each round.
///
/// # Errors
/// The first round in which something that must hold did not; the message names the round and the seed.
pub async fn run(ground: &mut Ground, seed: u64, time: Duration, mut say: impl FnMut(usize, &Plan, &Recovery)) -> Result<usize> {
    let mut draw = begin(seed);
    let mut promised = Promised::default();
    let deadline = Instant::now() + time;
    let mut rounds = 0;
    while Instant::now() < deadline {
        rounds += 1;
        let plan = plan(&mut draw);
        let recovery = play(ground, &plan, rounds, &mut promised).await.with_context(|| format!("seed {seed}"))?;
        say(rounds, &plan, &recovery);
    }
    Ok(rounds)
}

/// A history's beginning: spread, since small seeds would begin alike.
fn begin(seed: u64) -> Draw {
    Draw(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
}

/// One fault, or two of different kinds; it begins within eight seconds and lasts up to twenty.
fn plan(draw: &mut Draw) -> Plan {
    let mut faults: Vec<Fault> = KINDS
        .iter()
        .map(|is| {
            let all: Vec<Fault> = Fault::ALL.into_iter().filter(is).collect();
            all[draw.below(all.len())]
        })
        .collect();
    faults.remove(draw.below(3));
    if draw.below(2) == 0 {
        faults.remove(draw.below(2));
    }
    let breaks = Breaks::After(Duration::from_millis(draw.below(8_000) as u64));
    Plan { faults, breaks, lasts: Duration::from_millis(1_000 + draw.below(19_000) as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_the_whole_of_a_history() {
        let plans = |seed| {
            let mut draw = begin(seed);
            (0..200).map(|_| plan(&mut draw)).collect::<Vec<_>>()
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
