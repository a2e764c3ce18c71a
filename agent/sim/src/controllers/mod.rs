//! The controllers of a cluster: one task that turns changes into work, and work into writes. Each file is one controller,
//! a function of the state as it is; what has to happen later comes back by timer.

pub mod affinity;
pub mod autoscaler;
pub mod configuration;
pub mod cron_job;
pub mod daemon_set;
pub mod definition;
pub mod deployment;
pub mod disruption;
pub mod garbage;
pub mod job;
pub mod kubelet;
pub mod namespace;
pub mod pods;
pub mod replica_set;
pub mod scheduler;
pub mod service;
pub mod stateful_set;
pub mod volcano;
pub mod volume;

use crate::{
    cluster::Inner,
    json,
    state::State,
    store::{Change, Key},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Which controller looks at an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loop {
    /// Serves the kinds of definitions.
    Definition,
    /// Fills and empties namespaces.
    Namespace,
    /// Follows owner references.
    Garbage,
    /// Makes ReplicaSets.
    Deployment,
    /// Makes pods.
    ReplicaSet,
    /// Makes named pods in order.
    StatefulSet,
    /// Makes a pod a node.
    DaemonSet,
    /// Makes pods until enough succeed.
    Job,
    /// Makes jobs by the clock.
    CronJob,
    /// Makes the pods of Volcano's jobs.
    Volcano,
    /// Counts Volcano's queues.
    Queue,
    /// Binds claims.
    Volume,
    /// Binds pods; one piece of work for all of them.
    Scheduler,
    /// Runs pods.
    Kubelet,
    /// Makes Endpoints.
    Service,
    /// Keeps the status of disruption budgets.
    Disruption,
    /// Keeps the status of autoscalers.
    Autoscaler,
}

/// A controller and what it should look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Work(Loop, Key);

/// The task's own memory: what to do now, and what later.
#[derive(Debug, Default)]
struct Controllers {
    queue: BTreeSet<Work>,
    due: BTreeMap<(Instant, Work), ()>,
    planned: HashMap<Work, Instant>,
    scheduler: scheduler::Scheduler,
}

/// Pieces of work done under one hold of the lock, so that requests get their turn.
const BATCH: usize = 64;

/// Runs the controllers until the cluster stops.
pub async fn run(cluster: Arc<Inner>, shutdown: CancellationToken) {
    let mut controllers = Controllers::default();
    let mut wakes = {
        let mut state = cluster.lock();
        controllers.look_at_everything(&state);
        drop(state.store.take_feed());
        state.store.wakes()
    };
    loop {
        wakes.borrow_and_update();
        let (more, next) = {
            let mut state = cluster.lock();
            controllers.pass(&mut state)
        };
        if more {
            tokio::task::yield_now().await;
            if shutdown.is_cancelled() {
                return;
            }
            continue;
        }
        let timer = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = wakes.changed() => if changed.is_err() { return },
            () = timer => {}
        }
    }
}

impl Controllers {
    /// One hold of the lock: whether more is to be done at once, and when the next timer is due.
    fn pass(&mut self, state: &mut State) -> (bool, Option<Instant>) {
        self.take_changes(state);
        let now = Instant::now();
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= now) {
            let (_, work) = entry.remove_entry().0;
            self.planned.remove(&work);
            self.queue.insert(work);
        }
        for key in state.runs.take_retries() {
            self.queue.insert(Work(Loop::Kubelet, key));
        }
        for _ in 0..BATCH {
            let Some(work) = self.queue.pop_first() else { break };
            let again = self.reconcile(state, &work, now);
            if let Some(delay) = again {
                self.plan(work, now + delay);
            }
            self.take_changes(state);
        }
        (!self.queue.is_empty(), self.due.keys().next().map(|(at, _)| *at))
    }

    /// One timer a piece of work: the earliest wins, so that timers cannot pile up.
    fn plan(&mut self, work: Work, at: Instant) {
        if let Some(before) = self.planned.get(&work).copied() {
            if before <= at {
                return;
            }
            self.due.remove(&(before, work.clone()));
        }
        self.planned.insert(work.clone(), at);
        self.due.insert((at, work), ());
    }

    fn take_changes(&mut self, state: &mut State) {
        match state.store.take_feed() {
            None => self.look_at_everything(state),
            Some(changes) => changes.iter().for_each(|change| self.route(state, change)),
        }
    }

    fn look_at_everything(&mut self, state: &State) {
        self.scheduler = scheduler::Scheduler::default();
        for resource in state.store.resources() {
            for object in state.store.list(&resource, "") {
                let key = Key::of(&resource, object);
                let change = Change { revision: 0, key, before: None, after: Arc::clone(object), removed: false };
                self.route(state, &change);
            }
        }
    }

    fn add(&mut self, who: Loop, key: Key) {
        self.queue.insert(Work(who, key));
    }

    fn add_all(&mut self, state: &State, who: Loop, resource: &str, namespace: &str) {
        let keys: Vec<Key> = state.store.list(resource, namespace).map(|object| Key::of(resource, object)).collect();
        keys.into_iter().for_each(|key| self.add(who, key));
    }

    /// Which controllers a change concerns.
    fn route(&mut self, state: &State, change: &Change) {
        let key = &change.key;
        let object = &change.after;
        self.scheduler.observe(change);
        let same_spec = change.before.as_ref().is_some_and(|before| before["spec"] == object["spec"]);
        self.route_ownership(state, change);
        match &*key.resource {
            "customresourcedefinitions.apiextensions.k8s.io" => self.add(Loop::Definition, key.clone()),
            "namespaces" => self.add(Loop::Namespace, key.clone()),
            "deployments.apps" => self.add(Loop::Deployment, key.clone()),
            "replicasets.apps" => {
                self.add(Loop::ReplicaSet, key.clone());
                self.add_owner(object);
            }
            "statefulsets.apps" => self.add(Loop::StatefulSet, key.clone()),
            "daemonsets.apps" => self.add(Loop::DaemonSet, key.clone()),
            "jobs.batch" => {
                self.add(Loop::Job, key.clone());
                self.add_owner(object);
            }
            "cronjobs.batch" => self.add(Loop::CronJob, key.clone()),
            "jobs.batch.volcano.sh" => {
                self.add(Loop::Volcano, key.clone());
                self.schedule_again(same_spec);
                let phase = |job: &Value| json::text(job, "/status/state/phase").to_owned();
                let same_phase = change.before.as_ref().is_some_and(|before| phase(before) == phase(object));
                if !same_phase || change.removed {
                    let queue = json::text(object, "/spec/queue");
                    self.add(Loop::Queue, Key::new("queues.scheduling.volcano.sh", "", queue));
                }
            }
            "queues.scheduling.volcano.sh" => {
                self.add(Loop::Queue, key.clone());
                self.schedule_again(same_spec);
            }
            "commands.bus.volcano.sh" if !change.removed => {
                let job = json::text(object, "/target/name");
                self.add(Loop::Volcano, Key::new("jobs.batch.volcano.sh", &key.namespace, job));
            }
            "persistentvolumeclaims" => self.add(Loop::Volume, key.clone()),
            "services" => self.add(Loop::Service, key.clone()),
            "horizontalpodautoscalers.autoscaling" => self.add(Loop::Autoscaler, key.clone()),
            "poddisruptionbudgets.policy" => self.add(Loop::Disruption, key.clone()),
            "configmaps" | "secrets" if change.before.is_none() => {
                let waiting = state.runs.waiting_for_configuration(&key.namespace);
                waiting.into_iter().for_each(|pod| self.add(Loop::Kubelet, pod));
            }
            "nodes" => {
                // Its status says what it holds.
                let same = same_spec && change.before.as_ref().is_some_and(|before| before["status"] == object["status"]);
                self.schedule_again(same && !change.removed);
                self.add_all(state, Loop::DaemonSet, "daemonsets.apps", "");
                if change.removed {
                    let on_it = state.store.list("pods", "").filter(|pod| json::text(pod, "/spec/nodeName") == key.name);
                    let pods: Vec<Key> = on_it.map(|pod| Key::of("pods", pod)).collect();
                    pods.into_iter().for_each(|pod| self.add(Loop::Kubelet, pod));
                }
            }
            "pods" => self.route_pod(state, change),
            _ => {}
        }
    }

    /// A change of what decides about room lets every pod that waits be looked at again.
    fn schedule_again(&mut self, same: bool) {
        if !same {
            self.scheduler.look_again();
            self.add(Loop::Scheduler, scheduler::everything());
        }
    }

    fn route_pod(&mut self, state: &State, change: &Change) {
        let key = &change.key;
        self.add(Loop::Kubelet, key.clone());
        self.add(Loop::Scheduler, scheduler::everything());
        self.add_owner(&change.after);
        let looks_like =
            |pod: &Value| (json::text(pod, "/status/podIP").to_owned(), pods::is_ready(pod), pod["metadata"]["labels"].clone());
        let same =
            change.before.as_ref().is_some_and(|before| !change.removed && looks_like(before) == looks_like(&change.after));
        if !same {
            self.add_all(state, Loop::Service, "services", &key.namespace);
            self.add_all(state, Loop::Disruption, "poddisruptionbudgets.policy", &key.namespace);
        }
    }

    /// The controller of an object's owner looks again.
    fn add_owner(&mut self, object: &Value) {
        let Some(owner) = json::controller_of(object) else { return };
        let group = json::text(owner, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
        let (who, resource) = match (group, json::text(owner, "/kind")) {
            ("apps", "Deployment") => (Loop::Deployment, "deployments.apps"),
            ("apps", "ReplicaSet") => (Loop::ReplicaSet, "replicasets.apps"),
            ("apps", "StatefulSet") => (Loop::StatefulSet, "statefulsets.apps"),
            ("apps", "DaemonSet") => (Loop::DaemonSet, "daemonsets.apps"),
            ("batch", "Job") => (Loop::Job, "jobs.batch"),
            ("batch", "CronJob") => (Loop::CronJob, "cronjobs.batch"),
            ("batch.volcano.sh", "Job") => (Loop::Volcano, "jobs.batch.volcano.sh"),
            _ => return,
        };
        self.add(who, Key::new(resource, json::namespace(object), json::text(owner, "/name")));
    }

    fn route_ownership(&mut self, state: &State, change: &Change) {
        let object = &change.after;
        if change.removed {
            let dependents: Vec<Key> = state.store.dependents(json::uid(object)).cloned().collect();
            dependents.into_iter().for_each(|dependent| self.add(Loop::Garbage, dependent));
            for owner in json::list(object, "/metadata/ownerReferences") {
                if let Some(owner) = state.store.by_uid(json::text(owner, "/uid")) {
                    self.add(Loop::Garbage, owner.clone());
                }
            }
            if !change.key.namespace.is_empty() {
                let namespace = Key::new("namespaces", "", &change.key.namespace);
                if state.store.get(&namespace).is_some_and(|namespace| json::is_deleting(namespace)) {
                    self.add(Loop::Namespace, namespace);
                }
            }
            if change.key.resource.contains('.') {
                self.add(Loop::Definition, Key::new("customresourcedefinitions.apiextensions.k8s.io", "", &change.key.resource));
            }
        } else if json::is_deleting(object) || !json::list(object, "/metadata/ownerReferences").is_empty() {
            self.add(Loop::Garbage, change.key.clone());
        }
    }

    fn reconcile(&mut self, state: &mut State, work: &Work, now: Instant) -> Option<Duration> {
        let Work(who, key) = work;
        match who {
            Loop::Definition => definition::reconcile(state, key),
            Loop::Namespace => namespace::reconcile(state, key),
            Loop::Garbage => garbage::reconcile(state, key),
            Loop::Deployment => deployment::reconcile(state, key),
            Loop::ReplicaSet => replica_set::reconcile(state, key),
            Loop::StatefulSet => stateful_set::reconcile(state, key),
            Loop::DaemonSet => daemon_set::reconcile(state, key),
            Loop::Job => job::reconcile(state, key),
            Loop::CronJob => cron_job::reconcile(state, key),
            Loop::Volcano => volcano::reconcile(state, key),
            Loop::Queue => volcano::reconcile_queue(state, key),
            Loop::Volume => volume::reconcile(state, key),
            Loop::Scheduler => self.scheduler.reconcile(state),
            Loop::Kubelet => kubelet::reconcile(state, key, now),
            Loop::Service => service::reconcile(state, key),
            Loop::Disruption => disruption::reconcile(state, key),
            Loop::Autoscaler => autoscaler::reconcile(state, key),
        }
    }
}
