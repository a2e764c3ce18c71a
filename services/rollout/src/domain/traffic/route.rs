//! VirtualServices: the weights of the copies, 100 in total at every instant, 0 for a subset without a copy.

use super::inspect::RULES;
use super::object::{host_is, is_istio, name, namespace};
use super::{ManagedWorkload, TrafficError};
use serde_json::{Value, json};

/// A subset and its share of the traffic in percent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share {
    pub subset: String,
    pub weight: u8,
}

fn is_ours(destination: &Value, route: &Value, managed: &ManagedWorkload) -> bool {
    let host = destination["destination"]["host"].as_str().unwrap_or_default();
    host_is(host, namespace(route), &managed.service, &managed.namespace)
}

/// Whether any rule of the object leads to the managed workload.
pub(super) fn leads_to(object: &Value, managed: &ManagedWorkload) -> bool {
    is_istio(object, "VirtualService")
        && RULES
            .into_iter()
            .flat_map(|field| object["spec"][field].as_array().into_iter().flatten())
            .flat_map(|rule| rule["route"].as_array().into_iter().flatten())
            .any(|destination| is_ours(destination, object, managed))
}

/// The weight that git's routes give to a subset: the first one in 1..=100.
pub(super) fn weight_in_git(objects: &[Value], managed: &ManagedWorkload, subset: &str) -> Option<u8> {
    objects.iter().filter(|object| leads_to(object, managed)).find_map(|route| {
        RULES
            .into_iter()
            .flat_map(|field| route["spec"][field].as_array().into_iter().flatten())
            .filter_map(|rule| rule["route"].as_array())
            .filter(|destinations| destinations.len() > 1)
            .flatten()
            .filter(|destination| is_ours(destination, route, managed))
            .filter(|destination| destination["destination"]["subset"] == subset)
            .filter_map(|destination| u8::try_from(destination["weight"].as_u64()?).ok())
            .find(|weight| (1..=100).contains(weight))
    })
}

/// Writes the shares into every rule of the VirtualService that leads to the managed workload.
pub(super) fn rewrite(route: &mut Value, managed: &ManagedWorkload, shares: &[Share]) -> Result<(), TrafficError> {
    debug_assert_eq!(shares.iter().map(|share| u32::from(share.weight)).sum::<u32>(), 100, "weights total 100");
    let before = route.clone();
    for field in RULES {
        for (index, rule) in route["spec"].get_mut(field).and_then(Value::as_array_mut).into_iter().flatten().enumerate() {
            let conditional = rule["match"].as_array().is_some_and(|matches| !matches.is_empty());
            let Some(destinations) = rule.get_mut("route").and_then(Value::as_array_mut) else { continue };
            let ours = destinations.iter().filter(|destination| is_ours(destination, &before, managed)).count();
            if ours == 0 {
                continue;
            }
            if ours != destinations.len() {
                return Err(TrafficError::MixedRoute {
                    route: name(&before).to_owned(),
                    path: format!("spec.{field}[{index}]"),
                    host: managed.service.clone(),
                });
            }
            let pinned = conditional
                && destinations.len() == 1
                && shares.iter().any(|share| destinations[0]["destination"]["subset"] == share.subset.as_str());
            // A rule for some requests that names a version which runs is the user's way to look at it.
            if !pinned {
                spread(destinations, shares);
            }
        }
    }
    Ok(())
}

/// Gives the destinations of one rule the shares; a subset that has no copy gets 0, a copy without a destination one.
fn spread(destinations: &mut Vec<Value>, shares: &[Share]) {
    let pattern = destinations[0].clone();
    destinations.retain(|destination| destination["destination"]["subset"].is_string());
    let mut given: Vec<&str> = Vec::new();
    for destination in destinations.iter_mut() {
        let share = shares.iter().find(|share| {
            destination["destination"]["subset"] == share.subset.as_str() && !given.contains(&share.subset.as_str())
        });
        destination["weight"] = json!(share.map_or(0, |share| share.weight));
        given.extend(share.map(|share| share.subset.as_str()));
    }
    for share in shares.iter().filter(|share| !given.contains(&share.subset.as_str())) {
        let mut added = pattern.clone();
        added["destination"]["subset"] = json!(share.subset);
        added["weight"] = json!(share.weight);
        destinations.push(added);
    }
}
