//! The `rollout` block: waves in Open Cluster Management's words, a metric gate, and how traffic moves.
//!
//! Every wave is resolved: what it does not say it has from the block, and what the block does not say from the defaults.

use super::document::{self, Zero};
use super::proportion::RawProportion;
use super::{Proportion, SpecError};
use muster_core::LabelSelector;
use serde::Deserialize;
use std::time::Duration;

/// Ten minutes to become healthy, as Kubernetes gives a Deployment (`progressDeadlineSeconds`).
const PROGRESS_DEADLINE: Duration = Duration::from_secs(600);
/// How long the previous copy outlives a release that is complete everywhere, so that a late regret is a change of weights.
const KEEP_STABLE_FOR: Duration = Duration::from_secs(300);
/// A gate measures this often unless it says otherwise.
const GATE_INTERVAL: Duration = Duration::from_secs(30);
/// A gate wants this many good measurements unless it says otherwise.
const GATE_COUNT: u32 = 3;
/// Waves of one rollout, at most.
const MAX_WAVES: usize = 64;
/// Weights of one wave, at most.
const MAX_WEIGHTS: usize = 32;

/// How an application's releases roll.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutSpec {
    /// In order; never empty. A target that no wave names goes with a last wave of its own.
    pub waves: Vec<WaveSpec>,
    /// A workload whose traffic is managed although git's routes do not ask for it.
    pub traffic: Option<TrafficSpec>,
    /// How long the previous copy stays after the release is complete everywhere.
    pub keep_stable_for: Duration,
}

/// One wave, with every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct WaveSpec {
    /// Which targets it takes.
    pub selector: WaveSelector,
    /// Shares of the traffic in percent, ascending, the last one 100; empty where the wave says nothing.
    pub weights: Vec<u8>,
    /// Targets in flight at once.
    pub max_concurrency: Proportion,
    /// Failed targets that do not fail the wave.
    pub max_failures: Proportion,
    /// Targets that must be done before the wave can pass while others are offline.
    pub quorum: Proportion,
    /// How long every target must stay healthy before the next step.
    pub min_success_time: Duration,
    /// How long a target may take to become healthy.
    pub progress_deadline: Duration,
    /// What the metrics must say before the next step.
    pub gate: Option<GateSpec>,
}

/// Which targets a wave takes.
#[derive(Debug, Clone, PartialEq)]
pub enum WaveSelector {
    /// Every target.
    All,
    /// The targets in this fleet.
    Fleet(String),
    /// The targets of these names.
    Clusters(Vec<String>),
    /// The targets whose cluster has these labels.
    Labels(LabelSelector),
}

/// A PromQL question and the answers that let a wave pass.
#[derive(Debug, Clone, PartialEq)]
pub struct GateSpec {
    /// PromQL with `{{version}}`, `{{revision}}`, `{{cluster}}` and `{{application}}`.
    pub query: String,
    /// The least value that passes.
    pub min: Option<f64>,
    /// The greatest value that passes.
    pub max: Option<f64>,
    /// Between two measurements.
    pub interval: Duration,
    /// Passing measurements needed.
    pub count: u32,
}

/// A workload whose traffic is managed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficSpec {
    /// `Deployment`; anything else is refused when the bundle is composed.
    pub kind: String,
    /// The workload's name in git.
    pub workload: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawRollout {
    #[serde(default)]
    waves: Vec<RawWave>,
    weights: Option<Vec<i64>>,
    max_concurrency: Option<RawProportion>,
    max_failures: Option<RawProportion>,
    quorum: Option<RawProportion>,
    min_success_time: Option<String>,
    progress_deadline: Option<String>,
    gate: Option<RawGate>,
    traffic: Option<RawTraffic>,
    keep_stable_for: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawWave {
    fleet: Option<String>,
    clusters: Option<Vec<String>>,
    selector: Option<LabelSelector>,
    weights: Option<Vec<i64>>,
    max_concurrency: Option<RawProportion>,
    max_failures: Option<RawProportion>,
    quorum: Option<RawProportion>,
    min_success_time: Option<String>,
    progress_deadline: Option<String>,
    gate: Option<RawGate>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawGate {
    query: String,
    min: Option<f64>,
    max: Option<f64>,
    interval: Option<String>,
    count: Option<i64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawTraffic {
    kind: Option<String>,
    workload: String,
}

impl RolloutSpec {
    /// The rollout of an application that has no `rollout` block: one wave, no gate, ten minutes, turned back.
    pub fn default_rollout() -> Self {
        RawRollout::default().check().expect("the defaults are valid")
    }
}

impl RawRollout {
    /// The block with its defaults, or the first field that is wrong.
    pub(super) fn check(self) -> Result<RolloutSpec, SpecError> {
        let at = "spec.rollout";
        if self.waves.len() > MAX_WAVES {
            return Err(SpecError::new(format!("{at}.waves"), format!("has more than {MAX_WAVES} waves")));
        }
        let fallback = RawWave {
            fleet: None,
            clusters: None,
            selector: None,
            weights: self.weights,
            max_concurrency: self.max_concurrency,
            max_failures: self.max_failures,
            quorum: self.quorum,
            min_success_time: self.min_success_time,
            progress_deadline: self.progress_deadline,
            gate: self.gate,
        };
        let everyone = fallback.clone().check(at, &RawWave::default(), WaveSelector::All)?;
        let mut waves = Vec::new();
        for (index, wave) in self.waves.into_iter().enumerate() {
            let field = format!("{at}.waves[{index}]");
            let selector = wave.selector(&field)?;
            waves.push(wave.check(&field, &fallback, selector)?);
        }
        if waves.last().is_none_or(|wave| wave.selector != WaveSelector::All) {
            waves.push(everyone);
        }
        let traffic = self.traffic.map(|traffic| traffic.check(&format!("{at}.traffic"))).transpose()?;
        let keep_stable_for = match self.keep_stable_for {
            Some(text) => document::duration(&format!("{at}.keepStableFor"), &text, Zero::Allowed)?,
            None => KEEP_STABLE_FOR,
        };
        Ok(RolloutSpec { waves, traffic, keep_stable_for })
    }
}

impl RawWave {
    fn selector(&self, at: &str) -> Result<WaveSelector, SpecError> {
        match (&self.fleet, &self.clusters, &self.selector) {
            (Some(fleet), None, None) => {
                document::check_name(&format!("{at}.fleet"), fleet)?;
                Ok(WaveSelector::Fleet(fleet.clone()))
            }
            (None, Some(clusters), None) => {
                if clusters.is_empty() {
                    return Err(SpecError::new(format!("{at}.clusters"), "must name at least one cluster"));
                }
                for (index, cluster) in clusters.iter().enumerate() {
                    document::check_name(&format!("{at}.clusters[{index}]"), cluster)?;
                }
                Ok(WaveSelector::Clusters(clusters.clone()))
            }
            (None, None, Some(selector)) => {
                selector.validate().map_err(|error| SpecError::new(format!("{at}.selector"), error.to_string()))?;
                Ok(WaveSelector::Labels(selector.clone()))
            }
            (None, None, None) => Err(SpecError::new(at, "must have one of fleet, clusters and selector")),
            (_, _, _) => Err(SpecError::new(at, "may have only one of fleet, clusters and selector")),
        }
    }

    fn check(self, at: &str, fallback: &Self, selector: WaveSelector) -> Result<WaveSpec, SpecError> {
        let proportion = |name: &str, own: Option<RawProportion>, other: &Option<RawProportion>, default| {
            own.or_else(|| other.clone()).map_or(Ok(default), |raw| raw.check(&format!("{at}.{name}")))
        };
        let time = |name: &str, own: Option<String>, other: &Option<String>, default, zero| {
            own.or_else(|| other.clone()).map_or(Ok(default), |text| document::duration(&format!("{at}.{name}"), &text, zero))
        };
        let max_concurrency =
            proportion("maxConcurrency", self.max_concurrency, &fallback.max_concurrency, Proportion::Percent(100))?;
        if matches!(max_concurrency, Proportion::Count(0) | Proportion::Percent(0)) {
            return Err(SpecError::new(format!("{at}.maxConcurrency"), "must be at least 1"));
        }
        let gate = self.gate.or_else(|| fallback.gate.clone());
        Ok(WaveSpec {
            selector,
            weights: weights(&format!("{at}.weights"), self.weights.or_else(|| fallback.weights.clone()))?,
            max_concurrency,
            max_failures: proportion("maxFailures", self.max_failures, &fallback.max_failures, Proportion::Count(0))?,
            quorum: proportion("quorum", self.quorum, &fallback.quorum, Proportion::Count(1))?,
            min_success_time: time(
                "minSuccessTime",
                self.min_success_time,
                &fallback.min_success_time,
                Duration::ZERO,
                Zero::Allowed,
            )?,
            progress_deadline: time(
                "progressDeadline",
                self.progress_deadline,
                &fallback.progress_deadline,
                PROGRESS_DEADLINE,
                Zero::Refused,
            )?,
            gate: gate.map(|gate| gate.check(&format!("{at}.gate"))).transpose()?,
        })
    }
}

/// Ascending shares in 1..=100; 100 is added where the list stops before it, as a release ends with all of the traffic.
fn weights(field: &str, raw: Option<Vec<i64>>) -> Result<Vec<u8>, SpecError> {
    let Some(raw) = raw else { return Ok(Vec::new()) };
    if raw.is_empty() || raw.len() > MAX_WEIGHTS {
        return Err(SpecError::new(field, format!("must have 1 to {MAX_WEIGHTS} weights")));
    }
    let mut weights: Vec<u8> = Vec::new();
    for (index, weight) in raw.into_iter().enumerate() {
        let weight = u8::try_from(weight).ok().filter(|weight| (1..=100).contains(weight)).ok_or_else(|| {
            SpecError::new(format!("{field}[{index}]"), format!("{weight} is not a share of the traffic in 1 to 100"))
        })?;
        if weights.last().is_some_and(|last| *last >= weight) {
            return Err(SpecError::new(format!("{field}[{index}]"), "must be greater than the one before it"));
        }
        weights.push(weight);
    }
    if weights.last() != Some(&100) {
        weights.push(100);
    }
    Ok(weights)
}

impl RawGate {
    fn check(self, at: &str) -> Result<GateSpec, SpecError> {
        if self.query.trim().is_empty() || self.query.len() > 8_192 {
            return Err(SpecError::new(format!("{at}.query"), "must be PromQL of 1 to 8192 bytes"));
        }
        let number = |name: &str, value: Option<f64>| match value {
            Some(value) if !value.is_finite() => Err(SpecError::new(format!("{at}.{name}"), "must be a finite number")),
            value => Ok(value),
        };
        let (min, max) = (number("min", self.min)?, number("max", self.max)?);
        match (min, max) {
            (None, None) => return Err(SpecError::new(at, "must have min, max or both")),
            (Some(min), Some(max)) if min > max => {
                return Err(SpecError::new(format!("{at}.min"), "is greater than max"));
            }
            (_, _) => {}
        }
        let count = match self.count {
            None => GATE_COUNT,
            Some(count) => u32::try_from(count)
                .ok()
                .filter(|count| (1..=1_000).contains(count))
                .ok_or_else(|| SpecError::new(format!("{at}.count"), format!("{count} is not in 1 to 1000")))?,
        };
        let interval = match self.interval {
            None => GATE_INTERVAL,
            Some(text) => document::duration(&format!("{at}.interval"), &text, Zero::Refused)?,
        };
        Ok(GateSpec { query: self.query, min, max, interval, count })
    }
}

impl RawTraffic {
    fn check(self, at: &str) -> Result<TrafficSpec, SpecError> {
        let kind = self.kind.unwrap_or_else(|| "Deployment".to_owned());
        if kind != "Deployment" {
            return Err(SpecError::new(
                format!("{at}.kind"),
                format!("{kind} cannot be a traffic workload: two versions side by side need a Deployment"),
            ));
        }
        document::check_name(&format!("{at}.workload"), &self.workload)?;
        Ok(TrafficSpec { kind, workload: self.workload })
    }
}
