//! What the scheduler keeps of a cluster, and the cluster as the engine sees it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use muster_core::selector::Labels;
use muster_core::{Quantity, labels};
use muster_scheduler_engine::{Amounts, BoundNode, ClusterSpec, ClusterState, NodeSpec, Slot};
use serde::{Deserialize, Serialize};

use super::queue::base_units;

/// The projection of one cluster of the registry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterFacts {
    /// Its identifier.
    pub name: String,
    /// What tiers select by.
    pub labels: Labels,
    /// Where it stands.
    pub region: String,
    /// Whether queues without tiers may use it.
    pub takes_jobs: bool,
    /// Whether anything new may go there.
    pub standing: Standing,
    /// Fleets it is a member of, by identifier.
    pub fleets: BTreeSet<String>,
    /// Group versions it serves (`batch/v1`); empty while unknown.
    pub apis: BTreeSet<String>,
    /// Its nodes.
    pub nodes: Vec<NodeFacts>,
    /// By flavor.
    pub prices: BTreeMap<String, Price>,
    /// What moving data here costs, by the region it comes out of; `*` for those that are not named.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub egress: BTreeMap<String, EgressPrice>,
}

/// The price of moving data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressPrice {
    /// Millionths of the currency per GiB.
    pub micros_per_gib: i64,
    /// ISO 4217.
    pub currency: String,
}

/// Whether anything new may go to a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Takes new work.
    Live,
    /// Nothing new by its owner's wish.
    Cordoned,
    /// Besides what can be moved is moved away.
    Draining,
    /// Not heard of lately.
    Suspect,
    /// Not heard of for long.
    Lost,
    /// Enrolled, and not yet known what it has.
    Joining,
    /// Not a member yet, or no more.
    #[default]
    Absent,
}

/// A GPU-hour's price.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Millionths of the currency.
    pub micros_per_gpu_hour: i64,
    /// ISO 4217.
    pub currency: String,
    /// Watts one GPU draws; 0 if unsaid.
    #[serde(default)]
    pub watts: u32,
    /// Grams of CO2e per kWh of the cluster's electricity, one number for each hour of the day in UTC or one for all; none if unsaid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grams_per_kwh: Vec<u32>,
}

impl Price {
    /// Milligrams of CO2e that a GPU-hour emits at an hour of the day: watts × grams per kWh.
    #[must_use]
    pub fn emissions_mg(&self, hour: HourOfDay) -> Option<i64> {
        let grams = if self.grams_per_kwh.len() == 1 { self.grams_per_kwh.first() } else { self.grams_per_kwh.get(hour.0) };
        grams.filter(|_| self.watts > 0).map(|grams| i64::from(self.watts) * i64::from(*grams))
    }
}

/// An hour of the day in UTC, 0 to 23.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HourOfDay(usize);

impl HourOfDay {
    /// The hour in which a moment is.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        // Not negative and below 24.
        Self(at.as_second().div_euclid(3_600).rem_euclid(24) as usize)
    }
}

/// A node as the agent reports it. Quantities as Kubernetes writes them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// GPU model; empty without GPUs.
    pub flavor: String,
    /// In total.
    pub allocatable: BTreeMap<String, Quantity>,
    /// Asked for by pods that are not ours.
    pub used_by_others: BTreeMap<String, Quantity>,
    /// Asked for by runs of ours: (run, amounts).
    pub used_by_run: BTreeMap<String, BTreeMap<String, Quantity>>,
    /// False where it takes no pods.
    pub schedulable: bool,
    /// Whether it has the label by which pods choose the GPU model, with the flavor as its value.
    pub labelled_by_model: bool,
    /// Labels that say where it stands ([`labels::says_where`]), and the one with its name if that is another than the node's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub domains: BTreeMap<String, String>,
}

/// The level of racks, whatever the nodes' label for it is: what Volcano's first tier means here.
pub const RACK: &str = "rack";

impl NodeFacts {
    /// The label, with its value here, by which pods are bound to the node's domain of a level; `None` if it is in none.
    #[must_use]
    pub fn domain(&self, level: &str) -> Option<(&str, &str)> {
        match level {
            RACK => {
                self.domains.iter().find(|(key, _)| labels::says_rack(key)).map(|(key, value)| (key.as_str(), value.as_str()))
            }
            labels::HOSTNAME => Some((labels::HOSTNAME, self.domains.get(labels::HOSTNAME).unwrap_or(&self.name).as_str())),
            _ => self.domains.get_key_value(level).map(|(key, value)| (key.as_str(), value.as_str())),
        }
    }
}

/// Quantities in base units. What is negative in a report counts as nothing.
#[must_use]
pub fn amounts(quantities: &BTreeMap<String, Quantity>) -> Amounts {
    quantities.iter().map(|(name, quantity)| (name.clone(), base_units(name, *quantity).max(0))).collect()
}

impl ClusterFacts {
    /// The cluster as the engine sees it. What a run uses that is not (or no longer) charged here counts as used by
    /// others: its pods may still be ending, and their GPUs are not free before they are gone.
    #[must_use]
    pub fn spec(&self, charged: &BTreeSet<String>, hour: HourOfDay) -> ClusterSpec {
        let nodes = self.nodes.iter().map(|node| {
            let allocatable = amounts(&node.allocatable);
            let used_by_others = if node.schedulable {
                let foreign = node.used_by_run.iter().filter(|(run, _)| !charged.contains(*run)).map(|(_, used)| amounts(used));
                // Sums of what one node reports are far from the limit; a report that is not is cut to the allocatable.
                foreign.fold(amounts(&node.used_by_others), |sum, used| {
                    sum.checked_add(&used).unwrap_or_else(|_| allocatable.clone())
                })
            } else {
                allocatable.clone()
            };
            let rack = node.domain(RACK).map(|(_, rack)| (RACK.to_owned(), rack.to_owned()));
            let domains = node.domains.clone().into_iter().chain(rack).collect();
            NodeSpec { name: node.name.clone(), flavor: node.flavor.clone(), allocatable, used_by_others, domains }
        });
        ClusterSpec {
            name: self.name.clone(),
            labels: self.labels.clone(),
            state: match self.standing {
                Standing::Live => ClusterState::Live,
                Standing::Cordoned | Standing::Draining => ClusterState::Cordoned,
                Standing::Suspect => ClusterState::Suspect,
                Standing::Lost => ClusterState::Lost,
                Standing::Joining | Standing::Absent => ClusterState::Absent,
            },
            takes_jobs: self.takes_jobs,
            region: self.region.clone(),
            apis: self.apis.clone(),
            nodes: nodes.collect(),
            prices: self.prices.iter().map(|(flavor, price)| (flavor.clone(), price.micros_per_gpu_hour)).collect(),
            emissions: self.emissions(hour),
            egress: self.egress.iter().map(|(from, price)| (from.clone(), price.micros_per_gib)).collect(),
        }
    }

    /// The currency of what moving data out of a region costs.
    #[must_use]
    pub fn egress_currency(&self, from: &str) -> Option<&str> {
        let price = self.egress.get(from).or_else(|| self.egress.get(ClusterSpec::ANY_REGION))?;
        Some(&price.currency)
    }

    /// Milligrams of CO2e that a GPU-hour emits at an hour of the day, by flavor.
    #[must_use]
    pub fn emissions(&self, hour: HourOfDay) -> BTreeMap<String, i64> {
        let known = self.prices.iter().filter_map(|(flavor, price)| Some((flavor.clone(), price.emissions_mg(hour)?)));
        known.collect()
    }

    /// The labels by which pods are bound to the domains of a level that a plan is in, with the domains' names; empty where the plan
    /// names a node that is in none.
    #[must_use]
    pub fn domains_of(&self, level: &str, slots: &[Slot]) -> BTreeMap<String, BTreeSet<String>> {
        let planned: BTreeSet<&str> = slots.iter().map(|slot| slot.node.as_str()).collect();
        let nodes: Vec<&NodeFacts> = self.nodes.iter().filter(|node| planned.contains(node.name.as_str())).collect();
        let mut domains: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in &nodes {
            let Some((key, value)) = node.domain(level) else { return BTreeMap::new() };
            domains.entry(key.to_owned()).or_default().insert(value.to_owned());
        }
        if nodes.len() == planned.len() { domains } else { BTreeMap::new() }
    }

    /// Where the pods of a run are, as far as they are bound.
    #[must_use]
    pub fn bound(&self, run: &str) -> Vec<BoundNode> {
        self.nodes
            .iter()
            .filter_map(|node| node.used_by_run.get(run).map(|used| BoundNode { node: node.name.clone(), used: amounts(used) }))
            .collect()
    }

    /// Runs of ours that the inventory shows.
    #[must_use]
    pub fn runs_seen(&self) -> BTreeSet<&str> {
        self.nodes.iter().flat_map(|node| node.used_by_run.keys().map(String::as_str)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_is_not_charged_counts_as_others_until_its_pods_are_gone() {
        let gpus = |count| BTreeMap::from([("nvidia.com/gpu".to_owned(), Quantity::from_units(count))]);
        let node = NodeFacts {
            name: "n".to_owned(),
            allocatable: gpus(8),
            used_by_others: gpus(1),
            used_by_run: BTreeMap::from([("a".to_owned(), gpus(2)), ("b".to_owned(), gpus(4))]),
            schedulable: true,
            ..NodeFacts::default()
        };
        let mut facts = ClusterFacts { name: "idc".to_owned(), nodes: vec![node], ..ClusterFacts::default() };
        let used = |facts: &ClusterFacts, charged: &[&str]| {
            facts.spec(&charged.iter().map(|run| (*run).to_owned()).collect(), HourOfDay(0)).nodes[0].used_by_others.gpus()
        };
        assert_eq!(used(&facts, &["a", "b"]), 1);
        assert_eq!(used(&facts, &["a"]), 5);
        assert_eq!(facts.bound("a")[0].used.gpus(), 2);
        facts.nodes[0].schedulable = false;
        assert_eq!(used(&facts, &["a", "b"]), 8);
    }

    #[test]
    fn a_gpu_hour_emits_what_its_power_and_the_hour_make() {
        let by_hour = Price { watts: 300, grams_per_kwh: (0..24).map(|hour| 10 * hour).collect(), ..Price::default() };
        let at = |text: &str| HourOfDay::of(text.parse().expect("a time"));
        assert_eq!(by_hour.emissions_mg(at("2026-11-23T12:59:59Z")), Some(36_000));
        assert_eq!(by_hour.emissions_mg(at("2026-11-23T13:00:00Z")), Some(39_000));
        assert_eq!(by_hour.emissions_mg(at("1969-12-31T23:00:00Z")), Some(69_000));
        let always = Price { grams_per_kwh: vec![45], ..by_hour.clone() };
        assert_eq!(always.emissions_mg(at("2026-11-23T12:00:00Z")), Some(13_500));
        assert_eq!(Price { watts: 0, ..always }.emissions_mg(HourOfDay(0)), None);
        assert_eq!(Price { grams_per_kwh: Vec::new(), ..by_hour }.emissions_mg(HourOfDay(0)), None);
    }
}
