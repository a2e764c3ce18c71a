//! What jobs say of how far their workers may be apart, and what can't be divided.

use muster_core::manifest::parse_one;
use muster_scheduler_engine::Span;

use super::*;

const POD: &str = "template: {spec: {containers: [{name: c, resources: {limits: {nvidia.com/gpu: 1}}}]}}";
const VOLCANO: &str = "apiVersion: batch.volcano.sh/v1alpha1\nkind: Job";
const BATCH: &str = "apiVersion: batch/v1\nkind: Job";
const JOB_SET: &str = "apiVersion: jobset.x-k8s.io/v1alpha2\nkind: JobSet";

fn span(head: &str, annotations: &str, spec: &str) -> Result<Span, String> {
    let text = format!("{head}\nmetadata: {{name: j, annotations: {{{annotations}}}}}\nspec: {{{spec}}}\n");
    Requirements::read(&parse_one(&text).expect("sound YAML")).map(|read| read.gang.span).map_err(|fault| fault.field)
}

fn region(head: &str, spec: &str) -> Result<Span, String> {
    span(head, "muster.dev/span: region", spec)
}

fn refused(field: &str) -> Result<Span, String> {
    Err(field.to_owned())
}

#[test]
fn a_job_says_that_its_workers_may_be_in_several_clusters_of_a_region() {
    let tasks = format!("tasks: [{{name: worker, replicas: 4, {POD}}}]");
    assert_eq!(span(VOLCANO, "", &tasks), Ok(Span::Cluster));
    assert_eq!(span(VOLCANO, "muster.dev/span: cluster", &tasks), Ok(Span::Cluster));
    assert_eq!(region(VOLCANO, &tasks), Ok(Span::Region));
    assert_eq!(region(BATCH, &format!("parallelism: 4, {POD}")), Ok(Span::Region));
    assert_eq!(span(VOLCANO, "muster.dev/span: world", &tasks), refused("metadata.annotations[muster.dev/span]"));
}

#[test]
fn what_needs_all_workers_in_one_cluster_is_refused_by_the_annotation() {
    let annotation = || refused("metadata.annotations[muster.dev/span]");
    let tasks = format!("minAvailable: 2, tasks: [{{name: worker, replicas: 4, {POD}}}]");
    assert_eq!(span(VOLCANO, "muster.dev/span: region, muster.dev/elastic: \"true\"", &tasks), annotation());
    let rack = "muster.dev/span: region, kueue.x-k8s.io/podset-required-topology: example.com/rack";
    assert_eq!(span(VOLCANO, rack, &tasks), annotation());
    let near = "muster.dev/span: region, kueue.x-k8s.io/podset-preferred-topology: example.com/rack";
    assert_eq!(span(VOLCANO, near, &tasks), Ok(Span::Region));
    let ray = format!("rayClusterSpec: {{headGroupSpec: {{{POD}}}, workerGroupSpecs: [{{groupName: w, replicas: 2, {POD}}}]}}");
    assert_eq!(region("apiVersion: ray.io/v1\nkind: RayJob", &ray), annotation());
}

#[test]
fn what_would_mean_something_else_of_a_part_is_refused_by_its_field() {
    let task = |more: &str| format!("tasks: [{{name: worker, replicas: 4, {more}, {POD}}}]");
    let waits = task("dependsOn: {name: [driver]}");
    assert_eq!(region(VOLCANO, &waits), refused("spec.tasks[0].dependsOn"));
    let ends = task("policies: [{event: PodEvicted, action: RestartJob}, {event: TaskCompleted, action: CompleteJob}]");
    assert_eq!(region(VOLCANO, &ends), refused("spec.tasks[0].policies[1].action"));
    assert_eq!(region(VOLCANO, &format!("minSuccess: 1, {}", task("maxRetry: 3"))), refused("spec.minSuccess"));
    assert_eq!(span(VOLCANO, "", &ends), Ok(Span::Cluster), "of a job in one cluster it is the cluster's business");

    assert_eq!(region(BATCH, &format!("parallelism: 4, completions: 8, {POD}")), refused("spec.completions"));
    let early = format!(
        "parallelism: 4, completions: 4, completionMode: Indexed, successPolicy: {{rules: [{{succeededIndexes: \"0\"}}]}}, {POD}"
    );
    assert_eq!(region(BATCH, &early), refused("spec.successPolicy"));

    let entry = |replicas: u32, pods: u32| {
        format!("{{name: w, replicas: {replicas}, template: {{spec: {{parallelism: {pods}, completions: {pods}, {POD}}}}}}}")
    };
    assert_eq!(region(JOB_SET, &format!("replicatedJobs: [{}, {}]", entry(1, 4), entry(3, 1))), Ok(Span::Region));
    assert_eq!(region(JOB_SET, &format!("replicatedJobs: [{}]", entry(2, 4))), refused("spec.replicatedJobs[0].replicas"));
    let first = format!("successPolicy: {{operator: All, targetReplicatedJobs: [w]}}, replicatedJobs: [{}]", entry(1, 4));
    assert_eq!(region(JOB_SET, &first), refused("spec.successPolicy"));
    let ordered = format!("startupPolicy: {{startupPolicyOrder: InOrder}}, replicatedJobs: [{}]", entry(1, 4));
    assert_eq!(region(JOB_SET, &ordered), refused("spec.startupPolicy.startupPolicyOrder"));

    let workers = format!("elasticPolicy: {{maxRestarts: 3}}, pytorchReplicaSpecs: {{Worker: {{replicas: 4, {POD}}}}}");
    assert_eq!(region("apiVersion: kubeflow.org/v1\nkind: PyTorchJob", &workers), refused("spec.elasticPolicy"));
}
