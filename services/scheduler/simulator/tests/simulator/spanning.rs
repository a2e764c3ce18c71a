//! Jobs of Muster's own YAML that may span the clusters of a region.

use std::path::PathBuf;

use muster_scheduler_engine::Span;
use muster_scheduler_simulator::scenario::Scenario;
use muster_scheduler_simulator::{Fault, manifests};
use tempfile::TempDir;

const REGIONS: &str = "\
apiVersion: muster.dev/v1
kind: SimulatedCluster
metadata: {name: west-1}
spec:
  region: eu-west
  nodes:
  - {count: 3, flavor: A100, allocatable: {nvidia.com/gpu: 8}}
  prices: {A100: 2}
---
apiVersion: muster.dev/v1
kind: SimulatedCluster
metadata: {name: west-2}
spec:
  region: eu-west
  nodes:
  - {count: 2, flavor: A100, allocatable: {nvidia.com/gpu: 8}}
  prices: {A100: 3}
  egress: {us-east: 0.02}
---
apiVersion: muster.dev/v1
kind: SimulatedCluster
metadata: {name: north-1}
spec:
  region: eu-north
  nodes:
  - {count: 3, flavor: A100, allocatable: {nvidia.com/gpu: 8}}
  prices: {A100: 1}
---
apiVersion: muster.dev/v1
kind: Queue
metadata: {name: research}
---
apiVersion: muster.dev/v1
kind: SimulatedJobs
metadata: {name: wide}
spec:
  queue: research
  count: 2
  duration: 1h
  workers: 5
  each: {nvidia.com/gpu: 8}
  span: region
";

fn read(text: &str) -> Result<Scenario, String> {
    let folder: TempDir = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("file");
    std::fs::write(&file, text).unwrap();
    let shown = |fault: Fault| fault.to_string().replace(&format!("{}/", folder.path().display()), "");
    manifests::read(&file, 1).map_err(shown)
}

fn refused(from: &str, to: &str) -> String {
    assert!(REGIONS.contains(from), "{from}");
    read(&REGIONS.replace(from, to)).map(drop).unwrap_err()
}

/// Mean wait in seconds and cost of a job.
fn played(text: &str) -> Result<(f64, f64), String> {
    let trial = read(text).unwrap().trial(&mut |_| {}).map_err(|fault| fault.to_string())?;
    let row = trial.rows.iter().find(|row| row.policy == "muster").unwrap();
    Ok((row.all.mean_wait_s, row.cost_each.unwrap()))
}

#[test]
fn a_job_says_that_it_may_be_split() {
    assert_eq!(read(REGIONS).unwrap().workload.shapes[0].gang.span, Span::Region);
    assert_eq!(read(&REGIONS.replace("span: region", "span: cluster")).unwrap().workload.shapes[0].gang.span, Span::Cluster);
    assert_eq!(read(&REGIONS.replace("  span: region\n", "")).unwrap().workload.shapes[0].gang.span, Span::Cluster);
}

#[test]
fn gangs_larger_than_a_cluster_run_over_a_region_and_pay_each_part() {
    let (waits, cost) = played(REGIONS).unwrap();
    assert_eq!((waits, cost), (1_800.0, 24.0 * 2.0 + 16.0 * 3.0), "the second one waits for an hour");
    let whole = played(&REGIONS.replace("span: region", "span: cluster"));
    assert!(whole.unwrap_err().contains("never finds room"));
    let (waits, cost) = played(&REGIONS.replace("workers: 5", "workers: 3")).unwrap();
    assert_eq!((waits, cost), (0.0, 24.0 * 1.5), "whole, the first in the north");
    assert!(played(&REGIONS.replace("workers: 5", "workers: 6")).is_err(), "west and north are two regions");
    assert!(played(&REGIONS.replace("  region: eu-west\n", "")).is_err(), "of a region that is not known nothing is near");
    let data = REGIONS.replace("span: region", "span: region\n  dataset: {region: us-east, size: 100Gi}");
    assert_eq!(played(&data).unwrap().1, 24.0 * 2.0 + 16.0 * 3.0 + 2.0, "it is moved to one cluster at a known price");
}

#[test]
fn what_is_wrong_with_a_span_is_named_by_line_and_field() {
    let line = 1 + REGIONS.lines().position(|line| line.contains("span: ")).unwrap();
    assert_eq!(
        refused("span: region", "span: planet"),
        format!("file:{line}: spec.span: \"planet\" is neither cluster nor region")
    );
    assert_eq!(
        refused("span: region", "span: region\n  topology: {required: rack}"),
        format!("file:{line}: spec.span: a gang that must stand in one domain stays on one cluster")
    );
    assert!(read(&REGIONS.replace("span: region", "span: region\n  topology: {preferred: rack}")).is_ok());
}

#[test]
fn the_same_file_gives_the_same_table() {
    let report = || {
        let scenario = read(REGIONS).unwrap();
        let trial = scenario.trial(&mut |_| {}).unwrap();
        (scenario.report(&trial), scenario.value(&trial))
    };
    assert_eq!(report(), report());
}
