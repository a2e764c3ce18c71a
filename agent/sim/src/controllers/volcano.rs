//! Volcano's jobs: a pod for each replica of each task, started together or not at all, and a state that follows them.

use super::pods;
use crate::{
    amend,
    delete::Propagation,
    json,
    state::{Actor, State, now},
    store::Key,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

const RESOURCE: &str = "jobs.batch.volcano.sh";
const QUEUES: &str = "queues.scheduling.volcano.sh";
const GROUPS: &str = "podgroups.scheduling.volcano.sh";

fn actor() -> Actor {
    Actor::controller("vc-controller-manager", "vc-controller-manager")
}

/// The name of a job's PodGroup.
pub fn group_name(job: &Value) -> String {
    format!("{}-{}", json::name(job), json::uid(job))
}

fn is_final(phase: &str) -> bool {
    matches!(phase, "Completed" | "Failed" | "Aborted" | "Terminated")
}

/// Moves one job on.
pub fn reconcile(state: &mut State, key: &Key) -> Option<Duration> {
    let job = state.store.get(key)?.clone();
    if json::is_deleting(&job) {
        return None;
    }
    let actor = actor();
    let command = take_command(state, &actor, &job);
    let phase = json::text(&job, "/status/state/phase").to_owned();
    let owned: Vec<Arc<Value>> = state.store.owned(json::uid(&job), "pods").cloned().collect();
    let least = json::integer(&job, "/spec/minAvailable").unwrap_or(1);
    let count = |wanted: &str| {
        owned.iter().filter(|pod| !json::is_deleting(pod) && json::text(pod, "/status/phase") == wanted).count() as i64
    };
    let counts = Counts {
        pending: count("Pending"),
        running: count("Running"),
        succeeded: count("Succeeded"),
        failed: count("Failed"),
        terminating: owned.iter().filter(|pod| json::is_deleting(pod)).count() as i64,
    };
    let wanted: i64 = json::list(&job, "/spec/tasks").iter().map(|task| json::integer(task, "/replicas").unwrap_or(1)).sum();
    let next = match (command.as_deref(), phase.as_str()) {
        (Some("AbortJob"), _) => Some(("Aborting", "")),
        (Some("ResumeJob"), "Aborted" | "Aborting") => Some(("Restarting", "")),
        (Some("TerminateJob"), _) => Some(("Terminating", "")),
        (Some("RestartJob"), _) => Some(("Restarting", "")),
        _ => decide(&job, &phase, &owned, &counts, wanted, least),
    };
    let phase_after = next.map_or(phase.as_str(), |(phase, _)| phase).to_owned();
    let restarting = phase_after == "Restarting";
    match phase_after.as_str() {
        "Aborting" | "Terminating" | "Restarting" => {
            // A restart starts over; the others keep what has already ended.
            let leaves = |pod: &&Arc<Value>| !json::is_deleting(pod) && (restarting || !pods::is_ended(pod));
            let gone: Vec<Arc<Value>> = owned.iter().filter(leaves).cloned().collect();
            delete_all(state, &actor, &gone);
        }
        "Completing" | "Failed" | "Completed" => {
            let rest: Vec<Arc<Value>> = owned.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
            delete_all(state, &actor, &rest);
        }
        "Aborted" | "Terminated" => {}
        _ => {
            ensure_group(state, &actor, &job);
            create_missing(state, &actor, &job, &owned);
            delete_beyond(state, &actor, &job, &owned);
        }
    }
    write_status(state, &actor, key, &job, next, &counts, restarting && phase != "Restarting");
    ttl(state, &actor, key, &phase_after)
}

struct Counts {
    pending: i64,
    running: i64,
    succeeded: i64,
    failed: i64,
    terminating: i64,
}

/// The next phase and why, where it is another.
fn decide(
    job: &Value,
    phase: &str,
    owned: &[Arc<Value>],
    counts: &Counts,
    wanted: i64,
    least: i64,
) -> Option<(&'static str, &'static str)> {
    if is_final(phase) {
        return None;
    }
    match phase {
        "Aborting" if counts.terminating + counts.running + counts.pending == 0 => return Some(("Aborted", "")),
        "Terminating" if counts.terminating + counts.running + counts.pending == 0 => return Some(("Terminated", "")),
        "Restarting" if owned.is_empty() => {
            let retries = json::integer(job, "/status/retryCount").unwrap_or(0);
            if retries > json::integer(job, "/spec/maxRetry").unwrap_or(3) {
                return Some(("Failed", "JobMaxRetryExceeded"));
            }
            return Some(("Pending", ""));
        }
        "Aborting" | "Terminating" | "Restarting" => return None,
        _ => {}
    }
    if let Some(action) = action_of_policies(job, owned) {
        return Some(action);
    }
    let ended = counts.succeeded + counts.failed;
    if wanted > 0 && ended == wanted {
        let enough = json::integer(job, "/spec/minSuccess").unwrap_or(least);
        return Some(if counts.succeeded >= enough { ("Completed", "") } else { ("Failed", "") });
    }
    if json::integer(job, "/spec/minSuccess").is_some_and(|enough| counts.succeeded >= enough) {
        return Some(("Completed", ""));
    }
    match phase {
        "" => Some(("Pending", "")),
        "Pending" if counts.running + ended >= least => Some(("Running", "")),
        _ => None,
    }
}

/// What the job's and its tasks' lifecycle policies make of ended pods.
fn action_of_policies(job: &Value, owned: &[Arc<Value>]) -> Option<(&'static str, &'static str)> {
    let fits = |policy: &Value, event: &str, code: Option<i64>| {
        let named = |name: &str| name == event || name == "*";
        named(json::text(policy, "/event"))
            || json::list(policy, "/events").iter().any(|name| name.as_str().is_some_and(named))
            || code.is_some_and(|code| json::integer(policy, "/exitCode") == Some(code))
    };
    let tasks = json::list(job, "/spec/tasks");
    let policies = |task: &str| {
        let of_task = tasks
            .iter()
            .find(|other| json::text(other, "/name") == task)
            .map_or(&[] as &[Value], |task| json::list(task, "/policies"));
        of_task.iter().chain(json::list(job, "/spec/policies")).collect::<Vec<_>>()
    };
    let action = |policy: &Value| match json::text(policy, "/action") {
        "AbortJob" => Some(("Aborting", "")),
        "TerminateJob" => Some(("Terminating", "")),
        "RestartJob" => Some(("Restarting", "")),
        "CompleteJob" => Some(("Completing", "")),
        _ => None,
    };
    for pod in owned.iter().filter(|pod| json::text(pod, "/status/phase") == "Failed" && !json::is_deleting(pod)) {
        let task = json::text(pod, "/metadata/annotations/volcano.sh~1task-spec");
        let code = json::integer(pod, "/status/containerStatuses/0/state/terminated/exitCode");
        if let Some(found) = policies(task).into_iter().find(|policy| fits(policy, "PodFailed", code)).and_then(action) {
            return Some(found);
        }
    }
    for task in tasks {
        let name = json::text(task, "/name");
        let replicas = json::integer(task, "/replicas").unwrap_or(1);
        let done = owned
            .iter()
            .filter(|pod| json::text(pod, "/metadata/annotations/volcano.sh~1task-spec") == name)
            .filter(|pod| json::text(pod, "/status/phase") == "Succeeded")
            .count() as i64;
        if replicas > 0
            && done >= replicas
            && let Some(found) = policies(name).into_iter().find(|policy| fits(policy, "TaskCompleted", None)).and_then(action)
        {
            // A completed job is one whose remaining pods are taken away.
            return Some(if found.0 == "Completing" { ("Completed", "") } else { found });
        }
    }
    None
}

/// Commands are objects of their own that are consumed by their job.
fn take_command(state: &mut State, actor: &Actor, job: &Value) -> Option<String> {
    let command = state
        .store
        .list("commands.bus.volcano.sh", json::namespace(job))
        .find(|command| json::text(command, "/target/name") == json::name(job) && json::text(command, "/target/kind") == "Job")
        .cloned()?;
    drop(amend::delete(
        state,
        actor,
        ("commands.bus.volcano.sh", json::namespace(job), json::name(&command)),
        Propagation::Background,
        None,
    ));
    Some(json::text(&command, "/action").to_owned())
}

fn ensure_group(state: &mut State, actor: &Actor, job: &Value) {
    let name = group_name(job);
    if state.types.get(GROUPS).is_none() || state.store.find(GROUPS, json::namespace(job), &name).is_some() {
        return;
    }
    let group = json!({
        "apiVersion": "scheduling.volcano.sh/v1beta1", "kind": "PodGroup",
        "metadata": {"name": name, "namespace": json::namespace(job), "ownerReferences": [pods::controller_reference(job)]},
        "spec": {"minMember": job["spec"]["minAvailable"], "queue": job["spec"]["queue"], "priorityClassName": job["spec"]["priorityClassName"]},
        "status": {"phase": "Pending"},
    });
    drop(amend::create(state, actor, GROUPS, group));
}

fn create_missing(state: &mut State, actor: &Actor, job: &Value, owned: &[Arc<Value>]) {
    let (name, namespace) = (json::name(job), json::namespace(job));
    let queue = json::text(job, "/spec/queue");
    for task in json::list(job, "/spec/tasks") {
        let task_name = json::text(task, "/name");
        for index in 0..json::integer(task, "/replicas").unwrap_or(1) {
            let pod_name = format!("{name}-{task_name}-{index}");
            if owned.iter().any(|pod| json::name(pod) == pod_name) || state.store.find("pods", namespace, &pod_name).is_some() {
                continue;
            }
            let mut pod = pods::from_template(&task["template"], job);
            json::set(&mut pod, &["metadata", "name"], json!(pod_name));
            for (label, value) in [
                ("volcano.sh/job-name", name),
                ("volcano.sh/job-namespace", namespace),
                ("volcano.sh/queue-name", queue),
                ("volcano.sh/task-spec", task_name),
                ("volcano.sh/task-index", &index.to_string()),
            ] {
                json::set(&mut pod, &["metadata", "labels", label], json!(value));
            }
            let group = group_name(job);
            for (annotation, value) in [
                ("volcano.sh/job-name", name),
                ("volcano.sh/queue-name", queue),
                ("volcano.sh/task-spec", task_name),
                ("scheduling.k8s.io/group-name", group.as_str()),
                ("volcano.sh/template-uid", &format!("{}-{task_name}", json::uid(job))),
            ] {
                json::set(&mut pod, &["metadata", "annotations", annotation], json!(value));
            }
            json::set(&mut pod, &["spec", "schedulerName"], job["spec"]["schedulerName"].clone());
            if json::text(&pod, "/spec/priorityClassName").is_empty() && job["spec"]["priorityClassName"].is_string() {
                json::set(&mut pod, &["spec", "priorityClassName"], job["spec"]["priorityClassName"].clone());
            }
            // A refusal is in the audit log; the next replica would be refused as well.
            if amend::create(state, actor, "pods", pod).is_err() {
                return;
            }
        }
    }
}

/// Takes the pods with the highest numbers away of a task that has fewer replicas by now.
fn delete_beyond(state: &mut State, actor: &Actor, job: &Value, owned: &[Arc<Value>]) {
    let is_wanted = |pod: &Value| {
        let at = |pointer: &str| json::text(pod, pointer);
        let (task, index) = (at("/metadata/labels/volcano.sh~1task-spec"), at("/metadata/labels/volcano.sh~1task-index"));
        let mut tasks = json::list(job, "/spec/tasks").iter();
        let replicas =
            tasks.find(|known| json::text(known, "/name") == task).map(|task| json::integer(task, "/replicas").unwrap_or(1));
        index.parse::<i64>().is_ok_and(|index| replicas.is_some_and(|replicas| index < replicas))
    };
    let beyond: Vec<Arc<Value>> = owned.iter().filter(|pod| pods::is_active(pod) && !is_wanted(pod)).cloned().collect();
    delete_all(state, actor, &beyond);
}

fn delete_all(state: &mut State, actor: &Actor, pods: &[Arc<Value>]) {
    for pod in pods {
        drop(amend::delete(state, actor, ("pods", json::namespace(pod), json::name(pod)), Propagation::Background, None));
    }
}

fn write_status(
    state: &mut State,
    actor: &Actor,
    key: &Key,
    job: &Value,
    next: Option<(&str, &str)>,
    counts: &Counts,
    retried: bool,
) {
    let at = now();
    let mut tasks: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
    for pod in state.store.owned(json::uid(job), "pods") {
        let task = json::text(pod, "/metadata/annotations/volcano.sh~1task-spec").to_owned();
        *tasks.entry(task).or_default().entry(json::text(pod, "/status/phase").to_owned()).or_default() += 1;
    }
    let tasks: Value = tasks.into_iter().map(|(task, phases)| (task, json!({"phase": phases}))).collect();
    drop(amend::change(state, actor, (RESOURCE, &key.namespace, &key.name), "status", |job| {
        let mut status = job.get("status").cloned().unwrap_or_else(|| json!({}));
        if let Some((phase, reason)) = next.filter(|(phase, _)| json::text(&status, "/state/phase") != *phase) {
            status["state"] = json!({"phase": phase, "lastTransitionTime": at});
            if !reason.is_empty() {
                status["state"]["reason"] = json!(reason);
            }
            let mut conditions = json::list(&status, "/conditions").to_vec();
            conditions.push(json!({"status": phase, "lastTransitionTime": at}));
            status["conditions"] = Value::Array(conditions);
        }
        if retried {
            status["retryCount"] = json!(json::integer(&status, "/retryCount").unwrap_or(0) + 1);
        }
        for (name, value) in [
            ("pending", counts.pending),
            ("running", counts.running),
            ("succeeded", counts.succeeded),
            ("failed", counts.failed),
            ("terminating", counts.terminating),
        ] {
            pods::set_count(&mut status, name, value);
        }
        status["minAvailable"] = job["spec"]["minAvailable"].clone();
        status["taskStatusCount"] = tasks;
        job["status"] = status;
    }));
}

fn ttl(state: &mut State, actor: &Actor, key: &Key, phase: &str) -> Option<Duration> {
    let job = state.store.get(key)?.clone();
    let seconds = json::integer(&job, "/spec/ttlSecondsAfterFinished").filter(|_| is_final(phase))?;
    let left = pods::remaining(json::text(&job, "/status/state/lastTransitionTime"), seconds);
    if left.is_zero() {
        drop(amend::delete(state, actor, (RESOURCE, &key.namespace, &key.name), Propagation::Background, None));
        return None;
    }
    Some(left)
}

/// Counts the jobs of one queue.
pub fn reconcile_queue(state: &mut State, key: &Key) -> Option<Duration> {
    state.store.get(key)?;
    let mut phases: BTreeMap<String, i64> = BTreeMap::new();
    for job in state.store.list(RESOURCE, "").filter(|job| json::text(job, "/spec/queue") == key.name) {
        *phases.entry(json::text(job, "/status/state/phase").to_owned()).or_default() += 1;
    }
    let count = |phase: &str| phases.get(phase).copied().unwrap_or(0);
    let (pending, running) = (count("Pending"), count("Running"));
    let completed = count("Completed");
    drop(amend::change(state, &actor(), (QUEUES, "", &key.name), "status", |queue| {
        let mut status = queue.get("status").cloned().unwrap_or_else(|| json!({}));
        status["state"] = json!("Open");
        for (name, value) in [("pending", pending), ("running", running), ("completed", completed)] {
            pods::set_count(&mut status, name, value);
        }
        queue["status"] = status;
    }));
    None
}
