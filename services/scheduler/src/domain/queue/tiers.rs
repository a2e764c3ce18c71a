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
/// The most GPUs or jobs that a tier can be made to wait for.
const MAX_WAITING: u64 = 1_000_000_000;

/// A tier as written: clusters by fleet, by name or by label.
#[derive(Clone, Debug, PartialEq)]
pub struct TierDefinition {
    /// All members of this fleet.
    pub fleet: Option<String>,
    /// These clusters, in this order, each once.
    pub clusters: Vec<String>,
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
        Some("listed") => Ok(Some(Prefers::Listed)),
        Some(other) => Err(Fault::new("spec.placement", format!("{other:?} is none of cheapest, fastest, greenest and listed"))),
    }
}

fn one_tier(path: &str, value: &Value) -> Result<TierDefinition, Fault> {
    let tier = value.as_object().ok_or_else(|| Fault::new(path, "must be an object"))?;
    known(path, tier, &["fleet", "clusters", "clusterSelector", "overflowAfter", "overflowAfterWork", "overflowAboveWaiting"])?;
    let fleet = text(&format!("{path}.fleet"), tier.get("fleet"))?;
    let named: Vec<String> = match tier.get("clusters") {
        None | Some(Value::Null) => Vec::new(),
        Some(list) => {
            serde_json::from_value(list.clone()).map_err(|_| Fault::new(format!("{path}.clusters"), "must be a list of names"))?
        }
    };
    let mut clusters: Vec<String> = Vec::with_capacity(named.len());
    let mut known_names = BTreeSet::new();
    clusters.extend(named.into_iter().filter(|name| known_names.insert(name.clone())));
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
    let above = above_waiting(&format!("{path}.overflowAboveWaiting"), tier.get("overflowAboveWaiting"))?;
    let beside = |field: &str, other: &str| Err(Fault::new(format!("{path}.{field}"), format!("can't stand beside {other}")));
    let opens = match (wait_ms, of_work, above) {
        (None, None, None) => TierOpens::WhenFull,
        (Some(wait_ms), None, None) => TierOpens::AfterWaitingMs(wait_ms),
        (None, Some(permille), None) => TierOpens::AfterWaitingForWork { permille },
        (None, None, Some(above)) => above,
        (Some(_), Some(_), _) => return beside("overflowAfterWork", "overflowAfter"),
        (Some(_), None, Some(_)) => return beside("overflowAboveWaiting", "overflowAfter"),
        (None, Some(_), Some(_)) => return beside("overflowAboveWaiting", "overflowAfterWork"),
    };
    Ok(TierDefinition { fleet, clusters, selector, opens })
}

/// How much has to wait, as in `{gpus: 64, jobs: 200}`.
fn above_waiting(path: &str, value: Option<&Value>) -> Result<Option<TierOpens>, Fault> {
    let object = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(object)) => object,
        Some(_) => return Err(Fault::new(path, "must be an object with gpus or jobs")),
    };
    known(path, object, &["gpus", "jobs"])?;
    let count = |field: &str| match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let count = value.as_u64().filter(|count| *count <= MAX_WAITING);
            let why = || Fault::new(format!("{path}.{field}"), format!("must be a whole number from 0 to {MAX_WAITING}"));
            count.map(Some).ok_or_else(why)
        }
    };
    let (gpus, jobs) = (count("gpus")?, count("jobs")?);
    if gpus.is_none() && jobs.is_none() {
        return Err(Fault::new(path, "must say how many gpus or jobs"));
    }
    // At most MAX_WAITING by the lines above.
    Ok(Some(TierOpens::WhileWaiting { gpus: gpus.map(u64::cast_signed), jobs }))
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
