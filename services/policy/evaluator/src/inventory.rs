//! What stands for the cluster and the registry while policies are judged outside of them.
//!
//! A rule that asks for something that is not here is *not evaluated* where nobody can know the answer (an image), and
//! judged as in a cluster without it where the inventory is the whole cluster (an object).

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Objects and image metadata that rules may ask for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inventory {
    /// Objects of the cluster.
    pub objects: Vec<Value>,
    /// Metadata by image reference, as in Kyverno's context files: `config`, `manifest`, `registry`, …
    pub images: BTreeMap<String, Value>,
}

impl Inventory {
    /// The object of a resource such as `configmaps`.
    pub fn get(&self, api_version: &str, resource: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.list(api_version, resource, namespace).find(|object| text(object, "/metadata/name") == name)
    }

    /// All objects of a resource, of one namespace or, where it is empty, of all.
    pub fn list<'a>(&'a self, api_version: &str, resource: &str, namespace: &str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |object| {
            text(object, "/apiVersion") == api_version
                && plural(text(object, "/kind")) == resource
                && (namespace.is_empty() || text(object, "/metadata/namespace") == namespace)
        })
    }

    /// The object of a kind.
    pub fn of_kind(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.get(api_version, &plural(kind), namespace, name)
    }

    /// What the API server answers to a path such as `/api/v1/namespaces/a/configmaps` or `/apis/apps/v1/deployments`.
    pub fn at(&self, path: &str) -> Result<Value, NotAnswered> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if !query.is_empty() {
            return Err(NotAnswered::Unknown(format!("{path} is asked for with {query:?}")));
        }
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (api_version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ((*version).to_owned(), rest),
            ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
            _ => return Err(NotAnswered::Unknown(format!("{path} is no path of objects"))),
        };
        let (resource, namespace, name) = match rest {
            [resource] | ["namespaces", _, resource] => (resource, rest.get(1).copied().filter(|_| rest.len() == 3), None),
            ["namespaces", namespace, resource, name] => (resource, Some(*namespace), Some(*name)),
            [resource, name] => (resource, None, Some(*name)),
            _ => return Err(NotAnswered::Unknown(format!("{path} is no path of objects"))),
        };
        let namespace = namespace.unwrap_or_default();
        match name {
            Some(name) => self.get(&api_version, resource, namespace, name).cloned().ok_or(NotAnswered::NotThere),
            None => {
                let items: Vec<&Value> = self.list(&api_version, resource, namespace).collect();
                Ok(json!({"apiVersion": api_version, "kind": "List", "metadata": {}, "items": items}))
            }
        }
    }

    /// What the registry says of an image.
    pub fn image(&self, reference: &str) -> Option<&Value> {
        self.images.get(reference)
    }
}

/// Why a path has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAnswered {
    /// The object is not there.
    NotThere,
    /// An inventory does not answer such a thing, and why.
    Unknown(String),
}

/// The text at a pointer; empty where there is none.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The resource of a kind, as Kubernetes forms it where nobody says otherwise.
pub fn plural(kind: &str) -> String {
    let name = kind.to_lowercase();
    match name.as_str() {
        "endpoints" => name,
        _ if name.ends_with(['s', 'x', 'z']) || name.ends_with("ch") || name.ends_with("sh") => format!("{name}es"),
        _ => match name.strip_suffix('y') {
            Some(stem) if !stem.ends_with(['a', 'e', 'i', 'o', 'u']) => format!("{stem}ies"),
            _ => format!("{name}s"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_resources_kubernetes_gives_them() {
        for (kind, resource) in [
            ("Pod", "pods"),
            ("Ingress", "ingresses"),
            ("NetworkPolicy", "networkpolicies"),
            ("Gateway", "gateways"),
            ("StorageClass", "storageclasses"),
            ("Endpoints", "endpoints"),
        ] {
            assert_eq!(plural(kind), resource);
        }
    }

    #[test]
    fn objects_are_found_by_resource_namespace_and_name() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}});
        let inventory = Inventory { objects: vec![object.clone()], ..Inventory::default() };
        assert_eq!(inventory.get("v1", "configmaps", "b", "a"), Some(&object));
        assert_eq!(inventory.get("v1", "configmaps", "c", "a"), None);
        assert_eq!(inventory.list("v1", "configmaps", "").count(), 1);
        assert_eq!(inventory.list("apps/v1", "configmaps", "").count(), 0);
    }

    #[test]
    fn paths_lead_to_objects_and_lists_of_them() {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "b"}});
        let policy =
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "n", "namespace": "b"}});
        let objects = vec![map.clone(), namespace.clone(), policy];
        let inventory = Inventory { objects, ..Inventory::default() };
        assert_eq!(inventory.at("/api/v1/namespaces/b/configmaps/a"), Ok(map));
        assert_eq!(inventory.at("/api/v1/namespaces/b"), Ok(namespace));
        assert_eq!(inventory.at("/api/v1/namespaces/c/configmaps/a"), Err(NotAnswered::NotThere));
        let listed = inventory.at("/apis/networking.k8s.io/v1/namespaces/b/networkpolicies").expect("a list");
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));
        assert_eq!(inventory.at("/api/v1/configmaps").expect("a list")["items"][0]["metadata"]["name"], "a");
        for unknown in ["/version", "/api/v1/pods?limit=1", "/apis/a/b/c/d/e/f/g"] {
            assert!(matches!(inventory.at(unknown), Err(NotAnswered::Unknown(_))), "{unknown}");
        }
    }
}
