//! What stands for the cluster and the registry while policies are judged outside of them.
//!
//! A rule that asks for something that is not here is *not evaluated* where nobody can know the answer (an image), and
//! judged as in a cluster without it where the inventory is the whole cluster (an object).

use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

/// Resources remembered as missed: expressions may make any number of names.
const MAX_MISSED: usize = 100;

/// Objects and image metadata that rules may ask for.
#[derive(Debug, Default)]
pub struct Inventory {
    objects: Vec<Value>,
    /// Places in `objects`, by `apiVersion` and then by resource such as `configmaps`.
    resources: HashMap<String, HashMap<String, Places>>,
    images: BTreeMap<String, Value>,
    extent: Extent,
    /// Written only where nobody can say, so that no thread waits for another otherwise.
    missed: Mutex<BTreeSet<(String, String)>>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Places {
    all: Vec<usize>,
    by_namespace: HashMap<String, Vec<usize>>,
    by_name: HashMap<String, Vec<usize>>,
}

/// Of what an inventory has every object, so that what it has not is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Extent {
    /// Of every kind: it is the whole cluster.
    #[default]
    Whole,
    /// Of these resources alone, as `("v1", "configmaps")`; of others it may have some.
    Resources(BTreeSet<(String, String)>),
}

impl Inventory {
    /// The objects of a cluster, all of them as far as `extent` says. Of two that are called the same the first counts.
    pub fn new(objects: Vec<Value>, extent: Extent) -> Self {
        let mut resources: HashMap<String, HashMap<String, Places>> = HashMap::new();
        for (place, object) in objects.iter().enumerate() {
            let of_version = resources.entry(text(object, "/apiVersion").to_owned()).or_default();
            let places = of_version.entry(plural(text(object, "/kind"))).or_default();
            places.all.push(place);
            places.by_namespace.entry(text(object, "/metadata/namespace").to_owned()).or_default().push(place);
            places.by_name.entry(text(object, "/metadata/name").to_owned()).or_default().push(place);
        }
        Self { objects, resources, images: BTreeMap::new(), extent, missed: Mutex::default() }
    }

    /// Adds metadata by image reference, as in Kyverno's context files: `config`, `manifest`, `registry`, …
    #[must_use]
    pub fn with_images(self, images: BTreeMap<String, Value>) -> Self {
        Self { images, ..self }
    }

    /// The object of a resource such as `configmaps`; where `namespace` is empty, of any.
    ///
    /// # Errors
    /// It is not there, or nobody can say.
    pub fn get(&self, api_version: &str, resource: &str, namespace: &str, name: &str) -> Result<&Value, NotAnswered> {
        let places = self.places(api_version, resource).and_then(|places| places.by_name.get(name));
        let mut called_so = places.into_iter().flatten().map(|place| &self.objects[*place]);
        let is_meant = |object: &&Value| namespace.is_empty() || text(object, "/metadata/namespace") == namespace;
        match called_so.find(is_meant) {
            Some(object) => Ok(object),
            None => self.check_extent(api_version, resource).and(Err(NotAnswered::NotThere)),
        }
    }

    /// All objects of a resource, of one namespace or, where it is empty, of all.
    ///
    /// # Errors
    /// Nobody can say whether there are more.
    pub fn list(&self, api_version: &str, resource: &str, namespace: &str) -> Result<Vec<&Value>, NotAnswered> {
        self.check_extent(api_version, resource)?;
        let places = self.places(api_version, resource).and_then(|places| match namespace {
            "" => Some(&places.all),
            namespace => places.by_namespace.get(namespace),
        });
        Ok(places.into_iter().flatten().map(|place| &self.objects[*place]).collect())
    }

    /// Resources that rules asked for and nobody could say, as `("v1", "configmaps")`: what to know the next time.
    pub fn missed(&self) -> BTreeSet<(String, String)> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn places(&self, api_version: &str, resource: &str) -> Option<&Places> {
        self.resources.get(api_version)?.get(resource)
    }

    fn check_extent(&self, api_version: &str, resource: &str) -> Result<(), NotAnswered> {
        match &self.extent {
            Extent::Whole => Ok(()),
            Extent::Resources(known) if known.contains(&(api_version.to_owned(), resource.to_owned())) => Ok(()),
            Extent::Resources(_) => {
                let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
                if missed.len() < MAX_MISSED {
                    missed.insert((api_version.to_owned(), resource.to_owned()));
                }
                let reason = format!("it asks the cluster for {resource} of {api_version}, which are not known here");
                Err(NotAnswered::Unknown(reason))
            }
        }
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
            Some(name) => self.get(&api_version, resource, namespace, name).cloned(),
            None => {
                let items = self.list(&api_version, resource, namespace)?;
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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnswered {
    /// The object is not there.
    #[error("it is not there")]
    NotThere,
    /// The inventory cannot answer that, and why.
    #[error("{0}")]
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
        let inventory = Inventory::new(vec![object.clone()], Extent::Whole);
        assert_eq!(inventory.get("v1", "configmaps", "b", "a"), Ok(&object));
        assert_eq!(inventory.get("v1", "configmaps", "", "a"), Ok(&object));
        assert_eq!(inventory.get("v1", "configmaps", "c", "a"), Err(NotAnswered::NotThere));
        assert_eq!(inventory.list("v1", "configmaps", ""), Ok(vec![&object]));
        assert_eq!(inventory.list("v1", "configmaps", "c"), Ok(vec![]));
        assert_eq!(inventory.list("apps/v1", "configmaps", ""), Ok(vec![]));
    }

    #[test]
    fn what_is_not_there_is_said_only_of_what_is_known_whole() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}});
        let known = BTreeSet::from([("v1".to_owned(), "services".to_owned())]);
        let inventory = Inventory::new(vec![object.clone()], Extent::Resources(known));
        assert_eq!(inventory.get("v1", "configmaps", "b", "a"), Ok(&object));
        assert!(matches!(inventory.get("v1", "configmaps", "b", "c"), Err(NotAnswered::Unknown(_))));
        assert!(matches!(inventory.at("/api/v1/configmaps"), Err(NotAnswered::Unknown(_))));
        assert_eq!(inventory.get("v1", "services", "b", "c"), Err(NotAnswered::NotThere));
        assert_eq!(inventory.list("v1", "services", ""), Ok(vec![]));
        assert_eq!(inventory.missed(), BTreeSet::from([("v1".to_owned(), "configmaps".to_owned())]));
    }

    #[test]
    fn paths_lead_to_objects_and_lists_of_them() {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "b"}});
        let policy =
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "n", "namespace": "b"}});
        let objects = vec![map.clone(), namespace.clone(), policy];
        let inventory = Inventory::new(objects, Extent::Whole);
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
