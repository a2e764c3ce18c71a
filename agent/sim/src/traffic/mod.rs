//! Simulated requests: at every tick each Service gets its share, routed by the live VirtualService, DestinationRule,
//! Service and pod labels; what comes of them is counted as a scraper would find it.
//!
//! A Service gets requests from the moment it has first had a ready pod until it is removed, so that a first roll-out is
//! not a storm of errors, and losing every pod is.

mod gpu;
mod route;
pub mod series;

use crate::{
    cluster::Inner,
    config::ClusterConfig,
    controllers::{pods, service},
    images, json,
    state::State,
};
use route::Destination;
use serde_json::Value;
use series::Metrics;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// The upper bounds of the latency buckets, seconds: the defaults of the Prometheus client libraries.
pub const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How the latencies of one image lie around its middle, in a fixed turn: most close by, some far out.
const SPREAD: [f64; 10] = [0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.2, 1.5, 2.5];

/// Namespaces of the cluster's own software get no requests.
const QUIET: [&str; 5] = ["kube-system", "kube-public", "kube-node-lease", "gpu-operator", "istio-system"];

/// GPU gauges move slowly and are many: they are scraped this often.
const GPU_EVERY: Duration = Duration::from_secs(5);

/// The requests of one cluster and what is known of them.
#[derive(Debug)]
pub struct Traffic {
    rate: f64,
    /// Services that have had a ready pod, by UID.
    active: HashSet<String>,
    /// Fractions of requests and errors carried to the next tick.
    carried: HashMap<String, f64>,
    /// Running totals, by pod and Service, of the served and the failed.
    totals: HashMap<String, Totals>,
    /// What a scraper has found.
    pub metrics: Metrics,
}

#[derive(Debug, Clone, Default)]
struct Totals {
    labels: Vec<(String, String)>,
    codes: HashMap<&'static str, f64>,
    buckets: [f64; BUCKETS.len()],
    sum: f64,
    count: f64,
    turn: usize,
}

impl Traffic {
    /// No requests yet, at the configured rate.
    pub fn new(config: &ClusterConfig) -> Self {
        Self {
            rate: config.requests_per_second,
            active: HashSet::new(),
            carried: HashMap::new(),
            totals: HashMap::new(),
            metrics: Metrics::default(),
        }
    }

    /// Requests to each Service, per second, from now on.
    pub fn set_requests_per_second(&mut self, rate: f64) {
        self.rate = rate;
    }

    /// Whole units of an amount; what is left over goes to the next call with the same key.
    fn whole(&mut self, key: &str, amount: f64) -> f64 {
        let carried = self.carried.entry(key.to_owned()).or_default();
        let total = *carried + amount;
        // A sum of shares may fall short of a whole by the width of a rounding error.
        let whole = (total + 1e-9).floor();
        *carried = total - whole;
        whole
    }
}

/// Makes requests until the cluster stops.
pub async fn run(cluster: Arc<Inner>, shutdown: CancellationToken) {
    let every = Duration::from_millis(cluster.config.delays.scrape_ms);
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = Instant::now();
    let mut gpus: Option<Instant> = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let now = Instant::now();
        let mut state = cluster.lock();
        tick(&mut state, now - last);
        if gpus.is_none_or(|at| now - at >= GPU_EVERY) {
            gpu::scrape(&mut state);
            gpus = Some(now);
        }
        last = now;
    }
}

/// The requests of one span of time, and a scrape at its end.
pub fn tick(state: &mut State, elapsed: Duration) {
    let services: Vec<Arc<Value>> = state
        .store
        .list("services", "")
        .filter(|service| !QUIET.contains(&json::namespace(service)) && service.pointer("/spec/selector").is_some())
        .cloned()
        .collect();
    let known: HashSet<&str> = services.iter().map(|service| json::uid(service)).collect();
    state.traffic.active.retain(|uid| known.contains(uid.as_str()));
    let mut used = HashSet::new();
    for service in &services {
        let uid = json::uid(service);
        if !state.traffic.active.contains(uid) {
            if !service::selected(state, service).iter().any(|pod| pods::is_ready(pod)) {
                continue;
            }
            state.traffic.active.insert(uid.to_owned());
        }
        let amount = state.traffic.rate * elapsed.as_secs_f64();
        let requests = state.traffic.whole(uid, amount);
        used.insert(uid.to_owned());
        let destinations = route::destinations(state, service);
        let weights: f64 = destinations.iter().map(|destination| destination.weight).sum();
        for destination in &destinations {
            let key = format!("{uid}/{}", destination.name);
            let share = if weights > 0.0 { requests * destination.weight / weights } else { 0.0 };
            let count = state.traffic.whole(&key, share);
            used.insert(key);
            if count > 0.0 {
                answer(state, service, destination, count, &mut used);
            }
        }
    }
    state.traffic.carried.retain(|key, _| used.contains(key));
    scrape(state);
}

/// Lets the pods of one destination answer, in turn.
fn answer(state: &mut State, service: &Value, destination: &Destination, requests: f64, used: &mut HashSet<String>) {
    let (namespace, name) = (json::namespace(service), json::name(service));
    if destination.pods.is_empty() {
        let app = match json::text(service, "/spec/selector/app") {
            "" => name,
            app => app,
        };
        let key = format!("none/{namespace}/{name}");
        let labels = [("app", app), ("namespace", namespace), ("service", name)];
        let totals = state.traffic.totals.entry(key).or_insert_with(|| Totals { labels: owned(&labels), ..Totals::default() });
        *totals.codes.entry("503").or_default() += requests;
        return;
    }
    let (rules, cluster) = (Arc::clone(&state.images), Arc::clone(&state.config));
    let pods = destination.pods.len() as f64;
    for pod in &destination.pods {
        let key = format!("{}/{name}", json::uid(pod));
        let count = state.traffic.whole(&format!("share/{key}"), requests / pods);
        let image = json::text(pod, "/spec/containers/0/image");
        let behaviour = images::behaviour(&rules, &cluster.name, image, None);
        let errors = state.traffic.whole(&format!("errors/{key}"), count * behaviour.error_rate).min(count);
        used.insert(format!("share/{key}"));
        used.insert(format!("errors/{key}"));
        let totals = state.traffic.totals.entry(key).or_insert_with(|| {
            let version = version_of(pod);
            let app = [json::label(pod, "app"), json::label(pod, "app.kubernetes.io/name"), name]
                .into_iter()
                .find(|app| !app.is_empty());
            let labels = [
                ("app", app.unwrap_or(name)),
                ("version", version.as_str()),
                ("namespace", namespace),
                ("pod", json::name(pod)),
                ("service", name),
            ];
            Totals { labels: owned(&labels), ..Totals::default() }
        });
        totals.serve(count, errors, behaviour.latency_seconds);
    }
}

/// The label `version`, else the tag of the first container's image: what a server would say of itself.
pub fn version_of(pod: &Value) -> String {
    match json::label(pod, "version") {
        "" => images::tag(json::text(pod, "/spec/containers/0/image")),
        version => version.to_owned(),
    }
}

fn owned(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

impl Totals {
    fn serve(&mut self, requests: f64, errors: f64, middle: f64) {
        *self.codes.entry("200").or_default() += requests - errors;
        if errors > 0.0 || self.codes.contains_key("500") {
            *self.codes.entry("500").or_default() += errors;
        }
        let rounds = (requests / SPREAD.len() as f64).floor();
        let rest = (requests - rounds * SPREAD.len() as f64) as usize;
        for (index, factor) in SPREAD.iter().enumerate() {
            let in_rest = (index + SPREAD.len() - self.turn) % SPREAD.len() < rest;
            let count = rounds + f64::from(u8::from(in_rest));
            let latency = middle * factor;
            self.sum += latency * count;
            self.count += count;
            for (bucket, bound) in self.buckets.iter_mut().zip(BUCKETS) {
                if latency <= bound {
                    *bucket += count;
                }
            }
        }
        self.turn = (self.turn + rest) % SPREAD.len();
    }
}

/// Writes every running total down; those of pods that are gone end.
fn scrape(state: &mut State) {
    let now = jiff::Timestamp::now().as_millisecond();
    let State { traffic, store, .. } = state;
    traffic.totals.retain(|key, _| {
        let mut parts = key.split('/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("none"), Some(namespace), Some(service)) => store.find("services", namespace, service).is_some(),
            (Some(uid), _, _) => store.by_uid(uid).is_some(),
            (None, _, _) => false,
        }
    });
    let Traffic { totals, metrics, .. } = traffic;
    for totals in totals.values() {
        for (code, value) in &totals.codes {
            metrics.add("requests_total", &totals.labels, Some(("code", code)), now, *value);
        }
        if totals.count == 0.0 {
            continue;
        }
        for (count, bound) in totals.buckets.iter().zip(BUCKETS) {
            metrics.add("request_duration_seconds_bucket", &totals.labels, Some(("le", &bound.to_string())), now, *count);
        }
        metrics.add("request_duration_seconds_bucket", &totals.labels, Some(("le", "+Inf")), now, totals.count);
        metrics.add("request_duration_seconds_sum", &totals.labels, None, now, totals.sum);
        metrics.add("request_duration_seconds_count", &totals.labels, None, now, totals.count);
    }
    metrics.end_round(
        now,
        &["requests_total", "request_duration_seconds_bucket", "request_duration_seconds_sum", "request_duration_seconds_count"],
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_their_buckets_whatever_the_batch() {
        let (mut at_once, mut one_by_one) = (Totals::default(), Totals::default());
        at_once.serve(37.0, 3.0, 0.02);
        (0..37).for_each(|_| one_by_one.serve(1.0, 0.0, 0.02));
        assert_eq!(at_once.buckets, one_by_one.buckets);
        assert_eq!(at_once.count, 37.0);
        assert_eq!(at_once.codes["500"], 3.0);
        assert!((at_once.sum - one_by_one.sum).abs() < 1e-9);
    }
}
