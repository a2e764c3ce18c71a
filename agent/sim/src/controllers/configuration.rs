//! What a pod needs beside its images: the ConfigMaps, Secrets and claims it names.

use crate::{json, state::State};
use serde_json::Value;

/// The first ConfigMap, Secret or claim that a pod needs and that is not there.
pub fn lacks(state: &State, pod: &Value) -> Option<String> {
    let namespace = json::namespace(pod);
    let missing = |resource: &str, name: &str, key: &str| {
        let found = state.store.find(resource, namespace, name);
        match found {
            None => Some(format!("{} \"{name}\" not found", resource.trim_end_matches('s'))),
            Some(object) if !key.is_empty() => {
                let has = |map: &str| object.get(map).and_then(|data| data.get(key)).is_some();
                (!has("data") && !has("binaryData"))
                    .then(|| format!("couldn't find key {key} in {} {namespace}/{name}", resource.trim_end_matches('s')))
            }
            Some(_) => None,
        }
    };
    let reference = |value: Option<&Value>, resource: &str| {
        value
            .filter(|value| !json::flag(value, "/optional"))
            .and_then(|value| missing(resource, json::text(value, "/name"), json::text(value, "/key")))
    };
    for container in json::list(pod, "/spec/containers").iter().chain(json::list(pod, "/spec/initContainers")) {
        for variable in json::list(container, "/env") {
            let found = reference(variable.pointer("/valueFrom/configMapKeyRef"), "configmaps")
                .or_else(|| reference(variable.pointer("/valueFrom/secretKeyRef"), "secrets"));
            if found.is_some() {
                return found;
            }
        }
        for source in json::list(container, "/envFrom") {
            let found =
                reference(source.get("configMapRef"), "configmaps").or_else(|| reference(source.get("secretRef"), "secrets"));
            if found.is_some() {
                return found;
            }
        }
    }
    json::list(pod, "/spec/volumes").iter().find_map(|volume| {
        let secret = volume.get("secret").filter(|secret| !json::flag(secret, "/optional"));
        reference(volume.get("configMap"), "configmaps")
            .or_else(|| secret.and_then(|secret| missing("secrets", json::text(secret, "/secretName"), "")))
            .or_else(|| {
                volume
                    .get("persistentVolumeClaim")
                    .and_then(|claim| missing("persistentvolumeclaims", json::text(claim, "/claimName"), ""))
            })
    })
}
