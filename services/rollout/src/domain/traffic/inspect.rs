//! Whether a target's traffic is managed, and which workload stands behind which host.
//!
//! Managed if and only if `rollout.traffic` names the workload and a route leads to it, or a VirtualService weights
//! subsets that git's own pod templates do not all satisfy. Where git holds a workload for every weighted subset, it is
//! the user's own A/B, and untouched.

use super::TrafficError;
use super::object::{has_all, host_is, is_istio, is_workload, kind, labels, name, namespace, pod_labels};
use crate::domain::spec::TrafficSpec;
use serde_json::Value;

/// A Deployment whose versions run side by side in a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedWorkload {
    /// The Deployment's name in git.
    pub workload: String,
    /// Its namespace; empty where git names none.
    pub namespace: String,
    /// The Service that the routes' host means.
    pub service: String,
}

/// A rule's list of destinations: which VirtualService, which field, which index.
pub(super) const RULES: [&str; 3] = ["http", "tcp", "tls"];

/// The workloads of a rendered target that are managed; empty means that it updates in place.
pub fn inspect(objects: &[Value], traffic: Option<&TrafficSpec>) -> Result<Vec<ManagedWorkload>, TrafficError> {
    let mut managed: Vec<ManagedWorkload> = Vec::new();
    if let Some(traffic) = traffic {
        managed.extend(named(objects, traffic)?);
    }
    for route in objects.iter().filter(|object| is_istio(object, "VirtualService")) {
        for host in unsatisfied_hosts(objects, route) {
            let found = behind(objects, route, &host, traffic)?;
            if !managed.contains(&found) {
                managed.push(found);
            }
        }
    }
    Ok(managed)
}

/// The workload that `rollout.traffic` names, where a route leads to it.
fn named(objects: &[Value], traffic: &TrafficSpec) -> Result<Option<ManagedWorkload>, TrafficError> {
    let routes = || objects.iter().filter(|object| is_istio(object, "VirtualService"));
    if routes().next().is_none() {
        return Ok(None);
    }
    let workload = objects
        .iter()
        .find(|object| is_workload(object) && name(object) == traffic.workload)
        .ok_or_else(|| TrafficError::NoSuchWorkload(traffic.workload.clone()))?;
    refuse_other_kinds(workload)?;
    let service = objects.iter().filter(|object| kind(object) == "Service").find(|service| {
        has_all(&pod_labels(workload), &labels(&service["spec"]["selector"]))
            && routes().any(|route| {
                destinations(route).any(|destination| {
                    let host = destination["destination"]["host"].as_str().unwrap_or_default();
                    host_is(host, namespace(route), name(service), namespace(service))
                })
            })
    });
    Ok(service.map(|service| ManagedWorkload {
        workload: name(workload).to_owned(),
        namespace: namespace(workload).to_owned(),
        service: name(service).to_owned(),
    }))
}

/// Every destination of every rule of a VirtualService.
fn destinations(route: &Value) -> impl Iterator<Item = &Value> {
    RULES
        .into_iter()
        .flat_map(|field| route["spec"][field].as_array().into_iter().flatten())
        .flat_map(|rule| rule["route"].as_array().into_iter().flatten())
}

/// The hosts of a route with at least one weighted subset that no pod template of git satisfies.
fn unsatisfied_hosts(objects: &[Value], route: &Value) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    for destination in destinations(route) {
        let (Some(host), Some(subset)) =
            (destination["destination"]["host"].as_str(), destination["destination"]["subset"].as_str())
        else {
            continue;
        };
        let weighted = destination["weight"].as_i64() != Some(0);
        if weighted && !satisfied(objects, route, host, subset) && !hosts.iter().any(|known| known == host) {
            hosts.push(host.to_owned());
        }
    }
    hosts
}

/// Whether a workload of git makes pods with the labels of the subset.
fn satisfied(objects: &[Value], route: &Value, host: &str, subset: &str) -> bool {
    let Some(rule) = rule_of(objects, route, host) else { return false };
    let wanted = rule["spec"]["subsets"].as_array().into_iter().flatten().find(|entry| entry["name"] == subset);
    let Some(wanted) = wanted.map(|entry| labels(&entry["labels"])) else { return false };
    objects
        .iter()
        .any(|object| is_workload(object) && namespace(object) == namespace(route) && has_all(&pod_labels(object), &wanted))
}

/// The DestinationRule for the Service that `host` means.
fn rule_of<'a>(objects: &'a [Value], route: &Value, host: &str) -> Option<&'a Value> {
    let service = objects
        .iter()
        .find(|object| kind(object) == "Service" && host_is(host, namespace(route), name(object), namespace(object)));
    objects.iter().filter(|object| is_istio(object, "DestinationRule")).find(|rule| {
        let rule_host = rule["spec"]["host"].as_str().unwrap_or_default();
        rule_host == host || service.is_some_and(|service| host_is(rule_host, namespace(rule), name(service), namespace(service)))
    })
}

/// The one workload behind a host, which must be a Deployment.
fn behind(objects: &[Value], route: &Value, host: &str, traffic: Option<&TrafficSpec>) -> Result<ManagedWorkload, TrafficError> {
    let nothing = || TrafficError::NoWorkload { route: name(route).to_owned(), host: host.to_owned() };
    let service = objects
        .iter()
        .find(|object| kind(object) == "Service" && host_is(host, namespace(route), name(object), namespace(object)))
        .ok_or_else(nothing)?;
    let selector = labels(&service["spec"]["selector"]);
    let mut candidates: Vec<&Value> = objects
        .iter()
        .filter(|object| {
            is_workload(object) && namespace(object) == namespace(service) && has_all(&pod_labels(object), &selector)
        })
        .collect();
    if let (Some(traffic), true) = (traffic, candidates.len() > 1) {
        candidates.retain(|candidate| name(candidate) == traffic.workload);
    }
    match candidates[..] {
        [] => Err(nothing()),
        [workload] => {
            refuse_other_kinds(workload)?;
            Ok(ManagedWorkload {
                workload: name(workload).to_owned(),
                namespace: namespace(workload).to_owned(),
                service: name(service).to_owned(),
            })
        }
        _ => Err(TrafficError::Ambiguous {
            host: host.to_owned(),
            names: candidates.iter().map(|candidate| name(candidate).to_owned()).collect(),
        }),
    }
}

fn refuse_other_kinds(workload: &Value) -> Result<(), TrafficError> {
    if kind(workload) == "Deployment" {
        return Ok(());
    }
    Err(TrafficError::NotADeployment { kind: kind(workload).to_owned(), name: name(workload).to_owned() })
}
