//! Which weights may be written: never one above 0 for a destination without ready pods, and always the same total.
//!
//! The one thing to know: this is a function of what is wanted, what is live and which pods are ready, so that it holds
//! after a restart and with the hub away just as it does on the first write. A weight that may not be written yet stays
//! with the destinations that can take requests; where there is none, the live route stays as it is.

mod split;
mod subsets;
mod world;

pub use split::{Destination, destinations, is_route};
pub use subsets::admit_rule;
pub use world::{Readiness, World};

use serde_json::Value;
use split::{Share, splits, write_weight};

/// What may be written of a route now.
#[derive(Debug, Clone, PartialEq)]
pub enum Admission {
    /// The manifest as it may be written; where `withheld` is not empty it differs from what is wanted.
    Write {
        /// With the weights that may be written.
        manifest: Value,
        /// What was withheld and why, for people.
        withheld: Vec<String>,
    },
    /// Nothing may be written: no destination can take requests. The live route stays, or none is made.
    Wait {
        /// What is waited for, for people.
        withheld: Vec<String>,
    },
}

/// Decides what may be written of `wanted`, with `live` as it stands in the cluster.
pub fn admit(wanted: &Value, live: Option<&Value>, world: &World) -> Admission {
    let mut manifest = wanted.clone();
    let mut withheld = Vec::new();
    let live_splits = live.map(splits).unwrap_or_default();
    for split in splits(wanted) {
        let live_shares = live_splits.iter().find(|live| live.pointer == split.pointer).map(|live| live.shares.as_slice());
        let live_weight = |destination: &Destination| {
            live_shares.into_iter().flatten().filter(|share| share.destination == *destination).map(|share| share.weight).sum()
        };
        let held: Vec<bool> = split.shares.iter().map(|share| !may_have(share, live_weight(&share.destination), world)).collect();
        if !held.contains(&true) {
            continue;
        }
        for (share, _) in split.shares.iter().zip(&held).filter(|(_, held)| **held) {
            withheld.push(format!("weight {} of {} is withheld: no ready pods at full size", share.weight, share.destination));
        }
        let receivers: Vec<usize> = (0..split.shares.len())
            .filter(|index| !held[*index] && world.readiness(&split.shares[*index].destination) != Readiness::None)
            .collect();
        if receivers.is_empty() {
            return Admission::Wait { withheld };
        }
        let total: u32 = split.shares.iter().map(|share| share.weight).sum();
        let by_wanted: Vec<u32> = receivers.iter().map(|index| split.shares[*index].weight).collect();
        let by_live: Vec<u32> = receivers.iter().map(|index| live_weight(&split.shares[*index].destination)).collect();
        let basis = if by_wanted.iter().any(|weight| *weight > 0) { by_wanted } else { by_live };
        let shared = share_out(total, &basis);
        for index in 0..split.shares.len() {
            let weight = receivers.iter().position(|receiver| *receiver == index).map_or(0, |position| shared[position]);
            write_weight(&mut manifest, &split, index, weight);
        }
    }
    Admission::Write { manifest, withheld }
}

/// Destinations that should have traffic by `route` and have no ready pods, for people.
pub fn starved(route: &Value, world: &World) -> Vec<String> {
    let mut found: Vec<String> = splits(route)
        .into_iter()
        .flat_map(|split| split.shares)
        .filter(|share| share.weight > 0 && world.readiness(&share.destination) == Readiness::None)
        .map(|share| format!("{} has weight {} and no ready pods", share.destination, share.weight))
        .collect();
    found.dedup();
    found
}

/// More weight than it has now needs full size; keeping or losing weight needs one ready pod.
fn may_have(share: &Share, live_weight: u32, world: &World) -> bool {
    match world.readiness(&share.destination) {
        Readiness::Foreign | Readiness::Full => true,
        Readiness::Some => share.weight <= live_weight,
        Readiness::None => share.weight == 0,
    }
}

/// Shares `total` out by `basis`; what rounding leaves goes to the largest. All zero: the first takes all.
fn share_out(total: u32, basis: &[u32]) -> Vec<u32> {
    let sum: u64 = basis.iter().map(|weight| u64::from(*weight)).sum();
    let mut shares: Vec<u32> = match sum {
        0 => vec![0; basis.len()],
        sum => basis.iter().map(|weight| u32::try_from(u64::from(total) * u64::from(*weight) / sum).unwrap_or(total)).collect(),
    };
    let rest = total - shares.iter().sum::<u32>();
    let largest = (0..basis.len()).rev().max_by_key(|index| basis[*index]).unwrap_or(0);
    if let Some(share) = shares.get_mut(largest) {
        *share += rest;
    }
    shares
}

#[cfg(test)]
mod tests;
