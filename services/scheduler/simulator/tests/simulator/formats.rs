//! Every format that is simulated: what is read, what is refused and where, and the same bytes each time.

use std::path::{Path, PathBuf};

use muster_scheduler_simulator::simulate::{Format, Report, Request, simulate};
use muster_scheduler_simulator::{Fault, gavel, kueue, manifests};
use tempfile::TempDir;

const KUEUE: &str = "\
cohorts:
  - className: cohort
    count: 2
    queuesSets:
    - className: cq
      count: 3
      nominalQuota: 20
      borrowingLimit: 100
      reclaimWithinCohort: Any
      withinClusterQueue: LowerPriority
      workloadsSets:
      - count: 35
        creationIntervalMs: 100
        workloads:
        - className: small
          runtimeMs: 2000
          priority: 50
          request: 1
      - count: 5
        creationIntervalMs: 300
        workloads:
        - className: large
          runtimeMs: 1000
          priority: 200
          request: 20
";

const MUSTER: &str = "\
apiVersion: muster.dev/v1
kind: SimulatedCluster
metadata: {name: own, labels: {pool: own}}
spec:
  nodes:
  - {count: 4, flavor: V100, allocatable: {nvidia.com/gpu: 8}}
  prices: {V100: 0.9}
---
apiVersion: muster.dev/v1
kind: Queue
metadata: {name: research}
spec:
  parent: everybody
  weight: 2
  guarantee: {resource: {nvidia.com/gpu: 8}}
  minRuntime: 2m
---
apiVersion: muster.dev/v1
kind: Queue
metadata: {name: everybody}
---
apiVersion: muster.dev/v1
kind: SimulatedJobs
metadata: {name: nightly}
spec:
  queue: research
  count: 40
  every: 10m
  arrivals: poisson
  duration: {from: 5m, to: 10h}
  workers: 2
  each: {nvidia.com/gpu: 4}
  restartCost: 30s
";

const GAVEL: &str = r#"{
  "k80": {"('A3C', 1)": {"null": 1.0}, "('LM', 1)": {"null": 2.0}, "('LM', 2)": {"null": 3.0}},
  "p100": {"('A3C', 1)": {"null": 3.0}, "('LM', 1)": {"null": 0.0}, "('LM', 2)": {"null": 3.0}},
  "v100": {"('A3C', 1)": {"null": 2.0}, "('LM', 1)": {"null": 8.0}, "('LM', 2)": {"null": 3.0}}
}"#;

const PODS: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\np-0,12000,16384,1,1000\np-1,6000,12288,1,460\n";
const NODES: &str = "sn,cpu_milli,memory_mib,gpu,model\nn-0,64000,262144,2,P100\n";

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn complaint(&self, fault: &Fault) -> String {
        fault.to_string().replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn played(request: &Request) -> Report {
    simulate(request, &mut |_| {}).unwrap()
}

fn refused(text: &str, read: impl Fn(&Path) -> Result<(), Fault>) -> String {
    let files = Files::new();
    files.complaint(&read(&files.with("file", text)).unwrap_err())
}

fn kueue_refused(from: &str, to: &str) -> String {
    assert!(KUEUE.contains(from), "{from}");
    refused(&KUEUE.replace(from, to), |file| kueue::read(file).map(drop))
}

fn muster_refused(from: &str, to: &str) -> String {
    assert!(MUSTER.contains(from), "{from}");
    refused(&MUSTER.replace(from, to), |file| manifests::read(file, 1).map(drop))
}

#[test]
fn a_format_is_told_from_the_first_lines() {
    let files = Files::new();
    let of = |text: &str| Format::of(&files.with("file", text)).map_err(|fault| files.complaint(&fault));
    assert_eq!(of("timestamp,duration,num_gpus,cluster\n"), Ok(Format::Philly));
    assert_eq!(of(PODS), Ok(Format::Openb));
    assert_eq!(of(&format!("# made by hand\n---\n{KUEUE}")), Ok(Format::Kueue));
    assert_eq!(of(GAVEL), Ok(Format::Gavel));
    assert_eq!(of(MUSTER), Ok(Format::Muster));
    assert_eq!(of("\n \n"), Err("file: is empty".to_owned()));
    let unknown = of("a,b\n1,2\n").unwrap_err();
    assert!(unknown.starts_with("file: is none of the formats philly, openb, kueue, gavel, muster"), "{unknown}");
}

#[test]
fn the_same_file_and_seed_give_the_same_bytes_and_another_seed_gives_others() {
    let files = Files::new();
    let node_list = Some(files.with("nodes.csv", NODES));
    let request = |file: PathBuf| Request { file, seed: Some(3), ..Request::default() };
    let gavel = Request {
        counted: Some((20, 60)),
        gpus_each: Some(4),
        per_hour: Some(0.5),
        ..request(files.with("throughputs.json", GAVEL))
    };
    let kueue = Request { seed: None, ..request(files.with("generator.yaml", KUEUE)) };
    let openb = Request { node_list, ..request(files.with("pods.csv", PODS)) };
    for request in [openb, gavel, request(files.with("fleet.yaml", MUSTER)), kueue] {
        let bytes = |request: &Request| {
            let Report { text, value, plots } = played(request);
            let plots: Vec<String> = plots.iter().map(|plot| plot.svg()).collect();
            assert!(plots.iter().all(|svg| svg.ends_with("</svg>\n") && !svg.contains("NaN")));
            (text, value.to_string(), plots)
        };
        let first = bytes(&request);
        assert_eq!(first, bytes(&request));
        if request.seed.is_some() {
            assert_ne!(first.2, bytes(&Request { seed: Some(4), ..request }).2);
        }
    }
}

#[test]
fn options_that_mean_nothing_for_a_format_are_refused() {
    let files = Files::new();
    let file = files.with("generator.yaml", KUEUE);
    let complaint = |request: Request| files.complaint(&simulate(&request, &mut |_| {}).unwrap_err());
    let load = Request { file: file.clone(), load: Some(0.7), ..Request::default() };
    assert_eq!(complaint(load), "generator.yaml: --load: means nothing for a file of format kueue");
    let seed = Request { file, seed: Some(1), ..Request::default() };
    assert_eq!(complaint(seed), "generator.yaml: --seed: means nothing for a file of format kueue");
    let pods = Request { file: files.with("pods.csv", PODS), ..Request::default() };
    assert_eq!(complaint(pods), "pods.csv: --node-list: is needed to place these pods");
}

#[test]
fn a_cohort_of_kueue_lends_what_its_queues_are_guaranteed() {
    let files = Files::new();
    let scenario = kueue::read(&files.with("generator.yaml", KUEUE)).unwrap();
    assert_eq!((scenario.workload.jobs.len(), scenario.workload.queues.len()), (2 * 3 * 40, 6));
    let cohort = &scenario.stage.queues[0];
    assert_eq!((cohort.name.as_str(), cohort.capability["cpu"]), ("cohort-0", 60_000));
    let queue = &scenario.stage.queues[1];
    assert_eq!((queue.guarantee.get("cpu"), queue.capability["cpu"]), (20_000, 120_000));
    let first = scenario.workload.jobs[0];
    assert_eq!((first.submitted_ms, first.duration_ms, first.gpus, first.line), (100, 2_000, 1_000, 15));

    let trial = scenario.trial(&mut |_| {}).unwrap();
    let row = |policy: &str| trial.rows.iter().find(|row| row.policy == policy).unwrap();
    let large = scenario.workload.shapes.iter().position(|shape| shape.class == "large").unwrap();
    let waits = |policy: &str| row(policy).shapes[large].mean_wait_s;
    assert!(waits("muster") < waits("silo FIFO"), "the higher priority goes first");
    let mean = |policy: &str| row(policy).all.mean_completion_s;
    assert!(mean("pool greedy") <= mean("silo FIFO"), "what is lent is used");
}

#[test]
fn what_is_wrong_in_a_generator_of_kueue_is_named_by_line_and_field() {
    let set = "cohorts[0].queuesSets[0]";
    assert_eq!(
        kueue_refused("borrowingLimit", "lendLimit"),
        format!(
            "file:8: {set}.lendLimit: unknown field; known are className, count, nominalQuota, borrowingLimit, reclaimWithinCohort, withinClusterQueue, workloadsSets"
        )
    );
    let job = format!("{set}.workloadsSets[0].workloads[0]");
    assert_eq!(
        kueue_refused("runtimeMs: 2000", "runtimeMs: -2000"),
        format!("file:16: {job}.runtimeMs: -2000 is no whole number from 0 to 86400000")
    );
    assert_eq!(
        kueue_refused("request: 20\n", "request: 121\n"),
        format!(
            "file:25: {set}.workloadsSets[1].workloads[0].request: 1 × 121000 m is more than the queue's quota and what it may borrow"
        )
    );
    assert_eq!(kueue_refused("      nominalQuota: 20\n", ""), format!("file:5: {set}.nominalQuota: is missing"));
    assert_eq!(kueue_refused("count: 2", "count: 0"), "file:3: cohorts[0].count: 0 is no whole number from 1 to 1000000");
    assert_eq!(
        kueue_refused("Any", "Sometimes"),
        format!("file:9: {set}.reclaimWithinCohort: \"Sometimes\" is no policy: Any, LowerPriority, Never")
    );
    assert_eq!(refused("", |file| kueue::read(file).map(drop)), "file: is empty");
    assert_eq!(refused("cohorts: []\n", |file| kueue::read(file).map(drop)), "file:1: cohorts: is empty");
}

#[test]
fn muster_yaml_brings_clusters_queues_and_jobs() {
    let files = Files::new();
    let scenario = manifests::read(&files.with("fleet.yaml", MUSTER), 1).unwrap();
    let names: Vec<&str> = scenario.stage.queues.iter().map(|queue| queue.name.as_str()).collect();
    assert_eq!(names, ["everybody", "research"], "parents first");
    assert_eq!(scenario.stage.clusters[0].prices["V100"], 900_000);
    let jobs = &scenario.workload.jobs;
    assert_eq!((jobs.len(), jobs[0].gpus, jobs[0].each), (40, 8, 4));
    assert!(jobs.iter().all(|job| (300_000..=36_000_000).contains(&job.duration_ms)), "five minutes to ten hours");
    let trial = scenario.trial(&mut |_| {}).unwrap();
    let names: Vec<&str> = trial.rows.iter().map(|row| row.policy).collect();
    assert_eq!(names, ["pool FIFO", "pool EASY, true durations", "pool greedy", "muster"]);
    let muster = trial.rows.last().unwrap();
    let gpu_hours: f64 = jobs.iter().map(|job| job.duration_ms as f64 * 8.0 / 3.6e6).sum();
    let cost = muster.cost_each.unwrap() * 40.0;
    assert!(cost >= gpu_hours * 0.9 - 0.01, "{cost} for {gpu_hours} GPU-hours at 0.9");
}

#[test]
fn what_is_wrong_in_muster_yaml_is_named_by_line_and_field() {
    assert_eq!(
        muster_refused("each: {nvidia.com/gpu: 4}", "each: {nvidia.com/gpu: -4}"),
        "file:32: spec.each[\"nvidia.com/gpu\"]: -4 is negative"
    );
    assert_eq!(muster_refused("queue: research", "queue: vision"), "file:26: spec.queue: \"vision\" is no queue of this file");
    assert_eq!(muster_refused("  duration: {from: 5m, to: 10h}\n", ""), "file:25: spec.duration: is missing");
    assert!(muster_refused("duration: {from: 5m, to: 10h}", "duration: -5m").starts_with("file:30: spec.duration: "));
    assert_eq!(muster_refused("to: 10h", "to: 1m"), "file:30: spec.duration.to: is shorter than from");
    assert!(
        muster_refused("  workers: 2", "  wrokers: 2").starts_with("file:31: spec.wrokers: unknown field; known are queue, ")
    );
    assert_eq!(
        muster_refused("parent: everybody", "parent: nobody"),
        "file:13: spec.parent: \"nobody\" is no queue of this file, or below this one"
    );
    assert_eq!(
        muster_refused("kind: SimulatedJobs", "kind: Job"),
        "file:23: kind: muster.dev/v1 Job is none of muster.dev/v1's Queue, SimulatedCluster, SimulatedJobs"
    );
    assert_eq!(muster_refused("flavor: V100, ", ""), "file:6: spec.nodes[0].flavor: is missing");
    assert_eq!(refused("", |file| manifests::read(file, 1).map(drop)), "file: is empty");
    assert_eq!(
        muster_refused("\nspec:\n  nodes:", "\nspec:\n  budgets: 1\n  nodes:").split(": unknown").next(),
        Some("file:5: spec.budgets")
    );
}

#[test]
fn a_gang_that_never_finds_room_is_named_by_its_line() {
    let files = Files::new();
    let scenario = manifests::read(&files.with("fleet.yaml", &MUSTER.replace("workers: 2", "workers: 9")), 1).unwrap();
    let complaint = files.complaint(&scenario.trial(&mut |_| {}).unwrap_err());
    assert!(complaint.starts_with("fleet.yaml:25: a gang of nightly never finds room"), "{complaint}");
}

#[test]
fn gavels_jobs_have_the_measured_speeds_and_avoid_models_they_do_not_run_on() {
    let files = Files::new();
    let file = files.with("throughputs.json", GAVEL);
    let terms = gavel::Terms { counted: (0, 1_000), ..gavel::Terms::default() };
    let scenario = gavel::read(&file, terms).unwrap();
    let [a3c, lm] = scenario.workload.shapes.as_slice() else { panic!("two types of one GPU") };
    assert_eq!((a3c.speeds["K80"], a3c.speeds["P100"], a3c.speeds["V100"]), (500, 1_500, 1_000));
    assert!(lm.gang.flavors.contains("K80") && !lm.gang.flavors.contains("P100"));
    let jobs = &scenario.workload.jobs;
    let hours = jobs.last().unwrap().submitted_ms as f64 / 3.6e6;
    let rate = jobs.len() as f64 / hours;
    assert!((5.3..5.9).contains(&rate), "{rate} jobs in an hour");
    let long = jobs.iter().filter(|job| job.duration_ms > 60_000_000).count() as f64 / jobs.len() as f64;
    assert!((0.17..0.23).contains(&long), "a fifth takes more than a thousand minutes, not {long}");
    assert_eq!(scenario.workload.jobs, gavel::read(&file, terms).unwrap().workload.jobs);
}

#[test]
fn what_is_wrong_with_gavels_throughputs_and_terms_is_named() {
    let refused_with = |from: &str, to: &str, terms: gavel::Terms| {
        assert!(GAVEL.contains(from), "{from}");
        refused(&GAVEL.replace(from, to), |file| gavel::read(file, terms).map(drop))
    };
    let of = |from: &str, to: &str| refused_with(from, to, gavel::Terms::default());
    assert_eq!(of("\"k80\"", "\"t4\""), "file:1: k80: is missing");
    assert_eq!(
        of("\"null\": 3.0}, \"('LM', 1)\": {\"null\": 0.0}", "\"null\": -3.0}, \"('LM', 1)\": {\"null\": 0.0}"),
        "file:3: p100.('A3C', 1).null: -3.0 is no number from 0 up"
    );
    let window = gavel::Terms { counted: (9, 9), ..gavel::Terms::default() };
    assert_eq!(refused_with("k80", "k80", window), "file: counted: 9 to 9 is no window of at most 97000 jobs");
    let rate = gavel::Terms { per_hour: 0.0, ..gavel::Terms::default() };
    assert_eq!(refused_with("k80", "k80", rate), "file: per-hour: 0 is no number of jobs in an hour");
}

#[test]
fn who_knows_the_speeds_is_done_sooner_and_for_less_than_who_does_not() {
    // Two kinds of jobs, each many times as fast on one of two models as on the other.
    let files = Files::new();
    let throughputs = r#"{
  "k80": {"('A', 1)": {"null": 6.0}, "('B', 1)": {"null": 0.5}},
  "p100": {"('A', 1)": {"null": 1.0}, "('B', 1)": {"null": 1.0}},
  "v100": {"('A', 1)": {"null": 1.0}, "('B', 1)": {"null": 4.0}}
}"#;
    let file = files.with("throughputs.json", throughputs);
    let terms = gavel::Terms { per_hour: 0.4, gpus_each: 4, counted: (200, 400), seed: 1 };
    let trial = gavel::read(&file, terms).unwrap().trial(&mut |_| {}).unwrap();
    let row = |policy: &str| trial.rows.iter().find(|row| row.policy == policy).unwrap();
    let knows = row("muster");
    for policy in ["fair share, blind to speeds", "LAS, blind to speeds", "muster, blind to speeds"] {
        let blind = row(policy);
        let (sooner, later) = (knows.all.mean_completion_s, blind.all.mean_completion_s);
        assert!(sooner < later, "{policy}: {sooner} s against {later} s");
        assert!(knows.cost_each < blind.cost_each, "{policy}: {:?} against {:?}", knows.cost_each, blind.cost_each);
    }
}
