//! What jobs say of their sizes, and what makes no sense.

use muster_core::manifest::parse_one;
use muster_scheduler_engine::Elastic;

use super::*;

const POD: &str = "template: {spec: {containers: [{name: c, resources: {limits: {nvidia.com/gpu: 1}}}]}}";

fn read(text: &str) -> Result<Requirements, Fault> {
    Requirements::read(&parse_one(text).expect("sound YAML"))
}

/// (group, least, full, minAvailable) of a job that says that it is elastic.
fn sizes(head: &str, annotations: &str, spec: &str) -> Result<Option<(usize, u32, u32, u32)>, Fault> {
    let gang = read(&format!("{head}\nmetadata: {{name: j, annotations: {{{annotations}}}}}\nspec: {{{spec}}}\n"))?.gang;
    Ok(gang.elastic.map(|Elastic { group, least }| (group, least, gang.groups[group].replicas, gang.min_available)))
}

fn field(read: Result<Option<(usize, u32, u32, u32)>, Fault>) -> String {
    read.expect_err("it makes no sense").field
}

const ELASTIC: &str = "muster.dev/elastic: \"true\"";

fn volcano(annotations: &str, spec: &str) -> Result<Option<(usize, u32, u32, u32)>, Fault> {
    sizes("apiVersion: batch.volcano.sh/v1alpha1\nkind: Job", annotations, spec)
}

#[test]
fn a_volcano_job_has_fewer_of_its_largest_task_or_of_the_one_that_says_so() {
    let tasks = format!("tasks: [{{name: launcher, replicas: 1, {POD}}}, {{name: worker, replicas: 8, {POD}}}]");
    assert_eq!(volcano("", &format!("minAvailable: 5, {tasks}")), Ok(None), "it does not say so");
    assert_eq!(volcano("muster.dev/elastic: \"false\"", &format!("minAvailable: 5, {tasks}")), Ok(None));
    assert_eq!(volcano(ELASTIC, &format!("minAvailable: 5, {tasks}")), Ok(Some((1, 4, 8, 5))));
    let own = format!("tasks: [{{name: a, replicas: 4, minAvailable: 2, {POD}}}, {{name: b, replicas: 8, {POD}}}]");
    assert_eq!(volcano(ELASTIC, &own), Ok(Some((0, 2, 4, 10))), "without spec.minAvailable all others and the least of it");
    let equal = format!("minAvailable: 6, tasks: [{{name: a, replicas: 4, {POD}}}, {{name: b, replicas: 4, {POD}}}]");
    assert_eq!(field(volcano(ELASTIC, &equal)), "spec.minAvailable");
    let two =
        format!("tasks: [{{name: a, replicas: 4, minAvailable: 2, {POD}}}, {{name: b, replicas: 4, minAvailable: 3, {POD}}}]");
    assert_eq!(field(volcano(ELASTIC, &two)), "spec.tasks[1].minAvailable");
    assert_eq!(field(volcano(ELASTIC, &tasks)), "spec.minAvailable", "it says no smaller number");
    assert_eq!(field(volcano(ELASTIC, &format!("minAvailable: 9, {tasks}"))), "spec.minAvailable", "all is no smaller number");
    assert_eq!(field(volcano(ELASTIC, &format!("minAvailable: 1, {tasks}"))), "spec.minAvailable", "no worker would be left");
    let none = format!("tasks: [{{name: a, replicas: 4, minAvailable: 0, {POD}}}]");
    assert_eq!(field(volcano(ELASTIC, &none)), "spec.tasks[0].minAvailable");
    let more = format!("minAvailable: 4, tasks: [{{name: a, replicas: 4, minAvailable: 2, {POD}}}]");
    assert_eq!(field(volcano(ELASTIC, &more)), "spec.tasks[0].minAvailable", "with two it would not count as running");
    assert_eq!(field(volcano("muster.dev/elastic: \"yes\"", &tasks)), "metadata.annotations[muster.dev/elastic]");
}

#[test]
fn a_kubernetes_job_says_how_few_by_an_annotation() {
    let batch = |annotations: &str, spec: &str| sizes("apiVersion: batch/v1\nkind: Job", annotations, &format!("{spec} {POD}"));
    let min = "muster.dev/min-available";
    let both = |least: &str| format!("{ELASTIC}, {min}: \"{least}\"");
    assert_eq!(batch(&both("2"), "parallelism: 8,"), Ok(Some((0, 2, 8, 2))));
    let path = format!("metadata.annotations[{min}]");
    assert_eq!(field(batch(ELASTIC, "parallelism: 8,")), path);
    assert_eq!(field(batch(&both("8"), "parallelism: 8,")), path);
    assert_eq!(field(batch(&both("0"), "parallelism: 8,")), path);
    assert_eq!(field(batch(&both("half"), "parallelism: 8,")), path);
    assert_eq!(field(batch(&both("1"), "")), path, "it has one pod");
    assert_eq!(field(batch(&format!("{min}: \"2\""), "parallelism: 8,")), path, "it does not say that it is elastic");
}

#[test]
fn a_pytorch_job_says_so_by_its_elastic_policy() {
    let torch = |annotations: &str, policy: &str| {
        let spec = format!("{policy} pytorchReplicaSpecs: {{Master: {{{POD}}}, Worker: {{replicas: 4, {POD}}}}}");
        sizes("apiVersion: kubeflow.org/v1\nkind: PyTorchJob", annotations, &spec)
    };
    assert_eq!(torch("", ""), Ok(None));
    assert_eq!(torch("", "elasticPolicy: {minReplicas: 2},"), Ok(Some((1, 2, 4, 3))));
    assert_eq!(torch("", "elasticPolicy: {minReplicas: 2, maxReplicas: 16},"), Ok(Some((1, 2, 16, 3))));
    assert_eq!(torch("muster.dev/elastic: \"false\"", "elasticPolicy: {minReplicas: 2, maxReplicas: 16},"), Ok(None));
    assert_eq!(torch("", "elasticPolicy: {maxRestarts: 3},"), Ok(None));
    assert_eq!(field(torch("", "elasticPolicy: {minReplicas: 4},")), "spec.elasticPolicy.minReplicas");
    assert_eq!(field(torch("", "elasticPolicy: {minReplicas: 2, maxReplicas: 3},")), "spec.elasticPolicy.maxReplicas");
    assert_eq!(field(torch(ELASTIC, "")), "spec.elasticPolicy.minReplicas");
}

#[test]
fn other_kinds_are_placed_whole() {
    let set = format!("replicatedJobs: [{{name: w, replicas: 2, template: {{spec: {{parallelism: 4, {POD}}}}}}}]");
    let read = sizes("apiVersion: jobset.x-k8s.io/v1alpha2\nkind: JobSet", ELASTIC, &set);
    assert_eq!(field(read), "metadata.annotations[muster.dev/elastic]");
}
