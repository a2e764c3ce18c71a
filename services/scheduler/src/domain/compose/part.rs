//! What one cluster makes of a run that may be in several: the user's manifest with so many workers as are planned there, all of which
//! must run, and told which part of the whole they are.

use muster_core::labels;
use muster_scheduler_engine::{Gang, Slot};
use serde_json::{Map, Value, json};

use super::{object, put, set_variable};
use crate::domain::manifest::{Kind, Template, set_replicas};

/// Which part of a run an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartMarks {
    /// From 0.
    number: u32,
    /// How many there are.
    of: u32,
    /// By group of the gang.
    groups: Vec<GroupPart>,
}

/// What a part has of a group of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GroupPart {
    /// Those in this part.
    here: u32,
    /// Those in the parts before.
    before: u32,
    /// Those in all parts.
    all: u32,
}

impl PartMarks {
    /// The marks of a part, by the plans of all parts in their order.
    #[must_use]
    pub fn of<'a>(gang: &Gang, plans: impl Iterator<Item = &'a [Slot]> + Clone, number: usize) -> Self {
        let planned = |slots: &[Slot], group: usize| {
            slots.iter().filter(|slot| slot.group == group).fold(0, |sum: u32, slot| sum.saturating_add(slot.workers))
        };
        let sum = |group: usize, parts: usize| {
            plans.clone().take(parts).fold(0, |sum: u32, plan| sum.saturating_add(planned(plan, group)))
        };
        let groups = (0..gang.groups.len()).map(|group| GroupPart {
            here: sum(group, number + 1) - sum(group, number),
            before: sum(group, number),
            all: sum(group, usize::MAX),
        });
        let count = |parts: usize| u32::try_from(parts).unwrap_or(u32::MAX);
        Self { number: count(number), of: count(plans.clone().count()), groups: groups.collect() }
    }
}

/// Gives the object the workers of its part, where there are others.
pub(super) fn divide(kind: Kind, composed: &mut Value, templates: &[Template], marks: &PartMarks) {
    if marks.of < 2 {
        return;
    }
    let here = |group: usize| marks.groups.get(group).map_or(0, |group| group.here);
    let workers: u32 = marks.groups.iter().map(|group| group.here).sum();
    match kind {
        Kind::Volcano => {
            for (group, template) in templates.iter().enumerate() {
                set_replicas(kind, composed, template, here(group));
                let task = composed.pointer_mut(template.pointer.trim_end_matches("/template"));
                if let Some(min) = task.and_then(|task| task.get_mut("minAvailable")) {
                    *min = here(group).into();
                }
            }
            object(composed, "spec").insert("minAvailable".to_owned(), workers.into());
        }
        Kind::Batch => set_pods(object(composed, "spec"), workers),
        Kind::JobSet => {
            for (group, template) in templates.iter().enumerate() {
                let entry = template.pointer.trim_end_matches("/template/spec/template");
                if let Some(Value::Object(entry)) = composed.pointer_mut(entry) {
                    set_jobs(entry, here(group));
                }
            }
        }
        Kind::PyTorch => {
            for (group, template) in templates.iter().enumerate() {
                match here(group) {
                    // A kind of replica that is there has at least one: a master exactly one.
                    0 => remove(composed, template.pointer.trim_end_matches("/template")),
                    here => set_replicas(kind, composed, template, here),
                }
            }
            let min = composed.pointer_mut("/spec/runPolicy/schedulingPolicy").and_then(|policy| policy.get_mut("minAvailable"));
            if let Some(min) = min {
                *min = workers.into();
            }
        }
        // Refused when it was submitted.
        Kind::Ray => {}
    }
}

/// An entry of a JobSet is one Job of several pods, or several Jobs of one pod. One without any stays, with no Jobs: others may name it.
fn set_jobs(entry: &mut Map<String, Value>, workers: u32) {
    let jobs = entry.get("replicas").and_then(Value::as_u64).unwrap_or(1);
    if jobs > 1 || workers == 0 {
        entry.insert("replicas".to_owned(), workers.into());
        return;
    }
    if let Some(Value::Object(job)) = entry.get_mut("template").and_then(|template| template.get_mut("spec")) {
        set_pods(job, workers);
    }
}

fn set_pods(job: &mut Map<String, Value>, pods: u32) {
    job.insert("parallelism".to_owned(), pods.into());
    if job.get("completions").is_some_and(|completions| !completions.is_null()) {
        job.insert("completions".to_owned(), pods.into());
    }
    // Kubernetes refuses more of these than there are completions.
    if let Some(most) = job.get_mut("maxFailedIndexes").filter(|most| most.as_u64().is_some_and(|most| most > u64::from(pods))) {
        *most = pods.into();
    }
}

fn remove(composed: &mut Value, pointer: &str) {
    let Some((parent, key)) = pointer.rsplit_once('/') else { return };
    if let Some(Value::Object(parent)) = composed.pointer_mut(parent) {
        parent.remove(key);
    }
}

/// Labels of the object and of its pods.
pub(super) fn mark(metadata: &mut Map<String, Value>, marks: &PartMarks) {
    let workers: u32 = marks.groups.iter().map(|group| group.all).sum();
    put(metadata, "labels", labels::PART, marks.number.to_string());
    put(metadata, "annotations", labels::PARTS, marks.of.to_string());
    put(metadata, "annotations", labels::WORKERS, workers.to_string());
}

/// Tells the workers of a group which of all these they are: the first one here, and how many there are.
pub(super) fn tell(container: &mut Value, marks: &PartMarks, group: usize) {
    let Some(GroupPart { here: _, before, all }) = marks.groups.get(group).copied() else { return };
    let variables = [
        (labels::PART_ENV, marks.number),
        (labels::PARTS_ENV, marks.of),
        (labels::WORKERS_ENV, all),
        (labels::FIRST_WORKER_ENV, before),
    ];
    for (name, value) in variables {
        set_variable(container, name, &json!(value.to_string()));
    }
}
