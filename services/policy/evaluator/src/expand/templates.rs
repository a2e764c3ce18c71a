//! Templates that stand in objects of their own and that a workload names: the runtimes of trainings and of model servers.

use crate::inventory::{Inventory, NotAnswered, plural, text};
use serde_json::Value;

/// Where templates are looked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Around<'a> {
    /// What is delivered together; it comes first.
    pub manifests: &'a [Value],
    /// The namespace of those that name none.
    pub default_namespace: &'a str,
    /// What is in the cluster.
    pub inventory: Option<&'a Inventory>,
}

impl<'a> Around<'a> {
    /// The object that is called so; `namespace` is empty for kinds without one.
    ///
    /// # Errors
    /// It is not there, or nobody can say: why.
    pub fn find(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Result<&'a Value, String> {
        let mut delivered = self.delivered(api_version, kind, namespace);
        if let Some(found) = delivered.find(|manifest| text(manifest, "/metadata/name") == name) {
            return Ok(found);
        }
        let why = |what: &str| format!("its Pods are made from the {kind} {name:?}, {what}");
        match self.inventory.map(|inventory| inventory.get(api_version, &plural(kind), namespace, name)) {
            Some(Ok(found)) => Ok(found),
            Some(Err(NotAnswered::NotThere)) => Err(why("which is not there")),
            Some(Err(NotAnswered::Unknown(_))) | None => Err(why("which is not known here")),
        }
    }

    /// All objects of a kind, those delivered first.
    ///
    /// # Errors
    /// Nobody can say whether there are more.
    pub fn all(&self, api_version: &str, kind: &str, namespace: &str) -> Result<Vec<&'a Value>, String> {
        let unknown = || format!("its Pods are made from a {kind} that fits, and which there are is not known here");
        let inventory = self.inventory.ok_or_else(unknown)?;
        let there = inventory.list(api_version, &plural(kind), namespace).map_err(|_| unknown())?;
        Ok(self.delivered(api_version, kind, namespace).chain(there).collect())
    }

    fn delivered(&self, api_version: &str, kind: &str, namespace: &str) -> impl Iterator<Item = &'a Value> {
        let default = if namespace.is_empty() { "" } else { self.default_namespace };
        let is_meant = move |manifest: &&Value| {
            let stands_in = match text(manifest, "/metadata/namespace") {
                "" => default,
                named => named,
            };
            text(manifest, "/apiVersion") == api_version && text(manifest, "/kind") == kind && stands_in == namespace
        };
        self.manifests.iter().filter(is_meant)
    }
}
