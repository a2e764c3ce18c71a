//! What it costs to tell the hub what policies say: `cargo run -p muster-agent --example verdict_bench -- DATABASE_URL POLICIES…`,
//! where the URL is that of a Postgres server on which databases may be made, and the policies are files or folders.
//!
//! Ten clusters of a thousand generated workloads each; then one workload in a hundred becomes what another is. Beside what
//! is told and stored now stands what it took to tell the whole, as one observation with its event. Bytes do not depend on
//! how fast or how busy the machine is.

mod hub;

use anyhow::{Result, bail};
use hub::Hub;
use jiff::Timestamp;
use muster_agent::{
    domain::{item::ItemKey, verdicts::VerdictSet},
    link::Telling,
    policy::evaluate,
};
use muster_core::version::Version;
use muster_fleet_registry::link::verdicts::{Incoming, Stored};
use muster_policy_evaluator::{Surroundings, conformance::manifests_below, speed};
use prost::Message as _;
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

const CLUSTERS: usize = 10;
const WORKLOADS: usize = 10_000;
/// One workload in so many changes.
const CHANGED: usize = 100;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, places @ ..] = arguments.as_slice() else { bail!("usage: verdict_bench DATABASE_URL POLICIES…") };
    let places: Vec<PathBuf> = places.iter().map(PathBuf::from).collect();
    let manifests = manifests_below(&places)?.into_iter().map(|(_, manifest)| manifest.value);
    let policies: Vec<Value> = manifests.filter(|manifest| manifest["kind"] == "ClusterPolicy").collect();
    if policies.is_empty() {
        bail!("there is no policy");
    }
    println!("load of the machine: {}", fs::read_to_string("/proc/loadavg")?.trim());
    let hub = Hub::start(url, CLUSTERS).await?;
    let before = speed::workloads(WORKLOADS);
    let after = changed(before.clone());
    let (mut first, mut change, mut whole) = (Cost::default(), Cost::default(), Cost::default());
    for cluster in 0..CLUSTERS {
        let part = cluster * (WORKLOADS / CLUSTERS)..(cluster + 1) * (WORKLOADS / CLUSTERS);
        let mut telling = Telling::default();
        first += told(&hub, cluster, &mut telling, set(&policies, &before[part.clone()])).await?;
        let set = set(&policies, &after[part]);
        change += told(&hub, cluster, &mut telling, Arc::clone(&set)).await?;
        let written = hub.written().await?;
        let bytes = hub.store_whole(cluster, &set).await?;
        whole += Cost { rows: set.rows.len(), bytes, written: hub.written().await? - written };
    }
    println!("{WORKLOADS} workloads × {} policies in {CLUSTERS} clusters; 1 workload in {CHANGED} changes", policies.len());
    println!("    told at first:         {first}");
    println!("    told as what changed:  {change}");
    println!("    told whole, as before: {whole}");
    Ok(())
}

/// What telling took.
#[derive(Debug, Default)]
struct Cost {
    rows: usize,
    bytes: usize,
    written: i64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.written += other.written;
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kibibytes = |bytes: f64| bytes / 1024.0;
        write!(
            f,
            "{:>6} rows, {:>7.1} KiB over the link, {:>7.1} KiB written by Postgres",
            self.rows,
            kibibytes(self.bytes as f64),
            kibibytes(self.written as f64)
        )
    }
}

/// Tells the hub as the agent does, part by part.
async fn told(hub: &Hub, cluster: usize, telling: &mut Telling, set: Arc<VerdictSet>) -> Result<Cost> {
    let said = BTreeMap::from([(ItemKey::new("policy", "policies"), set)]);
    let mut cost = Cost { written: -hub.written().await?, ..Cost::default() };
    let mut incoming = Incoming::default();
    let mut next = telling.next(&said);
    while let Some(part) = next {
        cost.rows += part.added.len() + part.removed.len();
        cost.bytes += part.encoded_len();
        let sequence = part.sequence;
        let stored = incoming.take(&hub.app, &Hub::name(cluster), &hub.sessions[cluster], part).await?;
        next = telling.acknowledged(sequence, stored == Stored::WholeWanted).or_else(|| telling.next(&said));
    }
    cost.written += hub.written().await?;
    Ok(cost)
}

fn set(policies: &[Value], workloads: &[Value]) -> Arc<VerdictSet> {
    let names: Vec<&str> = policies.iter().filter_map(|policy| policy["metadata"]["name"].as_str()).collect();
    let bindings: Vec<(&str, &[String], bool)> = names.into_iter().map(|name| (name, [].as_slice(), false)).collect();
    let verdicts = evaluate(policies, &bindings, workloads, Surroundings::default());
    Arc::new(VerdictSet::of(Version::new(1, 1), Timestamp::now(), verdicts))
}

fn changed(mut workloads: Vec<Value>) -> Vec<Value> {
    for number in (0..workloads.len() - 1).step_by(CHANGED) {
        let name = workloads[number]["metadata"]["name"].clone();
        workloads[number] = workloads[number + 1].clone();
        workloads[number]["metadata"]["name"] = name;
    }
    workloads
}
