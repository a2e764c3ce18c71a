//! From the manifests of a bundle to objects that can be written: namespaces settled, owners noted, in order.

use super::Reconciler;
use crate::{
    cluster::{ClusterError, KindInfo, Write},
    domain::{
        fields::manifest_hash,
        item::ItemKey,
        manifest::{leave_replicas_to_autoscalers, prepared},
        object::{ObjectRef, group_version, text},
        order::{Stage, stage},
    },
};
use muster_core::labels::{ITEM, OWNER};
use serde_json::{Value, json};
use std::sync::PoisonError;

/// An object of a bundle, ready to be written.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub object: ObjectRef,
    pub version: String,
    pub stage: Stage,
    pub manifest: Value,
    pub hash: String,
    /// `None` while the cluster does not serve the kind; the bundle's own definition may bring it.
    pub info: Option<KindInfo>,
}

impl Wanted {
    pub fn replace_manifest(&mut self, manifest: Value) {
        self.hash = manifest_hash(&manifest);
        self.manifest = manifest;
    }
}

impl Reconciler {
    /// The objects of a bundle in the order they are written.
    pub(super) async fn wanted(&self, key: &ItemKey, manifests: &[Value]) -> Result<Vec<Wanted>, ClusterError> {
        let mut all = Vec::with_capacity(manifests.len());
        for manifest in manifests {
            all.push(self.wanted_one(key, manifest, manifests).await?);
        }
        let mut bodies: Vec<Value> = all.iter().map(|wanted: &Wanted| wanted.manifest.clone()).collect();
        leave_replicas_to_autoscalers(&mut bodies);
        for (wanted, body) in all.iter_mut().zip(bodies) {
            wanted.replace_manifest(body);
        }
        all.sort_by_key(|wanted| wanted.stage);
        Ok(all)
    }

    async fn wanted_one(&self, key: &ItemKey, manifest: &Value, bundle: &[Value]) -> Result<Wanted, ClusterError> {
        let api_version = text(manifest, "/apiVersion");
        let kind = text(manifest, "/kind");
        let (group, version) = group_version(api_version);
        let info = match self.cluster.kind(api_version, kind).await {
            Ok(info) => Some(info),
            Err(ClusterError::NoSuchKind { .. }) if defines(bundle, group, kind).is_some() => None,
            Err(error) => return Err(error),
        };
        let namespaced = match &info {
            Some(info) => info.namespaced,
            None => defines(bundle, group, kind).is_some_and(|scope| scope == "Namespaced"),
        };
        let namespace = match (namespaced, text(manifest, "/metadata/namespace")) {
            (false, _) => "",
            (true, "") => "default",
            (true, namespace) => namespace,
        };
        let manifest = prepared(manifest, key, namespace);
        let object = ObjectRef::of(&manifest);
        Ok(Wanted { stage: stage(&object), version: version.to_owned(), hash: manifest_hash(&manifest), object, manifest, info })
    }

    /// Makes the namespace of an object where nobody has: owner `fleet`, never removed.
    pub(super) async fn ensure_namespace(&self, name: &str) -> Result<(), ClusterError> {
        if name.is_empty() || self.knows_namespace(name) {
            return Ok(());
        }
        if !self.namespace_exists(name).await? {
            let manifest = json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "labels": {OWNER: "fleet"}, "annotations": {ITEM: format!("fleet/namespaces/{name}")}},
            });
            self.cluster.apply(&manifest, Write { manager: "muster-fleet", force: false, dry_run: false }).await?;
            tracing::info!(namespace = name, "made a namespace that a bundle names");
        }
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        Ok(())
    }

    fn knows_namespace(&self, name: &str) -> bool {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    /// A namespace that went away is looked for again.
    pub(super) fn forget_namespace(&self, name: &str) {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    pub(super) async fn namespace_exists(&self, name: &str) -> Result<bool, ClusterError> {
        if name.is_empty() || self.knows_namespace(name) {
            return Ok(true);
        }
        let object =
            ObjectRef { group: String::new(), kind: "Namespace".into(), namespace: String::new(), name: name.to_owned() };
        Ok(self.cluster.get("v1", &object).await?.is_some())
    }
}

/// The scope of a kind that the bundle itself defines.
fn defines<'a>(bundle: &'a [Value], group: &str, kind: &str) -> Option<&'a str> {
    bundle
        .iter()
        .filter(|manifest| text(manifest, "/kind") == "CustomResourceDefinition")
        .find(|definition| text(definition, "/spec/group") == group && text(definition, "/spec/names/kind") == kind)
        .map(|definition| text(definition, "/spec/scope"))
}
