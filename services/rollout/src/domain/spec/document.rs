//! The parts of a Kubernetes-shaped document around its `spec`, as strict as the rest.

use super::SpecError;
use muster_core::Manifest;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest time a specification may ask for: thirty days. A longer one is a slip of the unit.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// `metadata` as people write it, and as `kubectl get -o yaml` prints it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Metadata {
    pub name: String,
    #[serde(default)]
    pub namespace: String,
    #[serde(default, rename = "labels")]
    _labels: BTreeMap<String, String>,
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
    #[serde(default, rename = "uid")]
    _uid: Option<Value>,
    #[serde(default, rename = "resourceVersion")]
    _resource_version: Option<Value>,
    #[serde(default, rename = "generation")]
    _generation: Option<Value>,
    #[serde(default, rename = "creationTimestamp")]
    _creation_timestamp: Option<Value>,
    #[serde(default, rename = "finalizers")]
    _finalizers: Option<Value>,
    #[serde(default, rename = "managedFields")]
    _managed_fields: Option<Value>,
}

/// A whole document with a `spec` of type `S`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Document<S> {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    pub metadata: Metadata,
    pub spec: S,
    #[serde(default, rename = "status")]
    _status: Option<Value>,
}

/// `{name, namespace}` of another resource.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Reference {
    pub name: String,
    #[serde(default)]
    pub namespace: Option<String>,
    #[serde(default)]
    pub kind: Option<String>,
}

/// Reads a manifest whose `spec` is an `S`, giving errors their place in the whole input.
pub(super) fn read<S: serde::de::DeserializeOwned>(manifest: &Manifest) -> Result<Document<S>, SpecError> {
    let document: Document<S> = manifest.read()?;
    check_name("metadata.name", &document.metadata.name)?;
    if !document.metadata.namespace.is_empty() {
        check_name("metadata.namespace", &document.metadata.namespace)?;
    }
    Ok(document)
}

/// A name within the resource grammar, or an error that names the field.
pub(super) fn check_name(field: &str, name: &str) -> Result<(), SpecError> {
    muster_core::name::check_id(name).map_err(|error| SpecError::new(field, error.to_string()))
}

/// A duration as Go and Kubernetes write it (`90s`, `1h30m`), above zero unless `zero` says otherwise.
pub(super) fn duration(field: &str, text: &str, zero: Zero) -> Result<Duration, SpecError> {
    let duration = muster_core::duration::parse(text).map_err(|error| SpecError::new(field, error.to_string()))?;
    if duration > LONGEST {
        return Err(SpecError::new(field, format!("{text} is longer than 30 days")));
    }
    if duration.is_zero() && zero == Zero::Refused {
        return Err(SpecError::new(field, "must be longer than zero"));
    }
    Ok(duration)
}

/// Whether a duration of zero means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zero {
    /// "At once" is an answer.
    Allowed,
    /// It would be a busy loop or an instant failure.
    Refused,
}

/// A folder or file inside the repository: relative, without a way out of the tree. `./a/b/` becomes `a/b`.
pub(super) fn repository_path(field: &str, path: &str) -> Result<String, SpecError> {
    if path.len() > 1_024 {
        return Err(SpecError::new(field, "is longer than 1024 bytes"));
    }
    if path.starts_with('/') {
        return Err(SpecError::new(field, "must be relative to the repository's root"));
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(SpecError::new(field, "must not leave the repository with ..")),
            part if part.contains(['\0', '\n', '\\']) => {
                return Err(SpecError::new(field, "contains a character that a path may not have"));
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}
