//! Health of what keeps pods running: Deployment, StatefulSet, DaemonSet, ReplicaSet, and the pod itself.

use super::{condition, is_observed, is_true};
use crate::domain::{
    object::{list, number, text},
    observation::Health,
};
use serde_json::Value;

fn count(live: &Value, pointer: &str) -> i64 {
    number(live, pointer).unwrap_or(0)
}

const UNOBSERVED: &str = "its controller has not seen the present spec yet";

pub(super) fn deployment(live: &Value) -> Health {
    if let Some(progress) = condition(live, "Progressing").filter(|c| text(c, "/reason") == "ProgressDeadlineExceeded") {
        return Health::degraded("ProgressDeadlineExceeded", text(progress, "/message"));
    }
    if !is_observed(live) {
        return Health::progressing("NotObserved", UNOBSERVED);
    }
    let wanted = number(live, "/spec/replicas").unwrap_or(1);
    let (updated, total) = (count(live, "/status/updatedReplicas"), count(live, "/status/replicas"));
    let available = count(live, "/status/availableReplicas");
    if updated < wanted {
        return match condition(live, "ReplicaFailure").filter(|c| text(c, "/status") == "True") {
            Some(failure) => Health::degraded("ReplicaFailure", text(failure, "/message")),
            None => Health::progressing("Updating", format!("{updated} of {wanted} pods are of the present version")),
        };
    }
    if total > updated {
        return Health::progressing("Updating", format!("{} pods of an earlier version remain", total - updated));
    }
    if available < wanted {
        return Health::progressing("NotReady", format!("{available} of {wanted} pods are available"));
    }
    if live.pointer("/spec/paused").and_then(Value::as_bool) == Some(true) {
        return Health::suspended("the rollout is paused");
    }
    Health::healthy()
}

pub(super) fn stateful_set(live: &Value) -> Health {
    if !is_observed(live) {
        return Health::progressing("NotObserved", UNOBSERVED);
    }
    let wanted = number(live, "/spec/replicas").unwrap_or(1);
    let ready = count(live, "/status/readyReplicas");
    if ready < wanted {
        return Health::progressing("NotReady", format!("{ready} of {wanted} pods are ready"));
    }
    let on_delete = text(live, "/spec/updateStrategy/type") == "OnDelete";
    let partition = count(live, "/spec/updateStrategy/rollingUpdate/partition");
    let updated = count(live, "/status/updatedReplicas");
    if !on_delete && updated < wanted - partition {
        return Health::progressing("Updating", format!("{updated} of {} pods are of the present version", wanted - partition));
    }
    Health::healthy()
}

pub(super) fn daemon_set(live: &Value) -> Health {
    if !is_observed(live) {
        return Health::progressing("NotObserved", UNOBSERVED);
    }
    let wanted = count(live, "/status/desiredNumberScheduled");
    let updated = count(live, "/status/updatedNumberScheduled");
    if updated < wanted && text(live, "/spec/updateStrategy/type") != "OnDelete" {
        return Health::progressing("Updating", format!("{updated} of {wanted} pods are of the present version"));
    }
    let available = count(live, "/status/numberAvailable");
    if available < wanted {
        return Health::progressing("NotReady", format!("{available} of {wanted} pods are available"));
    }
    Health::healthy()
}

pub(super) fn replica_set(live: &Value) -> Health {
    if !is_observed(live) {
        return Health::progressing("NotObserved", UNOBSERVED);
    }
    if let Some(failure) = condition(live, "ReplicaFailure").filter(|c| text(c, "/status") == "True") {
        return Health::degraded("ReplicaFailure", text(failure, "/message"));
    }
    let (wanted, available) = (number(live, "/spec/replicas").unwrap_or(1), count(live, "/status/availableReplicas"));
    if available < wanted {
        return Health::progressing("NotReady", format!("{available} of {wanted} pods are available"));
    }
    Health::healthy()
}

/// Reasons of a waiting container that do not pass by themselves.
const STUCK: [&str; 7] = [
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

pub(super) fn pod(live: &Value) -> Health {
    match text(live, "/status/phase") {
        "Succeeded" => return Health::healthy(),
        "Failed" => {
            let reason = text(live, "/status/reason");
            return Health::degraded(if reason.is_empty() { "Failed" } else { reason }, text(live, "/status/message"));
        }
        _ => {}
    }
    let statuses = list(live, "/status/initContainerStatuses").iter().chain(list(live, "/status/containerStatuses"));
    for status in statuses {
        let reason = text(status, "/state/waiting/reason");
        if STUCK.contains(&reason) {
            let message = text(status, "/state/waiting/message");
            return Health::degraded(reason, format!("container {}: {message}", text(status, "/name")));
        }
    }
    if is_true(live, "Ready") {
        return Health::healthy();
    }
    match condition(live, "PodScheduled").filter(|c| text(c, "/status") == "False") {
        Some(unscheduled) => Health::progressing("Unschedulable", text(unscheduled, "/message")),
        None => Health::progressing("NotReady", "the pod is not ready"),
    }
}
