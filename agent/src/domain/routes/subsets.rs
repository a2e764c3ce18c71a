//! What may be written of a DestinationRule: a subset that a live route still names stays, and one that has traffic
//! keeps its labels until the pods behind the new ones are ready.

use super::{
    split::{Destination, service_of_host, splits},
    world::{Readiness, World},
};
use crate::domain::{
    object::{list, text},
    workload::labels,
};
use serde_json::{Value, json};

/// The rule as it may be written now, and what of the wanted one is withheld.
pub fn admit_rule(wanted: &Value, live: Option<&Value>, world: &World) -> (Value, Vec<String>) {
    let Some(live) = live else { return (wanted.clone(), Vec::new()) };
    let (service, namespace) = service_of_host(text(wanted, "/spec/host"), text(wanted, "/metadata/namespace"));
    let weight = |subset: &str| -> Option<u32> {
        let destination = Destination { namespace: namespace.clone(), service: service.clone(), subset: subset.to_owned() };
        let named: Vec<u32> = world
            .routes
            .iter()
            .flat_map(splits)
            .flat_map(|split| split.shares)
            .filter(|share| share.destination == destination)
            .map(|share| share.weight)
            .collect();
        named.iter().copied().max()
    };
    let mut withheld = Vec::new();
    let mut subsets = Vec::new();
    for subset in list(wanted, "/spec/subsets") {
        let name = text(subset, "/name");
        let before = list(live, "/spec/subsets").iter().find(|live| text(live, "/name") == name);
        let moves = before.is_some_and(|before| labels(before, "/labels") != labels(subset, "/labels"));
        let ready = world.readiness_of_labels(&namespace, &service, &labels(subset, "/labels"));
        let serves = weight(name).is_some_and(|weight| weight > 0);
        match before {
            Some(before) if moves && serves && matches!(ready, Readiness::None | Readiness::Some) => {
                withheld.push(format!("subset {name} of {service} keeps its labels: no ready pods behind the new ones"));
                subsets.push(before.clone());
            }
            _ => subsets.push(subset.clone()),
        }
    }
    for before in list(live, "/spec/subsets") {
        let name = text(before, "/name");
        let stays = list(wanted, "/spec/subsets").iter().any(|subset| text(subset, "/name") == name);
        if !stays && weight(name).is_some() {
            withheld.push(format!("subset {name} of {service} stays while a route names it"));
            subsets.push(before.clone());
        }
    }
    let mut manifest = wanted.clone();
    if !withheld.is_empty() {
        manifest["spec"]["subsets"] = json!(subsets);
    }
    (manifest, withheld)
}
