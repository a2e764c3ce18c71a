//! Which kind a document is of, and Muster's own `Cluster` document, which is the one the CLI itself reads.

use super::{Kind, policy, registry, rollout, scheduler};
use crate::{
    documents::Document,
    error::{Exit, Failure, Result},
};
use muster_proto::registry::v1::Cluster;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The kind of a document by API group and kind. The version is the service's to judge.
pub fn kind_of(document: &Document) -> Result<&'static dyn Kind> {
    let manifest = &document.manifest;
    let kind: &dyn Kind = match (manifest.group(), manifest.kind()) {
        ("fleet.kurator.dev" | "muster.dev", "Fleet") => &registry::Fleets,
        ("muster.dev", "PriceBook") => &registry::PriceBooks,
        ("muster.dev", "Cluster") => &registry::Clusters,
        ("scheduling.volcano.sh" | "muster.dev", "Queue") | ("kueue.x-k8s.io", "ClusterQueue" | "Cohort") => &scheduler::Queues,
        ("batch.volcano.sh" | "batch", "Job")
        | ("jobset.x-k8s.io", "JobSet")
        | ("kubeflow.org", "PyTorchJob")
        | ("ray.io", "RayJob") => &scheduler::Jobs,
        ("source.toolkit.fluxcd.io" | "muster.dev", "GitRepository") => &rollout::GitRepositories,
        ("fleet.kurator.dev", "FleetApplication") | ("apps.kurator.dev" | "muster.dev", "Application") => &rollout::Applications,
        ("muster.dev", "Model") => &rollout::Models,
        ("kyverno.io", "ClusterPolicy" | "Policy") | ("policies.kyverno.io", _) => &policy::Policies,
        ("policy.kurator.dev" | "muster.dev", "FleetPolicy") => &policy::FleetPolicies,
        _ => {
            let message =
                format!("{}: {} {} is no kind Muster stores", document.place(), manifest.api_version(), manifest.kind());
            return Err(Failure::new(Exit::Invalid, message)
                .hint("workloads are shipped from a git repository that an Application names"));
        }
    };
    Ok(kind)
}

/// The resource name a document will have; empty where the service makes one up from `generateName`.
pub fn scoped_name(kind: &dyn Kind, document: &Document, namespace: &str) -> Result<String> {
    let manifest = &document.manifest;
    let spec = kind.spec();
    if manifest.name().is_empty() {
        if spec.plural == "jobs" && !manifest.generate_name().is_empty() {
            return Ok(String::new());
        }
        return Err(Failure::new(Exit::Invalid, format!("{}: metadata.name: is missing", document.place())));
    }
    let namespace = if manifest.namespace().is_empty() { namespace } else { manifest.namespace() };
    let short = match spec.pattern.starts_with("namespaces/") {
        true => format!("{namespace}/{}", manifest.name()),
        false => manifest.name().to_owned(),
    };
    super::resource_name(spec, &short, namespace).map_err(|failure| Failure {
        exit: Exit::Invalid,
        hint: None,
        ..failure.about(&format!("{}: metadata.name", document.place()))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ClusterDocument {
    #[serde(rename = "apiVersion")]
    api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    metadata: ClusterMetadata,
    #[serde(default)]
    spec: ClusterSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterMetadata {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ClusterSpec {
    #[serde(default)]
    region: String,
    #[serde(default)]
    takes_jobs: bool,
}

/// A `muster.dev/v1 Cluster`: an unknown field is refused by name with line and column.
pub fn cluster_from(document: &Document) -> Result<Cluster> {
    let read: ClusterDocument = document.manifest.read().map_err(|error| {
        let message = format!("{}:{}:{}: {}", document.file, error.line, error.column, error.message);
        Failure::new(Exit::Invalid, message)
    })?;
    if read.api_version != "muster.dev/v1" {
        let message = format!("{}: apiVersion: {:?} must be muster.dev/v1", document.place(), read.api_version);
        return Err(Failure::new(Exit::Invalid, message));
    }
    let ClusterDocument { api_version: _, _kind, metadata: ClusterMetadata { name, labels }, spec } = read;
    let ClusterSpec { region, takes_jobs } = spec;
    Ok(Cluster { name: format!("clusters/{name}"), labels, region, takes_jobs, ..Cluster::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::manifest::parse_one;

    fn document(text: &str) -> Document {
        Document { manifest: parse_one(text).expect("legal"), file: "a.yaml".to_owned() }
    }

    #[test]
    fn documents_people_have_find_their_kind() {
        let cases = [
            ("fleet.kurator.dev/v1alpha1", "Fleet", Some("fleets")),
            ("fleet.kurator.dev/v1alpha1", "FleetApplication", Some("applications")),
            ("apps.kurator.dev/v1alpha1", "Application", Some("applications")),
            ("policy.kurator.dev/v1alpha1", "FleetPolicy", Some("fleetPolicies")),
            ("scheduling.volcano.sh/v1beta1", "Queue", Some("queues")),
            ("kueue.x-k8s.io/v1beta2", "ClusterQueue", Some("queues")),
            ("kueue.x-k8s.io/v1beta1", "Cohort", Some("queues")),
            ("kueue.x-k8s.io/v1beta1", "LocalQueue", None),
            ("batch.volcano.sh/v1alpha1", "Job", Some("jobs")),
            ("batch/v1", "Job", Some("jobs")),
            ("kyverno.io/v1", "ClusterPolicy", Some("policies")),
            ("source.toolkit.fluxcd.io/v1", "GitRepository", Some("gitRepositories")),
            ("muster.dev/v1", "Model", Some("models")),
            ("muster.dev/v1", "Job", None),
            ("apps/v1", "Deployment", None),
        ];
        for (api_version, kind, expected) in cases {
            let found = kind_of(&document(&format!("apiVersion: {api_version}\nkind: {kind}\n")));
            assert_eq!(found.ok().map(|kind| kind.spec().plural), expected, "{api_version} {kind}");
        }
    }

    #[test]
    fn the_name_comes_from_the_document_and_its_namespace_wins() {
        let cases = [
            ("apiVersion: batch/v1\nkind: Job\nmetadata: {name: a, namespace: ml}\n", Ok("namespaces/ml/jobs/a")),
            ("apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\n", Ok("namespaces/team/jobs/a")),
            ("apiVersion: batch/v1\nkind: Job\nmetadata: {generateName: a-}\n", Ok("")),
            ("apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {name: q, namespace: x}\n", Ok("queues/q")),
            ("apiVersion: muster.dev/v1\nkind: Queue\n", Err("a.yaml:1: metadata.name: is missing")),
        ];
        for (text, expected) in cases {
            let document = document(text);
            let name = scoped_name(kind_of(&document).expect("known"), &document, "team");
            assert_eq!(name.as_deref().map_err(|failure| failure.message.as_str()), expected, "{text}");
        }
    }

    #[test]
    fn a_cluster_document_is_strict() {
        let text = "apiVersion: muster.dev/v1\nkind: Cluster\nmetadata:\n  name: edge-01\n  labels: {tier: edge}\nspec:\n  takesJobs: true\n";
        let cluster = cluster_from(&document(text)).expect("legal");
        assert_eq!(
            (cluster.name.as_str(), cluster.takes_jobs, cluster.labels["tier"].as_str()),
            ("clusters/edge-01", true, "edge")
        );
        let failure = cluster_from(&document(&text.replace("takesJobs", "takeJobs"))).expect_err("unknown");
        assert!(failure.message.starts_with("a.yaml:7:") && failure.message.contains("takeJobs"), "{failure}");
    }
}
