//! What each cluster makes of a job that is in several.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::manifest::parse_one;
use muster_scheduler_engine::{Amounts, Gang, Slot, Span, WorkerGroup};
use serde_json::{Value, json};

use super::{PartMarks, RunMarks, compose};

const POD: &str = "template: {spec: {containers: [{name: c, resources: {limits: {nvidia.com/gpu: 1}}}]}}";

fn gang(groups: &[(&str, u32)]) -> Gang {
    let each = Amounts::new().with("nvidia.com/gpu", 1);
    let groups = groups.iter();
    let groups = groups.map(|(name, replicas)| WorkerGroup { name: (*name).to_owned(), replicas: *replicas, each: each.clone() });
    Gang {
        groups: groups.collect(),
        min_available: 1,
        flavors: BTreeSet::new(),
        api: String::new(),
        restart_ms: None,
        speeds: BTreeMap::new(),
        topology: None,
        dataset: None,
        elastic: None,
        span: Span::Region,
    }
}

/// (group, workers) on one node of a cluster each.
fn plan(cluster: &str, workers: &[(usize, u32)]) -> Vec<Slot> {
    workers
        .iter()
        .map(|(group, workers)| Slot { group: *group, node: format!("{cluster}-0"), workers: *workers, gpu: None })
        .collect()
}

/// The objects of a job's parts.
fn parts(manifest: &str, groups: &[(&str, u32)], plans: &[Vec<Slot>]) -> Vec<Value> {
    let manifest = parse_one(manifest).expect("sound YAML");
    let gang = gang(groups);
    let composed = plans.iter().enumerate().map(|(number, slots)| {
        let part = PartMarks::of(&gang, plans.iter().map(Vec::as_slice), number);
        let marks = RunMarks {
            namespace: "ml",
            job: "train",
            epoch: 1,
            queue: "q",
            traceparent: "",
            slots,
            gang: &gang,
            require_model: None,
            domains: None,
            part: Some(&part),
        };
        compose(&manifest.value, &marks).expect("a job")
    });
    composed.collect()
}

fn variables(container: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let env = container["env"].as_array().expect("variables");
    env.iter().map(|variable| (text(&variable["name"]), text(&variable["value"]))).collect()
}

fn told(pairs: [(&str, &str); 4]) -> BTreeMap<String, String> {
    let all = pairs.into_iter().chain([("MUSTER_RUN_EPOCH", "1")]);
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn a_volcano_job_gets_the_workers_of_each_part_all_of_which_must_run() {
    let manifest = format!(
        "apiVersion: batch.volcano.sh/v1alpha1\nkind: Job\nmetadata: {{name: train}}\nspec: {{minAvailable: 1, tasks: [{{name: driver, replicas: 1, {POD}}}, \
         {{name: worker, replicas: 5, minAvailable: 4, {POD}}}]}}\n"
    );
    let plans = [plan("idc", &[(0, 1), (1, 3)]), plan("cloud", &[(1, 2)])];
    let all = parts(&manifest, &[("driver", 1), ("worker", 5)], &plans);
    let shape = |object: &Value| {
        let task = |index: usize, field: &str| object["spec"]["tasks"][index][field].clone();
        (task(0, "replicas"), task(1, "replicas"), task(1, "minAvailable"), object["spec"]["minAvailable"].clone())
    };
    assert_eq!(shape(&all[0]), (json!(1), json!(3), json!(3), json!(4)));
    assert_eq!(shape(&all[1]), (json!(0), json!(2), json!(2), json!(2)));
    assert_eq!(all[1]["metadata"]["labels"]["muster.dev/part"], "1");
    assert_eq!(all[1]["metadata"]["annotations"], json!({"muster.dev/parts": "2", "muster.dev/workers": "6"}));
    let worker = |object: &Value| variables(&object["spec"]["tasks"][1]["template"]["spec"]["containers"][0]);
    let of = |part, first| {
        told([("MUSTER_PART", part), ("MUSTER_PARTS", "2"), ("MUSTER_WORKERS", "5"), ("MUSTER_FIRST_WORKER", first)])
    };
    assert_eq!((worker(&all[0]), worker(&all[1])), (of("0", "0"), of("1", "3")));
    assert_eq!(all[1]["spec"]["tasks"][1]["template"]["metadata"]["labels"]["muster.dev/part"], "1", "its pods are found by it");
}

#[test]
fn a_kubernetes_job_gets_as_many_pods_as_there_are_in_the_part() {
    let manifest = format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: train}}\nspec: {{parallelism: 6, completions: 6, completionMode: Indexed, maxFailedIndexes: 3, {POD}}}\n"
    );
    let all = parts(&manifest, &[("worker", 6)], &[plan("idc", &[(0, 4)]), plan("cloud", &[(0, 2)])]);
    let shape = |object: &Value| {
        let field = |name: &str| object["spec"][name].clone();
        (field("parallelism"), field("completions"), field("maxFailedIndexes"))
    };
    assert_eq!(shape(&all[0]), (json!(4), json!(4), json!(3)));
    assert_eq!(shape(&all[1]), (json!(2), json!(2), json!(2)));
}

#[test]
fn a_job_set_divides_one_job_by_pods_and_several_by_jobs() {
    let entry = |name: &str, replicas: u32, pods: u32| {
        format!("{{name: {name}, replicas: {replicas}, template: {{spec: {{parallelism: {pods}, completions: {pods}, {POD}}}}}}}")
    };
    let manifest = format!(
        "apiVersion: jobset.x-k8s.io/v1alpha2\nkind: JobSet\nmetadata: {{name: train}}\nspec: {{replicatedJobs: [{}, {}]}}\n",
        entry("one", 1, 4),
        entry("many", 3, 1)
    );
    let plans = [plan("idc", &[(0, 3), (1, 3)]), plan("cloud", &[(0, 1)])];
    let all = parts(&manifest, &[("one", 4), ("many", 3)], &plans);
    let shape = |object: &Value, index: usize| {
        let entry = &object["spec"]["replicatedJobs"][index];
        let job = &entry["template"]["spec"];
        (entry["replicas"].clone(), job["parallelism"].clone(), job["completions"].clone())
    };
    assert_eq!(shape(&all[0], 0), (json!(1), json!(3), json!(3)));
    assert_eq!(shape(&all[1], 0), (json!(1), json!(1), json!(1)));
    assert_eq!(shape(&all[0], 1), (json!(3), json!(1), json!(1)));
    assert_eq!(shape(&all[1], 1), (json!(0), json!(1), json!(1)), "an entry without jobs stays: others may name it");
}

#[test]
fn the_master_of_a_pytorch_job_is_in_one_part_only() {
    let manifest = format!(
        "apiVersion: kubeflow.org/v1\nkind: PyTorchJob\nmetadata: {{name: train}}\nspec: {{runPolicy: {{schedulingPolicy: {{minAvailable: 4}}}}, pytorchReplicaSpecs: \
         {{Master: {{replicas: 1, {POD}}}, Worker: {{replicas: 3, {POD}}}}}}}\n"
    );
    let plans = [plan("idc", &[(0, 1), (1, 1)]), plan("cloud", &[(1, 2)])];
    let all = parts(&manifest, &[("master", 1), ("worker", 3)], &plans);
    let shape = |object: &Value| {
        let specs = &object["spec"]["pytorchReplicaSpecs"];
        let min = object.pointer("/spec/runPolicy/schedulingPolicy/minAvailable").cloned();
        (specs["Master"]["replicas"].clone(), specs["Worker"]["replicas"].clone(), min)
    };
    assert_eq!(shape(&all[0]), (json!(1), json!(1), Some(json!(2))));
    assert_eq!(shape(&all[1]), (Value::Null, json!(2), Some(json!(2))));
}

#[test]
fn a_run_that_is_in_one_cluster_after_all_is_told_that_it_has_one_part() {
    let manifest = format!("apiVersion: batch/v1\nkind: Job\nmetadata: {{name: train}}\nspec: {{parallelism: 2, {POD}}}\n");
    let all = parts(&manifest, &[("worker", 2)], &[plan("idc", &[(0, 2)])]);
    assert_eq!(all[0]["spec"]["parallelism"], 2);
    let variables = variables(&all[0]["spec"]["template"]["spec"]["containers"][0]);
    let one = [("MUSTER_PART", "0"), ("MUSTER_PARTS", "1"), ("MUSTER_WORKERS", "2"), ("MUSTER_FIRST_WORKER", "0")];
    assert_eq!(variables, told(one));
}
