//! Queues as people write them: `scheduling.volcano.sh/v1beta1 Queue`, and Muster's own kind with tiers.

use std::collections::BTreeSet;

use muster_core::selector::LabelSelector;
use muster_core::{Manifest, Quantity};
use muster_scheduler_engine::{Amounts, QueueSpec, Tier, TierOpens};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use super::Fault;
use super::cluster::ClusterFacts;
use super::manifest::quantity;

/// API version of Muster's own kind.
pub const MUSTER_API: &str = "muster.dev/v1";
/// API version of Volcano's kind.
pub const VOLCANO_API: &str = "scheduling.volcano.sh/v1beta1";
/// At most this many tiers.
const MAX_TIERS: usize = 16;

/// A queue's manifest, read.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueDefinition {
    /// metadata.name.
    pub name: String,
    /// metadata.namespace; queues have none here, but two of one name from two namespaces collide.
    pub namespace: String,
    /// Share among siblings, 1 to 65,535.
    pub weight: u32,
    /// Upper limit over all clusters, in base units.
    pub capability: Amounts,
    /// What it gets before anything is divided by weight, in base units.
    pub guarantee: Amounts,
    /// Whether what it borrowed may be taken back.
    pub reclaimable: bool,
    /// How long its runs are left alone after their start, in milliseconds.
    pub min_runtime_ms: i64,
    /// The queue above it.
    pub parent: Option<String>,
    /// In order of preference.
    pub tiers: Vec<TierDefinition>,
}

/// A tier as written: clusters by fleet, by name or by label.
#[derive(Clone, Debug, PartialEq)]
pub struct TierDefinition {
    /// All members of this fleet.
    pub fleet: Option<String>,
    /// These clusters.
    pub clusters: BTreeSet<String>,
    /// Clusters with these labels.
    pub selector: Option<LabelSelector>,
    /// How long a job must have waited, in milliseconds; `None`: open when the tiers before it are full.
    pub overflow_after_ms: Option<i64>,
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
            (api, kind) => {
                return Err(Fault::new(
                    "manifest",
                    format!("{api} {kind} is no queue: {VOLCANO_API} Queue or {MUSTER_API} Queue is expected"),
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
        let weight = match spec.get("weight") {
            None | Some(Value::Null) => 1,
            Some(value) => value
                .as_u64()
                .filter(|weight| (1..=65_535).contains(weight))
                .and_then(|weight| u32::try_from(weight).ok())
                .ok_or_else(|| Fault::new("spec.weight", "must be a whole number from 1 to 65535"))?,
        };
        let capability = amounts("spec.capability", spec.get("capability"))?;
        let guarantee = guarantee(spec.get("guarantee"))?;
        if let Some((name, _)) = capability.iter().find(|(name, limit)| guarantee.get(name) > *limit) {
            return Err(Fault::new(format!("spec.guarantee.resource[{name}]"), "is more than the capability"));
        }
        Ok(Self {
            name: manifest.name().to_owned(),
            namespace: manifest.namespace().to_owned(),
            weight,
            capability,
            guarantee,
            reclaimable: boolean("spec.reclaimable", spec.get("reclaimable"))?.unwrap_or(true),
            min_runtime_ms: span("spec.minRuntime", spec.get("minRuntime"))?.unwrap_or(QueueSpec::MIN_RUNTIME_MS),
            parent: text("spec.parent", spec.get("parent"))?.filter(|parent| !parent.is_empty() && parent != "root"),
            tiers: if strict { tiers(spec.get("tiers"))? } else { Vec::new() },
        })
    }

    /// The queue as the engine has it, with fleets resolved to the clusters that say they are members.
    #[must_use]
    pub fn spec<'a>(&self, clusters: impl Iterator<Item = &'a ClusterFacts> + Clone) -> QueueSpec {
        let tiers = self.tiers.iter().map(|tier| Tier {
            clusters: tier
                .clusters
                .iter()
                .cloned()
                .chain(
                    clusters
                        .clone()
                        .filter(|cluster| tier.fleet.as_ref().is_some_and(|fleet| cluster.fleets.contains(fleet)))
                        .map(|cluster| cluster.name.clone()),
                )
                .collect(),
            selector: tier.selector.clone(),
            opens: tier.overflow_after_ms.map_or(TierOpens::WhenFull, TierOpens::AfterWaitingMs),
        });
        QueueSpec {
            name: self.name.clone(),
            parent: self.parent.clone(),
            weight: self.weight,
            capability: self.capability.clone(),
            guarantee: self.guarantee.clone(),
            reclaimable: self.reclaimable,
            min_runtime_ms: self.min_runtime_ms,
            tiers: tiers.collect(),
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
            .map(|(name, amount)| (name.to_owned(), Value::String(muster_scheduler_engine::show(name, amount))))
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
    reclaimable: Option<IgnoredAny>,
    #[serde(rename = "minRuntime")]
    min_runtime: Option<IgnoredAny>,
    parent: Option<IgnoredAny>,
    tiers: Option<IgnoredAny>,
}

/// An unknown field is refused by name, with line and column.
fn strictly(manifest: &Manifest, spec: &Map<String, Value>) -> Result<(), Fault> {
    let whole = match manifest.value.as_object() {
        Some(whole) => known("", whole, &["apiVersion", "kind", "metadata", "spec", "status"]),
        None => Ok(()),
    };
    let fields = ["weight", "capability", "guarantee", "reclaimable", "minRuntime", "parent", "tiers"];
    whole.and_then(|()| known("spec", spec, &fields)).map_err(|fault| match manifest.read::<Shape>() {
        Err(at) => Fault::new(fault.field, format!("line {}, column {}: {}", at.line, at.column, fault.why)),
        Ok(_) => fault,
    })
}

fn known(path: &str, object: &Map<String, Value>, fields: &[&str]) -> Result<(), Fault> {
    match object.keys().find(|key| !fields.contains(&key.as_str())) {
        Some(key) => {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            Err(Fault::new(path, format!("unknown field; known are {}", fields.join(", "))))
        }
        None => Ok(()),
    }
}

fn text(path: &str, value: Option<&Value>) -> Result<Option<String>, Fault> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Fault::new(path, "must be text")),
    }
}

fn boolean(path: &str, value: Option<&Value>) -> Result<Option<bool>, Fault> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(_) => Err(Fault::new(path, "must be true or false")),
    }
}

/// A span of time such as `10m`, in milliseconds.
fn span(path: &str, value: Option<&Value>) -> Result<Option<i64>, Fault> {
    let Some(text) = text(path, value)? else { return Ok(None) };
    let span = muster_core::duration::parse(&text).map_err(|error| Fault::new(path, error.to_string()))?;
    i64::try_from(span.as_millis()).map(Some).map_err(|_| Fault::new(path, "is too long"))
}

/// As Volcano writes it: amounts below `resource`.
fn guarantee(value: Option<&Value>) -> Result<Amounts, Fault> {
    match value {
        None | Some(Value::Null) => Ok(Amounts::new()),
        Some(Value::Object(guarantee)) => {
            known("spec.guarantee", guarantee, &["resource"])?;
            amounts("spec.guarantee.resource", guarantee.get("resource"))
        }
        Some(_) => Err(Fault::new("spec.guarantee", "must be an object")),
    }
}

fn amounts(path: &str, value: Option<&Value>) -> Result<Amounts, Fault> {
    let mut amounts = Amounts::new();
    match value {
        None | Some(Value::Null) => {}
        Some(Value::Object(entries)) => {
            for (name, value) in entries {
                amounts.set(name, quantity(&format!("{path}[{name}]"), name, value)?);
            }
        }
        Some(_) => return Err(Fault::new(path, "must be an object of quantities by resource name")),
    }
    Ok(amounts)
}

fn tiers(value: Option<&Value>) -> Result<Vec<TierDefinition>, Fault> {
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

fn one_tier(path: &str, value: &Value) -> Result<TierDefinition, Fault> {
    let tier = value.as_object().ok_or_else(|| Fault::new(path, "must be an object"))?;
    known(path, tier, &["fleet", "clusters", "clusterSelector", "overflowAfter"])?;
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
    let overflow_after_ms = span(&format!("{path}.overflowAfter"), tier.get("overflowAfter"))?;
    Ok(TierDefinition { fleet, clusters, selector, overflow_after_ms })
}

/// Quantities for people, by resource name.
#[must_use]
pub fn shown(amounts: &Amounts) -> std::collections::BTreeMap<String, String> {
    amounts.iter().map(|(name, amount)| (name.to_owned(), muster_scheduler_engine::show(name, amount))).collect()
}

/// A quantity in base units, rounded up.
#[must_use]
pub fn base_units(resource: &str, quantity: Quantity) -> i64 {
    if resource == muster_scheduler_engine::CPU { quantity.millis() } else { quantity.units() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<QueueDefinition, Fault> {
        QueueDefinition::read(&muster_core::manifest::parse_one(text).expect("sound YAML"))
    }

    #[test]
    fn the_queue_people_have_is_read() {
        let queue = read(
            "apiVersion: scheduling.volcano.sh/v1beta1\nkind: Queue\nmetadata:\n  name: train-queue\nspec:\n  weight: 1\n  reclaimable: true\n  \
             capability:\n    cpu: \"200\"\n    memory: \"800Gi\"\n    nvidia.com/gpu: \"64\"\n",
        )
        .expect("a sound queue");
        assert_eq!(queue.capability, Amounts::new().with("cpu", 200_000).with("memory", 800 << 30).with("nvidia.com/gpu", 64));
        assert_eq!(queue.volcano_manifest()["spec"]["capability"]["memory"], "800Gi");
        assert_eq!((queue.weight, queue.reclaimable, queue.parent.as_deref()), (1, true, None));
    }

    #[test]
    fn tiers_are_read_and_resolved_to_the_members_of_fleets() {
        let queue = read(
            "apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {name: train}\nspec:\n  tiers:\n  - fleet: fleet-train\n    clusters: [spare]\n  - \
             clusterSelector: {matchLabels: {tier: cloud}}\n    overflowAfter: 10m\n",
        )
        .expect("a sound queue");
        let facts = [ClusterFacts {
            name: "idc".to_owned(),
            fleets: BTreeSet::from(["fleet-train".to_owned()]),
            ..ClusterFacts::default()
        }];
        let spec = queue.spec(facts.iter());
        assert_eq!(spec.tiers[0].clusters, BTreeSet::from(["idc".to_owned(), "spare".to_owned()]));
        assert_eq!(spec.tiers[1].opens, TierOpens::AfterWaitingMs(600_000));
    }

    #[test]
    fn a_guarantee_and_a_least_run_time_are_read() {
        let queue = read(
            "apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {name: train}\nspec:\n  guarantee: {resource: {nvidia.com/gpu: 8}}\n  \
             minRuntime: 10m\n",
        )
        .expect("a sound queue");
        let spec = queue.spec([].iter());
        assert_eq!((spec.guarantee, spec.min_runtime_ms), (Amounts::new().with("nvidia.com/gpu", 8), 600_000));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let muster = |spec: &str| {
            read(&format!("apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {{name: q}}\nspec: {spec}\n")).unwrap_err().field
        };
        assert_eq!(muster("{weight: 0}"), "spec.weight");
        assert_eq!(muster("{wieght: 1}"), "spec.wieght");
        let misplaced = read("apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {name: q}\nweight: 1\n").unwrap_err();
        assert_eq!(misplaced.field, "weight");
        assert!(misplaced.why.starts_with("line 4, column 1: "), "{misplaced}");
        assert_eq!(muster("{capability: {cpu: -1}}"), "spec.capability[cpu]");
        assert_eq!(muster("{capability: {cpu: many}}"), "spec.capability[cpu]");
        assert_eq!(muster("{guarantee: {cpu: 1}}"), "spec.guarantee.cpu");
        assert_eq!(muster("{guarantee: {resource: {cpu: 2}}, capability: {cpu: 1}}"), "spec.guarantee.resource[cpu]");
        assert_eq!(muster("{minRuntime: soon}"), "spec.minRuntime");
        assert_eq!(muster("{tiers: [{}]}"), "spec.tiers[0]");
        assert_eq!(muster("{tiers: [{fleet: a, overflowAfter: soon}]}"), "spec.tiers[0].overflowAfter");
        assert_eq!(muster("{tiers: [{clusterSelector: {matchLabel: {a: b}}}]}"), "spec.tiers[0].clusterSelector");
        assert_eq!(read("apiVersion: v1\nkind: Pod\nmetadata: {name: q}\n").unwrap_err().field, "manifest");
    }
}
