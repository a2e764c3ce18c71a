//! What jobs of Muster's own YAML may wish beside GPUs: one rack, to be done by a time, to be near their data; and queues in which
//! the order of a list or what waits counts.

use std::path::PathBuf;

use muster_scheduler_engine::{Dataset, Prefers, Tier, TierOpens, Topology, TopologyMode};
use muster_scheduler_simulator::scenario::Scenario;
use muster_scheduler_simulator::{Fault, manifests};
use tempfile::TempDir;

const RACKS: &str = "\
apiVersion: muster.dev/v1
kind: SimulatedCluster
metadata: {name: own}
spec:
  region: eu
  nodes:
  - {count: 2, flavor: V100, allocatable: {nvidia.com/gpu: 8}, domains: {rack: r1}}
  - {count: 2, flavor: V100, allocatable: {nvidia.com/gpu: 8}, domains: {rack: r2}}
  prices: {V100: 3}
---
apiVersion: muster.dev/v1
kind: SimulatedCluster
metadata: {name: cloud}
spec:
  region: us
  takesJobs: false
  nodes:
  - {count: 8, flavor: V100, allocatable: {nvidia.com/gpu: 8}}
  prices: {V100: 1}
  egress: {eu: 0.02, '*': 0.09}
---
apiVersion: muster.dev/v1
kind: Queue
metadata: {name: research}
spec:
  placement: listed
  tiers:
  - {clusters: [own]}
  - {clusters: [cloud], overflowAboveWaiting: {gpus: 1000, jobs: 500}}
---
apiVersion: muster.dev/v1
kind: SimulatedJobs
metadata: {name: wide}
spec:
  queue: research
  count: 4
  every: 1s
  duration: 1h
  workers: 2
  each: {nvidia.com/gpu: 8}
  topology: {required: rack}
  deadline: 4h
  dataset: {region: eu, size: 2Ti}
";

fn read(text: &str) -> Result<Scenario, String> {
    let folder: TempDir = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("file");
    std::fs::write(&file, text).unwrap();
    let shown = |fault: Fault| fault.to_string().replace(&format!("{}/", folder.path().display()), "");
    manifests::read(&file, 1).map_err(shown)
}

fn refused(from: &str, to: &str) -> String {
    assert!(RACKS.contains(from), "{from}");
    read(&RACKS.replace(from, to)).map(drop).unwrap_err()
}

/// Mean wait in seconds and cost of a job.
fn played(text: &str) -> (f64, f64) {
    let trial = read(text).unwrap().trial(&mut |_| {}).unwrap();
    let row = trial.rows.iter().find(|row| row.policy == "muster").unwrap();
    (row.all.mean_wait_s, row.cost_each.unwrap())
}

#[test]
fn racks_deadlines_and_datasets_are_read() {
    let scenario = read(RACKS).unwrap();
    let shape = &scenario.workload.shapes[0];
    let topology = Topology { level: "rack".to_owned(), mode: TopologyMode::Required };
    assert_eq!((shape.gang.topology.clone(), shape.deadline_ms), (Some(topology), Some(14_400_000)));
    assert_eq!(shape.gang.dataset, Some(Dataset { region: "eu".to_owned(), bytes: 2 << 40 }));
    let [own, cloud] = scenario.stage.clusters.as_slice() else { panic!("two clusters") };
    let racks: Vec<&str> = own.nodes.iter().map(|node| node.domains["rack"].as_str()).collect();
    assert_eq!(racks, ["r1", "r1", "r2", "r2"]);
    assert_eq!((cloud.egress["eu"], cloud.egress["*"]), (20_000, 90_000));
    let queue = &scenario.stage.queues[0];
    assert_eq!(queue.prefers, Some(Prefers::Listed));
    let Tier { clusters, opens, .. } = &queue.tiers[1];
    assert_eq!((clusters["cloud"], *opens), (0, TierOpens::WhileWaiting { gpus: Some(1_000), jobs: Some(500) }));
    assert!(scenario.pools.is_empty(), "the baselines know nothing of racks");
}

#[test]
fn gangs_that_need_a_rack_wait_for_one_where_others_would_not() {
    // With three nodes in a rack of their own each, no two workers may stand together.
    let far = RACKS.replace("deadline: 4h\n  dataset: {region: eu, size: 2Ti}\n", "priority: 1\n");
    let (together, _) = played(&far);
    assert_eq!(together, 1_799.0, "two racks hold two gangs at a time; the other two wait for an hour less two seconds");
    let three = far.replace(
        "count: 2, flavor: V100, allocatable: {nvidia.com/gpu: 8}, domains: {rack: r2}",
        "count: 1, flavor: V100, allocatable: {nvidia.com/gpu: 8}, domains: {rack: r2}",
    );
    let (one_rack, _) = played(&three);
    let (anywhere, _) = played(&three.replace("topology: {required: rack}", "topology: {preferred: rack}"));
    assert!(one_rack >= together && anywhere == one_rack, "{one_rack} and {anywhere}: a third node helps neither");
    let narrow = three.replace("workers: 2", "workers: 3");
    assert!(read(&narrow).unwrap().trial(&mut |_| {}).unwrap_err().to_string().contains("never finds room"));
    assert_eq!(played(&narrow.replace("topology: {required: rack}", "topology: {preferred: rack}")).0, 5_398.5);
}

#[test]
fn a_deadline_opens_the_dear_tier_in_time() {
    let alone = RACKS.replace("  deadline: 4h\n", "");
    let (waits, cost) = played(&alone);
    assert_eq!((waits, cost), (1_799.0, 48.0), "16 GPUs for an hour at 3");
    // An hour is assumed: they may go as soon as they come.
    let (in_time, dear) =
        played(&RACKS.replace("deadline: 4h", "deadline: 1h").replace("topology: {required: rack}", "priority: 0"));
    assert_eq!(in_time, 0.0);
    let expected = (2.0 * 48.0 + 2.0 * (16.0 + 2_048.0 * 0.02)) / 4.0;
    assert!((dear - expected).abs() < 1e-6, "{dear}: two of them move 2 TiB to where an hour costs 1");
}

#[test]
fn what_waits_opens_the_dear_tier() {
    let no_deadline = RACKS.replace("  deadline: 4h\n", "").replace("topology: {required: rack}", "priority: 0");
    assert_eq!(played(&no_deadline).0, 1_799.0);
    // More than 16 GPUs wait once the fourth gang has come: the third goes, a second after it came.
    let opened = no_deadline.replace("{gpus: 1000, jobs: 500}", "{gpus: 16}");
    assert_eq!(played(&opened).0, (1.0 + 3_597.0) / 4.0);
}

#[test]
fn what_is_wrong_with_a_wish_is_named_by_line_and_field() {
    let line = |from: &str| 1 + RACKS.lines().position(|line| line.contains(from)).unwrap();
    let (topology, dataset, above) = (line("topology: {"), line("dataset: {"), line("overflowAboveWaiting"));
    assert_eq!(
        refused("{required: rack}", "{}"),
        format!("file:{topology}: spec.topology: must say the level that is required or preferred")
    );
    assert_eq!(
        refused("{required: rack}", "{required: rack, preferred: rack}"),
        format!("file:{topology}: spec.topology.preferred: can't stand beside required")
    );
    assert_eq!(
        refused("{required: rack}", "{wanted: rack}"),
        format!("file:{topology}: spec.topology.wanted: unknown field; known are required, preferred")
    );
    assert_eq!(refused("size: 2Ti", "size: -1"), format!("file:{dataset}: spec.dataset.size: -1 is negative"));
    assert_eq!(refused(", size: 2Ti", ""), format!("file:{dataset}: spec.dataset.size: is missing"));
    assert!(refused("deadline: 4h", "deadline: soon").starts_with(&format!("file:{}: spec.deadline: ", line("deadline: 4h"))));
    assert_eq!(
        refused("{gpus: 1000, jobs: 500}", "{gpus: -1}"),
        format!("file:{above}: spec.tiers[1].overflowAboveWaiting.gpus: -1 is no whole number from 0 to 1000000000")
    );
    assert_eq!(
        refused("{gpus: 1000, jobs: 500}", "{}"),
        format!("file:{above}: spec.tiers[1].overflowAboveWaiting: must say how many gpus or jobs")
    );
    assert_eq!(
        refused("{gpus: 1000, jobs: 500}", "{gpus: 1}, overflowAfter: 1h"),
        format!("file:{above}: spec.tiers[1].overflowAboveWaiting: can't stand beside overflowAfter or overflowAfterWork")
    );
    assert_eq!(
        refused("domains: {rack: r1}", "domains: {kubernetes.io/hostname: r1}"),
        format!(
            "file:{}: spec.nodes[0].domains[\"kubernetes.io/hostname\"]: is what every node has by itself",
            line("domains: {rack: r1}")
        )
    );
    assert_eq!(
        refused("{eu: 0.02", "{eu: 2000000"),
        format!("file:{}: spec.egress.eu: is more than a million for a GiB", line("egress: {"))
    );
    assert!(refused("placement: listed", "placement: nearest").contains("none of cheapest, fastest, greenest and listed"));
}
