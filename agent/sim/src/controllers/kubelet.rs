//! The kubelets of all nodes: what the containers of bound pods do, by their images, and the pods' status that follows.

use super::{configuration::lacks, pods};
use crate::{
    amend,
    delete::Propagation,
    images::{self, Behaviour},
    json,
    state::{Actor, State},
    store::Key,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

/// What runs, by pod UID.
#[derive(Debug, Default)]
pub struct Runs {
    pods: HashMap<String, PodRun>,
    /// Which run is at a place: a pod may come back under its name with another UID.
    by_place: HashMap<Key, String>,
    retries: BTreeSet<Key>,
}

#[derive(Debug)]
struct PodRun {
    key: Key,
    containers: Vec<ContainerRun>,
    /// Waits for a ConfigMap or Secret.
    lacks: Option<String>,
    gone_at: Option<Instant>,
    ended: Option<Instant>,
}

#[derive(Debug)]
struct ContainerRun {
    name: String,
    behaviour: Behaviour,
    phase: Phase,
    restarts: u32,
    last: Option<Value>,
    /// Lines of earlier starts are not kept; these are of the present one.
    started_at: Option<(Instant, jiff::Timestamp)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Waiting { until: Instant, reason: &'static str },
    NoImage,
    Running,
    Ended { code: i32, at: Instant, finished: jiff::Timestamp },
}

/// One line of a container's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was written.
    pub time: jiff::Timestamp,
    /// The line.
    pub text: String,
}

/// A pause before a restart is at most this long.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Runs {
    /// The lines a container has written since its last start, and whether it has ended; `None` before its first.
    pub fn log(&self, uid: &str, container: &str) -> Option<(Vec<LogLine>, bool)> {
        let run = self.pods.get(uid)?.containers.iter().find(|run| run.name == container)?;
        let (started, time) = run.started_at?;
        let lines = &run.behaviour.logs;
        let (until, ended) = match run.phase {
            Phase::Ended { at, .. } => (at, true),
            Phase::Running | Phase::Waiting { .. } | Phase::NoImage => (Instant::now(), false),
        };
        let interval = run.behaviour.log_interval.max(Duration::from_millis(1));
        let written = (until.duration_since(started).as_millis() / interval.as_millis()) as usize + 1;
        // A process that ends has written everything it had to say.
        let written = if ended { lines.len() } else { written.min(lines.len()) };
        let line = |(index, text): (usize, &String)| {
            let offset = jiff::SignedDuration::try_from(interval.saturating_mul(index as u32)).unwrap_or_default();
            LogLine { time: time.checked_add(offset).unwrap_or(time), text: text.clone() }
        };
        Some((lines.iter().take(written).enumerate().map(line).collect(), ended))
    }

    /// How long ago a pod ended.
    pub fn ended_for(&self, uid: &str) -> Option<Duration> {
        self.pods.get(uid)?.ended.map(|at| at.elapsed())
    }

    /// Pods of a namespace that wait for a ConfigMap or Secret.
    pub fn waiting_for_configuration(&self, namespace: &str) -> Vec<Key> {
        self.pods
            .values()
            .filter(|run| run.lacks.is_some() && run.key.namespace == namespace)
            .map(|run| run.key.clone())
            .collect()
    }

    /// Containers that wait for an image, or to be started again, look at the new rules.
    pub fn images_changed(&mut self) {
        for run in self.pods.values_mut() {
            for container in &mut run.containers {
                if matches!(container.phase, Phase::NoImage | Phase::Waiting { .. }) {
                    container.phase = Phase::Waiting { until: Instant::now(), reason: "ContainerCreating" };
                    self.retries.insert(run.key.clone());
                }
            }
        }
    }

    fn begin(&mut self, uid: &str, run: PodRun) {
        if let Some(before) = self.by_place.insert(run.key.clone(), uid.to_owned()) {
            self.pods.remove(&before);
        }
        self.pods.insert(uid.to_owned(), run);
    }

    fn forget(&mut self, key: &Key) {
        if let Some(uid) = self.by_place.remove(key) {
            self.pods.remove(&uid);
        }
    }

    /// Pods to look at again.
    pub fn take_retries(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.retries)
    }
}

fn actor() -> Actor {
    Actor::controller("kubelet", "kubelet")
}

/// Moves one pod on.
pub fn reconcile(state: &mut State, key: &Key, now: Instant) -> Option<Duration> {
    let Some(pod) = state.store.get(key).cloned() else {
        state.runs.forget(key);
        return None;
    };
    let node = json::text(&pod, "/spec/nodeName").to_owned();
    if node.is_empty() {
        if json::is_deleting(&pod) && !pods::is_ended(&pod) {
            // Nobody else will say how a pod ended that no node has ever had.
            let collector = Actor::controller("pod-garbage-collector", pods::MANAGER);
            drop(amend::change(state, &collector, ("pods", &key.namespace, &key.name), "status", |pod| {
                json::set(pod, &["status", "phase"], json!("Failed"));
            }));
        }
        return None;
    }
    if state.store.find("nodes", "", &node).is_none() {
        let collector = Actor::controller("pod-garbage-collector", super::pods::MANAGER);
        drop(amend::remove(state, &collector, "pods", &key.namespace, &key.name));
        return None;
    }
    let uid = json::uid(&pod).to_owned();
    if json::is_deleting(&pod) {
        return terminate(state, key, &pod, &uid, now);
    }
    if pods::is_ended(&pod) {
        return None;
    }
    let mut pod = pod;
    if !state.runs.pods.contains_key(&uid) {
        let run = start(state, key, &pod, now);
        state.runs.begin(&uid, run);
        // It has an address now.
        pod = state.store.get(key)?.clone();
    }
    let lacks = lacks(state, &pod);
    let policy = json::text(&pod, "/spec/restartPolicy").to_owned();
    let restart = Duration::from_millis(state.config.delays.restart_ms);
    let (rules, cluster) = (state.images.clone(), state.config.name.clone());
    let ends_after = ends_after(state, &pod);
    let mut next: Option<Instant> = None;
    let run = state.runs.pods.get_mut(&uid)?;
    run.lacks = lacks;
    if run.lacks.is_none() {
        let images: Vec<&str> =
            json::list(&pod, "/spec/containers").iter().map(|container| json::text(container, "/image")).collect();
        for (container, image) in run.containers.iter_mut().zip(images) {
            let fresh = || images::behaviour(&rules, &cluster, image, ends_after);
            advance(container, fresh, &policy, restart, now, &mut next);
        }
    }
    let status = status(run, &pod, now, &policy);
    if matches!(json::text(&status, "/phase"), "Succeeded" | "Failed") {
        run.ended.get_or_insert(now);
    }
    write_status(state, key, status);
    next.map(|at| at.saturating_duration_since(now))
}

/// Containers of pods that are meant to end do so after the cluster's usual time.
fn ends_after(state: &State, pod: &Value) -> Option<Duration> {
    (json::text(pod, "/spec/restartPolicy") != "Always").then(|| Duration::from_millis(state.config.delays.job_run_ms))
}

fn start(state: &mut State, key: &Key, pod: &Value, now: Instant) -> PodRun {
    let ends_after = ends_after(state, pod);
    let address = state.addresses.pod();
    let at = crate::state::now();
    drop(amend::change(state, &actor(), ("pods", &key.namespace, &key.name), "status", |pod| {
        let mut status = pod.get("status").cloned().unwrap_or_else(|| json!({}));
        status["startTime"] = json!(at);
        status["podIP"] = json!(address);
        status["podIPs"] = json!([{"ip": address}]);
        pod["status"] = status;
    }));
    let containers = json::list(pod, "/spec/containers")
        .iter()
        .map(|container| ContainerRun {
            name: json::text(container, "/name").to_owned(),
            behaviour: images::behaviour(&state.images, &state.config.name, json::text(container, "/image"), ends_after),
            phase: Phase::Waiting {
                until: now + Duration::from_millis(state.config.delays.start_ms),
                reason: "ContainerCreating",
            },
            restarts: 0,
            last: None,
            started_at: None,
        })
        .collect();
    PodRun { key: key.clone(), containers, lacks: None, gone_at: None, ended: None }
}

/// Moves one container on, and notes when it has to be looked at again.
fn advance(
    run: &mut ContainerRun,
    fresh: impl Fn() -> Behaviour,
    policy: &str,
    restart: Duration,
    now: Instant,
    next: &mut Option<Instant>,
) {
    // Each turn either ends the loop or moves the container one phase on; a run of no length and no pause still waits a
    // millisecond, so that the loop is bounded.
    loop {
        match run.phase.clone() {
            Phase::NoImage => return,
            Phase::Waiting { until, .. } if until > now => return earlier(next, until),
            Phase::Waiting { .. } => {
                run.behaviour = fresh();
                if run.behaviour.pull_error {
                    run.phase = Phase::NoImage;
                    return;
                }
                run.phase = Phase::Running;
                run.started_at = Some((now, jiff::Timestamp::now()));
            }
            Phase::Running => {
                let Some((started, _)) = run.started_at else { return };
                let ends = run.behaviour.run_for.map(|length| started + length.max(Duration::from_millis(1)));
                match ends {
                    Some(ends) if ends <= now => {
                        run.phase = Phase::Ended { code: run.behaviour.exit_code, at: now, finished: jiff::Timestamp::now() };
                    }
                    _ => {
                        ends.into_iter().for_each(|ends| earlier(next, ends));
                        let ready = run.behaviour.ready_after.map(|after| started + after).filter(|ready| *ready > now);
                        ready.into_iter().for_each(|ready| earlier(next, ready));
                        return;
                    }
                }
            }
            Phase::Ended { code, at, .. } => {
                if policy == "Never" || (policy == "OnFailure" && code == 0) {
                    return;
                }
                run.last = Some(state_of(run));
                let pause = restart.saturating_mul(1 << run.restarts.min(10)).min(LONGEST_PAUSE).max(Duration::from_millis(1));
                run.restarts += 1;
                run.phase = Phase::Waiting { until: at + pause, reason: "CrashLoopBackOff" };
            }
        }
    }
}

fn earlier(next: &mut Option<Instant>, at: Instant) {
    *next = Some(next.map_or(at, |other| other.min(at)));
}

fn seconds(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The `state` of a container in the pod's status.
fn state_of(run: &ContainerRun) -> Value {
    let started = run.started_at.map(|(_, time)| seconds(time));
    match &run.phase {
        Phase::Waiting { reason, .. } => json!({"waiting": {"reason": reason}}),
        Phase::NoImage => json!({"waiting": {"reason": "ImagePullBackOff", "message": "the image cannot be pulled"}}),
        Phase::Running => json!({"running": {"startedAt": started}}),
        Phase::Ended { code, finished, .. } => json!({"terminated": {
            "exitCode": code, "reason": if *code == 0 { "Completed" } else { "Error" }, "startedAt": started, "finishedAt": seconds(*finished),
        }}),
    }
}

fn is_ready(run: &ContainerRun, now: Instant) -> bool {
    let (Phase::Running, Some((started, _)), Some(after)) = (&run.phase, run.started_at, run.behaviour.ready_after) else {
        return false;
    };
    started + after <= now
}

fn status(run: &PodRun, pod: &Value, now: Instant, policy: &str) -> Value {
    let mut status = pod.get("status").cloned().unwrap_or_else(|| json!({}));
    let ended = |run: &ContainerRun| match run.phase {
        Phase::Ended { code, .. } => Some(code),
        Phase::Waiting { .. } | Phase::NoImage | Phase::Running => None,
    };
    let over = policy != "Always" && run.containers.iter().all(|run| ended(run).is_some());
    let started = run.containers.iter().any(|run| run.started_at.is_some());
    let phase = match (over, started) {
        (true, _) if run.containers.iter().all(|run| ended(run) == Some(0)) => "Succeeded",
        (true, _) => "Failed",
        (false, true) => "Running",
        (false, false) => "Pending",
    };
    status["phase"] = json!(phase);
    status["observedGeneration"] = pod["metadata"]["generation"].clone();
    status["hostIP"] = json!("10.128.0.1");
    status["hostIPs"] = json!([{"ip": "10.128.0.1"}]);
    let images = json::list(pod, "/spec/containers");
    let statuses: Vec<Value> = run
        .containers
        .iter()
        .zip(images)
        .map(|(run_of, container)| {
            let image = images::with_tag(json::text(container, "/image"));
            let mut current = state_of(run_of);
            if let (Some(message), Phase::Waiting { .. }) = (&run.lacks, &run_of.phase) {
                current = json!({"waiting": {"reason": "CreateContainerConfigError", "message": message}});
            }
            let running = run_of.phase == Phase::Running;
            json!({
                "name": run_of.name, "image": image, "imageID": format!("{image}@sha256:{:064x}", crate::random::fnv64(image.as_bytes())),
                "ready": is_ready(run_of, now), "started": running, "restartCount": run_of.restarts, "state": current,
                "lastState": run_of.last.clone().unwrap_or_else(|| json!({})),
                "containerID": if run_of.started_at.is_some() { format!("containerd://{}-{}", run_of.name, run_of.restarts) } else { String::new() },
            })
        })
        .collect();
    let unready: Vec<&str> = run.containers.iter().filter(|run| !is_ready(run, now)).map(|run| run.name.as_str()).collect();
    let at = crate::state::now();
    let (value, reason, message) = match (over, unready.is_empty()) {
        (true, _) => ("False", if phase == "Succeeded" { "PodCompleted" } else { "PodFailed" }, String::new()),
        (false, true) => ("True", "", String::new()),
        (false, false) => ("False", "ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" "))),
    };
    let initialized = if phase == "Succeeded" { "PodCompleted" } else { "" };
    pods::set_condition(&mut status, "PodReadyToStartContainers", "True", "", "", &at);
    pods::set_condition(&mut status, "Initialized", "True", initialized, "", &at);
    pods::set_condition(&mut status, "Ready", value, reason, &message, &at);
    pods::set_condition(&mut status, "ContainersReady", value, reason, &message, &at);
    status["containerStatuses"] = Value::Array(statuses);
    status
}

fn write_status(state: &mut State, key: &Key, status: Value) {
    // A refusal is in the audit log; the pod is looked at again with its next change.
    drop(amend::change(state, &actor(), ("pods", &key.namespace, &key.name), "status", |pod| pod["status"] = status));
}

/// Ends the containers of a pod that is being deleted, and then lets go of it.
fn terminate(state: &mut State, key: &Key, pod: &Value, uid: &str, now: Instant) -> Option<Duration> {
    let grace = json::integer(pod, "/metadata/deletionGracePeriodSeconds").unwrap_or(0);
    let usual = Duration::from_millis(state.config.delays.terminate_ms);
    let length = usual.min(Duration::from_secs(u64::try_from(grace).unwrap_or(0)));
    let gone_at = match state.runs.pods.get_mut(uid) {
        Some(run) => *run.gone_at.get_or_insert(now + length),
        None => now,
    };
    if gone_at > now {
        return Some(gone_at - now);
    }
    if let Some(run) = state.runs.pods.get_mut(uid) {
        for container in run.containers.iter_mut().filter(|run| !matches!(run.phase, Phase::Ended { .. })) {
            container.phase = Phase::Ended { code: 137, at: now, finished: jiff::Timestamp::now() };
        }
    }
    if !pods::is_ended(pod)
        && let Some(run) = state.runs.pods.get(uid)
    {
        // Whoever counts ended pods has to see how this one ended.
        let mut status = status(run, pod, now, "Never");
        status["phase"] = json!("Failed");
        write_status(state, key, status);
    }
    if grace > 0 {
        drop(amend::delete(state, &actor(), ("pods", &key.namespace, &key.name), Propagation::Background, Some(0)));
    }
    None
}
