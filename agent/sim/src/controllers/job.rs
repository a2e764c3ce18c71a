//! `batch/v1` Jobs: pods until enough have succeeded, too many have failed, or the deadline has passed. Ended pods are
//! counted once, through the tracking finalizer, so that a pod that is removed is not forgotten.

use super::pods;
use crate::{
    amend,
    delete::Propagation,
    json,
    state::{Actor, State, now},
    store::Key,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

const TRACKING: &str = "batch.kubernetes.io/job-tracking";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// Moves one Job on.
pub fn reconcile(state: &mut State, key: &Key) -> Option<Duration> {
    let actor = Actor::controller("job-controller", pods::MANAGER);
    let job = state.store.get(key).cloned()?;
    let mut status = job.get("status").cloned().unwrap_or_else(|| json!({}));
    count_ended(state, &actor, &job, &mut status);
    if is_finished(&job) {
        return after_the_end(state, &actor, key, &job, status);
    }
    if json::is_deleting(&job) {
        return None;
    }
    let at = now();
    let suspended = json::flag(&job, "/spec/suspend");
    let mut active = active(state, &job);
    if suspended {
        delete_all(state, &actor, &active);
        json::remove(&mut status, &["startTime"]);
        pods::set_condition(&mut status, "Suspended", "True", "JobSuspended", "Job suspended", &at);
        write(state, &actor, key, status, &[]);
        return None;
    }
    if status.get("startTime").is_none() {
        status["startTime"] = json!(at);
        if json::condition_is_true(&job, "Suspended") {
            pods::set_condition(&mut status, "Suspended", "False", "JobResumed", "Job resumed", &at);
        }
    }
    let succeeded = json::integer(&status, "/succeeded").unwrap_or(0);
    let failed = json::integer(&status, "/failed").unwrap_or(0);
    let limit = json::integer(&job, "/spec/backoffLimit").unwrap_or(6);
    let restarts: i64 = active.iter().map(|pod| restarts(pod)).sum();
    let deadline = json::integer(&job, "/spec/activeDeadlineSeconds");
    let left = deadline.map(|seconds| pods::remaining(json::text(&status, "/startTime"), seconds));
    let completions = json::integer(&job, "/spec/completions");
    let parallelism = json::integer(&job, "/spec/parallelism").unwrap_or(1).max(0);
    let failure = if left.is_some_and(|left| left.is_zero()) {
        Some(("DeadlineExceeded", "Job was active longer than specified deadline"))
    } else if failed > limit
        || (restarts > 0 && restarts >= limit.max(1) && json::text(&job, "/spec/template/spec/restartPolicy") == "OnFailure")
    {
        Some(("BackoffLimitExceeded", "Job has reached the specified backoff limit"))
    } else {
        None
    };
    if let Some((reason, message)) = failure {
        delete_all(state, &actor, &active);
        pods::set_condition(&mut status, "FailureTarget", "True", reason, message, &at);
        pods::set_condition(&mut status, "Failed", "True", reason, message, &at);
        write(state, &actor, key, status, &[]);
        return None;
    }
    let complete = match completions {
        Some(completions) => succeeded >= completions,
        None => succeeded > 0 && active.is_empty(),
    };
    if complete {
        delete_all(state, &actor, &active);
        let message = "Reached expected number of succeeded pods";
        pods::set_condition(&mut status, "SuccessCriteriaMet", "True", "CompletionsReached", message, &at);
        pods::set_condition(&mut status, "Complete", "True", "CompletionsReached", message, &at);
        status["completionTime"] = json!(at);
        write(state, &actor, key, status, &[]);
        return None;
    }
    let wanted = match completions {
        Some(completions) => parallelism.min(completions - succeeded),
        None if succeeded > 0 => 0,
        None => parallelism,
    };
    let mut again = left;
    let terminating =
        state.store.owned(json::uid(&job), "pods").filter(|pod| json::is_deleting(pod) && !pods::is_ended(pod)).count() as i64;
    let missing =
        wanted - active.len() as i64 - if json::text(&job, "/spec/podReplacementPolicy") == "Failed" { terminating } else { 0 };
    if missing > 0 {
        let pause = backoff(state, &job, failed);
        if pause.is_zero() {
            for _ in 0..missing {
                match create(state, &actor, &job, &status, &active) {
                    Some(pod) => active.push(pod),
                    None => break,
                }
            }
        } else {
            again = Some(again.map_or(pause, |left| left.min(pause)));
        }
    } else if missing < 0 {
        pods::least_loss_first(&mut active);
        let extra: Vec<_> = active.drain(..missing.unsigned_abs() as usize).collect();
        delete_all(state, &actor, &extra);
    }
    pods::set_count(&mut status, "terminating", terminating);
    write(state, &actor, key, status, &active);
    again
}

fn is_finished(job: &Value) -> bool {
    json::condition_is_true(job, "Complete") || json::condition_is_true(job, "Failed")
}

fn active(state: &State, job: &Value) -> Vec<Arc<Value>> {
    state.store.owned(json::uid(job), "pods").filter(|pod| pods::is_active(pod)).cloned().collect()
}

fn restarts(pod: &Value) -> i64 {
    json::list(pod, "/status/containerStatuses").iter().filter_map(|status| json::integer(status, "/restartCount")).sum()
}

/// Adds each ended pod to the counts and lets go of it.
fn count_ended(state: &mut State, actor: &Actor, job: &Value, status: &mut Value) {
    let tracked = |pod: &&Arc<Value>| json::list(pod, "/metadata/finalizers").iter().any(|name| name == TRACKING);
    let ended: Vec<Arc<Value>> =
        state.store.owned(json::uid(job), "pods").filter(tracked).filter(|pod| pods::is_ended(pod)).cloned().collect();
    let indexed = json::text(job, "/spec/completionMode") == "Indexed";
    let mut indexes = read_indexes(json::text(status, "/completedIndexes"));
    for pod in &ended {
        let success = json::text(pod, "/status/phase") == "Succeeded";
        if success && indexed {
            indexes.extend(json::label(pod, INDEX).parse::<i64>());
            pods::set_count(status, "succeeded", indexes.len() as i64);
        } else {
            let name = if success { "succeeded" } else { "failed" };
            let count = json::integer(status, &format!("/{name}")).unwrap_or(0) + 1;
            pods::set_count(status, name, count);
        }
        release(state, actor, pod);
    }
    if indexed && !indexes.is_empty() {
        status["completedIndexes"] = json!(write_indexes(&indexes));
    }
    if !ended.is_empty() {
        let counted = status.clone();
        let key = Key::of("jobs.batch", job);
        drop(amend::change(state, actor, ("jobs.batch", &key.namespace, &key.name), "status", |job| job["status"] = counted));
    }
}

fn release(state: &mut State, actor: &Actor, pod: &Value) {
    drop(amend::change(state, actor, ("pods", json::namespace(pod), json::name(pod)), "", |pod| {
        let rest: Vec<Value> = json::list(pod, "/metadata/finalizers").iter().filter(|name| *name != TRACKING).cloned().collect();
        if rest.is_empty() {
            json::remove(pod, &["metadata", "finalizers"]);
        } else {
            json::set(pod, &["metadata", "finalizers"], Value::Array(rest));
        }
    }));
}

fn read_indexes(text: &str) -> BTreeSet<i64> {
    let mut indexes = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<i64>(), last.parse::<i64>()) {
            indexes.extend(first..=last);
        }
    }
    indexes
}

fn write_indexes(indexes: &BTreeSet<i64>) -> String {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for index in indexes {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            Some(_) | None => ranges.push((*index, *index)),
        }
    }
    let written = ranges.iter().map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
    written.collect::<Vec<_>>().join(",")
}

/// After a failure the next pod waits; the pause doubles with each.
fn backoff(state: &State, job: &Value, failed: i64) -> Duration {
    if failed == 0 {
        return Duration::ZERO;
    }
    let last = state
        .store
        .owned(json::uid(job), "pods")
        .filter(|pod| json::text(pod, "/status/phase") == "Failed")
        .filter_map(|pod| state.runs.ended_for(json::uid(pod)))
        .min();
    let base = Duration::from_millis(state.config.delays.restart_ms);
    let pause = base.saturating_mul(1 << failed.clamp(1, 8).unsigned_abs().saturating_sub(1));
    last.map_or(Duration::ZERO, |ago| pause.saturating_sub(ago))
}

fn create(state: &mut State, actor: &Actor, job: &Value, status: &Value, active: &[Arc<Value>]) -> Option<Arc<Value>> {
    let mut pod = pods::from_template(&job["spec"]["template"], job);
    json::set(&mut pod, &["metadata", "finalizers"], json!([TRACKING]));
    let mut prefix = format!("{}-", json::name(job));
    if json::text(job, "/spec/completionMode") == "Indexed" {
        let done = read_indexes(json::text(status, "/completedIndexes"));
        let taken: BTreeSet<&str> = active.iter().map(|pod| json::label(pod, INDEX)).collect();
        let index = (0..json::integer(job, "/spec/completions").unwrap_or(0))
            .find(|index| !done.contains(index) && !taken.contains(index.to_string().as_str()))?;
        let index = index.to_string();
        json::set(&mut pod, &["metadata", "labels", INDEX], json!(index));
        json::set(&mut pod, &["metadata", "annotations", INDEX], json!(index));
        for container in pod.pointer_mut("/spec/containers").and_then(Value::as_array_mut).into_iter().flatten() {
            let mut environment = json::list(container, "/env").to_vec();
            environment.push(json!({"name": "JOB_COMPLETION_INDEX", "value": index}));
            container["env"] = Value::Array(environment);
        }
        prefix = format!("{prefix}{index}-");
    }
    pods::create(state, actor, pod, &prefix).ok()
}

fn delete_all(state: &mut State, actor: &Actor, pods: &[Arc<Value>]) {
    for pod in pods {
        drop(amend::delete(state, actor, ("pods", json::namespace(pod), json::name(pod)), Propagation::Background, None));
    }
}

fn write(state: &mut State, actor: &Actor, key: &Key, mut status: Value, active: &[Arc<Value>]) {
    pods::set_count(&mut status, "active", active.len() as i64);
    let ready = active.iter().filter(|pod| pods::is_ready(pod)).count();
    status["ready"] = json!(ready);
    status["uncountedTerminatedPods"] = json!({});
    drop(amend::change(state, actor, ("jobs.batch", &key.namespace, &key.name), "status", |job| job["status"] = status));
}

fn after_the_end(state: &mut State, actor: &Actor, key: &Key, job: &Value, status: Value) -> Option<Duration> {
    let active = active(state, job);
    delete_all(state, actor, &active);
    write(state, actor, key, status, &[]);
    let ttl = json::integer(job, "/spec/ttlSecondsAfterFinished")?;
    let ended = ["Complete", "Failed"]
        .into_iter()
        .find(|kind| json::condition_is_true(job, kind))
        .and_then(|kind| json::condition(job, kind))
        .map_or("", |condition| json::text(condition, "/lastTransitionTime"));
    let left = pods::remaining(ended, ttl);
    if left.is_zero() {
        let cleaner = Actor::controller("ttl-after-finished-controller", pods::MANAGER);
        drop(amend::delete(state, &cleaner, ("jobs.batch", &key.namespace, &key.name), Propagation::Foreground, None));
        return None;
    }
    Some(left)
}
