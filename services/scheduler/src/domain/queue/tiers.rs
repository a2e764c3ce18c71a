//! Tiers: which clusters a queue's jobs may use, in order of preference, and when the next ones open.

use std::collections::BTreeSet;

use muster_core::selector::LabelSelector;
use muster_scheduler_engine::{Prefers, TierOpens};
use serde_json::Value;

use super::fields::{known, span, text};
use crate::domain::Fault;

/// At most this many tiers.
const MAX_TIERS: usize = 16;
/// The largest multiple of its own work that a job may be made to wait for.
const MAX_TIMES: f64 = 1_000.0;

/// A tier as written: clusters by fleet, by name or by label.
#[derive(Clone, Debug, PartialEq)]
pub struct TierDefinition {
    /// All members of this fleet.
    pub fleet: Option<String>,
    /// These clusters.
    pub clusters: BTreeSet<String>,
    /// Clusters with these labels.
    pub selector: Option<LabelSelector>,
    /// When a job may use it, once the tiers before it are full.
    pub opens: TierOpens,
}

/// Reads `spec.tiers`.
pub(super) fn tiers(value: Option<&Value>) -> Result<Vec<TierDefinition>, Fault> {
    let list = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(Fault::new("spec.tiers", "must be a list")),
    };
    if list.len() > MAX_TIERS {
        return Err(Fault::new("spec.tiers", format!("{} tiers, at most {MAX_TIERS} are allowed", list.len())));
    }
    list.iter().enumerate().map(|(index, tier)| one_tier(&format!("spec.tiers[{index}]"), tier)).collect()
}

/// Reads `spec.placement`.
pub(super) fn prefers(value: Option<&Value>) -> Result<Option<Prefers>, Fault> {
    match text("spec.placement", value)?.as_deref() {
        None => Ok(None),
        Some("cheapest") => Ok(Some(Prefers::Cheapest)),
        Some("fastest") => Ok(Some(Prefers::Fastest)),
        Some("greenest") => Ok(Some(Prefers::Greenest)),
        Some(other) => Err(Fault::new("spec.placement", format!("{other:?} is none of cheapest, fastest and greenest"))),
    }
}

fn one_tier(path: &str, value: &Value) -> Result<TierDefinition, Fault> {
    let tier = value.as_object().ok_or_else(|| Fault::new(path, "must be an object"))?;
    known(path, tier, &["fleet", "clusters", "clusterSelector", "overflowAfter", "overflowAfterWork"])?;
    let fleet = text(&format!("{path}.fleet"), tier.get("fleet"))?;
    let clusters: BTreeSet<String> = match tier.get("clusters") {
        None | Some(Value::Null) => BTreeSet::new(),
        Some(list) => {
            serde_json::from_value(list.clone()).map_err(|_| Fault::new(format!("{path}.clusters"), "must be a list of names"))?
        }
    };
    let selector_path = format!("{path}.clusterSelector");
    let selector: Option<LabelSelector> = match tier.get("clusterSelector") {
        None | Some(Value::Null) => None,
        Some(value) => {
            Some(serde_json::from_value(value.clone()).map_err(|error| Fault::new(&selector_path, error.to_string()))?)
        }
    };
    if let Some(selector) = &selector {
        selector.validate().map_err(|error| Fault::new(&selector_path, error.to_string()))?;
    }
    if fleet.is_none() && clusters.is_empty() && selector.is_none() {
        return Err(Fault::new(path, "must name a fleet, clusters or a clusterSelector"));
    }
    let wait_ms = span(&format!("{path}.overflowAfter"), tier.get("overflowAfter"))?;
    let of_work = permille(&format!("{path}.overflowAfterWork"), tier.get("overflowAfterWork"))?;
    let opens = match (wait_ms, of_work) {
        (None, None) => TierOpens::WhenFull,
        (Some(wait_ms), None) => TierOpens::AfterWaitingMs(wait_ms),
        (None, Some(permille)) => TierOpens::AfterWaitingForWork { permille },
        (Some(_), Some(_)) => return Err(Fault::new(format!("{path}.overflowAfterWork"), "can't stand beside overflowAfter")),
    };
    Ok(TierDefinition { fleet, clusters, selector, opens })
}

/// A multiple such as `0.5`, in thousandths.
fn permille(path: &str, value: Option<&Value>) -> Result<Option<u32>, Fault> {
    let times = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value.as_f64().filter(|times| (0.0..=MAX_TIMES).contains(times)),
    };
    // At most 1,000,000 by the line above.
    let permille = times.map(|times| (times * 1_000.0).round() as u32);
    match permille.zip(times) {
        Some((permille, times)) if (f64::from(permille) / 1_000.0 - times).abs() < 1e-9 => Ok(Some(permille)),
        _ => Err(Fault::new(path, format!("must be a number from 0 to {MAX_TIMES} with no more than three decimals"))),
    }
}
