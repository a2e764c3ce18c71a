//! What the walk makes of each resource that people make: a document by its name, and how it is changed.

use serde_json::{Value, json};

use crate::common;

/// How one kind of resource is made and changed.
pub struct Sample {
    /// The resource.
    pub resource: &'static str,
    /// The name of the resource without its identifier.
    pub collection: &'static str,
    /// `parent` of the requests; empty where the resource has none.
    pub parent: &'static str,
    /// What is written of a resource with this identifier; `changed` is another word for the second time.
    pub body: fn(id: &str, changed: &str) -> Value,
    /// What must be done to one before it may be deleted: an RPC with its name.
    pub end: Option<&'static str>,
}

/// `namespaces/walk`, where the walk's namespaced resources are.
const NAMESPACE: &str = "namespaces/walk";

/// Every resource that people make.
pub const SAMPLES: &[Sample] = &[
    Sample {
        resource: "Cluster",
        collection: "clusters/",
        parent: "",
        body: |_, changed| json!({"labels": {"walk": changed}, "region": "eu-west"}),
        end: None,
    },
    Sample { resource: "Fleet", collection: "fleets/", parent: "", body: fleet, end: None },
    Sample {
        resource: "EnrolmentToken",
        collection: "enrolmentTokens/",
        parent: "",
        body: |_, changed| {
            let hours = if changed == "first" { 1 } else { 2 };
            let ahead = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours);
            json!({"cluster": "clusters/walk-enrols", "expire_time": ahead.to_string()})
        },
        end: None,
    },
    Sample {
        resource: "AccessToken",
        collection: "accessTokens/",
        parent: "",
        body: |id, changed| json!({"subject": id, "role": if changed == "first" { "VIEWER" } else { "OPERATOR" }}),
        end: None,
    },
    Sample { resource: "PriceBook", collection: "priceBooks/", parent: "", body: price_book, end: None },
    Sample { resource: "Queue", collection: "queues/", parent: "", body: queue, end: None },
    Sample { resource: "Job", collection: "namespaces/walk/jobs/", parent: NAMESPACE, body: job, end: Some("CancelJob") },
    Sample {
        resource: "GitRepository",
        collection: "namespaces/walk/gitRepositories/",
        parent: NAMESPACE,
        body: git_repository,
        end: None,
    },
    Sample {
        resource: "Application",
        collection: "namespaces/walk/applications/",
        parent: NAMESPACE,
        body: application,
        end: None,
    },
    Sample { resource: "Model", collection: "models/", parent: "", body: model, end: None },
    Sample { resource: "Policy", collection: "policies/", parent: "", body: policy, end: None },
    Sample { resource: "FleetPolicy", collection: "fleetPolicies/", parent: "", body: fleet_policy, end: None },
];

fn manifest(document: Value) -> Value {
    json!({"manifest": document.to_string()})
}

fn fleet(id: &str, changed: &str) -> Value {
    manifest(json!({
        "apiVersion": "muster.dev/v1", "kind": "Fleet", "metadata": {"name": id},
        "spec": {"clusters": [{"name": changed}]},
    }))
}

fn price_book(id: &str, changed: &str) -> Value {
    manifest(json!({
        "apiVersion": "muster.dev/v1", "kind": "PriceBook", "metadata": {"name": id},
        "spec": {"currency": "EUR", "prices": [{"clusters": [changed], "flavor": "V100", "perGpuHour": 1}]},
    }))
}

fn queue(id: &str, changed: &str) -> Value {
    let weight = if changed == "first" { 1 } else { 2 };
    manifest(json!({
        "apiVersion": "muster.dev/v1", "kind": "Queue", "metadata": {"name": id}, "spec": {"weight": weight},
    }))
}

/// In a queue that nobody has made, so that it waits.
fn job(id: &str, changed: &str) -> Value {
    let mut document = common::job(id, "endless", 1, 1);
    document["metadata"]["namespace"] = json!("walk");
    document["spec"]["queue"] = json!("nobody-made-it");
    json!({"manifest": document.to_string(), "priority": if changed == "first" { 1 } else { 2 }})
}

fn git_repository(id: &str, changed: &str) -> Value {
    manifest(json!({
        "apiVersion": "muster.dev/v1", "kind": "GitRepository", "metadata": {"name": id, "namespace": "walk"},
        "spec": {"url": format!("file:///no/such/repository/{changed}"), "interval": "1h"},
    }))
}

fn application(id: &str, changed: &str) -> Value {
    manifest(json!({
        "apiVersion": "fleet.kurator.dev/v1alpha1", "kind": "FleetApplication",
        "metadata": {"name": id, "namespace": "walk"},
        "spec": {
            "fleetRef": {"name": "nobody-made-it"},
            "gitRepositoryRef": {"name": "nobody-made-it"},
            "targets": [{"cluster": "nobody-made-it", "path": changed}],
        },
    }))
}

fn model(id: &str, changed: &str) -> Value {
    manifest(json!({
        "apiVersion": "muster.dev/v1", "kind": "Model", "metadata": {"name": id},
        "spec": {"gitRepositoryRef": {"name": "nobody-made-it"}, "path": changed},
    }))
}

fn policy(id: &str, changed: &str) -> Value {
    manifest(cluster_policy(id, changed))
}

/// A policy that wants a label on every pod, and reports who has none.
pub fn cluster_policy(id: &str, label: &str) -> Value {
    json!({
        "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": id},
        "spec": {"validationFailureAction": "Audit", "rules": [{
            "name": "labelled",
            "match": {"any": [{"resources": {"kinds": ["Pod"]}}]},
            "validate": {"message": "a label is missing", "pattern": {"metadata": {"labels": {label: "?*"}}}},
        }]},
    })
}

fn fleet_policy(id: &str, changed: &str) -> Value {
    manifest(json!({
        "apiVersion": "policy.kurator.dev/v1alpha1", "kind": "FleetPolicy", "metadata": {"name": id},
        "spec": {"fleetRef": {"name": "nobody-made-it"}, "policies": [{"name": changed}]},
    }))
}
