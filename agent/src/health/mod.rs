//! Whether an object is as it should be, by its own status. Pure: one object in, one verdict out.
//!
//! Kinds that are not listed are judged by the conventions of `kstatus`: observed generation, then the conditions
//! Stalled, Reconciling and Ready.

mod batch;
mod generic;
mod run;
mod volcano;
mod workloads;

pub use run::{exit_code, run_status};

use crate::domain::{
    object::{ObjectRef, list, text},
    observation::Health,
};
use serde_json::Value;

/// The health of a live object.
pub fn judge(live: &Value) -> Health {
    if live.pointer("/metadata/deletionTimestamp").is_some() {
        return Health::progressing("Terminating", "is being deleted");
    }
    let object = ObjectRef::of(live);
    match object.group_kind() {
        ("apps", "Deployment") => workloads::deployment(live),
        ("apps", "StatefulSet") => workloads::stateful_set(live),
        ("apps", "DaemonSet") => workloads::daemon_set(live),
        ("apps", "ReplicaSet") => workloads::replica_set(live),
        ("", "Pod") => workloads::pod(live),
        ("", "Service") => generic::service(live),
        ("", "PersistentVolumeClaim") => generic::volume_claim(live),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => generic::admission_policy(live),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => generic::definition(live),
        ("batch", "Job") => batch::job(live),
        ("batch", "CronJob") => batch::cron_job(live),
        ("batch.volcano.sh", "Job") => volcano::job(live),
        ("scheduling.volcano.sh", "Queue") => volcano::queue(live),
        _ => generic::by_convention(live),
    }
}

/// A condition by its type.
fn condition<'a>(live: &'a Value, kind: &str) -> Option<&'a Value> {
    list(live, "/status/conditions").iter().find(|condition| text(condition, "/type") == kind)
}

/// Whether a condition has the status "True".
fn is_true(live: &Value, kind: &str) -> bool {
    condition(live, kind).is_some_and(|condition| text(condition, "/status") == "True")
}

/// Whether the controller has seen the present spec.
fn is_observed(live: &Value) -> bool {
    match live.pointer("/status/observedGeneration").and_then(Value::as_i64) {
        Some(observed) => observed >= live.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0),
        None => false,
    }
}

#[cfg(test)]
mod tests;
