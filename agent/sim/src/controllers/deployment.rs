//! Deployments: a ReplicaSet for each template, and the roll from the old ones to the new, never below what has to be
//! available and never above what may surge.

use super::{pods, replica_set};
use crate::{
    amend,
    delete::Propagation,
    json, random,
    state::{Actor, State, now},
    store::Key,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

const REVISION: &str = "deployment.kubernetes.io/revision";

/// Moves one Deployment on by one step.
pub fn reconcile(state: &mut State, key: &Key) -> Option<Duration> {
    let deployment = state.store.get(key)?.clone();
    let actor = Actor::controller("deployment-controller", pods::MANAGER);
    replica_set::adopt(state, &actor, &deployment, "replicasets.apps");
    if !json::is_deleting(&deployment) {
        let hash = template_hash(&deployment["spec"]["template"]);
        let sets = sets(state, &deployment);
        let (new, old): (Vec<_>, Vec<_>) = sets.into_iter().partition(|set| json::label(set, "pod-template-hash") == hash);
        let recreate = json::text(&deployment, "/spec/strategy/type") == "Recreate";
        let paused = json::flag(&deployment, "/spec/paused");
        let new = match new.into_iter().next() {
            Some(new) => Some(new),
            None if paused => None,
            None if recreate && old.iter().any(|set| count(set, "/status/replicas") > 0 || count(set, "/spec/replicas") > 0) => {
                None
            }
            None => create_set(state, &actor, &deployment, &hash, &old),
        };
        if let Some(new) = &new {
            mark_revision(state, &actor, &deployment, new, &old);
        }
        if recreate {
            recreate_step(state, &actor, &deployment, new.as_ref(), &old);
        } else if !paused || old.iter().all(|set| count(set, "/spec/replicas") == 0) {
            roll_step(state, &actor, &deployment, new.as_ref(), &old);
        }
        trim_history(state, &actor, &deployment, &hash);
    }
    write_status(state, &actor, key)
}

fn count(object: &Value, pointer: &str) -> i64 {
    json::integer(object, pointer).unwrap_or(0)
}

/// The `pod-template-hash` of a template.
pub fn template_hash(template: &Value) -> String {
    random::content_suffix(template)
}

fn sets(state: &State, deployment: &Value) -> Vec<Arc<Value>> {
    let owned = state.store.owned(json::uid(deployment), "replicasets.apps");
    let mut sets: Vec<Arc<Value>> = owned.filter(|set| !json::is_deleting(set)).cloned().collect();
    sets.sort_by_key(|set| revision(set));
    sets
}

fn revision(set: &Value) -> i64 {
    set.pointer("/metadata/annotations")
        .and_then(|all| all.get(REVISION))
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

fn create_set(state: &mut State, actor: &Actor, deployment: &Value, hash: &str, old: &[Arc<Value>]) -> Option<Arc<Value>> {
    let mut template = deployment["spec"]["template"].clone();
    json::set(&mut template, &["metadata", "labels", "pod-template-hash"], json!(hash));
    let mut selector = deployment["spec"]["selector"].clone();
    json::set(&mut selector, &["matchLabels", "pod-template-hash"], json!(hash));
    let next = old.iter().map(|set| revision(set)).max().unwrap_or(0) + 1;
    let mut annotations = deployment.pointer("/metadata/annotations").cloned().unwrap_or_else(|| json!({}));
    json::remove(&mut annotations, &["kubectl.kubernetes.io/last-applied-configuration"]);
    annotations[REVISION] = json!(next.to_string());
    let mut spec = json!({"replicas": 0, "selector": selector, "template": template});
    if let Some(seconds) = deployment.pointer("/spec/minReadySeconds") {
        spec["minReadySeconds"] = seconds.clone();
    }
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{}-{hash}", json::name(deployment)), "namespace": json::namespace(deployment),
            "labels": template["metadata"]["labels"], "annotations": annotations,
            "ownerReferences": [pods::controller_reference(deployment)],
        },
        "spec": spec,
    });
    amend::create(state, actor, "replicasets.apps", set).ok()
}

/// The newest template has the highest revision, also when it comes back from the past.
fn mark_revision(state: &mut State, actor: &Actor, deployment: &Value, new: &Value, old: &[Arc<Value>]) {
    let highest = old.iter().map(|set| revision(set)).max().unwrap_or(0);
    let number = revision(new).max(highest + 1);
    let namespace = json::namespace(deployment);
    for (resource, object) in [("replicasets.apps", new), ("deployments.apps", deployment)] {
        if revision(object) != number {
            drop(amend::change(state, actor, (resource, namespace, json::name(object)), "", |object| {
                json::set(object, &["metadata", "annotations", REVISION], json!(number.to_string()));
            }));
        }
    }
}

fn scale(state: &mut State, actor: &Actor, set: &Value, replicas: i64) {
    if count(set, "/spec/replicas") != replicas {
        drop(amend::change(state, actor, ("replicasets.apps", json::namespace(set), json::name(set)), "", |set| {
            json::set(set, &["spec", "replicas"], json!(replicas));
        }));
    }
}

fn recreate_step(state: &mut State, actor: &Actor, deployment: &Value, new: Option<&Arc<Value>>, old: &[Arc<Value>]) {
    old.iter().for_each(|set| scale(state, actor, set, 0));
    let remains = old.iter().any(|set| state.store.owned(json::uid(set), "pods").any(|pod| !pods::is_ended(pod)));
    if let (Some(new), false) = (new, remains) {
        scale(state, actor, new, count(deployment, "/spec/replicas"));
    }
}

fn roll_step(state: &mut State, actor: &Actor, deployment: &Value, new: Option<&Arc<Value>>, old: &[Arc<Value>]) {
    let wanted = count(deployment, "/spec/replicas");
    let rolling = deployment.pointer("/spec/strategy/rollingUpdate");
    let surge = pods::resolve(rolling.and_then(|rolling| rolling.get("maxSurge")), wanted, true);
    let mut missing = pods::resolve(rolling.and_then(|rolling| rolling.get("maxUnavailable")), wanted, false);
    if surge == 0 && missing == 0 {
        missing = 1;
    }
    let old_total: i64 = old.iter().map(|set| count(set, "/spec/replicas")).sum();
    let Some(new) = new else { return };
    let mut new_replicas = count(new, "/spec/replicas");
    if old_total == 0 {
        scale(state, actor, new, wanted);
        return;
    }
    if new_replicas > wanted {
        new_replicas = wanted;
    } else {
        let room = (wanted + surge - old_total - new_replicas).max(0);
        new_replicas += room.min(wanted - new_replicas);
    }
    scale(state, actor, new, new_replicas);
    let least = wanted - missing;
    let new_unavailable = (new_replicas - count(new, "/status/availableReplicas")).max(0);
    let mut may_go = old_total + new_replicas - least - new_unavailable;
    let available: i64 =
        old.iter().map(|set| count(set, "/status/availableReplicas")).sum::<i64>() + count(new, "/status/availableReplicas");
    let mut healthy_may_go = available - least;
    for set in old {
        let mut replicas = count(set, "/spec/replicas");
        // First those that serve nobody, then as many as can be missed.
        let unhealthy = (replicas - count(set, "/status/availableReplicas")).max(0).min(may_go.max(0));
        replicas -= unhealthy;
        may_go -= unhealthy;
        let healthy = replicas.min(may_go.max(0)).min(healthy_may_go.max(0));
        replicas -= healthy;
        may_go -= healthy;
        healthy_may_go -= healthy;
        scale(state, actor, set, replicas);
    }
}

fn trim_history(state: &mut State, actor: &Actor, deployment: &Value, hash: &str) {
    let keep = json::integer(deployment, "/spec/revisionHistoryLimit").unwrap_or(10).max(0) as usize;
    let idle: Vec<Arc<Value>> = sets(state, deployment)
        .into_iter()
        .filter(|set| json::label(set, "pod-template-hash") != hash)
        .filter(|set| count(set, "/spec/replicas") == 0 && count(set, "/status/replicas") == 0)
        .collect();
    for set in idle.iter().take(idle.len().saturating_sub(keep)) {
        drop(amend::delete(
            state,
            actor,
            ("replicasets.apps", json::namespace(set), json::name(set)),
            Propagation::Background,
            None,
        ));
    }
}

fn write_status(state: &mut State, actor: &Actor, key: &Key) -> Option<Duration> {
    let deployment = state.store.get(key)?.clone();
    let hash = template_hash(&deployment["spec"]["template"]);
    let sets = sets(state, &deployment);
    let total = |pointer: &str| sets.iter().map(|set| count(set, pointer)).sum::<i64>();
    let new = sets.iter().find(|set| json::label(set, "pod-template-hash") == hash);
    let updated = new.map_or(0, |set| count(set, "/status/replicas"));
    let wanted = count(&deployment, "/spec/replicas");
    let (replicas, ready, available) =
        (total("/status/replicas"), total("/status/readyReplicas"), total("/status/availableReplicas"));
    let rolling = deployment.pointer("/spec/strategy/rollingUpdate");
    let missing = pods::resolve(rolling.and_then(|rolling| rolling.get("maxUnavailable")), wanted, false);
    let seen = sets.iter().all(|set| set["status"]["observedGeneration"] == set["metadata"]["generation"]);
    let complete = seen && new.is_some() && updated == wanted && replicas == wanted && available == wanted;
    let at = now();
    let mut status = deployment.get("status").cloned().unwrap_or_else(|| json!({}));
    let before = status.clone();
    status["observedGeneration"] = deployment["metadata"]["generation"].clone();
    for (name, value) in [
        ("replicas", replicas),
        ("updatedReplicas", updated),
        ("readyReplicas", ready),
        ("availableReplicas", available),
        ("unavailableReplicas", (wanted.max(replicas) - available).max(0)),
    ] {
        pods::set_count(&mut status, name, value);
    }
    let enough = available >= wanted - missing;
    let (value, reason, message) = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    pods::set_condition(&mut status, "Available", value, reason, message, &at);
    let again = progress(&deployment, new, &mut status, &before, complete, &at);
    let changed = |kind: &str| {
        let find = |status: &Value| json::condition(&json!({"status": status}), kind).cloned();
        let strip = |mut condition: Value| {
            json::remove(&mut condition, &["lastUpdateTime"]);
            condition
        };
        find(&status).map(strip) != find(&before).map(strip)
    };
    let moved: Vec<&str> = ["Available", "Progressing"].into_iter().filter(|kind| changed(kind)).collect();
    for condition in status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        if moved.contains(&json::text(condition, "/type")) || condition.get("lastUpdateTime").is_none() {
            condition["lastUpdateTime"] = json!(at);
        }
    }
    drop(amend::change(state, actor, ("deployments.apps", &key.namespace, &key.name), "status", |object| {
        object["status"] = status
    }));
    again
}

/// The `Progressing` condition; answers how long until the deadline has to be looked at.
fn progress(
    deployment: &Value,
    new: Option<&Arc<Value>>,
    status: &mut Value,
    before: &Value,
    complete: bool,
    at: &str,
) -> Option<Duration> {
    let name = new.map_or_else(|| json::name(deployment).to_owned(), |set| json::name(set).to_owned());
    if complete {
        let message = format!("ReplicaSet \"{name}\" has successfully progressed.");
        pods::set_condition(status, "Progressing", "True", "NewReplicaSetAvailable", &message, at);
        return None;
    }
    let deadline = json::integer(deployment, "/spec/progressDeadlineSeconds").unwrap_or(600);
    let wrapped = json!({"status": before});
    let previous = json::condition(&wrapped, "Progressing");
    let reason = previous.map_or("", |condition| json::text(condition, "/reason"));
    let counts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
    let progressed = counts.iter().any(|name| before.get(name) != status.get(*name))
        || before["observedGeneration"] != status["observedGeneration"];
    if progressed || previous.is_none() || reason == "NewReplicaSetAvailable" {
        let message = format!("ReplicaSet \"{name}\" is progressing.");
        pods::set_condition(status, "Progressing", "True", "ReplicaSetUpdated", &message, at);
        for condition in status["conditions"].as_array_mut().into_iter().flatten() {
            if json::text(condition, "/type") == "Progressing" {
                condition["lastUpdateTime"] = json!(at);
            }
        }
        return Some(Duration::from_secs(deadline.max(1) as u64));
    }
    if reason == "ProgressDeadlineExceeded" {
        return None;
    }
    let since = previous.map_or("", |condition| json::text(condition, "/lastUpdateTime"));
    let left = pods::remaining(since, deadline);
    if left.is_zero() {
        let message = format!("ReplicaSet \"{name}\" has timed out progressing.");
        pods::set_condition(status, "Progressing", "False", "ProgressDeadlineExceeded", &message, at);
        return None;
    }
    Some(left)
}
