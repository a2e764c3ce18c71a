//! Where a request to a Service goes: the first route of its VirtualService that a plain `GET /` without headers matches,
//! by weight; subsets by the labels of the DestinationRule; without a VirtualService every ready pod of the Service.

use crate::{
    controllers::{pods, service},
    json,
    state::State,
};
use serde_json::Value;
use std::sync::Arc;

/// One way a request may go.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Tells it apart from the others of the same Service.
    pub name: String,
    /// Its share among the others.
    pub weight: f64,
    /// The ready pods that may answer; none is a 503.
    pub pods: Vec<Arc<Value>>,
}

const VIRTUAL_SERVICES: &str = "virtualservices.networking.istio.io";
const DESTINATION_RULES: &str = "destinationrules.networking.istio.io";

/// The ways of a request to `target`, as its objects stand now.
pub fn destinations(state: &State, target: &Value) -> Vec<Destination> {
    let routes = state
        .store
        .list(VIRTUAL_SERVICES, "")
        .find(|candidate| {
            let namespace = json::namespace(candidate);
            json::list(candidate, "/spec/hosts").iter().filter_map(Value::as_str).any(|host| names(host, namespace, target))
        })
        .cloned();
    let Some(virtual_service) = routes else {
        return vec![Destination { name: "direct".to_owned(), weight: 1.0, pods: ready(state, target, None) }];
    };
    let Some(route) = json::list(&virtual_service, "/spec/http").iter().find(|route| takes_plain_request(route)) else {
        // No route of a VirtualService takes the request: the proxy answers it with an error of its own.
        return vec![Destination { name: "none".to_owned(), weight: 1.0, pods: Vec::new() }];
    };
    let listed = json::list(route, "/route");
    listed
        .iter()
        .map(|entry| {
            let host = json::text(entry, "/destination/host");
            let subset = json::text(entry, "/destination/subset");
            let weight = entry.get("weight").and_then(Value::as_f64).unwrap_or(if listed.len() == 1 { 100.0 } else { 0.0 });
            let pods =
                find_service(state, host, json::namespace(&virtual_service)).map_or_else(Vec::new, |service| match subset {
                    "" => ready(state, &service, None),
                    subset => subset_labels(state, &service, subset)
                        .map_or_else(Vec::new, |labels| ready(state, &service, Some(&labels))),
                });
            Destination { name: format!("{host}/{subset}"), weight, pods }
        })
        .collect()
}

/// True when `host`, said in `namespace`, is the Service.
fn names(host: &str, namespace: &str, service: &Value) -> bool {
    let (own, home) = (json::name(service), json::namespace(service));
    let forms = [format!("{own}.{home}"), format!("{own}.{home}.svc"), format!("{own}.{home}.svc.cluster.local")];
    (host == own && namespace == home) || forms.iter().any(|form| form == host) || host == "*"
}

fn find_service(state: &State, host: &str, namespace: &str) -> Option<Arc<Value>> {
    let mut parts = host.split('.');
    let name = parts.next()?;
    let home = parts.next().unwrap_or(namespace);
    state.store.find("services", home, name).cloned()
}

fn takes_plain_request(route: &Value) -> bool {
    let matches = json::list(route, "/match");
    let plain = |condition: &Value| {
        condition.as_object().is_some_and(|fields| {
            fields.iter().all(|(name, value)| match name.as_str() {
                "name" | "gateways" | "port" => true,
                "uri" => json::text(value, "/prefix") == "/" || json::text(value, "/exact") == "/",
                "method" => json::text(value, "/exact") == "GET",
                _ => false,
            })
        })
    };
    matches.is_empty() || matches.iter().any(plain)
}

fn subset_labels(state: &State, service: &Value, subset: &str) -> Option<Value> {
    state
        .store
        .list(DESTINATION_RULES, "")
        .filter(|rule| names(json::text(rule, "/spec/host"), json::namespace(rule), service))
        .flat_map(|rule| json::list(rule, "/spec/subsets"))
        .find(|found| json::text(found, "/name") == subset)
        .map(|found| found.get("labels").cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new())))
}

fn ready(state: &State, target: &Value, labels: Option<&Value>) -> Vec<Arc<Value>> {
    service::selected(state, target)
        .into_iter()
        .filter(|pod| pods::is_ready(pod))
        .filter(|pod| labels.is_none_or(|labels| json::labels_contain(pod.pointer("/metadata/labels"), labels)))
        .collect()
}
