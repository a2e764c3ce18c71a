//! How a run stands, by the status of the Job object itself: its times are the cluster's, never the agent's guess.

use super::{condition, is_true};
use crate::domain::{
    object::{ObjectRef, list, number, text},
    observation::{RunPhase, RunStatus},
};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

/// The status of a run by its live object; `None` for a kind that is no job.
pub fn run_status(run: &str, live: &Value) -> Option<RunStatus> {
    let object = ObjectRef::of(live);
    match object.group_kind() {
        ("batch", "Job") => Some(batch_job(run, live)),
        ("batch.volcano.sh", "Job") => Some(volcano_job(run, live)),
        ("jobset.x-k8s.io" | "kubeflow.org" | "ray.io", _) => Some(by_conditions(run, live)),
        _ => None,
    }
}

/// The exit code of the first container that failed among a run's pods.
pub fn exit_code(pods: &[Value]) -> Option<i32> {
    let mut ends: Vec<(&str, i64)> = pods
        .iter()
        .flat_map(|pod| list(pod, "/status/containerStatuses"))
        .flat_map(|status| [status.pointer("/state/terminated"), status.pointer("/lastState/terminated")])
        .flatten()
        .filter_map(|end| Some((text(end, "/finishedAt"), number(end, "/exitCode").filter(|code| *code != 0)?)))
        .collect();
    ends.sort_by_key(|(at, _)| *at);
    ends.first().and_then(|(_, code)| i32::try_from(*code).ok())
}

fn time(live: &Value, pointer: &str) -> Option<Timestamp> {
    text(live, pointer).parse().ok()
}

fn pods(live: &Value, fields: &[(&str, &str)]) -> BTreeMap<String, u32> {
    let count = |pointer| number(live, pointer).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    fields.iter().filter_map(|(name, pointer)| Some(((*name).to_owned(), count(*pointer)?))).collect()
}

fn batch_job(run: &str, live: &Value) -> RunStatus {
    let failed = condition(live, "Failed").filter(|condition| text(condition, "/status") == "True");
    let active = number(live, "/status/active").unwrap_or(0);
    let ready = number(live, "/status/ready").unwrap_or(active);
    let wanted = number(live, "/spec/parallelism").unwrap_or(1).min(number(live, "/spec/completions").unwrap_or(i64::MAX));
    let finished = number(live, "/status/succeeded").unwrap_or(0) + number(live, "/status/failed").unwrap_or(0);
    let (phase, message) = match failed {
        _ if is_true(live, "Complete") => (RunPhase::Succeeded, String::new()),
        Some(failed) => (RunPhase::Failed, format!("{}: {}", text(failed, "/reason"), text(failed, "/message"))),
        None if live.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true) => {
            (RunPhase::Stopped, "the job is suspended".to_owned())
        }
        None if ready > 0 && ready + finished >= wanted => (RunPhase::Running, String::new()),
        None => (RunPhase::Pending, format!("{ready} of {wanted} pods run")),
    };
    let finished_at = match failed {
        Some(failed) => time(failed, "/lastTransitionTime"),
        None => time(live, "/status/completionTime"),
    };
    RunStatus {
        run: run.to_owned(),
        started_at: (phase != RunPhase::Pending).then(|| time(live, "/status/startTime")).flatten(),
        finished_at: matches!(phase, RunPhase::Succeeded | RunPhase::Failed).then_some(finished_at).flatten(),
        phase,
        pods: pods(
            live,
            &[
                ("running", "/status/ready"),
                ("active", "/status/active"),
                ("succeeded", "/status/succeeded"),
                ("failed", "/status/failed"),
            ],
        ),
        exit_code: None,
        message,
    }
}

fn volcano_job(run: &str, live: &Value) -> RunStatus {
    let message = text(live, "/status/state/message").to_owned();
    let phase = match text(live, "/status/state/phase") {
        "Running" | "Completing" => RunPhase::Running,
        "Completed" => RunPhase::Succeeded,
        "Failed" => RunPhase::Failed,
        "Aborted" | "Terminated" => RunPhase::Stopped,
        _ => RunPhase::Pending,
    };
    // Volcano has no start time: the moment it first stood in Running is in its conditions.
    let since = |wanted: &str| {
        list(live, "/status/conditions")
            .iter()
            .filter(|condition| text(condition, "/status") == wanted)
            .find_map(|condition| time(condition, "/lastTransitionTime"))
    };
    let changed = time(live, "/status/state/lastTransitionTime");
    let ended = matches!(phase, RunPhase::Succeeded | RunPhase::Failed | RunPhase::Stopped);
    let started_at = since("Running").or(if phase == RunPhase::Running { changed } else { None });
    RunStatus {
        run: run.to_owned(),
        phase,
        started_at,
        finished_at: ended.then_some(changed).flatten(),
        pods: pods(
            live,
            &[
                ("pending", "/status/pending"),
                ("running", "/status/running"),
                ("succeeded", "/status/succeeded"),
                ("failed", "/status/failed"),
                ("terminating", "/status/terminating"),
            ],
        ),
        exit_code: None,
        message,
    }
}

/// JobSet, PyTorchJob, RayJob: by their conditions, else by Ray's own words.
fn by_conditions(run: &str, live: &Value) -> RunStatus {
    let first = |kinds: &[&str]| kinds.iter().find_map(|kind| condition(live, kind).filter(|c| text(c, "/status") == "True"));
    let ray = text(live, "/status/jobStatus");
    let (phase, because) = if let Some(done) = first(&["Completed", "Succeeded"]) {
        (RunPhase::Succeeded, Some(done))
    } else if let Some(failed) = first(&["Failed"]) {
        (RunPhase::Failed, Some(failed))
    } else {
        match ray {
            "SUCCEEDED" => (RunPhase::Succeeded, None),
            "FAILED" => (RunPhase::Failed, None),
            "STOPPED" => (RunPhase::Stopped, None),
            "RUNNING" => (RunPhase::Running, None),
            _ if first(&["Running"]).is_some() => (RunPhase::Running, None),
            _ => (RunPhase::Pending, None),
        }
    };
    let started = time(live, "/status/startTime").or_else(|| first(&["Running"]).and_then(|c| time(c, "/lastTransitionTime")));
    let finished = ["/status/completionTime", "/status/endTime"].iter().find_map(|pointer| time(live, pointer));
    let ended = matches!(phase, RunPhase::Succeeded | RunPhase::Failed | RunPhase::Stopped);
    RunStatus {
        run: run.to_owned(),
        phase,
        started_at: started,
        finished_at: if ended { finished.or_else(|| because.and_then(|c| time(c, "/lastTransitionTime"))) } else { None },
        pods: BTreeMap::new(),
        exit_code: None,
        message: because.map_or(String::new(), |c| text(c, "/message").to_owned()),
    }
}
