//! How far the workers of a job may be apart: on one cluster, or on several of one region. A job that may span a region is refused where
//! what it says would mean something else, or nothing, of a part of it.

use muster_scheduler_engine::{Elastic, Span, Topology, TopologyMode};
use serde_json::Value;

use super::metadata;
use super::shape::{Kind, count};
use crate::domain::Fault;

/// `cluster`, which is what is meant where it is not said, or `region`.
const KEY: &str = "muster.dev/span";

/// The path of the annotation.
pub(super) fn path() -> String {
    format!("metadata.annotations[{KEY}]")
}

/// Reads what the job says.
///
/// # Errors
/// The field at fault: another word, what needs all workers in one cluster, what can't be divided.
pub(super) fn read(kind: Kind, value: &Value, wishes: (Option<Elastic>, Option<&Topology>)) -> Result<Span, Fault> {
    match metadata(value, KEY) {
        None | Some("cluster") => return Ok(Span::Cluster),
        Some("region") => {}
        Some(other) => return Err(Fault::new(path(), format!("{other:?} is neither \"cluster\" nor \"region\""))),
    }
    let (elastic, topology) = wishes;
    if elastic.is_some() {
        return Err(Fault::new(
            path(),
            "a job that may have fewer workers stays in one cluster; it is elastic, or spans a region",
        ));
    }
    if topology.is_some_and(|topology| topology.mode == TopologyMode::Required) {
        return Err(Fault::new(path(), "a job whose workers must stand together in one rack or node stays in one cluster"));
    }
    match kind {
        Kind::Volcano => volcano(value)?,
        Kind::Batch => of_batch_job("spec", value.get("spec"))?,
        Kind::JobSet => job_set(value)?,
        Kind::PyTorch => {
            if value.pointer("/spec/elasticPolicy").is_some_and(|policy| !policy.is_null()) {
                let why = "is of workers that find each other in one cluster; a job that may span a region has none";
                return Err(Fault::new("spec.elasticPolicy", why));
            }
        }
        Kind::Ray => {
            return Err(Fault::new(path(), "a RayJob is one Ray cluster, of which the workers and the head are together"));
        }
    }
    Ok(Span::Region)
}

/// A task that waits for another, or ends the job for all, would do so for what is in its own cluster.
fn volcano(value: &Value) -> Result<(), Fault> {
    let policies = |path: &str, of: &Value| {
        for (index, policy) in of.get("policies").and_then(Value::as_array).into_iter().flatten().enumerate() {
            if policy.get("action").and_then(Value::as_str) == Some("CompleteJob") {
                let why = "would complete what is in one cluster only; of a job that may span a region all workers must be done";
                return Err(Fault::new(format!("{path}.policies[{index}].action"), why));
            }
        }
        Ok(())
    };
    let Some(spec) = value.get("spec") else { return Ok(()) };
    policies("spec", spec)?;
    if spec.get("minSuccess").is_some_and(|wish| !wish.is_null()) {
        let why = "would be met by the pods of one cluster; of a job that may span a region all workers must be done";
        return Err(Fault::new("spec.minSuccess", why));
    }
    for (index, task) in spec.get("tasks").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let path = format!("spec.tasks[{index}]");
        policies(&path, task)?;
        if task.get("dependsOn").is_some_and(|wish| !wish.is_null()) {
            return Err(Fault::new(
                format!("{path}.dependsOn"),
                "of a job that may span a region a task may be in another cluster",
            ));
        }
    }
    Ok(())
}

/// Every pod of the Job is one worker: what makes others later, or is done before all of them are, can't be divided.
fn of_batch_job(path: &str, spec: Option<&Value>) -> Result<(), Fault> {
    let Some(spec) = spec else { return Ok(()) };
    let parallelism = count(&format!("{path}.parallelism"), spec.get("parallelism"), 1)?;
    let completions = count(&format!("{path}.completions"), spec.get("completions"), parallelism)?;
    if completions != parallelism {
        let why =
            format!("is {completions}, and {parallelism} pods run at a time: of a job that may span a region all run at once");
        return Err(Fault::new(format!("{path}.completions"), why));
    }
    if spec.get("successPolicy").is_some_and(|policy| !policy.is_null()) {
        let why = "would be met by the pods of one cluster; of a job that may span a region all workers must be done";
        return Err(Fault::new(format!("{path}.successPolicy"), why));
    }
    Ok(())
}

fn job_set(value: &Value) -> Result<(), Fault> {
    let policy = value.pointer("/spec/successPolicy");
    let is_all = |policy: &Value| {
        let targets = policy.get("targetReplicatedJobs").and_then(Value::as_array).is_some_and(|targets| !targets.is_empty());
        policy.get("operator").and_then(Value::as_str) != Some("Any") && !targets
    };
    if policy.is_some_and(|policy| !policy.is_null() && !is_all(policy)) {
        let why = "would be met by the jobs of one cluster; of a job that may span a region all workers must be done";
        return Err(Fault::new("spec.successPolicy", why));
    }
    if value.pointer("/spec/startupPolicy/startupPolicyOrder").and_then(Value::as_str) == Some("InOrder") {
        let why = "holds among the jobs of one cluster only; those of a job that may span a region start at once";
        return Err(Fault::new("spec.startupPolicy.startupPolicyOrder", why));
    }
    for (index, entry) in value.pointer("/spec/replicatedJobs").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let path = format!("spec.replicatedJobs[{index}]");
        let (job, replicas) = (entry.pointer("/template/spec"), count(&format!("{path}.replicas"), entry.get("replicas"), 1)?);
        of_batch_job(&format!("{path}.template.spec"), job)?;
        let pods = count(&format!("{path}.template.spec.parallelism"), job.and_then(|job| job.get("parallelism")), 1)?;
        if replicas > 1 && pods > 1 {
            let why =
                format!("{replicas} jobs of {pods} pods can't be divided pod by pod: it must be one job, or jobs of one pod");
            return Err(Fault::new(format!("{path}.replicas"), why));
        }
        if entry.get("dependsOn").and_then(Value::as_array).is_some_and(|wishes| !wishes.is_empty()) {
            let why = "of a job that may span a region the job that it waits for may be in another cluster";
            return Err(Fault::new(format!("{path}.dependsOn"), why));
        }
    }
    Ok(())
}
