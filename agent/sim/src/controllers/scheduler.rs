//! The scheduler: binds pods to nodes with room for them, and gangs as a whole or not at all. What each node holds is kept
//! from change to change, so that a round costs the pods that wait and not the pods there are.

use super::{
    affinity::{matches_affinity, preference, tolerates},
    pods,
};
use crate::{
    amend,
    body::present,
    json, quantity,
    state::{Actor, State, Target, now},
    status::ApiError,
    store::{Change, Key},
    write::WriteOptions,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

/// Amounts by resource name, in billionths.
type Amounts = BTreeMap<String, i128>;

const POD: i128 = 1_000_000_000;

/// The scheduler's memory.
#[derive(Debug, Default)]
pub struct Scheduler {
    waiting: BTreeSet<(String, String)>,
    /// Those of them that found no room, and need not be looked at again before there is more.
    refused: BTreeSet<(String, String)>,
    bound: HashMap<String, (String, Amounts)>,
    used: HashMap<String, Amounts>,
}

/// The one piece of work of this controller.
pub fn everything() -> Key {
    Key::new("pods", "", "")
}

fn actor() -> Actor {
    Actor::controller("kube-scheduler", "kube-scheduler")
}

/// What a pod asks for: the sum of its containers, the largest of its init containers, and its place as a pod.
pub fn requests(pod: &Value) -> Amounts {
    let of = |container: &Value| {
        let mut amounts = Amounts::new();
        for map in ["/resources/limits", "/resources/requests"] {
            for (name, amount) in json::entries(container, map) {
                amounts.insert(name.clone(), amount.as_str().and_then(quantity::parse_nanos).unwrap_or(0));
            }
        }
        amounts
    };
    let mut total = Amounts::new();
    for container in json::list(pod, "/spec/containers") {
        of(container).into_iter().for_each(|(name, amount)| *total.entry(name).or_default() += amount);
    }
    for container in json::list(pod, "/spec/initContainers") {
        for (name, amount) in of(container) {
            let entry = total.entry(name).or_default();
            *entry = (*entry).max(amount);
        }
    }
    total.insert("pods".to_owned(), POD);
    total
}

impl Scheduler {
    /// Follows one change.
    pub fn observe(&mut self, change: &Change) {
        if &*change.key.resource != "pods" {
            return;
        }
        let pod = &change.after;
        let uid = json::uid(pod);
        let place = (change.key.namespace.clone(), change.key.name.clone());
        let node = json::text(pod, "/spec/nodeName");
        if change.removed || pods::is_ended(pod) || node.is_empty() {
            if let Some((node, amounts)) = self.bound.remove(uid) {
                self.add(&node, &amounts, -1);
                self.look_again();
            }
        } else if !self.bound.contains_key(uid) {
            let amounts = requests(pod);
            self.add(node, &amounts, 1);
            self.bound.insert(uid.to_owned(), (node.to_owned(), amounts));
        }
        let waits = !change.removed && node.is_empty() && !pods::is_ended(pod) && !json::is_deleting(pod);
        let same = change.before.as_ref().is_some_and(|before| before["spec"] == pod["spec"]);
        if !waits || !same {
            self.refused.remove(&place);
        }
        if waits {
            self.waiting.insert(place);
        } else {
            self.waiting.remove(&place);
        }
    }

    /// There may be room now that was not there before.
    pub fn look_again(&mut self) {
        self.refused.clear();
    }

    fn add(&mut self, node: &str, amounts: &Amounts, sign: i128) {
        let used = self.used.entry(node.to_owned()).or_default();
        for (name, amount) in amounts {
            *used.entry(name.clone()).or_default() += amount * sign;
        }
    }

    /// Binds what can be bound.
    pub fn reconcile(&mut self, state: &mut State) -> Option<Duration> {
        if self.waiting.len() == self.refused.len() {
            return None;
        }
        let nodes: Vec<Arc<Value>> = state.store.list("nodes", "").cloned().collect();
        let mut free: BTreeMap<String, Amounts> = nodes
            .iter()
            .filter(|node| json::condition_is_true(node, "Ready") && !json::flag(node, "/spec/unschedulable"))
            .map(|node| (json::name(node).to_owned(), self.free(node)))
            .collect();
        for group in self.groups(state) {
            let places = group.pods.iter().map(|pod| (json::namespace(pod).to_owned(), json::name(pod).to_owned()));
            let places: Vec<(String, String)> = places.collect();
            if places.iter().any(|place| !self.refused.contains(place)) {
                self.place(state, &nodes, &mut free, &group);
                self.refused.extend(places);
            }
        }
        None
    }

    fn free(&self, node: &Value) -> Amounts {
        let used = self.used.get(json::name(node));
        json::entries(node, "/status/allocatable")
            .map(|(name, amount)| {
                let total = amount.as_str().and_then(quantity::parse_nanos).unwrap_or(0);
                (name.clone(), total - used.and_then(|used| used.get(name)).copied().unwrap_or(0))
            })
            .collect()
    }

    /// The pods that wait, the oldest of the highest priority first; a gang is one group.
    fn groups(&self, state: &State) -> Vec<Group> {
        let mut groups: BTreeMap<(i64, String, String), Group> = BTreeMap::new();
        for (namespace, name) in &self.waiting {
            let Some(pod) = state.store.find("pods", namespace, name) else { continue };
            if !json::list(pod, "/spec/schedulingGates").is_empty() {
                continue;
            }
            let gang = json::text(pod, "/metadata/annotations/scheduling.k8s.io~1group-name");
            let priority = -json::integer(pod, "/spec/priority").unwrap_or(0);
            let owner = json::controller_of(pod);
            let job = owner.filter(|owner| !gang.is_empty() && json::text(owner, "/kind") == "Job");
            let job = job.and_then(|owner| state.store.find("jobs.batch.volcano.sh", namespace, json::text(owner, "/name")));
            let since =
                job.map_or(json::text(pod, "/metadata/creationTimestamp"), |job| json::text(job, "/metadata/creationTimestamp"));
            let identity = if gang.is_empty() { format!("{namespace}/{name}") } else { format!("{namespace}/{gang}") };
            let group = groups
                .entry((priority, since.to_owned(), identity))
                .or_insert_with(|| Group { pods: Vec::new(), job: job.cloned() });
            group.pods.push(Arc::clone(pod));
        }
        groups.into_values().collect()
    }

    fn place(&mut self, state: &mut State, nodes: &[Arc<Value>], free: &mut BTreeMap<String, Amounts>, group: &Group) {
        // Copied with the first pod that fits: most groups that wait have none.
        let mut trial: Option<BTreeMap<String, Amounts>> = None;
        let mut placed: Vec<(usize, String)> = Vec::new();
        let mut why: BTreeMap<usize, String> = BTreeMap::new();
        let refusal = group.job.as_ref().and_then(|job| self.queue_refuses(state, job, &group.pods));
        for (index, pod) in group.pods.iter().enumerate() {
            let wanted = requests(pod);
            let left = trial.as_ref().unwrap_or(free);
            match refusal.clone().map_or_else(|| choose(pod, &wanted, nodes, left), Err) {
                Ok(node) => {
                    let left = trial.get_or_insert_with(|| free.clone()).entry(node.clone()).or_default();
                    wanted.iter().for_each(|(name, amount)| *left.entry(name.clone()).or_default() -= amount);
                    placed.push((index, node));
                }
                Err(reason) => drop(why.insert(index, reason)),
            }
        }
        // A gang counts the members it already has.
        let least = group.job.as_ref().map_or(0, |job| json::integer(job, "/spec/minAvailable").unwrap_or(1));
        let held = group.job.as_ref().map_or(0, |job| {
            state.store.owned(json::uid(job), "pods").filter(|pod| !json::text(pod, "/spec/nodeName").is_empty()).count() as i64
        });
        if (placed.len() as i64) + held < least {
            let total = group.pods.len();
            let reason = why.values().next().cloned().unwrap_or_default();
            let message = format!(
                "{}/{total} tasks in gang unschedulable: pod group is not ready, {least} minAvailable: {reason}",
                total - placed.len()
            );
            for pod in &group.pods {
                unschedulable(state, pod, &message);
            }
            return;
        }
        for (index, node) in placed {
            let pod = &group.pods[index];
            let options = WriteOptions::internal(&actor());
            let (namespace, name) = (json::namespace(pod), json::name(pod));
            let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/binding");
            if let Ok(object) = bind(state, namespace, name, &node, &options)
                && let Some(target) = state.target("pods", namespace, name)
            {
                let target = Target { subresource: "binding".to_owned(), ..target };
                let outcome = crate::state::Outcome::Done { code: 201, object: Some(&object) };
                state.record(&actor(), "create", &path, &target, false, outcome);
            }
        }
        if let Some(trial) = trial {
            *free = trial;
        }
        for (index, reason) in why {
            unschedulable(state, &group.pods[index], &reason);
        }
    }

    /// Why a queue does not take a job: it is not there, or its capability is spent.
    fn queue_refuses(&self, state: &State, job: &Value, waiting: &[Arc<Value>]) -> Option<String> {
        let name = json::text(job, "/spec/queue");
        let Some(queue) = state.store.find("queues.scheduling.volcano.sh", "", name) else {
            return Some(format!("queue {name:?} not found"));
        };
        let capability = queue.pointer("/spec/capability").and_then(Value::as_object)?;
        let mut used = Amounts::new();
        let held = state.store.list("pods", "").filter(|pod| json::label(pod, "volcano.sh/queue-name") == name);
        let held = held.filter(|pod| self.bound.contains_key(json::uid(pod)));
        for pod in held.chain(waiting) {
            requests(pod).into_iter().for_each(|(name, amount)| *used.entry(name).or_default() += amount);
        }
        capability.iter().find_map(|(resource, limit)| {
            let limit = match limit {
                Value::String(text) => quantity::parse_nanos(text),
                other => quantity::parse_nanos(&other.to_string()),
            };
            let wanted = used.get(resource).copied().unwrap_or(0);
            (limit.is_some_and(|limit| wanted > limit)).then(|| format!("queue {name:?} has not enough capability of {resource}"))
        })
    }
}

struct Group {
    pods: Vec<Arc<Value>>,
    job: Option<Arc<Value>>,
}

/// The best node: the most preferred, then the fullest one that fits, so that whole nodes stay free for whole-node pods.
fn choose(pod: &Value, wanted: &Amounts, nodes: &[Arc<Value>], free: &BTreeMap<String, Amounts>) -> Result<String, String> {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut best: Option<(i64, i128, i128, &str)> = None;
    for node in nodes {
        let name = json::name(node);
        let refusal = match free.get(name) {
            None => Some("node(s) were unschedulable".to_owned()),
            Some(_) if !matches_affinity(&pod["spec"], node) => {
                Some("node(s) didn't match Pod's node affinity/selector".to_owned())
            }
            Some(_) if !tolerates(&pod["spec"], node) => Some("node(s) had untolerated taint(s)".to_owned()),
            Some(left) => {
                let short = wanted.iter().find(|(name, amount)| **amount > 0 && left.get(*name).copied().unwrap_or(0) < **amount);
                short.map(|(name, _)| if name == "pods" { "Too many pods".to_owned() } else { format!("Insufficient {name}") })
            }
        };
        if let Some(reason) = refusal {
            *reasons.entry(reason).or_default() += 1;
            continue;
        }
        let left = free.get(name);
        let amount = |resource: &str| left.and_then(|left| left.get(resource)).copied().unwrap_or(0);
        let candidate = (preference(&pod["spec"], node), -amount("nvidia.com/gpu"), -amount("cpu"), name);
        // Nodes come in the order of their names, and the first of equals stays.
        if best.is_none_or(|best| (candidate.0, candidate.1, candidate.2) > (best.0, best.1, best.2)) {
            best = Some(candidate);
        }
    }
    best.map(|(_, _, _, name)| name.to_owned()).ok_or_else(|| {
        let list: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        format!("0/{} nodes are available: {}.", nodes.len(), list.join(", "))
    })
}

fn unschedulable(state: &mut State, pod: &Value, message: &str) {
    // Most pods that wait have been told so before, and in the same words.
    if json::condition(pod, "PodScheduled").is_some_and(|found| json::text(found, "/message") == message) {
        return;
    }
    let at = now();
    drop(amend::change(state, &actor(), ("pods", json::namespace(pod), json::name(pod)), "status", |pod| {
        let mut status = pod.get("status").cloned().unwrap_or_else(|| json!({}));
        pods::set_condition(&mut status, "PodScheduled", "False", "Unschedulable", message, &at);
        pod["status"] = status;
    }));
}

/// Binds a pod to a node.
pub fn bind(state: &mut State, namespace: &str, name: &str, node: &str, options: &WriteOptions) -> Result<Arc<Value>, ApiError> {
    let target = state.target("pods", namespace, name).ok_or_else(|| ApiError::not_found("pods", name))?;
    let current = state.existing(&target)?;
    if !json::text(&current, "/spec/nodeName").is_empty() {
        let why = format!("pod {name} is already assigned to node \"{}\"", json::text(&current, "/spec/nodeName"));
        return Err(ApiError::conflict("pods/binding", name, &why));
    }
    if state.store.find("nodes", "", node).is_none() {
        return Err(ApiError::not_found("nodes", node));
    }
    let at = now();
    let mut object = present(&target.kind, 0, &current);
    json::set(&mut object, &["spec", "nodeName"], json!(node));
    let mut status = object.get("status").cloned().unwrap_or_else(|| json!({}));
    pods::set_condition(&mut status, "PodScheduled", "True", "", "", &at);
    object["status"] = status;
    let binding = Target { subresource: "binding".to_owned(), ..target };
    Ok(state.replace(&binding, &current, object, None, options)?.object)
}
