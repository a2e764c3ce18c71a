//! Where a job wants its workers to stand together: Kueue's annotations of pod templates (KEP-2724), also on the job itself, and Volcano's
//! `spec.networkTopology`. What is asked of several templates is asked of all workers together.

use muster_core::labels;
use muster_scheduler_engine::{Topology, TopologyMode};
use serde_json::Value;

use super::{Kind, Template};
use crate::domain::Fault;
use crate::domain::cluster::RACK;

/// Kueue's annotations: the value is a node label's key.
const KEYS: [(&str, TopologyMode); 2] = [
    ("kueue.x-k8s.io/podset-required-topology", TopologyMode::Required),
    ("kueue.x-k8s.io/podset-preferred-topology", TopologyMode::Preferred),
];
/// Parts of a group of workers, each in a domain of its own.
const SLICES: &str = "kueue.x-k8s.io/podset-slice-required-topology";

/// What is asked for, and the path of the field that asks.
///
/// # Errors
/// A level that no label of a node can say, two different wishes, and what would have to be done and isn't: slices, tiers above the
/// first, partitions of a task.
pub(super) fn read(kind: Kind, value: &Value, templates: &[Template]) -> Result<Option<(Topology, String)>, Fault> {
    let mut found: Option<(Topology, String)> = None;
    let of_job = value.get("metadata").map(|metadata| ("metadata".to_owned(), metadata));
    let of_templates = templates
        .iter()
        .filter_map(|template| Some((format!("{}.metadata", template.path), value.pointer(&template.pointer)?.get("metadata")?)));
    for (path, metadata) in of_job.into_iter().chain(of_templates) {
        let Some(annotations) = metadata.get("annotations") else { continue };
        if annotations.get(SLICES).is_some() {
            let why = "slices of a group of workers are not placed in domains of their own; all workers are";
            return Err(Fault::new(format!("{path}.annotations[{SLICES}]"), why));
        }
        for (key, mode) in KEYS {
            let Some(level) = annotations.get(key) else { continue };
            let path = format!("{path}.annotations[{key}]");
            let level = level.as_str().unwrap_or_default();
            if level != Topology::NODE && !labels::says_where(level) {
                let why = format!(
                    "{level:?} is no node label that says where a node stands: {} or one with a word such as topology, block, \
                     rack or zone in its key",
                    Topology::NODE
                );
                return Err(Fault::new(path, why));
            }
            add(&mut found, (Topology { level: level.to_owned(), mode }, path))?;
        }
    }
    if kind == Kind::Volcano
        && let Some(wish) = of_volcano(value)?
    {
        add(&mut found, wish)?;
    }
    Ok(found)
}

fn add(found: &mut Option<(Topology, String)>, (topology, path): (Topology, String)) -> Result<(), Fault> {
    match found {
        Some((known, of)) if *known != topology => {
            Err(Fault::new(path, format!("asks for another topology than {of}; all workers of a job stand together, in one way")))
        }
        Some(_) => Ok(()),
        None => {
            *found = Some((topology, path));
            Ok(())
        }
    }
}

/// Volcano's tiers are of its HyperNodes; the first, of the nodes that are nearest to each other, is taken to be the rack.
fn of_volcano(value: &Value) -> Result<Option<(Topology, String)>, Fault> {
    let tasks = value.pointer("/spec/tasks").and_then(Value::as_array);
    for (index, task) in tasks.into_iter().flatten().enumerate() {
        if task.pointer("/partitionPolicy/networkTopology").is_some() {
            let path = format!("spec.tasks[{index}].partitionPolicy.networkTopology");
            return Err(Fault::new(path, "partitions of a task are not placed in domains of their own; all workers are"));
        }
    }
    let path = "spec.networkTopology".to_owned();
    let Some(wish) = value.pointer("/spec/networkTopology").filter(|wish| !wish.is_null()) else { return Ok(None) };
    if wish.get("highestTierName").is_some() {
        return Err(Fault::new(format!("{path}.highestTierName"), "tiers are known by number only, and only the first"));
    }
    let mode = match wish.get("mode").map(|mode| mode.as_str().unwrap_or_default()) {
        None | Some("hard") => TopologyMode::Required,
        Some("soft") => TopologyMode::Preferred,
        Some(_) => return Err(Fault::new(format!("{path}.mode"), "is neither hard nor soft")),
    };
    // In soft mode the tier has no meaning.
    let tier = wish.get("highestTierAllowed").filter(|tier| !tier.is_null() && mode == TopologyMode::Required);
    if tier.is_some_and(|tier| tier.as_u64() != Some(1)) {
        let why = "only the first tier is known, which is taken to be the rack; a node label can be named by the annotation \
                   kueue.x-k8s.io/podset-required-topology";
        return Err(Fault::new(format!("{path}.highestTierAllowed"), why));
    }
    Ok(Some((Topology { level: RACK.to_owned(), mode }, path)))
}
