//! What a training job needs, read from the manifest its owner already has: Volcano `Job`, `batch/v1 Job`, JobSet,
//! `PyTorchJob`, `RayJob`. Only what scheduling needs is judged; the rest is the member cluster's business.

mod dataset;
mod elastic;
#[cfg(test)]
mod elastic_tests;
mod pod;
mod shape;
mod span;
#[cfg(test)]
mod span_tests;
#[cfg(test)]
mod tests;
mod topology;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use muster_core::{Manifest, Quantity};
use muster_scheduler_engine::{Gang, WorkerGroup};
use serde_json::Value;

use super::Fault;
use super::queue::base_units;
pub use shape::{Kind, Template, set_replicas, templates};

/// The queue of jobs that name none.
pub const DEFAULT_QUEUE: &str = "default";
/// Where manifests say their queue, besides Volcano's `spec.queue`: labels or annotations, the first that is there.
const QUEUE_KEYS: [&str; 3] = ["kueue.x-k8s.io/queue-name", "volcano.sh/queue-name", "scheduling.volcano.sh/queue-name"];
/// Kueue's own way to say a priority class.
const PRIORITY_KEY: &str = "kueue.x-k8s.io/priority-class";
/// The annotation by which a job says that it may be interrupted, and what going on from its last checkpoint costs it (`30s`).
const RESTART_KEY: &str = "muster.dev/restart-cost";
/// When the job should be done (RFC 3339).
const DEADLINE_KEY: &str = "muster.dev/deadline";
/// How fast the job is on GPU models.
const SPEEDS_KEY: &str = "muster.dev/gpu-speeds";

/// A job's manifest, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Requirements {
    /// Which kind it is.
    pub kind: Kind,
    /// All its workers.
    pub gang: Gang,
    /// The queue it names, if any.
    pub queue: Option<String>,
    /// The priority class it names, if any.
    pub priority_class: Option<String>,
    /// When it should be done, if it says so.
    pub deadline: Option<Timestamp>,
}

impl Requirements {
    /// Reads a job's manifest.
    ///
    /// # Errors
    /// The field at fault, by its path in the manifest.
    pub fn read(manifest: &Manifest) -> Result<Self, Fault> {
        let kind = Kind::of(manifest.api_version(), manifest.kind())?;
        let value = &manifest.value;
        let templates = templates(kind, value)?;
        let mut groups = Vec::with_capacity(templates.len());
        let mut flavors: Option<BTreeSet<String>> = None;
        for template in &templates {
            let pod = value.pointer(&template.pointer).ok_or_else(|| Fault::new(&template.path, "is missing"))?;
            let each = pod::requests(&template.path, pod)?;
            if each.on_gpu()
                && let Some(wanted) = pod::flavors(&template.path, pod)?
            {
                let both = match flavors.take() {
                    None => wanted,
                    Some(known) => known.intersection(&wanted).cloned().collect(),
                };
                if both.is_empty() {
                    return Err(Fault::new(
                        &template.path,
                        "asks for another GPU model than the job's other workers; a gang gets one",
                    ));
                }
                flavors = Some(both);
            }
            groups.push(WorkerGroup { name: template.name.clone(), replicas: template.replicas, each });
        }
        let workers: u64 = groups.iter().map(|group| u64::from(group.replicas)).sum();
        let elastic = elastic::read(kind, value, &templates, &groups)?.map(|(elastic, _)| elastic);
        // What a job may have less of may be missing when it counts as running, unless it says that more must be there.
        let least =
            elastic.map_or(workers, |elastic| workers - u64::from(groups[elastic.group].replicas) + u64::from(elastic.least));
        let topology = topology::read(kind, value, &templates)?.map(|(topology, _)| topology);
        let gang = Gang {
            span: span::read(kind, value, (elastic, topology.as_ref()))?,
            min_available: shape::min_available(kind, value, (workers, least))?,
            groups,
            flavors: flavors.unwrap_or_default(),
            api: manifest.api_version().to_owned(),
            restart_ms: restart_ms(value)?,
            speeds: speeds(value)?,
            topology,
            dataset: dataset::read(value)?,
            elastic,
        };
        muster_scheduler_engine::check(&gang).map_err(|refused| in_manifest(kind, value, &templates, refused.into()))?;
        let (queue, priority_class) = (queue(kind, value), priority_class(kind, value, &templates));
        Ok(Self { kind, gang, queue, priority_class, deadline: deadline(value)? })
    }
}

/// Puts a fault of the gang at the path the manifest has for it.
#[must_use]
pub fn in_manifest(kind: Kind, value: &Value, templates: &[Template], fault: Fault) -> Fault {
    if fault.field == "topology"
        && let Ok(Some((_, path))) = topology::read(kind, value, templates)
    {
        return Fault::new(path, fault.why);
    }
    if fault.field == "span" {
        return Fault::new(span::path(), fault.why);
    }
    if fault.field.starts_with("elastic") {
        let groups: Vec<WorkerGroup> = templates.iter().map(WorkerGroup::from).collect();
        return match elastic::read(kind, value, templates, &groups) {
            Ok(Some((_, path))) => Fault::new(path, fault.why),
            Ok(None) | Err(_) => fault,
        };
    }
    let Some(rest) = fault.field.strip_prefix("groups[") else {
        let field = match fault.field.as_str() {
            "groups" => "spec",
            "min_available" => "spec.minAvailable",
            other => other,
        };
        return Fault::new(field, fault.why);
    };
    let template = rest.split_once(']').and_then(|(index, _)| index.parse::<usize>().ok()).and_then(|index| templates.get(index));
    match template {
        Some(template) => Fault::new(&template.path, fault.why),
        None => Fault::new("spec", format!("{}: {}", rest.trim_end_matches(']'), fault.why)),
    }
}

fn queue(kind: Kind, value: &Value) -> Option<String> {
    let own = match kind {
        Kind::Volcano => value.pointer("/spec/queue"),
        Kind::PyTorch => value.pointer("/spec/runPolicy/schedulingPolicy/queue"),
        Kind::Batch | Kind::JobSet | Kind::Ray => None,
    };
    let own = own.and_then(Value::as_str).filter(|queue| !queue.is_empty());
    own.or_else(|| QUEUE_KEYS.iter().find_map(|key| metadata(value, key))).map(ToOwned::to_owned)
}

fn priority_class(kind: Kind, value: &Value, templates: &[Template]) -> Option<String> {
    let own = match kind {
        Kind::Volcano => value.pointer("/spec/priorityClassName"),
        Kind::PyTorch => value.pointer("/spec/runPolicy/schedulingPolicy/priorityClass"),
        Kind::Batch | Kind::JobSet | Kind::Ray => None,
    };
    let of_pods =
        || templates.iter().find_map(|template| value.pointer(&format!("{}/spec/priorityClassName", template.pointer))?.as_str());
    own.and_then(Value::as_str)
        .or_else(|| metadata(value, PRIORITY_KEY))
        .or_else(of_pods)
        .filter(|class| !class.is_empty())
        .map(ToOwned::to_owned)
}

/// What an interruption costs the job, where it says that it may be interrupted.
fn restart_ms(value: &Value) -> Result<Option<i64>, Fault> {
    let Some(text) = metadata(value, RESTART_KEY) else { return Ok(None) };
    let path = format!("metadata.annotations[{RESTART_KEY}]");
    let cost = muster_core::duration::parse(text).map_err(|error| Fault::new(&path, error.to_string()))?;
    i64::try_from(cost.as_millis()).map(Some).map_err(|_| Fault::new(&path, "is longer than can be counted"))
}

fn deadline(value: &Value) -> Result<Option<Timestamp>, Fault> {
    let Some(text) = metadata(value, DEADLINE_KEY) else { return Ok(None) };
    let path = format!("metadata.annotations[{DEADLINE_KEY}]");
    let why = |_| Fault::new(&path, format!("{text:?} is no time such as 2027-01-31T18:00:00Z"));
    text.parse().map(Some).map_err(why)
}

/// How fast the job says it is on GPU models: `V100=1, K80=0.25`, in thousandths.
fn speeds(value: &Value) -> Result<BTreeMap<String, u32>, Fault> {
    let path = format!("metadata.annotations[{SPEEDS_KEY}]");
    let mut speeds = BTreeMap::new();
    for part in metadata(value, SPEEDS_KEY).into_iter().flat_map(|text| text.split(',')) {
        let fault = |why: &str| Fault::new(&path, format!("{:?} {why}", part.trim()));
        let (model, speed) = part.split_once('=').ok_or_else(|| fault("is no model and speed such as V100=1"))?;
        let permille = speed.trim().parse::<f64>().map_or(0.0, |speed| (speed * 1e3).round());
        if model.trim().is_empty() || !(1.0..=f64::from(Gang::MOST_SPEED)).contains(&permille) {
            return Err(fault("is no model and a speed from 0.001 to 1000"));
        }
        // At most MOST_SPEED by the line above.
        if speeds.insert(model.trim().to_owned(), permille as u32).is_some() {
            return Err(fault("says the speed on a model twice"));
        }
    }
    Ok(speeds)
}

/// A label or annotation of the object.
fn metadata<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    ["labels", "annotations"]
        .iter()
        .find_map(|map| value.get("metadata")?.get(map)?.get(key)?.as_str())
        .filter(|text| !text.is_empty())
}

/// A quantity in base units.
///
/// # Errors
/// What is no quantity, negative, or, for a named extended resource, no whole number.
pub fn quantity(path: &str, resource: &str, value: &Value) -> Result<i64, Fault> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            return Err(Fault::new(path, "must be a quantity such as 500m, 2 or 16Gi"));
        }
    };
    let quantity: Quantity =
        text.parse().map_err(|error: muster_core::quantity::ParseQuantityError| Fault::new(path, error.to_string()))?;
    if quantity.is_negative() {
        return Err(Fault::new(path, "must not be negative"));
    }
    if resource.contains('/') && quantity != Quantity::from_units(quantity.units()) {
        return Err(Fault::new(path, format!("{resource} comes in whole units only")));
    }
    Ok(base_units(resource, quantity))
}

/// Named amounts as the API shows them.
#[must_use]
pub fn totals(gang: &Gang) -> BTreeMap<String, String> {
    gang.total().map(|total| super::queue::shown(total.iter())).unwrap_or_default()
}
