//! The revision of a workload: a hash of its pod template and of the configuration that it names, never of the commit.

use super::object::{group, kind, name, namespace};
use muster_core::Digest;
use muster_core::bundle::canonical;
use serde_json::{Value, json};

/// Digits of a revision: 40 bits, as unlikely to collide within one application as Kubernetes' own pod template hash.
const DIGITS: usize = 10;

/// A ConfigMap or a Secret, named from a pod template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Configuration {
    ConfigMap,
    Secret,
}

impl Configuration {
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

/// Ten hexadecimal digits that change if and only if the pods would.
pub(super) fn revision(workload: &Value, objects: &[Value]) -> String {
    let mut content: Vec<Value> = configurations(workload, objects)
        .into_iter()
        .map(|object| json!([kind(object), name(object), object["data"], object["binaryData"], object["stringData"]]))
        .collect();
    content.sort_by_key(canonical);
    let hashed = canonical(&json!([workload["spec"]["template"], content]));
    Digest::of(&hashed).hex()[..DIGITS].to_owned()
}

/// The ConfigMaps and Secrets of the bundle that the workload's pods name.
pub(super) fn configurations<'a>(workload: &Value, objects: &'a [Value]) -> Vec<&'a Value> {
    let mut named = Vec::new();
    visit(&mut workload["spec"]["template"]["spec"].clone(), &mut |configuration, name| {
        named.push((configuration, name.clone()));
    });
    objects
        .iter()
        .filter(|object| {
            group(object).is_empty()
                && namespace(object) == namespace(workload)
                && named.iter().any(|(configuration, wanted)| kind(object) == configuration.kind() && name(object) == wanted)
        })
        .collect()
}

/// Shows every name of a ConfigMap or Secret in a pod specification to `see`, which may change it.
pub(super) fn visit(pod: &mut Value, see: &mut impl FnMut(Configuration, &mut String)) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in pod.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            for source in container.get_mut("envFrom").and_then(Value::as_array_mut).into_iter().flatten() {
                named(source, "configMapRef", "name", Configuration::ConfigMap, see);
                named(source, "secretRef", "name", Configuration::Secret, see);
            }
            for variable in container.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(source) = variable.get_mut("valueFrom") {
                    named(source, "configMapKeyRef", "name", Configuration::ConfigMap, see);
                    named(source, "secretKeyRef", "name", Configuration::Secret, see);
                }
            }
        }
    }
    for volume in pod.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        named(volume, "configMap", "name", Configuration::ConfigMap, see);
        named(volume, "secret", "secretName", Configuration::Secret, see);
        let sources = volume.get_mut("projected").and_then(|projected| projected.get_mut("sources"));
        for source in sources.and_then(Value::as_array_mut).into_iter().flatten() {
            named(source, "configMap", "name", Configuration::ConfigMap, see);
            named(source, "secret", "name", Configuration::Secret, see);
        }
    }
}

fn named(
    holder: &mut Value,
    field: &str,
    key: &str,
    configuration: Configuration,
    see: &mut impl FnMut(Configuration, &mut String),
) {
    if let Some(Value::String(name)) = holder.get_mut(field).and_then(|reference| reference.get_mut(key)) {
        see(configuration, name);
    }
}

/// Whether a name ends in the hash that kustomize's generators append: ten of its own digits
/// (kustomize `api/hasher`: hexadecimal with 0, 1, 3, a and e replaced, so that no word is spelled).
pub(super) fn has_kustomize_hash(name: &str) -> bool {
    name.rsplit_once('-')
        .is_some_and(|(_, hash)| hash.len() == 10 && hash.bytes().all(|byte| b"gh2k456789mbcdtf".contains(&byte)))
}

/// The version that a workload's pods are: their `version` label, else the tag of the first image, else the revision.
pub(super) fn version(workload: &Value, revision: &str) -> String {
    let template = &workload["spec"]["template"];
    if let Some(version) = template["metadata"]["labels"][muster_core::labels::VERSION].as_str() {
        return version.to_owned();
    }
    let image = template["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
    let image = image.split_once('@').map_or(image, |(image, _)| image);
    let tag = image.rsplit('/').next().and_then(|last| last.split_once(':')).map_or("", |(_, tag)| tag);
    let tag: String = tag.chars().take(63).collect();
    let tag = tag.trim_end_matches(['.', '-', '_']);
    if tag.is_empty() { revision.to_owned() } else { tag.to_owned() }
}
