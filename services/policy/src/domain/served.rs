//! What a cluster can enforce policies by: kinds and versions, as its API server serves them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Kubernetes' own kinds; a policy of theirs does nothing without a binding.
const ADMISSION_KINDS: [&str; 2] = [
    "validatingadmissionpolicies.admissionregistration.k8s.io",
    "validatingadmissionpolicybindings.admissionregistration.k8s.io",
];
/// The version that translations are written in: stable since Kubernetes 1.30.
const ADMISSION_VERSION: &str = "v1";

/// Kinds as in `clusterpolicies.kyverno.io` with the versions served, the preferred one first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Served(BTreeMap<String, Vec<String>>);

impl FromIterator<(String, Vec<String>)> for Served {
    fn from_iter<T: IntoIterator<Item = (String, Vec<String>)>>(kinds: T) -> Self {
        Self(kinds.into_iter().filter(|(_, versions)| !versions.is_empty()).collect())
    }
}

impl Served {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The `apiVersion` in which the cluster takes a document of Kyverno's: its own where that is served, else the preferred
    /// one of its group. `None` where the cluster does not know the kind.
    pub fn api_version_of(&self, document: &Value) -> Option<String> {
        let (group, version) = document["apiVersion"].as_str()?.split_once('/')?;
        let kind = document["kind"].as_str()?.to_lowercase();
        // They end in Policy or Exception.
        let plural = kind.strip_suffix('y').map_or_else(|| format!("{kind}s"), |stem| format!("{stem}ies"));
        let versions = self.0.get(&format!("{plural}.{group}"))?;
        let version = versions.iter().find(|served| *served == version).or(versions.first())?;
        Some(format!("{group}/{version}"))
    }

    /// Whether the API server enforces policies by itself.
    pub fn has_admission_policies(&self) -> bool {
        let is_served = |kind: &&str| self.0.get(*kind).is_some_and(|versions| versions.iter().any(|v| v == ADMISSION_VERSION));
        ADMISSION_KINDS.iter().all(is_served)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn served(kinds: &[(&str, &str)]) -> Served {
        let versions = |text: &str| text.split(' ').map(str::to_owned).collect();
        kinds.iter().map(|(kind, text)| ((*kind).to_owned(), versions(text))).collect()
    }

    #[test]
    fn a_document_goes_in_its_own_version_or_else_in_the_preferred_one() {
        let served =
            served(&[("clusterpolicies.kyverno.io", "v1 v2beta1"), ("validatingpolicies.policies.kyverno.io", "v1alpha1")]);
        let version = |api_version: &str, kind: &str| served.api_version_of(&json!({"apiVersion": api_version, "kind": kind}));
        assert_eq!(version("kyverno.io/v2beta1", "ClusterPolicy").as_deref(), Some("kyverno.io/v2beta1"));
        assert_eq!(version("kyverno.io/v2", "ClusterPolicy").as_deref(), Some("kyverno.io/v1"));
        let renamed = version("policies.kyverno.io/v1", "ValidatingPolicy");
        assert_eq!(renamed.as_deref(), Some("policies.kyverno.io/v1alpha1"));
        assert_eq!(version("policies.kyverno.io/v1", "MutatingPolicy"), None);
        assert_eq!(version("kyverno.io/v2", "PolicyException"), None);
    }

    #[test]
    fn admission_policies_need_their_bindings_in_the_stable_version() {
        let [policies, bindings] = ADMISSION_KINDS;
        assert!(served(&[(policies, "v1"), (bindings, "v1")]).has_admission_policies());
        assert!(!served(&[(policies, "v1beta1"), (bindings, "v1beta1")]).has_admission_policies());
        assert!(!served(&[(policies, "v1")]).has_admission_policies());
    }
}
