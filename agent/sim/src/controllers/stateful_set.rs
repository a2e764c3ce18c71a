//! StatefulSets: pods with fixed names, made in order, replaced from the highest number down.

use super::pods;
use crate::{
    amend,
    delete::Propagation,
    json, random,
    state::{Actor, State},
    store::Key,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

const REVISION: &str = "controller-revision-hash";

/// Moves one StatefulSet on.
pub fn reconcile(state: &mut State, key: &Key) -> Option<Duration> {
    let set = state.store.get(key)?.clone();
    let actor = Actor::controller("statefulset-controller", pods::MANAGER);
    let revision = format!("{}-{}", key.name, random::content_suffix(&set["spec"]["template"]));
    let wanted = json::integer(&set, "/spec/replicas").unwrap_or(1).max(0);
    let ordered = json::text(&set, "/spec/podManagementPolicy") != "Parallel";
    let pod_at = |state: &State, index: i64| state.store.find("pods", &key.namespace, &format!("{}-{index}", key.name)).cloned();
    if !json::is_deleting(&set) {
        let mut steady = true;
        for index in 0..wanted {
            match pod_at(state, index) {
                None => {
                    create(state, &actor, &set, index, &revision);
                    steady = false;
                }
                Some(pod) if pods::is_ended(&pod) && !json::is_deleting(&pod) => {
                    delete(state, &actor, &pod);
                    steady = false;
                }
                Some(pod) => steady &= pods::is_ready(&pod),
            }
            if ordered && !steady {
                break;
            }
        }
        let mut extra: Vec<Arc<Value>> = owned(state, &set).into_iter().filter(|pod| ordinal(pod, &key.name) >= wanted).collect();
        extra.sort_by_key(|pod| std::cmp::Reverse(ordinal(pod, &key.name)));
        if steady {
            let batch = if ordered { 1 } else { extra.len() };
            extra.iter().filter(|pod| !json::is_deleting(pod)).take(batch).for_each(|pod| delete(state, &actor, pod));
        }
        let partition = json::integer(&set, "/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0);
        if steady && extra.is_empty() && json::text(&set, "/spec/updateStrategy/type") != "OnDelete" {
            let outdated = (partition..wanted)
                .rev()
                .filter_map(|index| pod_at(state, index))
                .find(|pod| json::label(pod, REVISION) != revision);
            if let Some(pod) = outdated {
                delete(state, &actor, &pod);
            }
        }
    }
    let all = owned(state, &set);
    let count = |test: &dyn Fn(&Value) -> bool| all.iter().filter(|pod| test(pod)).count() as i64;
    let min_ready = json::integer(&set, "/spec/minReadySeconds").unwrap_or(0);
    let waits: Vec<Duration> = all.iter().filter_map(|pod| pods::until_available(pod, min_ready)).collect();
    let updated = count(&|pod| json::label(pod, REVISION) == revision);
    let generation = set["metadata"]["generation"].clone();
    drop(amend::change(state, &actor, ("statefulsets.apps", &key.namespace, &key.name), "status", |object| {
        let mut status = object.get("status").cloned().unwrap_or_else(|| json!({}));
        status["observedGeneration"] = generation;
        status["replicas"] = json!(all.len());
        status["availableReplicas"] = json!(waits.iter().filter(|wait| wait.is_zero()).count());
        pods::set_count(&mut status, "readyReplicas", waits.len() as i64);
        pods::set_count(&mut status, "updatedReplicas", updated);
        if updated == wanted && all.len() as i64 == wanted {
            status["currentRevision"] = json!(revision);
        }
        let current = json::text(&status, "/currentRevision").to_owned();
        let current = all.iter().filter(|pod| json::label(pod, REVISION) == current).count() as i64;
        pods::set_count(&mut status, "currentReplicas", current);
        status["updateRevision"] = json!(revision);
        status["collisionCount"] = json!(0);
        object["status"] = status;
    }));
    waits.into_iter().filter(|wait| !wait.is_zero()).min()
}

fn owned(state: &State, set: &Value) -> Vec<Arc<Value>> {
    state.store.owned(json::uid(set), "pods").cloned().collect()
}

fn ordinal(pod: &Value, set: &str) -> i64 {
    json::name(pod).strip_prefix(set).and_then(|rest| rest.strip_prefix('-')).and_then(|number| number.parse().ok()).unwrap_or(-1)
}

fn delete(state: &mut State, actor: &Actor, pod: &Value) {
    drop(amend::delete(state, actor, ("pods", json::namespace(pod), json::name(pod)), Propagation::Background, None));
}

fn create(state: &mut State, actor: &Actor, set: &Value, index: i64, revision: &str) {
    let name = format!("{}-{index}", json::name(set));
    let mut pod = pods::from_template(&set["spec"]["template"], set);
    json::set(&mut pod, &["metadata", "name"], json!(name));
    for (label, value) in [
        (REVISION, json!(revision)),
        ("statefulset.kubernetes.io/pod-name", json!(name)),
        ("apps.kubernetes.io/pod-index", json!(index.to_string())),
    ] {
        json::set(&mut pod, &["metadata", "labels", label], value);
    }
    json::set(&mut pod, &["spec", "hostname"], json!(name));
    json::set(&mut pod, &["spec", "subdomain"], set["spec"]["serviceName"].clone());
    let mut volumes = json::list(&pod, "/spec/volumes").to_vec();
    for template in json::list(set, "/spec/volumeClaimTemplates") {
        let claim = format!("{}-{name}", json::name(template));
        if state.store.find("persistentvolumeclaims", json::namespace(set), &claim).is_none() {
            let object = json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": claim, "namespace": json::namespace(set), "labels": template["metadata"]["labels"]},
                "spec": template["spec"],
            });
            drop(amend::create(state, actor, "persistentvolumeclaims", object));
        }
        volumes.push(json!({"name": json::name(template), "persistentVolumeClaim": {"claimName": claim}}));
    }
    if !volumes.is_empty() {
        json::set(&mut pod, &["spec", "volumes"], Value::Array(volumes));
    }
    drop(amend::create(state, actor, "pods", pod));
}
