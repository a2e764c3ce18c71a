//! Queues as people write them: `scheduling.volcano.sh/v1beta1 Queue`, `kueue.x-k8s.io` `ClusterQueue` and `Cohort`, and Muster's own
//! kind with tiers.

mod budgets;
mod cohort;
mod fields;
mod kueue;
mod tiers;

use std::collections::{BTreeMap, BTreeSet};

use muster_core::{Manifest, Quantity};
use muster_scheduler_engine::{Amounts, MAX_DEPTH, Prefers, QueueSpec, Tier};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use super::Fault;
use super::cluster::ClusterFacts;
use budgets::budgets;
use fields::{amounts, boolean, guarantee, known, limits, span, text, weight};
use tiers::{prefers, tiers};

pub use budgets::{BudgetDefinition, Window};
pub use cohort::specs;
pub use tiers::TierDefinition;

/// API version of Muster's own kind.
pub const MUSTER_API: &str = "muster.dev/v1";
/// API version of Volcano's kind.
pub const VOLCANO_API: &str = "scheduling.volcano.sh/v1beta1";

/// A queue's manifest, read.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueDefinition {
    /// metadata.name.
    pub name: String,
    /// metadata.namespace; queues have none here, but two of one name from two namespaces collide.
    pub namespace: String,
    /// Share among siblings, 1 to 65,535.
    pub weight: u32,
    /// Upper limit over all clusters, in base units; what is not named is not limited.
    pub capability: BTreeMap<String, i64>,
    /// What it gets before anything is divided by weight, in base units.
    pub guarantee: Amounts,
    /// How much it may use beyond its guarantee, in base units; what is not named is not limited.
    pub borrowing_limit: BTreeMap<String, i64>,
    /// How much of its guarantee others may use, in base units; what is not named is lent whole.
    pub lending_limit: BTreeMap<String, i64>,
    /// How its quota comes about.
    pub kind: Kind,
    /// Resources of which Kueue's kinds say a quota, be it none.
    pub covered: BTreeSet<String>,
    /// Whether what it borrowed may be taken back.
    pub reclaimable: bool,
    /// How long its runs are left alone after their start, in milliseconds.
    pub min_runtime_ms: i64,
    /// The queue above it.
    pub parent: Option<String>,
    /// In order of preference.
    pub tiers: Vec<TierDefinition>,
    /// Which places come first inside a tier; `None`: as the queue above says.
    pub prefers: Option<Prefers>,
    /// What it and the queues below it may spend.
    pub budgets: Vec<BudgetDefinition>,
    /// What it has used lately counts when it is compared with its siblings, in milliseconds after which it counts for half; `None`: as
    /// the queue above says, else not at all.
    pub usage_half_life_ms: Option<i64>,
}

/// How a queue's quota comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It has what it says.
    Queue,
    /// A member of the cohort above it, which is there by being named.
    Member,
    /// A cohort: it has what it says and what its members are guaranteed, and uses no more unless a cohort above it lends that.
    Cohort,
}

impl QueueDefinition {
    /// Reads a queue's manifest.
    ///
    /// # Errors
    /// The field at fault. Muster's own kind is strict: an unknown field is named.
    pub fn read(manifest: &Manifest) -> Result<Self, Fault> {
        let strict = match (manifest.api_version(), manifest.kind()) {
            (MUSTER_API, "Queue") => true,
            (api, "Queue") if api.starts_with("scheduling.volcano.sh/") => false,
            (api, "ClusterQueue") if api.starts_with("kueue.x-k8s.io/") => return kueue::cluster_queue(manifest),
            (api, "Cohort") if api.starts_with("kueue.x-k8s.io/") => return kueue::cohort(manifest),
            (api, kind) => {
                return Err(Fault::new(
                    "manifest",
                    format!(
                        "{api} {kind} is no queue: {VOLCANO_API} Queue, kueue.x-k8s.io ClusterQueue or Cohort, or {MUSTER_API} Queue is \
                         expected"
                    ),
                ));
            }
        };
        let empty = Map::new();
        let spec = match manifest.value.get("spec") {
            None | Some(Value::Null) => &empty,
            Some(Value::Object(spec)) => spec,
            Some(_) => return Err(Fault::new("spec", "must be an object")),
        };
        if strict {
            strictly(manifest, spec)?;
        }
        let capability = limits("spec.capability", spec.get("capability"))?;
        let mut guarantee = guarantee(spec.get("guarantee"))?;
        let (mut borrowing_limit, mut lending_limit) = (BTreeMap::new(), BTreeMap::new());
        if strict {
            borrowing_limit = limits("spec.borrowingLimit", spec.get("borrowingLimit"))?;
            lending_limit = limits("spec.lendingLimit", spec.get("lendingLimit"))?;
            within_guarantee(&lending_limit, &guarantee, |name| format!("spec.lendingLimit[{name}]"))?;
        } else {
            // What Volcano guarantees a queue nobody else gets; what it deserves is lent and comes back.
            let deserved = amounts("spec.deserved", spec.get("deserved"))?;
            if let Some((name, _)) = deserved.iter().find(|(name, deserved)| guarantee.get(name) > *deserved) {
                return Err(Fault::new(format!("spec.deserved[{name}]"), "is less than the guarantee"));
            }
            for (name, kept) in guarantee.clone().iter() {
                lending_limit.insert(name.to_owned(), deserved.get(name).max(kept) - kept);
            }
            deserved.iter().for_each(|(name, amount)| guarantee.set(name, amount));
        }
        if let Some((name, _)) = capability.iter().find(|(name, limit)| guarantee.get(name) > **limit) {
            let field = if strict || spec.get("deserved").is_none() { "spec.guarantee.resource" } else { "spec.deserved" };
            return Err(Fault::new(format!("{field}[{name}]"), "is more than the capability"));
        }
        Ok(Self {
            name: manifest.name().to_owned(),
            namespace: manifest.namespace().to_owned(),
            weight: weight("spec.weight", spec.get("weight"))?,
            capability,
            guarantee,
            borrowing_limit,
            lending_limit,
            kind: Kind::Queue,
            covered: BTreeSet::new(),
            reclaimable: boolean("spec.reclaimable", spec.get("reclaimable"))?.unwrap_or(true),
            min_runtime_ms: span("spec.minRuntime", spec.get("minRuntime"))?.unwrap_or(QueueSpec::MIN_RUNTIME_MS),
            parent: text("spec.parent", spec.get("parent"))?.filter(|parent| !parent.is_empty() && parent != "root"),
            tiers: if strict { tiers(spec.get("tiers"))? } else { Vec::new() },
            prefers: if strict { prefers(spec.get("placement"))? } else { None },
            budgets: if strict { budgets(spec.get("budgets"))? } else { Vec::new() },
            usage_half_life_ms: if strict { half_life(spec.get("usageHalfLife"))? } else { None },
        })
    }

    /// The queue as the engine has it, with fleets resolved to the clusters that say they are members.
    #[must_use]
    pub fn spec<'a>(&self, clusters: impl Iterator<Item = &'a ClusterFacts> + Clone) -> QueueSpec {
        let tiers = self.tiers.iter().map(|tier| Tier {
            clusters: clusters
                .clone()
                .filter(|cluster| tier.fleet.as_ref().is_some_and(|fleet| cluster.fleets.contains(fleet)))
                .map(|cluster| (cluster.name.clone(), Tier::UNLISTED))
                // What is named has its place, whatever fleet it is in.
                .chain(tier.clusters.iter().cloned().zip(0..))
                .collect(),
            selector: tier.selector.clone(),
            opens: tier.opens,
        });
        QueueSpec {
            name: self.name.clone(),
            parent: self.parent.clone(),
            weight: self.weight,
            capability: self.capability.clone(),
            guarantee: self.guarantee.clone(),
            borrowing_limit: self.borrowing_limit.clone(),
            lending_limit: self.lending_limit.clone(),
            reclaimable: self.reclaimable,
            min_runtime_ms: self.min_runtime_ms,
            tiers: tiers.collect(),
            prefers: self.prefers,
            budgets: self.budgets.iter().map(|definition| definition.budget).collect(),
        }
    }

    /// Whether one of its tiers selects the cluster.
    #[must_use]
    pub fn selects(&self, cluster: &ClusterFacts) -> bool {
        self.tiers.iter().any(|tier| {
            tier.clusters.contains(&cluster.name)
                || tier.fleet.as_ref().is_some_and(|fleet| cluster.fleets.contains(fleet))
                || tier.selector.as_ref().is_some_and(|selector| selector.matches(&cluster.labels))
        })
    }

    /// The Volcano queue that member clusters get. The capability is the global one: an upper bound in each cluster too.
    #[must_use]
    pub fn volcano_manifest(&self) -> Value {
        let capability: Map<String, Value> = self
            .capability
            .iter()
            .map(|(name, limit)| (name.clone(), Value::String(muster_scheduler_engine::show(name, *limit))))
            .collect();
        let mut spec = json!({"weight": self.weight, "reclaimable": self.reclaimable});
        if !capability.is_empty() {
            spec["capability"] = Value::Object(capability);
        }
        json!({"apiVersion": VOLCANO_API, "kind": "Queue", "metadata": {"name": self.name}, "spec": spec})
    }
}

/// The fields of Muster's own kind, to find the place of one that is not among them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only which fields there are is of interest")]
struct Shape {
    #[serde(rename = "apiVersion")]
    api_version: IgnoredAny,
    kind: IgnoredAny,
    metadata: IgnoredAny,
    spec: Option<SpecShape>,
    status: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "as Shape")]
struct SpecShape {
    weight: Option<IgnoredAny>,
    capability: Option<IgnoredAny>,
    guarantee: Option<IgnoredAny>,
    #[serde(rename = "borrowingLimit")]
    borrowing_limit: Option<IgnoredAny>,
    #[serde(rename = "lendingLimit")]
    lending_limit: Option<IgnoredAny>,
    reclaimable: Option<IgnoredAny>,
    #[serde(rename = "minRuntime")]
    min_runtime: Option<IgnoredAny>,
    parent: Option<IgnoredAny>,
    tiers: Option<IgnoredAny>,
    placement: Option<IgnoredAny>,
    budgets: Option<IgnoredAny>,
    #[serde(rename = "usageHalfLife")]
    usage_half_life: Option<IgnoredAny>,
}

/// Half-lives from a minute to a year make sense.
const HALF_LIFE_MS: std::ops::RangeInclusive<i64> = 60_000..=366 * 86_400_000;

fn half_life(value: Option<&Value>) -> Result<Option<i64>, Fault> {
    let path = "spec.usageHalfLife";
    match span(path, value)? {
        Some(ms) if !HALF_LIFE_MS.contains(&ms) => Err(Fault::new(path, "must be from a minute to 366 days")),
        half_life => Ok(half_life),
    }
}

/// A queue can't lend more than it is guaranteed.
fn within_guarantee(lent: &BTreeMap<String, i64>, guarantee: &Amounts, field: impl Fn(&str) -> String) -> Result<(), Fault> {
    match lent.iter().find(|(name, most)| guarantee.get(name) < **most) {
        Some((name, _)) => Err(Fault::new(field(name), "is more than the guarantee")),
        None => Ok(()),
    }
}

/// A queue and those above it, from below; as many as a tree is deep.
pub fn upwards<'a>(
    name: &str,
    definitions: &'a BTreeMap<String, QueueDefinition>,
) -> impl Iterator<Item = &'a QueueDefinition> + use<'a> {
    let above = |queue: &&QueueDefinition| queue.parent.as_ref().and_then(|parent| definitions.get(parent));
    std::iter::successors(definitions.get(name), above).take(MAX_DEPTH)
}

/// An unknown field is refused by name, with line and column.
fn strictly(manifest: &Manifest, spec: &Map<String, Value>) -> Result<(), Fault> {
    let whole = match manifest.value.as_object() {
        Some(whole) => known("", whole, &["apiVersion", "kind", "metadata", "spec", "status"]),
        None => Ok(()),
    };
    let fields = [
        "weight",
        "capability",
        "guarantee",
        "borrowingLimit",
        "lendingLimit",
        "reclaimable",
        "minRuntime",
        "parent",
        "tiers",
        "placement",
        "budgets",
        "usageHalfLife",
    ];
    whole.and_then(|()| known("spec", spec, &fields)).map_err(|fault| match manifest.read::<Shape>() {
        Err(at) => Fault::new(fault.field, format!("line {}, column {}: {}", at.line, at.column, fault.why)),
        Ok(_) => fault,
    })
}

/// Quantities for people, by resource name.
#[must_use]
pub fn shown<'a>(amounts: impl Iterator<Item = (&'a str, i64)>) -> BTreeMap<String, String> {
    amounts.map(|(name, amount)| (name.to_owned(), muster_scheduler_engine::show(name, amount))).collect()
}

/// A quantity in base units, rounded up.
#[must_use]
pub fn base_units(resource: &str, quantity: Quantity) -> i64 {
    if resource == muster_scheduler_engine::CPU { quantity.millis() } else { quantity.units() }
}

#[cfg(test)]
mod tests;
