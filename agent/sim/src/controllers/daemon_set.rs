//! DaemonSets: one pod on every node the template fits, tied to it by node affinity.

use super::{affinity, pods};
use crate::{
    amend,
    delete::Propagation,
    json, random,
    state::{Actor, State},
    store::Key,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

const REVISION: &str = "controller-revision-hash";

/// Brings one DaemonSet's pods to its nodes.
pub fn reconcile(state: &mut State, key: &Key) -> Option<Duration> {
    let set = state.store.get(key)?.clone();
    let actor = Actor::controller("daemonset-controller", pods::MANAGER);
    let revision = random::content_suffix(&set["spec"]["template"]);
    let nodes: Vec<String> = state
        .store
        .list("nodes", "")
        .filter(|node| affinity::daemon_runs_on(&set["spec"]["template"]["spec"], node))
        .map(|node| json::name(node).to_owned())
        .collect();
    let mut by_node: BTreeMap<String, Arc<Value>> = BTreeMap::new();
    for pod in state.store.owned(json::uid(&set), "pods") {
        by_node.insert(node_of(pod), Arc::clone(pod));
    }
    if !json::is_deleting(&set) {
        for node in nodes.iter().filter(|node| !by_node.contains_key(*node)) {
            let mut pod = pods::from_template(&set["spec"]["template"], &set);
            json::set(&mut pod, &["metadata", "labels", REVISION], json!(revision));
            let this_node =
                json!({"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]});
            json::set(
                &mut pod,
                &["spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"],
                this_node,
            );
            if pods::create(state, &actor, pod, &format!("{}-", key.name)).is_err() {
                break;
            }
        }
        let steady = by_node.values().all(|pod| pods::is_ready(pod)) && by_node.len() >= nodes.len();
        let mut may_go = if steady { 1 } else { 0 };
        for (node, pod) in &by_node {
            let gone = !nodes.contains(node) || pods::is_ended(pod);
            let outdated = json::label(pod, REVISION) != revision && json::text(&set, "/spec/updateStrategy/type") != "OnDelete";
            if !json::is_deleting(pod) && (gone || (outdated && may_go > 0)) {
                may_go -= i32::from(!gone);
                drop(amend::delete(state, &actor, ("pods", &key.namespace, json::name(pod)), Propagation::Background, None));
            }
        }
    }
    let all: Vec<Arc<Value>> = state.store.owned(json::uid(&set), "pods").cloned().collect();
    let here = |pod: &&Arc<Value>| nodes.contains(&node_of(pod));
    let current = all.iter().filter(here).count() as i64;
    let ready = all.iter().filter(|pod| pods::is_ready(pod)).count() as i64;
    let updated = all.iter().filter(|pod| json::label(pod, REVISION) == revision).count() as i64;
    let desired = nodes.len() as i64;
    let generation = set["metadata"]["generation"].clone();
    drop(amend::change(state, &actor, ("daemonsets.apps", &key.namespace, &key.name), "status", |object| {
        let mut status = object.get("status").cloned().unwrap_or_else(|| json!({}));
        status["currentNumberScheduled"] = json!(current);
        status["numberMisscheduled"] = json!(all.len() as i64 - current);
        status["desiredNumberScheduled"] = json!(desired);
        status["numberReady"] = json!(ready);
        status["observedGeneration"] = generation;
        pods::set_count(&mut status, "updatedNumberScheduled", updated);
        pods::set_count(&mut status, "numberAvailable", ready);
        pods::set_count(&mut status, "numberUnavailable", (desired - ready).max(0));
        object["status"] = status;
    }));
    None
}

/// The node a daemon's pod is made for, bound or not.
fn node_of(pod: &Value) -> String {
    let pointer =
        "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0/values/0";
    json::text(pod, pointer).to_owned()
}
