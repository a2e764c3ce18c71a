//! Reads the weighted destinations of a VirtualService and an HTTPRoute, and writes a weight back.

use crate::domain::object::{group_version, list, text};
use serde_json::{Value, json};
use std::fmt;

/// Where a share of requests goes: a Service, and a subset of it where a DestinationRule names one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service, or the whole host where it is none of the cluster's own.
    pub service: String,
    /// The subset; empty for all pods of the Service.
    pub subset: String,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.subset.as_str() {
            "" => write!(f, "service {}", self.service),
            subset => write!(f, "subset {subset} of {}", self.service),
        }
    }
}

/// A destination and its weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share {
    pub destination: Destination,
    pub weight: u32,
}

/// One list of weighted destinations within a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Split {
    /// JSON pointer of the list.
    pub pointer: String,
    pub shares: Vec<Share>,
}

/// Whether an object sends requests somewhere by weight.
pub fn is_route(object: &Value) -> bool {
    let (group, _) = group_version(text(object, "/apiVersion"));
    matches!(
        (group, text(object, "/kind")),
        ("networking.istio.io", "VirtualService") | ("gateway.networking.k8s.io", "HTTPRoute" | "GRPCRoute")
    )
}

/// Every destination a route names, whatever its weight.
pub fn destinations(route: &Value) -> Vec<Destination> {
    let mut all: Vec<_> = splits(route).into_iter().flat_map(|split| split.shares).map(|share| share.destination).collect();
    all.sort();
    all.dedup();
    all
}

pub(super) fn splits(route: &Value) -> Vec<Split> {
    let namespace = text(route, "/metadata/namespace");
    let istio = text(route, "/kind") == "VirtualService";
    let sections: &[(&str, &str)] =
        if istio { &[("http", "route"), ("tcp", "route"), ("tls", "route")] } else { &[("rules", "backendRefs")] };
    let mut found = Vec::new();
    for (section, field) in sections {
        for (index, rule) in list(route, &format!("/spec/{section}")).iter().enumerate() {
            let targets = list(rule, &format!("/{field}"));
            if targets.is_empty() {
                continue;
            }
            // Istio: a single destination takes everything, of several an unsaid weight is 0. Gateway API: unsaid is 1.
            let unsaid = match (istio, targets.len()) {
                (true, 1) => 100,
                (true, _) => 0,
                (false, _) => 1,
            };
            let shares = targets
                .iter()
                .map(|target| Share {
                    destination: if istio { istio_destination(target, namespace) } else { backend(target, namespace) },
                    weight: target.get("weight").and_then(Value::as_u64).map_or(unsaid, |w| u32::try_from(w).unwrap_or(u32::MAX)),
                })
                .collect();
            found.push(Split { pointer: format!("/spec/{section}/{index}/{field}"), shares });
        }
    }
    found
}

fn istio_destination(target: &Value, namespace: &str) -> Destination {
    let (service, namespace) = service_of_host(text(target, "/destination/host"), namespace);
    Destination { namespace, service, subset: text(target, "/destination/subset").to_owned() }
}

fn backend(target: &Value, namespace: &str) -> Destination {
    let own = text(target, "/namespace");
    Destination {
        namespace: if own.is_empty() { namespace } else { own }.to_owned(),
        service: text(target, "/name").to_owned(),
        subset: String::new(),
    }
}

/// The Service behind a host: `name`, `name.namespace`, `name.namespace.svc…`; any other host stays whole.
pub(super) fn service_of_host(host: &str, namespace: &str) -> (String, String) {
    let mut parts = host.splitn(3, '.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, None) => (name.to_owned(), namespace.to_owned()),
        (Some(name), Some(space), None) => (name.to_owned(), space.to_owned()),
        (Some(name), Some(space), Some(rest)) if rest == "svc" || rest.starts_with("svc.") => (name.to_owned(), space.to_owned()),
        _ => (host.to_owned(), namespace.to_owned()),
    }
}

pub(super) fn write_weight(manifest: &mut Value, split: &Split, index: usize, weight: u32) {
    let target = manifest.pointer_mut(&split.pointer).and_then(|list| list.get_mut(index));
    let target = target.expect("the split was read from this manifest");
    target["weight"] = json!(weight);
}
