//! Minimal definitions of custom kinds that other projects bring: names, scopes and subresources are theirs, the schemas
//! keep whatever is in them.

use crate::config::CrdPreset;
use serde_json::{Value, json};

/// The definitions of a preset.
pub fn definitions(preset: CrdPreset) -> Vec<Value> {
    match preset {
        CrdPreset::Istio => {
            let group = "networking.istio.io";
            let versions = ["v1", "v1beta1", "v1alpha3"];
            let kind = |kind: &str, plural: &str, short: &str| definition(group, kind, plural, short, true, &versions);
            vec![
                kind("VirtualService", "virtualservices", "vs"),
                kind("DestinationRule", "destinationrules", "dr"),
                kind("Gateway", "gateways", "gw"),
                kind("ServiceEntry", "serviceentries", "se"),
                kind("Sidecar", "sidecars", ""),
                kind("EnvoyFilter", "envoyfilters", ""),
                definition("security.istio.io", "PeerAuthentication", "peerauthentications", "pa", true, &["v1", "v1beta1"]),
                definition("security.istio.io", "AuthorizationPolicy", "authorizationpolicies", "ap", true, &["v1", "v1beta1"]),
            ]
        }
        CrdPreset::Volcano => vec![
            definition("batch.volcano.sh", "Job", "jobs", "vcjob,vj", true, &["v1alpha1"]),
            definition("scheduling.volcano.sh", "Queue", "queues", "q,queue-v1beta1", false, &["v1beta1"]),
            definition("scheduling.volcano.sh", "PodGroup", "podgroups", "pg,podgroup-v1beta1", true, &["v1beta1"]),
            definition("bus.volcano.sh", "Command", "commands", "", true, &["v1alpha1"]),
        ],
        CrdPreset::Kyverno => vec![
            definition("kyverno.io", "ClusterPolicy", "clusterpolicies", "cpol", false, &["v1", "v2beta1"]),
            definition("kyverno.io", "Policy", "policies", "pol", true, &["v1", "v2beta1"]),
            definition("kyverno.io", "PolicyException", "policyexceptions", "polex", true, &["v2", "v2beta1"]),
            definition("wgpolicyk8s.io", "PolicyReport", "policyreports", "polr", true, &["v1alpha2"]),
            definition("wgpolicyk8s.io", "ClusterPolicyReport", "clusterpolicyreports", "cpolr", false, &["v1alpha2"]),
        ],
    }
}

/// The definitions of the GPU operator.
pub fn gpu_operator() -> Vec<Value> {
    vec![definition("nvidia.com", "ClusterPolicy", "clusterpolicies", "", false, &["v1"])]
}

/// A kind of which anything is kept; the first version is the one that is stored.
fn definition(group: &str, kind: &str, plural: &str, short: &str, namespaced: bool, versions: &[&str]) -> Value {
    let short: Vec<&str> = short.split(',').filter(|name| !name.is_empty()).collect();
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let versions: Vec<Value> = versions
        .iter()
        .enumerate()
        .map(|(index, name)| {
            json!({
                "name": name, "served": true, "storage": index == 0, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {"spec": anything, "status": anything},
                }},
            })
        })
        .collect();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": if namespaced { "Namespaced" } else { "Cluster" }, "versions": versions,
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List"), "shortNames": short},
        },
    })
}
