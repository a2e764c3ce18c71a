//! The `ramp` block of a `FleetPolicy`: the waves in which a fleet's clusters go from audit to enforce.

use crate::domain::DocumentError;
use muster_core::{LabelSelector, duration, name};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Waves of one ramp, at most.
const MAX_WAVES: usize = 64;
/// Longest soak.
const MAX_SOAK: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How long a wave must stay without new violations, unless the block says otherwise: a working day's workloads come and go.
const SOAK: Duration = Duration::from_secs(24 * 3_600);

/// How a binding's policies go from audit to enforce.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RampSpec {
    /// In order; the last takes whoever is left.
    pub waves: Vec<RampWave>,
    /// How long everything is audited before the first wave.
    pub audit_soak: Duration,
    /// Violations that may be added in a wave, over all clusters and policies, without stopping the ramp.
    pub max_new_violations: u32,
}

/// One wave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RampWave {
    /// Which clusters it takes, of those that no earlier wave took.
    pub selector: WaveSelector,
    /// How long it must stay without new violations before the next.
    pub soak: Duration,
}

/// Which clusters a wave takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum WaveSelector {
    /// All that are left.
    All,
    /// The members of this fleet.
    Fleet(String),
    /// The clusters of these names.
    Clusters(Vec<String>),
    /// The clusters with these labels.
    Labels(LabelSelector),
    /// So many, in name order, that this share of the fleet enforces: 1 to 100.
    Percent(u8),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct WrittenRamp {
    #[serde(default)]
    waves: Vec<WrittenWave>,
    soak: Option<String>,
    #[serde(default)]
    max_new_violations: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WrittenWave {
    fleet: Option<String>,
    clusters: Option<Vec<String>>,
    selector: Option<LabelSelector>,
    percent: Option<u8>,
    soak: Option<String>,
}

impl WrittenRamp {
    /// The block with its defaults, or the first field that is wrong; `field` is where it stands.
    pub fn checked(self, field: &str) -> Result<RampSpec, DocumentError> {
        if self.waves.len() > MAX_WAVES {
            return Err(DocumentError::new(format!("{field}.waves"), format!("must hold at most {MAX_WAVES} waves")));
        }
        let audit_soak = self.soak.map_or(Ok(SOAK), |text| soak(&format!("{field}.soak"), &text))?;
        let mut waves = Vec::with_capacity(self.waves.len() + 1);
        for (index, wave) in self.waves.into_iter().enumerate() {
            waves.push(wave.checked(&format!("{field}.waves[{index}]"), audit_soak)?);
        }
        waves.push(RampWave { selector: WaveSelector::All, soak: audit_soak });
        Ok(RampSpec { waves, audit_soak, max_new_violations: self.max_new_violations })
    }
}

impl WrittenWave {
    fn checked(self, field: &str, fallback: Duration) -> Result<RampWave, DocumentError> {
        let at = |name: &str| format!("{field}.{name}");
        let id = |name: String, id: &str| name::check_id(id).map_err(|error| DocumentError::new(name, error.to_string()));
        let selector = match (self.fleet, self.clusters, self.selector, self.percent) {
            (Some(fleet), None, None, None) => {
                id(at("fleet"), &fleet)?;
                WaveSelector::Fleet(fleet)
            }
            (None, Some(clusters), None, None) => {
                if clusters.is_empty() {
                    return Err(DocumentError::new(at("clusters"), "must name at least one cluster"));
                }
                for (index, cluster) in clusters.iter().enumerate() {
                    id(at(&format!("clusters[{index}]")), cluster)?;
                }
                WaveSelector::Clusters(clusters)
            }
            (None, None, Some(selector), None) => {
                selector.validate().map_err(|error| DocumentError::new(at("selector"), error.to_string()))?;
                WaveSelector::Labels(selector)
            }
            (None, None, None, Some(percent @ 1..=100)) => WaveSelector::Percent(percent),
            (None, None, None, Some(_)) => return Err(DocumentError::new(at("percent"), "must be 1 to 100")),
            _ => return Err(DocumentError::new(field, "must have one of fleet, clusters, selector and percent")),
        };
        let soak = self.soak.map_or(Ok(fallback), |text| soak(&at("soak"), &text))?;
        Ok(RampWave { selector, soak })
    }
}

fn soak(field: &str, text: &str) -> Result<Duration, DocumentError> {
    let soak = duration::parse(text).map_err(|error| DocumentError::new(field, error.to_string()))?;
    if soak > MAX_SOAK {
        return Err(DocumentError::new(field, format!("{text} is longer than 30 days")));
    }
    Ok(soak)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RampSpec, DocumentError> {
        serde_json::from_str::<WrittenRamp>(text).expect("a ramp").checked("spec.ramp")
    }

    #[test]
    fn waves_have_the_blocks_soak_or_their_own_and_the_last_takes_whoever_is_left() {
        let ramp = parse(r#"{"soak": "1h", "waves": [{"fleet": "canary", "soak": "0s"}, {"percent": 50}]}"#).expect("a ramp");
        let waves: Vec<(&WaveSelector, u64)> = ramp.waves.iter().map(|wave| (&wave.selector, wave.soak.as_secs())).collect();
        let canary = WaveSelector::Fleet("canary".to_owned());
        assert_eq!(waves, [(&canary, 0), (&WaveSelector::Percent(50), 3_600), (&WaveSelector::All, 3_600)]);
        assert_eq!((ramp.audit_soak.as_secs(), ramp.max_new_violations), (3_600, 0));
        assert_eq!(parse("{}").expect("a ramp").waves.len(), 1);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_field() {
        for (text, field) in [
            (r#"{"soak": "soon"}"#, "spec.ramp.soak"),
            (r#"{"soak": "800h"}"#, "spec.ramp.soak"),
            (r#"{"waves": [{}]}"#, "spec.ramp.waves[0]"),
            (r#"{"waves": [{"fleet": "a", "percent": 5}]}"#, "spec.ramp.waves[0]"),
            (r#"{"waves": [{"percent": 0}]}"#, "spec.ramp.waves[0].percent"),
            (r#"{"waves": [{"clusters": []}]}"#, "spec.ramp.waves[0].clusters"),
            (r#"{"waves": [{"clusters": ["a", "B"]}]}"#, "spec.ramp.waves[0].clusters[1]"),
            (r#"{"waves": [{"fleet": "a", "soak": "-1h"}]}"#, "spec.ramp.waves[0].soak"),
        ] {
            assert_eq!(parse(text).expect_err("refused").field, field, "{text}");
        }
    }
}
