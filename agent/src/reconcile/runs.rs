//! Runs of jobs: they are started once, never again after they ended or were taken away, and a movable one is kept
//! alive only as long as the cluster session lasts.

use super::{Reconciler, desired::Wanted};
use crate::{
    domain::{
        item::{ItemKey, Record},
        object::{number, text},
        observation::{RunPhase, RunStatus},
    },
    health::{exit_code, run_status},
};
use jiff::Timestamp;
use muster_core::labels::RUN;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

/// Whether an object is the job itself and not something that comes with it.
pub(super) fn is_job(wanted: &Wanted) -> bool {
    matches!(
        wanted.object.group_kind(),
        ("batch" | "batch.volcano.sh", "Job") | ("jobset.x-k8s.io" | "kubeflow.org" | "ray.io", _)
    )
}

/// The label value under which a run's pods stand: `namespace.job.epoch`.
pub fn run_label(run: &str) -> Option<String> {
    match run.split('/').collect::<Vec<_>>()[..] {
        ["namespaces", namespace, "jobs", job, "runs", epoch] => Some(format!("{namespace}.{job}.{epoch}")),
        _ => None,
    }
}

/// The run behind a label value; a job's name may have dots, a namespace and an epoch have none.
pub fn run_of_label(label: &str) -> Option<String> {
    let (namespace, rest) = label.split_once('.')?;
    let (job, epoch) = rest.rsplit_once('.')?;
    Some(format!("namespaces/{namespace}/jobs/{job}/runs/{epoch}"))
}

/// A run that was taken away before it ended by itself.
pub(super) fn stopped(run: &str, message: &str, last: Option<&RunStatus>) -> RunStatus {
    RunStatus {
        run: run.to_owned(),
        phase: RunPhase::Stopped,
        started_at: last.and_then(|last| last.started_at),
        finished_at: Some(Timestamp::now()),
        pods: BTreeMap::new(),
        exit_code: None,
        message: message.to_owned(),
    }
}

/// For a movable `batch/v1` Job: the deadline by which the cluster itself ends it, unless it is renewed. `None` where the
/// live deadline is still good enough to be left alone.
pub(super) fn fenced(
    manifest: &Value,
    live: Option<&Value>,
    remaining: Duration,
    lease_step: Duration,
    now: Timestamp,
) -> Option<i64> {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let own = number(manifest, "/spec/activeDeadlineSeconds").unwrap_or(i64::MAX);
    let elapsed = live
        .and_then(|live| text(live, "/status/startTime").parse::<Timestamp>().ok())
        .map_or(0, |start| now.duration_since(start).as_secs().max(0));
    let wanted = elapsed.saturating_add(seconds(remaining).max(1)).min(own);
    match live.and_then(|live| number(live, "/spec/activeDeadlineSeconds")) {
        Some(set) if set <= own && wanted.saturating_sub(set) < seconds(lease_step).max(1) && own != wanted => None,
        Some(set) if set == wanted => None,
        _ => Some(wanted),
    }
}

impl Reconciler {
    /// Puts the present deadline into the manifest of a movable Job, or the live one where that is good enough.
    pub(super) fn fence(&self, record: &Record, wanted: &mut Wanted, live: Option<&Value>) {
        let movable = record.options.run.as_ref().is_some_and(|run| run.movable);
        if !movable || wanted.object.group_kind() != ("batch", "Job") {
            return;
        }
        let remaining = self.lease.remaining();
        // Renewed in steps of a third, so that a heartbeat does not cost a write every time.
        let deadline = fenced(&wanted.manifest, live, remaining, remaining / 3, Timestamp::now())
            .or_else(|| live.and_then(|live| number(live, "/spec/activeDeadlineSeconds")));
        if let Some(deadline) = deadline {
            let mut manifest = wanted.manifest.clone();
            manifest["spec"]["activeDeadlineSeconds"] = json!(deadline);
            wanted.replace_manifest(manifest);
        }
    }

    /// The status of a run by its live job, with the exit code where it failed.
    pub(super) async fn status_of_run(&self, run: &str, live: &Value) -> Option<RunStatus> {
        let mut status = run_status(run, live)?;
        if status.phase == RunPhase::Failed
            && let Some(label) = run_label(run)
        {
            let namespace = text(live, "/metadata/namespace");
            match self.cluster.list("v1", "Pod", namespace, &format!("{RUN}={label}")).await {
                Ok(pods) => status.exit_code = exit_code(&pods),
                Err(error) => tracing::debug!(error = %error, "the pods of a failed run cannot be read"),
            }
        }
        Some(status)
    }

    /// Notes how a run ended, once; from then on it is never started again.
    pub(super) async fn note_end(
        &self,
        key: &ItemKey,
        record: &Record,
        status: &RunStatus,
    ) -> Result<(), crate::ledger::LedgerError> {
        if !matches!(status.phase, RunPhase::Succeeded | RunPhase::Failed | RunPhase::Stopped) || record.ended.is_some() {
            return Ok(());
        }
        let (key, generation, status) = (key.clone(), record.generation, status.clone());
        self.ledger
            .update(move |state| {
                if let Some(record) = state.item_mut(&key).filter(|record| record.generation == generation) {
                    record.ended = Some(status);
                }
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_names_its_run_and_back() {
        let run = "namespaces/ml/jobs/resnet50.v2/runs/3";
        assert_eq!(run_label(run).as_deref(), Some("ml.resnet50.v2.3"));
        assert_eq!(run_of_label("ml.resnet50.v2.3").as_deref(), Some(run));
        assert_eq!(run_of_label("nonsense"), None);
    }

    #[test]
    fn the_clusters_own_deadline_follows_the_lease_in_steps() {
        let now: Timestamp = "2026-11-24T00:01:40Z".parse().expect("time");
        let live =
            |deadline: i64| json!({"spec": {"activeDeadlineSeconds": deadline}, "status": {"startTime": "2026-11-24T00:00:00Z"}});
        let (free, limited) = (json!({"spec": {}}), json!({"spec": {"activeDeadlineSeconds": 120}}));
        let lease = |remaining| (Duration::from_secs(remaining), Duration::from_secs(20));
        for (what, manifest, live, remaining, expected) in [
            ("at its start it has what is left of the lease", &free, None, 60, Some(60)),
            ("a hundred seconds later the same from then on", &free, Some(live(110)), 60, Some(160)),
            ("a little is not worth a write", &free, Some(live(150)), 60, None),
            ("the user's own deadline is never passed", &limited, Some(live(110)), 60, Some(120)),
            ("and is not written twice", &limited, Some(live(120)), 60, None),
        ] {
            let (remaining, step) = lease(remaining);
            assert_eq!(fenced(manifest, live.as_ref(), remaining, step, now), expected, "{what}");
        }
    }
}
