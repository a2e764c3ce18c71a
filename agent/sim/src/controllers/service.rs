//! Services: the addresses of the pods behind them, as Endpoints and as an EndpointSlice.

use super::pods;
use crate::{
    amend, json,
    state::{Actor, State},
    store::Key,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// The pods a Service selects, bound and not ended; a Service without a selector selects none.
pub fn selected(state: &State, service: &Value) -> Vec<Arc<Value>> {
    let Some(selector) =
        service.pointer("/spec/selector").filter(|selector| selector.as_object().is_some_and(|keys| !keys.is_empty()))
    else {
        return Vec::new();
    };
    state
        .store
        .list("pods", json::namespace(service))
        .filter(|pod| json::labels_contain(pod.pointer("/metadata/labels"), selector))
        .filter(|pod| !pods::is_ended(pod) && !json::text(pod, "/status/podIP").is_empty())
        .cloned()
        .collect()
}

/// Writes the addresses of one Service.
pub fn reconcile(state: &mut State, key: &Key) -> Option<Duration> {
    let actor = Actor::controller("endpoint-controller", pods::MANAGER);
    let Some(service) = state.store.get(key).cloned() else {
        drop(
            state
                .store
                .find("endpoints", &key.namespace, &key.name)
                .is_some()
                .then(|| amend::remove(state, &actor, "endpoints", &key.namespace, &key.name)),
        );
        return None;
    };
    if json::is_deleting(&service) || service.pointer("/spec/selector").is_none() {
        return None;
    }
    let chosen = selected(state, &service);
    let (ready, waiting): (Vec<_>, Vec<_>) =
        chosen.iter().filter(|pod| !json::is_deleting(pod)).partition(|pod| pods::is_ready(pod));
    let target = |pod: &Value| json!({"kind": "Pod", "namespace": key.namespace, "name": json::name(pod), "uid": json::uid(pod)});
    let address = |pod: &&Arc<Value>| json!({"ip": json::text(pod, "/status/podIP"), "nodeName": json::text(pod, "/spec/nodeName"), "targetRef": target(pod)});
    let ports: Vec<Value> = json::list(&service, "/spec/ports").iter().map(|port| resolved_port(port, chosen.first())).collect();
    let mut subset = json!({"ports": ports});
    for (name, list) in [("addresses", &ready), ("notReadyAddresses", &waiting)] {
        if !list.is_empty() {
            subset[name] = list.iter().map(address).collect();
        }
    }
    let subsets = if ready.is_empty() && waiting.is_empty() { json!([]) } else { json!([subset]) };
    let labels = service.pointer("/metadata/labels").cloned().unwrap_or_else(|| json!({}));
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": key.name, "namespace": key.namespace, "labels": labels}, "subsets": subsets,
    });
    upsert(state, &actor, "endpoints", endpoints, &["subsets"]);
    let endpoints: Vec<Value> = chosen
        .iter()
        .map(|pod| {
            let (ready, ends) = (pods::is_ready(pod), json::is_deleting(pod));
            json!({
                "addresses": [json::text(pod, "/status/podIP")], "nodeName": json::text(pod, "/spec/nodeName"), "targetRef": target(pod),
                "conditions": {"ready": ready, "serving": json::condition_is_true(pod, "Ready"), "terminating": ends},
            })
        })
        .collect();
    let mut slice_labels = labels;
    json::set(&mut slice_labels, &["kubernetes.io/service-name"], json!(key.name));
    json::set(&mut slice_labels, &["endpointslice.kubernetes.io/managed-by"], json!("endpointslice-controller.k8s.io"));
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{}-slice", key.name), "namespace": key.namespace, "labels": slice_labels,
            "ownerReferences": [pods::controller_reference(&service)],
        },
        "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
    });
    upsert(state, &actor, "endpointslices.discovery.k8s.io", slice, &["endpoints", "ports"]);
    None
}

fn upsert(state: &mut State, actor: &Actor, resource: &str, object: Value, fields: &[&str]) {
    let (namespace, name) = (json::namespace(&object).to_owned(), json::name(&object).to_owned());
    if state.store.find(resource, &namespace, &name).is_none() {
        drop(amend::create(state, actor, resource, object));
        return;
    }
    drop(amend::change(state, actor, (resource, &namespace, &name), "", |current| {
        fields.iter().for_each(|field| current[*field] = object[*field].clone());
        current["metadata"]["labels"] = object["metadata"]["labels"].clone();
    }));
}

/// A port by its number in the pod; one that is named is looked up there.
fn resolved_port(port: &Value, pod: Option<&Arc<Value>>) -> Value {
    let number = match port.get("targetPort") {
        Some(Value::String(name)) => pod
            .into_iter()
            .flat_map(|pod| json::list(pod, "/spec/containers"))
            .flat_map(|container| json::list(container, "/ports"))
            .find(|other| json::text(other, "/name") == name)
            .and_then(|other| other.get("containerPort").cloned()),
        Some(other) => Some(other.clone()),
        None => port.get("port").cloned(),
    };
    let mut resolved = json!({"port": number.or_else(|| port.get("port").cloned()), "protocol": json::text(port, "/protocol")});
    if !json::text(port, "/name").is_empty() {
        resolved["name"] = port["name"].clone();
    }
    resolved
}
