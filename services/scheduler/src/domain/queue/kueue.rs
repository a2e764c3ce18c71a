//! `kueue.x-k8s.io` `ClusterQueue` and `Cohort`: quotas that are lent and borrowed. What Muster would not do as they say is refused
//! by name.

use std::collections::BTreeMap;

use muster_core::Manifest;
use muster_scheduler_engine::{Amounts, QueueSpec};
use serde_json::{Map, Value};

use super::fields::{known, text, weight};
use super::{Kind, QueueDefinition, within_guarantee};
use crate::domain::Fault;
use crate::domain::manifest::quantity;

/// Quotas by resource.
#[derive(Default)]
struct Quotas {
    nominal: Amounts,
    borrowing: BTreeMap<String, i64>,
    lending: BTreeMap<String, i64>,
    /// Where each is said.
    paths: BTreeMap<String, String>,
}

/// Reads a `ClusterQueue`.
pub(super) fn cluster_queue(manifest: &Manifest) -> Result<QueueDefinition, Fault> {
    let spec = spec(manifest)?;
    let fields = [
        "resourceGroups",
        "cohort",
        "cohortName",
        "queueingStrategy",
        "namespaceSelector",
        "flavorFungibility",
        "preemption",
        "admissionChecks",
        "admissionChecksStrategy",
        "stopPolicy",
        "fairSharing",
    ];
    known("spec", spec, &fields)?;
    only("spec.queueingStrategy", spec.get("queueingStrategy"), "BestEffortFIFO")?;
    only("spec.stopPolicy", spec.get("stopPolicy"), "None")?;
    for (field, why) in [
        ("namespaceSelector", "is not held: who may submit is said by access tokens"),
        ("admissionChecks", "are not asked"),
        ("admissionChecksStrategy", "is not followed"),
    ] {
        if !is_empty(spec.get(field)) {
            return Err(Fault::new(format!("spec.{field}"), why));
        }
    }
    preemption(spec.get("preemption"))?;
    let cohort = match (text("spec.cohort", spec.get("cohort"))?, text("spec.cohortName", spec.get("cohortName"))?) {
        (Some(_), Some(_)) => return Err(Fault::new("spec.cohortName", "can't stand beside cohort")),
        (one, other) => one.or(other).filter(|cohort| !cohort.is_empty()),
    };
    let mut quotas = quotas(spec.get("resourceGroups"))?;
    within_guarantee(&quotas.lending, &quotas.nominal, |name| format!("{}.lendingLimit", quotas.paths[name]))?;
    if cohort.is_none() {
        for (limits, field) in [(&quotas.borrowing, "borrowingLimit"), (&quotas.lending, "lendingLimit")] {
            if let Some(name) = limits.keys().next() {
                return Err(Fault::new(format!("{}.{field}", quotas.paths[name]), "needs a cohort"));
            }
        }
        quotas.borrowing = quotas.paths.keys().map(|name| (name.clone(), 0)).collect();
    }
    definition(manifest, spec, quotas, cohort, Kind::Member)
}

/// Reads a `Cohort`.
pub(super) fn cohort(manifest: &Manifest) -> Result<QueueDefinition, Fault> {
    let spec = spec(manifest)?;
    known("spec", spec, &["parent", "parentName", "resourceGroups", "fairSharing"])?;
    let parent = match (text("spec.parent", spec.get("parent"))?, text("spec.parentName", spec.get("parentName"))?) {
        (Some(_), Some(_)) => return Err(Fault::new("spec.parentName", "can't stand beside parent")),
        (one, other) => one.or(other).filter(|parent| !parent.is_empty()),
    };
    let quotas = quotas(spec.get("resourceGroups"))?;
    definition(manifest, spec, quotas, parent, Kind::Cohort)
}

fn spec(manifest: &Manifest) -> Result<&Map<String, Value>, Fault> {
    static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    match manifest.value.get("spec") {
        None | Some(Value::Null) => Ok(&NONE),
        Some(Value::Object(spec)) => Ok(spec),
        Some(_) => Err(Fault::new("spec", "must be an object")),
    }
}

fn definition(
    manifest: &Manifest,
    spec: &Map<String, Value>,
    quotas: Quotas,
    parent: Option<String>,
    kind: Kind,
) -> Result<QueueDefinition, Fault> {
    let weight = match spec.get("fairSharing") {
        None | Some(Value::Null) => 1,
        Some(Value::Object(fair)) => {
            known("spec.fairSharing", fair, &["weight"])?;
            // A quantity, which may be text.
            let number = fair.get("weight").and_then(Value::as_str).and_then(|text| text.parse::<u64>().ok()).map(Value::from);
            weight("spec.fairSharing.weight", number.as_ref().or_else(|| fair.get("weight")))?
        }
        Some(_) => return Err(Fault::new("spec.fairSharing", "must be an object")),
    };
    Ok(QueueDefinition {
        name: manifest.name().to_owned(),
        namespace: String::new(),
        weight,
        capability: BTreeMap::new(),
        guarantee: quotas.nominal,
        covered: quotas.paths.into_keys().collect(),
        borrowing_limit: quotas.borrowing,
        lending_limit: quotas.lending,
        kind,
        reclaimable: true,
        min_runtime_ms: QueueSpec::MIN_RUNTIME_MS,
        parent,
        tiers: Vec::new(),
        prefers: None,
        budgets: Vec::new(),
        usage_half_life_ms: None,
    })
}

/// What has been lent comes back whenever it is asked for, and a higher priority goes first inside a queue.
fn preemption(value: Option<&Value>) -> Result<(), Fault> {
    let preemption = match value {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(preemption)) => preemption,
        Some(_) => return Err(Fault::new("spec.preemption", "must be an object")),
    };
    known("spec.preemption", preemption, &["reclaimWithinCohort", "borrowWithinCohort", "withinClusterQueue"])?;
    only("spec.preemption.reclaimWithinCohort", preemption.get("reclaimWithinCohort"), "Any")?;
    only("spec.preemption.withinClusterQueue", preemption.get("withinClusterQueue"), "LowerPriority")?;
    let borrow = preemption.get("borrowWithinCohort");
    if let Some(other) = borrow.and_then(Value::as_object).and_then(|borrow| borrow.keys().find(|key| *key != "policy")) {
        return Err(Fault::new(format!("spec.preemption.borrowWithinCohort.{other}"), "is not followed"));
    }
    only("spec.preemption.borrowWithinCohort.policy", borrow.and_then(|borrow| borrow.get("policy")), "Never")
}

/// The one value of a field that means what Muster does; left out is the same.
fn only(path: &str, value: Option<&Value>, one: &str) -> Result<(), Fault> {
    match text(path, value)? {
        Some(other) if other != one => Err(Fault::new(path, format!("is {other:?}; only {one} is what Muster does"))),
        Some(_) | None => Ok(()),
    }
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(entries)) => entries.is_empty(),
        Some(Value::Array(entries)) => entries.is_empty(),
        Some(_) => false,
    }
}

fn quotas(value: Option<&Value>) -> Result<Quotas, Fault> {
    let mut quotas = Quotas::default();
    for (group, group_path) in items("spec.resourceGroups", value)? {
        known(&group_path, group, &["coveredResources", "flavors"])?;
        let flavors = items(&format!("{group_path}.flavors"), group.get("flavors"))?;
        let [(flavor, path)] = &flavors[..] else {
            let why =
                format!("{} flavors; quotas of several flavors are not told apart, so that there must be one", flavors.len());
            return Err(Fault::new(format!("{group_path}.flavors"), why));
        };
        known(path, flavor, &["name", "resources"])?;
        for (resource, path) in items(&format!("{path}.resources"), flavor.get("resources"))? {
            quotas.add(resource, path)?;
        }
    }
    Ok(quotas)
}

impl Quotas {
    fn add(&mut self, resource: &Map<String, Value>, path: String) -> Result<(), Fault> {
        known(&path, resource, &["name", "nominalQuota", "borrowingLimit", "lendingLimit"])?;
        let name = text(&format!("{path}.name"), resource.get("name"))?.filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| Fault::new(format!("{path}.name"), "is missing"))?;
        let amount = |field: &str| match resource.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => quantity(&format!("{path}.{field}"), &name, value).map(Some),
        };
        let nominal = amount("nominalQuota")?.ok_or_else(|| Fault::new(format!("{path}.nominalQuota"), "is missing"))?;
        self.borrowing.extend(amount("borrowingLimit")?.map(|most| (name.clone(), most)));
        self.lending.extend(amount("lendingLimit")?.map(|most| (name.clone(), most)));
        self.nominal.set(&name, nominal);
        if self.paths.insert(name.clone(), path.clone()).is_some() {
            return Err(Fault::new(format!("{path}.name"), format!("{name} is there twice")));
        }
        Ok(())
    }
}

/// An object, and where it stands.
type Placed<'a> = (&'a Map<String, Value>, String);

/// The objects of a list with their paths.
fn items<'a>(path: &str, value: Option<&'a Value>) -> Result<Vec<Placed<'a>>, Fault> {
    let list = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(Fault::new(path, "must be a list")),
    };
    let one = |(index, item): (usize, &'a Value)| {
        let path = format!("{path}[{index}]");
        item.as_object().map(|item| (item, path.clone())).ok_or_else(|| Fault::new(path, "must be an object"))
    };
    list.iter().enumerate().map(one).collect()
}
