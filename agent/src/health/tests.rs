//! Tables of objects and what is said of them.

use super::*;
use crate::domain::observation::{RunPhase, RunStatus, State};
use serde_json::json;
use std::collections::BTreeMap;

fn object(api_version: &str, kind: &str, spec: Value, status: Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "generation": 2}, "spec": spec, "status": status})
}

fn conditions(all: &[(&str, &str, &str)]) -> Value {
    all.iter().map(|(kind, status, reason)| json!({"type": kind, "status": status, "reason": reason, "message": "m"})).collect()
}

#[test]
fn every_kind_is_judged_by_its_own_status() {
    use State::{Degraded, Healthy, Progressing, Suspended};
    let full = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2});
    let with = |base: &Value, field: &str, value: Value| {
        let mut status = base.clone();
        status[field] = value;
        status
    };
    let two = json!({"replicas": 2});
    let (apps, core, batch) = ("apps/v1", "v1", "batch/v1");
    let volcano = |phase: &str| json!({"state": {"phase": phase}});
    let stuck =
        json!({"phase": "Pending", "containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]});
    let daemons =
        |n: i64| json!({"observedGeneration": 2, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": n});
    for (api, kind, spec, status, state, reason) in [
        (apps, "Deployment", two.clone(), full.clone(), Healthy, ""),
        (apps, "Deployment", two.clone(), json!({}), Progressing, "NotObserved"),
        (apps, "Deployment", two.clone(), with(&full, "observedGeneration", json!(1)), Progressing, "NotObserved"),
        (apps, "Deployment", two.clone(), with(&full, "updatedReplicas", json!(1)), Progressing, "Updating"),
        (apps, "Deployment", two.clone(), with(&full, "replicas", json!(3)), Progressing, "Updating"),
        (apps, "Deployment", two.clone(), with(&full, "availableReplicas", json!(1)), Progressing, "NotReady"),
        (apps, "Deployment", json!({"replicas": 2, "paused": true}), full.clone(), Suspended, "Suspended"),
        (
            apps,
            "Deployment",
            two.clone(),
            with(&full, "conditions", conditions(&[("Progressing", "False", "ProgressDeadlineExceeded")])),
            Degraded,
            "ProgressDeadlineExceeded",
        ),
        (apps, "StatefulSet", two.clone(), full.clone(), Healthy, ""),
        (apps, "StatefulSet", two.clone(), with(&full, "readyReplicas", json!(1)), Progressing, "NotReady"),
        (apps, "StatefulSet", two.clone(), with(&full, "updatedReplicas", json!(1)), Progressing, "Updating"),
        (apps, "DaemonSet", json!({}), daemons(2), Healthy, ""),
        (apps, "DaemonSet", json!({}), daemons(1), Progressing, "NotReady"),
        (apps, "ReplicaSet", two.clone(), full.clone(), Healthy, ""),
        (apps, "ReplicaSet", two.clone(), with(&full, "availableReplicas", json!(0)), Progressing, "NotReady"),
        (core, "Pod", json!({}), json!({"phase": "Running", "conditions": conditions(&[("Ready", "True", "")])}), Healthy, ""),
        (core, "Pod", json!({}), json!({"phase": "Succeeded"}), Healthy, ""),
        (core, "Pod", json!({}), json!({"phase": "Failed", "reason": "Evicted"}), Degraded, "Evicted"),
        (core, "Pod", json!({}), stuck, Degraded, "ImagePullBackOff"),
        (
            core,
            "Pod",
            json!({}),
            json!({"phase": "Pending", "conditions": conditions(&[("PodScheduled", "False", "Unschedulable")])}),
            Progressing,
            "Unschedulable",
        ),
        (core, "Service", json!({"type": "ClusterIP"}), json!({}), Healthy, ""),
        (core, "Service", json!({"type": "LoadBalancer"}), json!({}), Progressing, "NoAddress"),
        (core, "PersistentVolumeClaim", json!({}), json!({"phase": "Bound"}), Healthy, ""),
        (core, "PersistentVolumeClaim", json!({}), json!({"phase": "Lost"}), Degraded, "Lost"),
        (core, "PersistentVolumeClaim", json!({}), json!({"phase": "Pending"}), Progressing, "Pending"),
        (
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            json!({}),
            json!({"conditions": conditions(&[("Established", "True", "")])}),
            Healthy,
            "",
        ),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition", json!({}), json!({}), Progressing, "NotEstablished"),
        (batch, "Job", json!({}), json!({"conditions": conditions(&[("Complete", "True", "")])}), Healthy, ""),
        (
            batch,
            "Job",
            json!({}),
            json!({"conditions": conditions(&[("Failed", "True", "BackoffLimitExceeded")])}),
            Degraded,
            "BackoffLimitExceeded",
        ),
        (batch, "Job", json!({}), json!({"active": 1}), Progressing, "Running"),
        (batch, "Job", json!({"suspend": true}), json!({}), Suspended, "Suspended"),
        (batch, "CronJob", json!({}), json!({}), Healthy, ""),
        (batch, "CronJob", json!({"suspend": true}), json!({}), Suspended, "Suspended"),
        ("batch.volcano.sh/v1alpha1", "Job", json!({}), volcano("Completed"), Healthy, ""),
        ("batch.volcano.sh/v1alpha1", "Job", json!({}), volcano("Failed"), Degraded, "Failed"),
        ("batch.volcano.sh/v1alpha1", "Job", json!({}), volcano("Pending"), Progressing, "Pending"),
        ("batch.volcano.sh/v1alpha1", "Job", json!({}), json!({}), Progressing, "Pending"),
        ("scheduling.volcano.sh/v1beta1", "Queue", json!({}), json!({"state": "Open"}), Healthy, ""),
        ("scheduling.volcano.sh/v1beta1", "Queue", json!({}), json!({"state": "Closed"}), Suspended, "Suspended"),
        (
            "admissionregistration.k8s.io/v1",
            "ValidatingAdmissionPolicy",
            json!({}),
            json!({"observedGeneration": 2, "typeChecking": {"expressionWarnings": [{"fieldRef": "spec.validations[0]", "warning": "w"}]}}),
            Degraded,
            "TypeChecking",
        ),
        ("example.com/v1", "Thing", json!({}), json!({}), Healthy, ""),
        ("example.com/v1", "Thing", json!({}), json!({"observedGeneration": 1}), Progressing, "NotObserved"),
        (
            "example.com/v1",
            "Thing",
            json!({}),
            json!({"conditions": conditions(&[("Ready", "False", "Busy")])}),
            Progressing,
            "Busy",
        ),
        (
            "example.com/v1",
            "Thing",
            json!({}),
            json!({"conditions": conditions(&[("Stalled", "True", "")])}),
            Degraded,
            "Stalled",
        ),
    ] {
        let live = object(api, kind, spec, status);
        let health = judge(&live);
        assert_eq!((health.state, health.reason.as_str()), (state, reason), "{live}");
    }
}

#[test]
fn what_is_being_deleted_is_on_its_way() {
    let mut live = object("v1", "Service", json!({}), json!({}));
    live["metadata"]["deletionTimestamp"] = json!("2026-11-24T00:00:00Z");
    assert_eq!(judge(&live).reason, "Terminating");
}

#[test]
fn a_run_of_a_batch_job_has_the_times_of_the_object() {
    let run = "namespaces/ml/jobs/train/runs/1";
    let spec = json!({"parallelism": 2, "completions": 2});
    let status = |live: Value| run_status(run, &live).expect("a job");
    let pending =
        status(object("batch/v1", "Job", spec.clone(), json!({"active": 2, "ready": 1, "startTime": "2026-11-24T00:00:00Z"})));
    assert_eq!((pending.phase, pending.started_at, pending.message.as_str()), (RunPhase::Pending, None, "1 of 2 pods run"));
    let running =
        status(object("batch/v1", "Job", spec.clone(), json!({"active": 2, "ready": 2, "startTime": "2026-11-24T00:00:00Z"})));
    assert_eq!((running.phase, running.started_at), (RunPhase::Running, "2026-11-24T00:00:00Z".parse().ok()));
    let done = json!({
        "succeeded": 2, "startTime": "2026-11-24T00:00:00Z", "completionTime": "2026-11-24T00:10:00Z",
        "conditions": conditions(&[("Complete", "True", "")]),
    });
    assert_eq!(
        status(object("batch/v1", "Job", spec, done)),
        RunStatus {
            run: run.to_owned(),
            phase: RunPhase::Succeeded,
            started_at: "2026-11-24T00:00:00Z".parse().ok(),
            finished_at: "2026-11-24T00:10:00Z".parse().ok(),
            pods: BTreeMap::from([("succeeded".to_owned(), 2)]),
            exit_code: None,
            message: String::new(),
        }
    );
}

#[test]
fn a_run_of_a_volcano_job_began_when_it_first_stood_in_running() {
    let live = object(
        "batch.volcano.sh/v1alpha1",
        "Job",
        json!({"minAvailable": 1}),
        json!({
            "state": {"phase": "Failed", "lastTransitionTime": "2026-11-24T00:10:00Z", "message": "out of retries"},
            "conditions": [
                {"status": "Pending", "lastTransitionTime": "2026-11-24T00:00:00Z"},
                {"status": "Running", "lastTransitionTime": "2026-11-24T00:01:00Z"},
            ],
            "failed": 4,
        }),
    );
    let status = run_status("namespaces/ml/jobs/train/runs/2", &live).expect("a job");
    assert_eq!(
        (status.phase, status.started_at, status.finished_at, status.message.as_str()),
        (RunPhase::Failed, "2026-11-24T00:01:00Z".parse().ok(), "2026-11-24T00:10:00Z".parse().ok(), "out of retries")
    );
    assert_eq!(run_status("r", &object("apps/v1", "Deployment", json!({}), json!({}))), None);
}

#[test]
fn the_first_pod_that_failed_gives_the_exit_code() {
    let pod = |at: &str, code: i32| json!({"status": {"containerStatuses": [{"state": {"terminated": {"finishedAt": at, "exitCode": code}}}]}});
    assert_eq!(
        exit_code(&[pod("2026-11-24T00:02:00Z", 137), pod("2026-11-24T00:01:00Z", 3), pod("2026-11-24T00:00:00Z", 0)]),
        Some(3)
    );
    assert_eq!(exit_code(&[]), None);
}
