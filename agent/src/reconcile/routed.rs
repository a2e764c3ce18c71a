//! Routes within a pass: what they are judged by, and what may be written of them now.

use super::{Reconciler, desired::Wanted};
use crate::{
    cluster::ClusterError,
    domain::{
        object::ObjectRef,
        order::Stage,
        routes::{Admission, World, admit, admit_rule, destinations, is_route},
    },
};
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc};

impl Reconciler {
    /// What routes are judged by, and the namespaces it was read from.
    pub(super) async fn world(&self, wanted: &[Wanted]) -> Result<(World, BTreeSet<String>), ClusterError> {
        let mut namespaces: BTreeSet<String> =
            wanted.iter().filter(|wanted| wanted.stage >= Stage::Subset).map(|wanted| wanted.object.namespace.clone()).collect();
        namespaces.extend(wanted.iter().flat_map(|wanted| destinations(&wanted.manifest)).map(|to| to.namespace));
        let istio = wanted
            .iter()
            .find(|wanted| wanted.object.group == "networking.istio.io")
            .map_or_else(|| "networking.istio.io/v1".to_owned(), |wanted| format!("networking.istio.io/{}", wanted.version));
        let mut world = World::default();
        for namespace in &namespaces {
            world.services.extend(self.cluster.list("v1", "Service", namespace, "").await?);
            world.deployments.extend(self.cluster.list("apps/v1", "Deployment", namespace, "").await?);
            world.pods.extend(self.cluster.list("v1", "Pod", namespace, "").await?);
            world.rules.extend(self.cluster.list(&istio, "DestinationRule", namespace, "").await?);
            world.routes.extend(self.cluster.list(&istio, "VirtualService", namespace, "").await?);
        }
        Ok((world, namespaces))
    }
}

/// Puts into `wanted` what may be written now; whether anything may.
pub(super) fn admitted(wanted: &mut Wanted, live: Option<&Value>, world: &World, waits: &mut Vec<String>) -> bool {
    if wanted.stage == Stage::Subset {
        let (manifest, withheld) = admit_rule(&wanted.manifest, live, world);
        waits.extend(withheld);
        wanted.replace_manifest(manifest);
        return true;
    }
    if !is_route(&wanted.manifest) {
        return true;
    }
    match admit(&wanted.manifest, live, world) {
        Admission::Write { manifest, withheld } => {
            waits.extend(withheld);
            wanted.replace_manifest(manifest);
            true
        }
        Admission::Wait { withheld } => {
            waits.extend(withheld);
            false
        }
    }
}

/// What was just written is what the next decisions of the pass go by.
pub(super) fn note_written(world: &mut World, live: &Arc<Value>) {
    let object = ObjectRef::of(live);
    for known in [&mut world.rules, &mut world.routes] {
        known.retain(|known| ObjectRef::of(known) != object);
    }
    let list = if is_route(live) { &mut world.routes } else { &mut world.rules };
    list.push(Value::clone(live));
}
