//! A fleet's manifest: Kurator's `Fleet` as its users have it, and Muster's own with a selector and thresholds.

use muster_core::{LabelSelector, Manifest, ManifestError, duration, name, selector::Labels};
use serde::Deserialize;
use std::time::Duration;

/// What a fleet's manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetSpec {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`, empty if absent; fleets have none here, it only tells collisions.
    pub namespace: String,
    /// Members by list.
    pub clusters: Vec<String>,
    /// Members by label; none: only those of the list.
    pub selector: Option<LabelSelector>,
    /// Silence that means Suspect for its members.
    pub suspect_after: Option<Duration>,
    /// Silence that means Lost for its members.
    pub lost_after: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    metadata: Metadata,
    spec: Spec,
    // Users paste what their cluster prints.
    #[serde(rename = "status")]
    _status: Option<serde_json::Value>,
}

/// Metadata is the API machinery's and not strict.
#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    clusters: Vec<ClusterReference>,
    selector: Option<LabelSelector>,
    liveness: Option<Liveness>,
    // Kurator's plugins are not Muster's to run; the field is legal.
    #[serde(rename = "plugin")]
    _plugin: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterReference {
    name: String,
    #[serde(rename = "kind")]
    _kind: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Liveness {
    suspect_after: Option<String>,
    lost_after: Option<String>,
}

impl FleetSpec {
    /// Reads a manifest, strictly.
    pub fn read(manifest: &Manifest) -> Result<Self, ManifestError> {
        let fault = |message: String| ManifestError { line: manifest.line, column: 1, message };
        match (manifest.group(), manifest.kind()) {
            ("fleet.kurator.dev" | "muster.dev", "Fleet") => {}
            (group, kind) => {
                return Err(fault(format!("kind: {group} {kind} is not a Fleet of fleet.kurator.dev or muster.dev")));
            }
        }
        let document: Document = manifest.read()?;
        name::check_id(&document.metadata.name).map_err(|error| fault(format!("metadata.name: {error}")))?;
        let mut clusters = Vec::new();
        for (index, cluster) in document.spec.clusters.into_iter().enumerate() {
            name::check_id(&cluster.name).map_err(|error| fault(format!("spec.clusters[{index}].name: {error}")))?;
            if clusters.contains(&cluster.name) {
                return Err(fault(format!("spec.clusters[{index}].name: {} is there twice", cluster.name)));
            }
            clusters.push(cluster.name);
        }
        if let Some(selector) = &document.spec.selector {
            selector.validate().map_err(|error| fault(format!("spec.selector.{error}")))?;
        }
        let liveness = document.spec.liveness.unwrap_or(Liveness { suspect_after: None, lost_after: None });
        let read = |field: &str, text: Option<String>| {
            text.map(|text| duration::parse(&text).map_err(|error| fault(format!("spec.liveness.{field}: {error}")))).transpose()
        };
        Ok(Self {
            name: document.metadata.name,
            namespace: document.metadata.namespace,
            clusters,
            selector: document.spec.selector,
            suspect_after: read("suspectAfter", liveness.suspect_after)?,
            lost_after: read("lostAfter", liveness.lost_after)?,
        })
    }

    /// Whether a cluster is a member.
    pub fn has(&self, cluster: &str, labels: &Labels) -> bool {
        self.clusters.iter().any(|member| member == cluster)
            || self.selector.as_ref().is_some_and(|selector| selector.matches(labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::manifest::parse_one;

    #[test]
    fn a_fleet_of_its_users_is_read_as_it_is() {
        let text = "apiVersion: fleet.kurator.dev/v1alpha1\nkind: Fleet\nmetadata:\n  name: ai\n  namespace: kurator-system\nspec:\n  clusters:\n    - name: a\n    - name: b\n";
        let spec = FleetSpec::read(&parse_one(text).expect("yaml")).expect("a fleet");
        assert_eq!(
            (spec.clusters.as_slice(), spec.namespace.as_str()),
            (&["a".to_owned(), "b".to_owned()][..], "kurator-system")
        );
        assert!(spec.has("b", &Labels::new()));
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let text = "apiVersion: muster.dev/v1\nkind: Fleet\nmetadata:\n  name: ai\nspec:\n  cluster: []\n";
        let error = FleetSpec::read(&parse_one(text).expect("yaml")).expect_err("a typing error");
        assert!(error.message.contains("cluster"), "{error}");
        assert_eq!(error.line, 6);
    }
}
