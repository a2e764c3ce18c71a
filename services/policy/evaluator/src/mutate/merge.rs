//! Strategic merges: mappings by field, lists of Kubernetes' own kinds by the key that names their elements, everything
//! else as a whole.

use serde_json::{Map, Value};

/// Lists that merge, and the field that names their elements (Kubernetes API, `patchMergeKey`).
const KEYS: [(&str, &str); 15] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("ephemeralContainers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("imagePullSecrets", "name"),
    ("secrets", "name"),
    ("resourceClaims", "name"),
    ("volumeMounts", "mountPath"),
    ("volumeDevices", "devicePath"),
    ("hostAliases", "ip"),
    ("topologySpreadConstraints", "topologyKey"),
    ("conditions", "type"),
    ("ownerReferences", "uid"),
    ("subjects", "name"),
];

/// Whether the lists of a kind merge: those of custom resources are replaced.
pub fn has_named_lists(object: &Value) -> bool {
    let version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    group.is_empty() || group.ends_with(".k8s.io") || !group.contains('.')
}

/// The field that names the elements of a list, if any.
pub fn key_of(list: &str, element: &Value) -> Option<&'static str> {
    if list == "ports" {
        return ["containerPort", "port"].into_iter().find(|key| element.get(key).is_some());
    }
    KEYS.iter().find(|(name, _)| *name == list).map(|(_, key)| *key)
}

/// Where new elements of a list go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum New {
    /// In front, as Kyverno's strategic merges put them.
    First,
    /// Behind, as the API server applies configurations.
    Last,
}

/// Merges a patch into an object. `named_lists`: whether lists merge by the names of their elements.
pub fn merge(object: &mut Value, patch: &Value, named_lists: bool, new: New) {
    let (Value::Object(fields), Value::Object(patch)) = (&mut *object, patch) else {
        *object = patch.clone();
        return;
    };
    if patch.get("$patch").is_some_and(|directive| directive == "replace") {
        *fields = patch.clone();
        fields.remove("$patch");
        return;
    }
    for (key, wanted) in patch {
        match (fields.get_mut(key), wanted) {
            (_, Value::Null) => {
                fields.remove(key);
            }
            (Some(found @ Value::Object(_)), Value::Object(_)) => merge(found, wanted, named_lists, new),
            (Some(Value::Array(items)), Value::Array(elements)) if named_lists && is_named(key, elements) => {
                merge_list(items, key, elements, new);
            }
            (_, Value::Object(below)) => {
                let mut made = Value::Object(Map::new());
                merge(&mut made, &Value::Object(below.clone()), named_lists, new);
                fields.insert(key.clone(), made);
            }
            _ => {
                fields.insert(key.clone(), wanted.clone());
            }
        }
    }
}

fn is_named(list: &str, elements: &[Value]) -> bool {
    elements.iter().all(|element| key_of(list, element).is_some_and(|key| element.get(key).is_some()))
}

fn merge_list(items: &mut Vec<Value>, list: &str, elements: &[Value], place: New) {
    let mut new = Vec::new();
    for element in elements {
        let Some(key) = key_of(list, element) else { continue };
        let at = items.iter().position(|item| item.get(key) == element.get(key));
        let is_deleted = element.get("$patch").is_some_and(|directive| directive == "delete");
        match at {
            Some(at) if is_deleted => {
                items.remove(at);
            }
            Some(at) => merge(&mut items[at], element, true, place),
            None if is_deleted => {}
            None => new.push(element.clone()),
        }
    }
    let at = if place == New::First { 0 } else { items.len() };
    items.splice(at..at, new);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_merge_by_their_names_and_others_are_replaced() {
        let object = json!({"spec": {
            "containers": [{"name": "a", "image": "x", "args": ["1"]}, {"name": "b"}],
            "tolerations": [{"key": "k"}], "hostNetwork": true,
        }});
        let patch = json!({"spec": {
            "containers": [{"name": "c"}, {"name": "a", "args": ["2"], "env": [{"name": "E"}]}, {"name": "b", "$patch": "delete"}],
            "tolerations": [{"key": "l"}], "hostNetwork": null, "securityContext": {"runAsUser": 1},
        }});
        let mut merged = object.clone();
        merge(&mut merged, &patch, true, New::First);
        assert_eq!(
            merged,
            json!({"spec": {
                "containers": [{"name": "c"}, {"name": "a", "image": "x", "args": ["2"], "env": [{"name": "E"}]}],
                "tolerations": [{"key": "l"}], "securityContext": {"runAsUser": 1},
            }})
        );
        let mut custom = object;
        merge(&mut custom, &json!({"spec": {"containers": [{"name": "c"}]}}), false, New::Last);
        assert_eq!(custom["spec"]["containers"], json!([{"name": "c"}]));
        assert!(
            has_named_lists(&json!({"apiVersion": "apps/v1"})) && !has_named_lists(&json!({"apiVersion": "a.example.com/v1"}))
        );
    }
}
