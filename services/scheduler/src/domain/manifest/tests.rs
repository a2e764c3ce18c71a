//! Manifests people have, and manifests that are wrong.

use muster_core::manifest::parse_one;
use muster_scheduler_engine::{Amounts, Dataset, Topology, TopologyMode};

use super::*;

const GIB: i64 = 1 << 30;

fn read(text: &str) -> Result<Requirements, Fault> {
    Requirements::read(&parse_one(text).expect("sound YAML"))
}

fn volcano(spec: &str) -> Result<Requirements, Fault> {
    read(&format!("apiVersion: batch.volcano.sh/v1alpha1\nkind: Job\nmetadata: {{name: train, namespace: ml}}\nspec:\n{spec}"))
}

fn task(replicas: &str, resources: &str) -> String {
    format!(
        "  queue: train-queue\n  tasks:\n  - name: trainer\n    replicas: {replicas}\n    template:\n      spec:\n        containers:\n        - name: \
         trainer\n          image: example.com/trainer:v2\n          resources: {resources}\n"
    )
}

#[test]
fn the_training_job_people_have_is_read() {
    let job = volcano(&format!("  minAvailable: 1\n{}", task("4", "{limits: {nvidia.com/gpu: 1, cpu: \"8\", memory: 32Gi}}")))
        .expect("a sound job");
    assert_eq!(job.kind, Kind::Volcano);
    assert_eq!(job.queue.as_deref(), Some("train-queue"));
    assert_eq!(job.gang.min_available, 1);
    assert_eq!(job.gang.total().unwrap(), Amounts::new().with("cpu", 32_000).with("memory", 128 * GIB).with("nvidia.com/gpu", 4));
    assert_eq!(totals(&job.gang)["memory"], "128Gi");
}

#[test]
fn without_min_available_all_workers_must_run() {
    assert_eq!(volcano(&task("3", "{}")).unwrap().gang.min_available, 3);
}

#[test]
fn a_batch_job_runs_as_many_pods_as_it_has_completions_left() {
    let job = |spec: &str| {
        read(&format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: j, labels: {{kueue.x-k8s.io/queue-name: q}}}}\nspec: {{{spec} template: {{spec: {{priorityClassName: \
             high, containers: [{{name: c, resources: {{requests: {{cpu: 500m}}}}}}]}}}}}}\n"
        ))
    };
    let read = job("parallelism: 8, completions: 3,").unwrap();
    assert_eq!((read.gang.workers(), read.queue.as_deref(), read.priority_class.as_deref()), (3, Some("q"), Some("high")));
    assert_eq!(job("parallelism: 0,").unwrap_err().field, "spec.parallelism");
    assert_eq!(job("").unwrap().gang.workers(), 1);
}

#[test]
fn job_sets_pytorch_and_ray_jobs_are_read() {
    let pod = "{spec: {containers: [{name: c, resources: {limits: {nvidia.com/gpu: 8}}}]}}";
    let set = read(&format!(
        "apiVersion: jobset.x-k8s.io/v1alpha2\nkind: JobSet\nmetadata: {{name: j}}\nspec: {{replicatedJobs: [{{name: w, replicas: 2, template: {{spec: {{parallelism: 4, \
         template: {pod}}}}}}}]}}\n"
    ));
    assert_eq!(set.unwrap().gang.total().unwrap().gpus(), 64);
    let torch = read(&format!(
        "apiVersion: kubeflow.org/v1\nkind: PyTorchJob\nmetadata: {{name: j}}\nspec: {{runPolicy: {{schedulingPolicy: {{queue: q, minAvailable: 2}}}}, \
         pytorchReplicaSpecs: {{Master: {{template: {pod}}}, Worker: {{replicas: 3, template: {pod}}}}}}}\n"
    ))
    .unwrap();
    assert_eq!((torch.gang.workers(), torch.gang.min_available, torch.queue.as_deref()), (4, 2, Some("q")));
    let ray = read(&format!(
        "apiVersion: ray.io/v1\nkind: RayJob\nmetadata: {{name: j}}\nspec: {{rayClusterSpec: {{headGroupSpec: {{template: {pod}}}, workerGroupSpecs: [{{groupName: w, \
         replicas: 2, template: {pod}}}]}}}}\n"
    ));
    assert_eq!(ray.unwrap().gang.workers(), 3);
}

#[test]
fn a_pod_asks_for_the_most_it_needs_at_any_time() {
    let job = read(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec:\n  template:\n    spec:\n      overhead: {cpu: 100m}\n      initContainers:\n      - name: \
         proxy\n        restartPolicy: Always\n        resources: {requests: {cpu: 1}}\n      - name: fetch\n        resources: {requests: {cpu: 5, memory: 1Gi}}\n      \
         containers:\n      - name: a\n        resources: {requests: {cpu: 2, memory: 3Gi}, limits: {cpu: 4, nvidia.com/gpu: 1}}\n      - name: b\n        resources: \
         {requests: {cpu: 1}}\n",
    )
    .unwrap();
    let each = &job.gang.groups[0].each;
    assert_eq!(each.get("cpu"), 6_100, "the init container beside the sidecar is the most; overhead on top");
    assert_eq!(each.get("memory"), 3 * GIB);
    assert_eq!(each.get("nvidia.com/gpu"), 1, "a request defaults to its limit");
}

#[test]
fn the_model_a_pod_selects_is_the_jobs() {
    let job = |selector: &str| {
        read(&format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: j}}\nspec: {{template: {{spec: {{{selector} containers: [{{name: c, resources: {{limits: \
             {{nvidia.com/gpu: 1}}}}}}]}}}}}}\n"
        ))
        .unwrap()
        .gang
        .flavors
    };
    assert_eq!(job("nodeSelector: {nvidia.com/gpu.product: V100},"), BTreeSet::from(["V100".to_owned()]));
    let affinity = "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: nvidia.com/gpu.product, \
                    operator: In, values: [A100, H100]}]}]}}},";
    assert_eq!(job(affinity), BTreeSet::from(["A100".to_owned(), "H100".to_owned()]));
    assert!(job("").is_empty());
}

#[test]
fn what_is_wrong_is_named_by_its_path() {
    let field = |spec: &str| volcano(spec).unwrap_err().field;
    let container = "spec.tasks[0].template.spec.containers[0].resources";
    assert_eq!(field(&task("4", "{limits: {cpu: -1}}")), format!("{container}.limits[cpu]"));
    assert_eq!(field(&task("4", "{limits: {cpu: lots}}")), format!("{container}.limits[cpu]"));
    assert_eq!(field(&task("4", "{limits: {memory: 99999999Ei}}")), format!("{container}.limits[memory]"));
    assert_eq!(field(&task("4", "{limits: {nvidia.com/gpu: 0.5}}")), format!("{container}.limits[nvidia.com/gpu]"));
    assert_eq!(field(&task("4", "{limits: {cpu: 1}, requests: {cpu: 2}}")), format!("{container}.requests[cpu]"));
    assert_eq!(field(&task("-4", "{}")), "spec.tasks[0].replicas");
    assert_eq!(field(&task("4000000000", "{}")), "spec.tasks[0].replicas");
    assert_eq!(field(&task("2000000000", "{}")), "spec");
    assert_eq!(field(&task("0", "{}")), "spec.tasks");
    assert_eq!(field(&task("20000", "{limits: {memory: 1Pi}}")), "spec");
    assert_eq!(field(&format!("  minAvailable: 9\n{}", task("4", "{}"))), "spec.minAvailable");
    assert_eq!(field("  tasks: []\n"), "spec.tasks");
    assert_eq!(field("  tasks: [{replicas: 1, template: {spec: {}}}]\n"), "spec.tasks[0].template.spec.containers");
    assert_eq!(read("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n").unwrap_err().field, "manifest");
}

#[test]
fn a_job_says_that_it_may_be_interrupted_and_what_that_costs() {
    let job = |cost: &str| {
        read(&format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: j, annotations: {{muster.dev/restart-cost: {cost}}}}}\nspec: \
             {{template: {{spec: {{containers: [{{name: c, resources: {{}}}}]}}}}}}\n"
        ))
    };
    assert_eq!(job("1m30s").unwrap().gang.restart_ms, Some(90_000));
    assert_eq!(job("1m30s").unwrap().deadline, None);
    assert_eq!(job("\"\"").unwrap().gang.restart_ms, None);
    let fault = job("cheap").unwrap_err();
    assert_eq!(fault.field, "metadata.annotations[muster.dev/restart-cost]");
}

#[test]
fn a_job_says_how_fast_it_is_on_which_model() {
    let job = |speeds: &str| {
        read(&format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: j, annotations: {{muster.dev/gpu-speeds: \"{speeds}\"}}}}\nspec: \
             {{template: {{spec: {{containers: [{{name: c, resources: {{}}}}]}}}}}}\n"
        ))
    };
    let speeds = job("V100=1, K80 = 0.25,P100=2.2").unwrap().gang.speeds;
    assert_eq!(speeds, BTreeMap::from([("K80".to_owned(), 250), ("P100".to_owned(), 2_200), ("V100".to_owned(), 1_000)]));
    for wrong in ["V100", "V100=fast", "V100=0", "V100=-1", "V100=1001", "=1", "V100=1,V100=2", "V100=NaN"] {
        assert_eq!(job(wrong).unwrap_err().field, "metadata.annotations[muster.dev/gpu-speeds]", "{wrong}");
    }
}

fn with_topology(of_job: &str, of_task: &str, spec: &str) -> Result<Option<Topology>, Fault> {
    let text = format!(
        "apiVersion: batch.volcano.sh/v1alpha1\nkind: Job\nmetadata: {{name: train, annotations: {{{of_job}}}}}\nspec: {{{spec} tasks: [{{replicas: 2, template: \
         {{metadata: {{annotations: {{{of_task}}}}}, spec: {{containers: [{{name: c}}]}}}}}}, {{template: {{spec: {{containers: [{{name: c}}]}}}}}}]}}\n"
    );
    read(&text).map(|job| job.gang.topology)
}

#[test]
fn workers_stand_together_where_kueue_or_volcano_would_put_them_so() {
    let wish = |level: &str, mode| Some(Topology { level: level.to_owned(), mode });
    let rack = "kueue.x-k8s.io/podset-required-topology: cloud.provider.com/topology-rack";
    let required = wish("cloud.provider.com/topology-rack", TopologyMode::Required);
    assert_eq!(with_topology("", rack, "").unwrap(), required);
    assert_eq!(with_topology(rack, rack, "").unwrap(), required);
    let node = "kueue.x-k8s.io/podset-preferred-topology: kubernetes.io/hostname";
    assert_eq!(with_topology(node, "", "").unwrap(), wish(Topology::NODE, TopologyMode::Preferred));
    assert_eq!(with_topology("", "kueue.x-k8s.io/podset-unconstrained-topology: \"true\"", "").unwrap(), None);
    let tier = |spec: &str| with_topology("", "", &format!("networkTopology: {spec},")).unwrap();
    assert_eq!(tier("{mode: hard, highestTierAllowed: 1}"), wish("rack", TopologyMode::Required));
    assert_eq!(tier("{mode: soft, highestTierAllowed: 4}"), wish("rack", TopologyMode::Preferred));
    assert_eq!(tier("{}"), wish("rack", TopologyMode::Required));
}

#[test]
fn a_topology_that_would_not_be_held_is_refused_by_its_field() {
    let field = |of_job: &str, of_task: &str, spec: &str| with_topology(of_job, of_task, spec).unwrap_err().field;
    let kueue = "kueue.x-k8s.io/podset-required-topology";
    assert_eq!(field(&format!("{kueue}: kubernetes.io/arch"), "", ""), format!("metadata.annotations[{kueue}]"));
    let of_task = "spec.tasks[0].template.metadata.annotations";
    assert_eq!(field("", &format!("{kueue}: 7"), ""), format!("{of_task}[{kueue}]"));
    let both = format!("{kueue}: example.com/rack, kueue.x-k8s.io/podset-preferred-topology: example.com/block");
    assert_eq!(field("", &both, ""), format!("{of_task}[kueue.x-k8s.io/podset-preferred-topology]"));
    assert_eq!(
        field(&format!("{kueue}: example.com/rack"), &format!("{kueue}: example.com/block"), ""),
        format!("{of_task}[{kueue}]")
    );
    let slices = "kueue.x-k8s.io/podset-slice-required-topology";
    assert_eq!(field("", &format!("{slices}: example.com/rack"), ""), format!("{of_task}[{slices}]"));
    let volcano = |spec: &str| field("", "", &format!("networkTopology: {spec},"));
    assert_eq!(volcano("{mode: hard, highestTierAllowed: 2}"), "spec.networkTopology.highestTierAllowed");
    assert_eq!(volcano("{mode: firm}"), "spec.networkTopology.mode");
    assert_eq!(volcano("{highestTierName: leaf}"), "spec.networkTopology.highestTierName");
    assert_eq!(field(&format!("{kueue}: example.com/row"), "", "networkTopology: {mode: soft},"), "spec.networkTopology");
    let partition = read(
        "apiVersion: batch.volcano.sh/v1alpha1\nkind: Job\nmetadata: {name: j}\nspec: {tasks: [{partitionPolicy: {networkTopology: {}}, template: {spec: {containers: \
         [{name: c}]}}}]}\n",
    );
    assert_eq!(partition.unwrap_err().field, "spec.tasks[0].partitionPolicy.networkTopology");
}

#[test]
fn where_a_dataset_is_and_how_large_it_is_are_read_together() {
    let job = |annotations: &str| {
        read(&format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: j, annotations: {{{annotations}}}}}\nspec: {{template: {{spec: {{containers: [{{name: c}}]}}}}}}\n"
        ))
    };
    let dataset = job("muster.dev/dataset: eu-west, muster.dev/dataset-size: 2Ti").unwrap().gang.dataset;
    assert_eq!(dataset, Some(Dataset { region: "eu-west".to_owned(), bytes: 2 << 40 }));
    assert_eq!(job("").unwrap().gang.dataset, None);
    let (region, size) = ("metadata.annotations[muster.dev/dataset]", "metadata.annotations[muster.dev/dataset-size]");
    for (wrong, field) in [
        ("muster.dev/dataset: eu-west", size),
        ("muster.dev/dataset-size: 2Ti", region),
        ("muster.dev/dataset: eu-west, muster.dev/dataset-size: large", size),
        ("muster.dev/dataset: eu-west, muster.dev/dataset-size: \"-1\"", size),
        ("muster.dev/dataset: eu west, muster.dev/dataset-size: 1Gi", region),
    ] {
        assert_eq!(job(wrong).unwrap_err().field, field, "{wrong}");
    }
}
