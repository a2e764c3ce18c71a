//! The status of PodDisruptionBudgets.

use super::pods;
use crate::{
    amend,
    selector::LabelSelector,
    state::{Actor, State, now},
    store::Key,
};
use serde_json::json;
use std::time::Duration;

/// Counts the pods of one budget.
pub fn reconcile(state: &mut State, key: &Key) -> Option<Duration> {
    let budget = state.store.get(key)?.clone();
    let selector = LabelSelector::of_object(&budget["spec"]["selector"]);
    let chosen: Vec<_> = state
        .store
        .list("pods", &key.namespace)
        .filter(|pod| pods::is_active(pod) && selector.selects(pod.pointer("/metadata/labels")))
        .collect();
    let expected = chosen.len() as i64;
    let healthy = chosen.iter().filter(|pod| pods::is_ready(pod)).count() as i64;
    let desired = match (budget.pointer("/spec/minAvailable"), budget.pointer("/spec/maxUnavailable")) {
        (Some(least), _) => pods::resolve(Some(least), expected, true),
        (None, missing) => (expected - pods::resolve(missing, expected, true)).max(0),
    };
    let allowed = (healthy - desired).max(0);
    let at = now();
    let generation = budget["metadata"]["generation"].clone();
    let actor = Actor::controller("disruption-controller", pods::MANAGER);
    drop(amend::change(state, &actor, ("poddisruptionbudgets.policy", &key.namespace, &key.name), "status", |object| {
        let mut status = object.get("status").cloned().unwrap_or_else(|| json!({}));
        for (name, value) in [
            ("currentHealthy", healthy),
            ("desiredHealthy", desired),
            ("expectedPods", expected),
            ("disruptionsAllowed", allowed),
        ] {
            status[name] = json!(value);
        }
        status["observedGeneration"] = generation;
        let (value, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
        pods::set_condition(&mut status, "DisruptionAllowed", value, reason, "", &at);
        object["status"] = status;
    }));
    None
}
