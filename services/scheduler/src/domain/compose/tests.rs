//! Objects of runs in one cluster, and of elastic ones at their sizes.

use super::*;
use muster_core::manifest::parse_one;
use muster_scheduler_engine::{Amounts, Elastic, Span, WorkerGroup};

fn whole() -> Gang {
    gang(1, None)
}

fn gang(replicas: u32, elastic: Option<Elastic>) -> Gang {
    let group = WorkerGroup { name: "worker".to_owned(), replicas, each: Amounts::new().with("nvidia.com/gpu", 1) };
    Gang {
        groups: vec![group],
        min_available: elastic.map_or(replicas, |elastic| elastic.least),
        flavors: BTreeSet::new(),
        api: String::new(),
        restart_ms: None,
        speeds: BTreeMap::new(),
        topology: None,
        dataset: None,
        elastic,
        span: Span::Cluster,
    }
}

fn marks<'a>(epoch: u32, slots: &'a [Slot], gang: &'a Gang) -> RunMarks<'a> {
    RunMarks {
        namespace: "ml",
        job: "train",
        epoch,
        queue: "q",
        traceparent: "00-aa-bb-01",
        slots,
        gang,
        require_model: None,
        domains: None,
        part: None,
    }
}

#[test]
fn a_run_is_marked_told_its_epoch_and_pointed_at_its_nodes() {
    let manifest = parse_one(
        "apiVersion: batch.volcano.sh/v1alpha1\nkind: Job\nmetadata: {generateName: train-, uid: x}\nspec: {tasks: [{name: t, replicas: 2, template: {spec: \
         {containers: [{name: c, env: [{name: A, value: b}], resources: {limits: {nvidia.com/gpu: 1}}}]}}}]}\nstatus: {state: {}}\n",
    )
    .expect("sound YAML");
    let slots = [Slot { group: 0, node: "n1".to_owned(), workers: 2, gpu: None }];
    let composed = compose(&manifest.value, &marks(2, &slots, &whole())).expect("a job");
    let expected = json!({
        "apiVersion": "batch.volcano.sh/v1alpha1",
        "kind": "Job",
        "metadata": {
            "name": "train-r2",
            "namespace": "ml",
            "labels": {"muster.dev/run": "ml.train.2", "muster.dev/run-epoch": "2", "muster.dev/queue": "q"},
            "annotations": {"muster.dev/traceparent": "00-aa-bb-01"},
        },
        "spec": {
            "queue": "q",
            "tasks": [{"name": "t", "replicas": 2, "template": {
                "metadata": {
                    "labels": {"muster.dev/run": "ml.train.2", "muster.dev/run-epoch": "2", "muster.dev/queue": "q"},
                    "annotations": {"muster.dev/traceparent": "00-aa-bb-01"},
                },
                "spec": {
                    "containers": [{
                        "name": "c",
                        "env": [{"name": "A", "value": "b"}, {"name": "MUSTER_RUN_EPOCH", "value": "2"}],
                        "resources": {"limits": {"nvidia.com/gpu": 1}},
                    }],
                    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                        {"weight": 50, "preference": {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]}},
                    ]}},
                },
            }}],
        },
    });
    assert_eq!(composed, expected);
}

#[test]
fn the_first_run_has_the_jobs_name_and_is_not_suspended() {
    let manifest =
        parse_one("apiVersion: batch/v1\nkind: Job\nmetadata: {name: train}\nspec: {suspend: true, template: {spec: {containers: [{name: c}]}}}\n").unwrap();
    let composed = compose(&manifest.value, &marks(1, &[], &whole())).expect("a job");
    assert_eq!(composed["metadata"]["name"], "train");
    assert_eq!(composed["spec"]["suspend"], false);
}

#[test]
fn pods_are_bound_to_the_domain_they_must_stand_in_and_prefer_those_they_would_rather() {
    let manifest = parse_one(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: train}\nspec: {template: {spec: {containers: [{name: c}]}}}\n",
    )
    .unwrap();
    let spec = |mode: TopologyMode, racks: &[&str]| {
        let racks = racks.iter().map(|rack| (*rack).to_owned()).collect();
        let gang = whole();
        let domains = BTreeMap::from([("example.com/rack".to_owned(), racks)]);
        let marks = RunMarks { domains: Some((mode, &domains)), ..marks(1, &[], &gang) };
        compose(&manifest.value, &marks).expect("a job").pointer("/spec/template/spec").cloned().unwrap()
    };
    assert_eq!(spec(TopologyMode::Required, &["r1"])["nodeSelector"], json!({"example.com/rack": "r1"}));
    let preferred = json!({"matchExpressions": [{"key": "example.com/rack", "operator": "In", "values": ["r1", "r2"]}]});
    assert_eq!(
        spec(TopologyMode::Preferred, &["r1", "r2"])["affinity"]["nodeAffinity"],
        json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": preferred}]})
    );
}

#[test]
fn the_longest_names_make_a_label_and_an_object_name() {
    let job = "a".repeat(MAX_NAMES - 2);
    assert_eq!(run_label("ml", &job, 999_999).len(), 63);
    assert!(object_name(&job, 999_999).len() <= 63);
    assert_eq!(run_label("ml", "train", 3), "ml.train.3");
}

fn sized(manifest: &str, full: u32, workers: u32) -> (Value, Value) {
    let manifest = parse_one(manifest).expect("sound YAML");
    let gang = gang(full, Some(Elastic { group: 0, least: 2 }));
    let slots = [Slot { group: 0, node: "n1".to_owned(), workers, gpu: None }];
    let composed = compose(&manifest.value, &marks(1, &slots, &gang)).expect("a job");
    let larger = resized(&composed, &gang, full).expect("a job");
    (composed, larger)
}

const TEMPLATE: &str = "template: {spec: {containers: [{name: c, resources: {limits: {nvidia.com/gpu: 1}}}]}}";

#[test]
fn a_volcano_job_gets_the_replicas_of_its_size_and_keeps_its_minimum() {
    let head = "apiVersion: batch.volcano.sh/v1alpha1\nkind: Job\nmetadata: {name: a}\nspec: ";
    let (small, full) = sized(&format!("{head}{{tasks: [{{name: worker, replicas: 8, minAvailable: 2, {TEMPLATE}}}]}}\n"), 8, 5);
    assert_eq!((&small["spec"]["tasks"][0]["replicas"], &small["spec"]["minAvailable"]), (&json!(5), &json!(2)));
    assert_eq!((&full["spec"]["tasks"][0]["replicas"], &full["spec"]["minAvailable"]), (&json!(8), &json!(2)));
    assert_eq!(small["spec"]["tasks"][0]["template"], full["spec"]["tasks"][0]["template"], "clusters refuse a change of it");
    assert_eq!(small["metadata"], full["metadata"]);
}

#[test]
fn a_kubernetes_job_gets_the_parallelism_of_its_size_and_an_indexed_one_as_many_completions() {
    let head = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\nspec: ";
    let shape = |object: &Value| (object["spec"]["parallelism"].clone(), object["spec"]["completions"].clone());
    let (small, full) = sized(&format!("{head}{{parallelism: 8, {TEMPLATE}}}\n"), 8, 3);
    assert_eq!((shape(&small), shape(&full)), ((json!(3), Value::Null), (json!(8), Value::Null)));
    let indexed = format!("{head}{{parallelism: 8, completions: 8, completionMode: Indexed, {TEMPLATE}}}\n");
    let (small, full) = sized(&indexed, 8, 3);
    assert_eq!((shape(&small), shape(&full)), ((json!(3), json!(3)), (json!(8), json!(8))));
    let queue = format!("{head}{{parallelism: 8, completions: 80, completionMode: Indexed, {TEMPLATE}}}\n");
    let (small, full) = sized(&queue, 8, 3);
    assert_eq!((shape(&small), shape(&full)), ((json!(3), json!(80)), (json!(8), json!(80))));
}

#[test]
fn a_pytorch_job_gets_the_workers_of_its_size() {
    let (small, full) = sized(
        &format!(
            "apiVersion: kubeflow.org/v1\nkind: PyTorchJob\nmetadata: {{name: a}}\nspec: {{elasticPolicy: {{minReplicas: 2, maxReplicas: 8}}, \
             pytorchReplicaSpecs: {{Worker: {{replicas: 4, {TEMPLATE}}}}}}}\n"
        ),
        8,
        3,
    );
    let replicas = |object: &Value| object.pointer("/spec/pytorchReplicaSpecs/Worker/replicas").cloned();
    assert_eq!((replicas(&small), replicas(&full)), (Some(json!(3)), Some(json!(8))));
}
