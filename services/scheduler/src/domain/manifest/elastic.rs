//! Which workers of a job may be fewer, and how few: what the job says by its annotation, and by its kind's own fields.

use muster_scheduler_engine::{Elastic, WorkerGroup};
use serde_json::Value;

use super::metadata;
use super::shape::{Kind, Template, count};
use crate::domain::Fault;

/// Whether a job may run with fewer workers: `"true"` or `"false"`. A PyTorchJob says so by its `elasticPolicy` too.
const ELASTIC_KEY: &str = "muster.dev/elastic";
/// How many pods of a `batch/v1` Job there are at least, which has no field for that.
const MIN_KEY: &str = "muster.dev/min-available";

fn annotation(key: &str) -> String {
    format!("metadata.annotations[{key}]")
}

/// Reads what the job says; `None`: its workers are all there, or none is. Gives the path of what says how few there may be, too.
///
/// # Errors
/// The field at fault: what is neither true nor false, a kind that is always whole, no smaller number, or no group that it could be of.
pub(super) fn read(
    kind: Kind,
    value: &Value,
    templates: &[Template],
    groups: &[WorkerGroup],
) -> Result<Option<(Elastic, String)>, Fault> {
    let said = match metadata(value, ELASTIC_KEY) {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(other) => return Err(Fault::new(annotation(ELASTIC_KEY), format!("{other:?} is neither \"true\" nor \"false\""))),
    };
    let elastic = match kind {
        Kind::PyTorch => said.unwrap_or_else(|| policy(value, "minReplicas").is_some()),
        Kind::Volcano | Kind::Batch | Kind::JobSet | Kind::Ray => said.unwrap_or(false),
    };
    if !elastic {
        return match metadata(value, MIN_KEY) {
            Some(_) if kind == Kind::Batch => {
                let why = format!("says nothing of a job that does not say {ELASTIC_KEY}: \"true\"");
                Err(Fault::new(annotation(MIN_KEY), why))
            }
            Some(_) | None => Ok(None),
        };
    }
    let found = match kind {
        Kind::Volcano => of_volcano(value, templates, groups)?,
        Kind::Batch => of_batch(value)?,
        Kind::PyTorch => of_pytorch(value, templates)?,
        Kind::JobSet | Kind::Ray => {
            let why = "is understood of Volcano jobs, batch/v1 Jobs and PyTorchJobs only; other kinds are placed whole";
            return Err(Fault::new(annotation(ELASTIC_KEY), why));
        }
    };
    let (Elastic { group, least }, path) = &found;
    let replicas = groups[*group].replicas;
    if *least == 0 || *least >= replicas {
        let name = &groups[*group].name;
        let why = format!("leaves {least} of {replicas} {name:?} workers at least; it must be from 1 to {}", replicas - 1);
        return Err(Fault::new(path, if replicas > 1 { why } else { format!("{name:?} has only one worker") }));
    }
    Ok(Some(found))
}

/// The task that says itself how few of its replicas there may be; where none does, the largest, which then bears all that the job may
/// have less.
fn of_volcano(value: &Value, templates: &[Template], groups: &[WorkerGroup]) -> Result<(Elastic, String), Fault> {
    let mut said = Vec::new();
    for (group, template) in templates.iter().enumerate() {
        let path = template.path.replace(".template", ".minAvailable");
        let pointer = template.pointer.replace("/template", "/minAvailable");
        let least = count(&path, value.pointer(&pointer), template.replicas)?;
        if least < template.replicas {
            said.push((Elastic { group, least }, path));
        }
    }
    if said.len() > 1 {
        return Err(Fault::new(&said[1].1, "a second task that may have fewer replicas; of an elastic job only one may"));
    }
    if let Some(said) = said.pop() {
        return Ok(said);
    }
    let path = "spec.minAvailable";
    let workers: u64 = groups.iter().map(|group| u64::from(group.replicas)).sum();
    let min = u64::from(count(path, value.pointer("/spec/minAvailable"), 0)?);
    if min == 0 || min >= workers {
        let why =
            format!("must be less than the job's {workers} workers where it says {ELASTIC_KEY}, or a task's minAvailable must");
        return Err(Fault::new(path, why));
    }
    let largest = groups.iter().map(|group| group.replicas).max().unwrap_or(0);
    let mut of_that_size = groups.iter().enumerate().filter(|(_, group)| group.replicas == largest);
    let (Some((group, _)), None) = (of_that_size.next(), of_that_size.next()) else {
        let why = "leaves open which task has fewer: several are the largest; say it by the task's minAvailable";
        return Err(Fault::new(path, why));
    };
    let others = workers - u64::from(largest);
    let Some(least) = min.checked_sub(others).filter(|least| *least > 0) else {
        let name = &groups[group].name;
        let why = format!(
            "is {min}: of {name:?}, the largest task, none would be left beside the {others} others, which are always there"
        );
        return Err(Fault::new(path, why));
    };
    Ok((Elastic { group, least: u32::try_from(least).unwrap_or(u32::MAX) }, path.to_owned()))
}

fn of_batch(value: &Value) -> Result<(Elastic, String), Fault> {
    let path = annotation(MIN_KEY);
    let Some(text) = metadata(value, MIN_KEY) else {
        return Err(Fault::new(path, format!("must say how many pods there are at least, since the job says {ELASTIC_KEY}")));
    };
    let least = text.parse().map_err(|_| Fault::new(&path, format!("{text:?} is no number of pods")))?;
    Ok((Elastic { group: 0, least }, path))
}

fn of_pytorch(value: &Value, templates: &[Template]) -> Result<(Elastic, String), Fault> {
    let path = "spec.elasticPolicy.minReplicas".to_owned();
    let group = templates.iter().position(|template| template.name == WORKER);
    let Some(group) = group else {
        return Err(Fault::new(
            "spec.pytorchReplicaSpecs.Worker",
            "is missing: its replicas are those of which there may be fewer",
        ));
    };
    let Some(least) = policy(value, "minReplicas") else {
        return Err(Fault::new(path, format!("must say how many workers there are at least, since the job says {ELASTIC_KEY}")));
    };
    let least = count(&path, Some(least), 0)?;
    Ok((Elastic { group, least }, path))
}

/// The replicas of a PyTorchJob of which there may be fewer or more.
pub(super) const WORKER: &str = "worker";

fn policy<'a>(value: &'a Value, field: &str) -> Option<&'a Value> {
    value.pointer("/spec/elasticPolicy")?.get(field).filter(|value| !value.is_null())
}

/// The most workers that a PyTorchJob may have, where it says so and is not told to be of one size.
pub(super) fn most_of_pytorch(value: &Value) -> Option<&Value> {
    let is_whole = metadata(value, ELASTIC_KEY) == Some("false") || policy(value, "minReplicas").is_none();
    policy(value, "maxReplicas").filter(|_| !is_whole)
}
