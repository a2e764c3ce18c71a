//! A member cluster and its states.

use jiff::Timestamp;
use muster_core::selector::Labels;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where a cluster stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Named, not enrolled.
    NotEnrolled,
    /// Enrolled; no inventory yet.
    Joining,
    /// Heard lately.
    Live,
    /// Silent for a while.
    Suspect,
    /// Silent for long.
    Lost,
    /// Told to leave.
    Leaving,
    /// Gone.
    Left,
}

/// Whether new work goes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedulability {
    /// Yes.
    Open,
    /// No.
    Cordoned,
    /// No, and what can be moved is moved away.
    Draining,
}

/// Writes an enum the way its column holds it.
pub fn to_column<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(text)) => text,
        other => unreachable!("a unit variant serialises as a string, not {other:?}"),
    }
}

/// Reads what a column holds; an error only if the database was written by something else.
pub fn from_column<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_value(Value::String(text.to_owned()))
}

/// The price of a flavor in a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlavorPrice {
    /// GPU model.
    pub flavor: String,
    /// Millionths of the currency per GPU-hour.
    pub micros_per_gpu_hour: i64,
    /// ISO 4217.
    pub currency: String,
    /// Watts one GPU draws; 0 if unsaid.
    pub watts: u32,
    /// Grams of CO2e per kWh of the cluster's electricity, one number for each hour of the day in UTC or one for all; none if unsaid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grams_per_kwh: Vec<u32>,
}

/// The price of moving data out of a region into a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressPrice {
    /// The region it comes out of; `*` for every one that is not named.
    pub from: String,
    /// Millionths of the currency per GiB.
    pub micros_per_gib: i64,
    /// ISO 4217.
    pub currency: String,
}

/// A cluster as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// The row.
    pub id: i64,
    /// The identifier within `clusters/{cluster}`.
    pub name: String,
    /// UID of its kube-system namespace.
    pub uid: Option<String>,
    /// The row's version.
    pub version: i64,
    /// Where it stands.
    pub state: State,
    /// Why.
    pub reason: String,
    /// Whether new work goes there.
    pub schedulability: Schedulability,
    /// For fleets and tiers.
    pub labels: Labels,
    /// Where it is.
    pub region: String,
    /// Whether it takes jobs without being named by a tier.
    pub takes_jobs: bool,
    /// As the agent said it (`agent.v1.Preflight`, JSON).
    pub preflight: Option<Value>,
    /// As the agent said it (`agent.v1.Inventory`, JSON).
    pub inventory: Option<Value>,
    /// Of the agent that last connected.
    pub agent_version: String,
    /// Identifiers of its fleets, in order.
    pub fleets: Vec<String>,
    /// Resolved from the price books.
    pub prices: Vec<FlavorPrice>,
    /// Resolved from the price books.
    pub egress: Vec<EgressPrice>,
    /// When it was last heard.
    pub last_seen_at: Option<Timestamp>,
    /// Since when without a gap.
    pub steady_since_at: Option<Timestamp>,
    /// Until when its session certainly lasts.
    pub lease_expires_at: Option<Timestamp>,
    /// When it enrolled.
    pub enrolled_at: Option<Timestamp>,
    /// When it was declared.
    pub created_at: Timestamp,
}

impl Cluster {
    /// Its resource name.
    pub fn resource(&self) -> String {
        format!("clusters/{}", self.name)
    }

    /// GPU models of its nodes, each once.
    pub fn flavors(&self) -> Vec<String> {
        let nodes = self.inventory.as_ref().and_then(|inventory| inventory.get("nodes")).and_then(Value::as_array);
        let mut flavors: Vec<String> = nodes
            .into_iter()
            .flatten()
            .filter_map(|node| node.get("flavor").and_then(Value::as_str))
            .filter(|flavor| !flavor.is_empty())
            .map(str::to_owned)
            .collect();
        flavors.sort();
        flavors.dedup();
        flavors
    }
}
