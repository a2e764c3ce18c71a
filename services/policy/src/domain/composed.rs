//! What clusters are given, composed once for all of them that are in the same fleets, on the same side of every ramp, and serve
//! the same kinds.

use super::{
    Catalog, Served,
    distribution::{ClusterContent, Held},
    plan::Reached,
};
use muster_core::bundle::{self, BundleError, Digest};
use muster_policy_evaluator::FailureAction;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// Contents that are known at a time. A fleet of many kinds of clusters in many stages of ramps has some dozens.
const MAX_CONTENTS: usize = 64;

/// A bundle with its name, or why there can't be one.
type Packed = Result<(Digest, Vec<u8>), BundleError>;

/// What a cluster is given, with what is worked out of it.
#[derive(Debug)]
pub struct Composed {
    /// What it is given.
    pub content: ClusterContent,
    /// Equal for what needs no sending.
    pub digest: String,
    bundle: OnceLock<Option<Packed>>,
}

impl From<ClusterContent> for Composed {
    fn from(content: ClusterContent) -> Self {
        Self { digest: content.digest(), content, bundle: OnceLock::new() }
    }
}

impl Composed {
    /// The bundle it is sent in, packed when it is first asked for; `None` where there is nothing to hold.
    pub fn bundle(&self) -> Option<&Packed> {
        let pack = || (!self.content.manifests.is_empty()).then(|| bundle::encode(&self.content.manifests));
        self.bundle.get_or_init(pack).as_ref()
    }
}

/// The contents composed so far of one catalog. A copy begins without any.
#[derive(Debug, Default)]
pub struct Contents(Mutex<HashMap<(Reached, Served), Arc<Composed>>>);

impl Clone for Contents {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Catalog {
    /// What a cluster should hold that serves these kinds.
    pub fn for_cluster(&self, cluster: &str, served: &Served) -> Arc<Composed> {
        let key = (self.reached(&[cluster.to_owned()]), served.clone());
        // Nothing is left half done where a holder panics: a content is put in whole.
        let mut contents = self.contents.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(composed) = contents.get(&key) {
            return Arc::clone(composed);
        }
        let composed = Arc::new(Composed::from(self.compose(&key.0, served)));
        if contents.len() >= MAX_CONTENTS {
            contents.clear();
        }
        contents.insert(key, Arc::clone(&composed));
        composed
    }

    fn compose(&self, reached: &Reached, served: &Served) -> ClusterContent {
        let held = self.bindings.iter().enumerate().filter(|(position, binding)| reached.has(*position, binding));
        let held = held.map(|(_, binding)| Held {
            document: Arc::clone(&binding.document),
            enforce: binding.action.map(|action| action == FailureAction::Enforce),
            namespaces: binding.namespaces.clone(),
        });
        let exceptions = reached.fleets.iter().flat_map(|fleet| self.excusing(fleet)).map(|of| Arc::clone(&of.document));
        ClusterContent::of(held.collect(), exceptions.collect(), served)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Binding, Members, PolicyDocument};
    use serde_json::json;
    use std::collections::BTreeSet;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn binding(policy: &str, fleet: &str, members: Members) -> Binding {
        let document = json!({
            "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": policy},
            "spec": {"rules": [{
                "name": "r", "match": {"any": [{"resources": {"kinds": ["Service"]}}]},
                "validate": {"pattern": {"metadata": {"labels": {"owner": "?*"}}}},
            }]},
        });
        Binding {
            fleet_policy: "b".to_owned(),
            fleet: fleet.to_owned(),
            members,
            document: Arc::new(PolicyDocument::parse(&document).expect("a policy")),
            action: None,
            namespaces: vec![],
            allow_not_evaluated: false,
        }
    }

    #[test]
    fn clusters_alike_share_one_content_and_others_have_their_own() {
        let mut catalog = Catalog {
            fleets: [("edge".to_owned(), names(&["a", "b", "c", "d"])), ("train".to_owned(), names(&["d"]))].into(),
            bindings: vec![binding("everywhere", "edge", Members::All), binding("training", "train", Members::All)],
            ..Catalog::default()
        };
        let turned = names(&["c"]);
        catalog.ramp("r", vec![binding("ramped", "edge", Members::All)], "", turned.clone());
        catalog.bindings.push(binding("turned", "edge", Members::Only(Arc::new(turned))));
        let kyverno: Served = [("clusterpolicies.kyverno.io".to_owned(), vec!["v1".to_owned()])].into_iter().collect();
        let of = |cluster: &str, served: &Served| catalog.for_cluster(cluster, served);
        let policies = |cluster: &str| of(cluster, &kyverno).content.policies();
        assert!(Arc::ptr_eq(&of("a", &kyverno), &of("b", &kyverno)));
        assert!(!Arc::ptr_eq(&of("a", &kyverno), &of("a", &Served::default())), "what they serve decides the form");
        assert_eq!(policies("a"), ["everywhere", "ramped"]);
        assert_eq!(policies("c"), ["everywhere", "ramped", "turned"]);
        assert_eq!(policies("d"), ["everywhere", "ramped", "training"]);
        assert_eq!(policies("nobody"), [""; 0]);
        assert!(of("nobody", &kyverno).bundle().is_none());
        let composed = of("a", &kyverno);
        let Some(Ok((digest, packed))) = composed.bundle() else { panic!("it is small, and something to hold") };
        assert_eq!(bundle::decode(digest, packed).expect("a bundle"), composed.content.manifests);
    }
}
