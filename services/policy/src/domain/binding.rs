//! A `FleetPolicy` as people write it: which policies hold in a fleet, from where, and how strictly.
//!
//! The shape is strict: an unknown field is refused by name, with line and column.

use super::{
    DocumentError, PolicyDocument,
    ramp::{RampSpec, WrittenRamp},
};
use muster_core::{Manifest, name};
use muster_policy_evaluator::FailureAction;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// Policies of one binding, at most.
const MAX_POLICIES: usize = 200;
/// Namespaces of one entry, at most.
const MAX_NAMESPACES: usize = 200;

/// Where a bound policy's content comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// The policy of that name.
    Policy,
    /// The binding itself.
    Inline(Box<PolicyDocument>),
    /// A file of a git repository.
    Git {
        /// `namespaces/{namespace}/gitRepositories/{repository}`.
        repository: String,
        /// Path within it.
        path: String,
    },
}

/// One policy of a binding.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The policy's name.
    pub policy: String,
    /// Where its content comes from.
    pub source: Source,
    /// Overrides the policy's own action.
    pub action: Option<FailureAction>,
    /// Where it holds, wildcards allowed; empty: everywhere.
    pub namespaces: Vec<String>,
    /// Under *enforce*, lets pass what cannot be judged before dispatch.
    pub allow_not_evaluated: bool,
}

/// A binding, read and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct FleetPolicySpec {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`, empty where it names none.
    pub namespace: String,
    /// The fleet's identifier.
    pub fleet: String,
    /// What it binds.
    pub entries: Vec<Entry>,
    /// The waves in which it is enforced; `None`: everywhere at once.
    pub ramp: Option<RampSpec>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    api_version: String,
    kind: String,
    #[serde(rename = "metadata")]
    _metadata: Value,
    spec: Spec,
    #[serde(default, rename = "status")]
    _status: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Spec {
    fleet_ref: Reference,
    policies: Vec<WrittenEntry>,
    ramp: Option<WrittenRamp>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reference {
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WrittenEntry {
    name: String,
    source: Option<WrittenSource>,
    policy_ref: Option<Reference>,
    inline: Option<Value>,
    action: Option<String>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default)]
    allow_not_evaluated: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WrittenSource {
    git_repository_ref: Reference,
    path: String,
}

impl FleetPolicySpec {
    /// Reads a `policy.kurator.dev/v1alpha1` or `muster.dev/v1` `FleetPolicy`.
    pub fn parse(manifest: &Manifest) -> Result<Self, DocumentError> {
        let document: Document = manifest.read().map_err(|error| {
            DocumentError::new("", format!("line {}, column {}: {}", error.line, error.column, error.message))
        })?;
        if document.kind != "FleetPolicy" {
            return Err(DocumentError::new("kind", format!("{:?} is not FleetPolicy", document.kind)));
        }
        if !matches!(document.api_version.as_str(), "policy.kurator.dev/v1alpha1" | "muster.dev/v1") {
            let message = format!("{:?} is not policy.kurator.dev/v1alpha1 or muster.dev/v1", document.api_version);
            return Err(DocumentError::new("apiVersion", message));
        }
        let checked = |field: &str, id: &str| name::check_id(id).map_err(|error| DocumentError::new(field, error.to_string()));
        checked("metadata.name", manifest.name())?;
        if !manifest.namespace().is_empty() {
            checked("metadata.namespace", manifest.namespace())?;
        }
        checked("spec.fleetRef.name", &document.spec.fleet_ref.name)?;
        let written = document.spec.policies;
        if written.is_empty() || written.len() > MAX_POLICIES {
            return Err(DocumentError::new("spec.policies", format!("must hold 1 to {MAX_POLICIES} policies")));
        }
        let mut names = BTreeSet::new();
        let mut entries = Vec::with_capacity(written.len());
        for (index, entry) in written.into_iter().enumerate() {
            let field = format!("spec.policies[{index}]");
            if !names.insert(entry.name.clone()) {
                return Err(DocumentError::new(format!("{field}.name"), format!("{:?} is bound twice", entry.name)));
            }
            entries.push(entry.checked(&field, manifest.namespace())?);
        }
        Ok(Self {
            name: manifest.name().to_owned(),
            namespace: manifest.namespace().to_owned(),
            fleet: document.spec.fleet_ref.name,
            entries,
            ramp: document.spec.ramp.map(|ramp| ramp.checked("spec.ramp")).transpose()?,
        })
    }
}

impl WrittenEntry {
    fn checked(self, field: &str, namespace: &str) -> Result<Entry, DocumentError> {
        let at = |name: &str| format!("{field}.{name}");
        let id = |name: &str, id: &str| name::check_id(id).map_err(|error| DocumentError::new(at(name), error.to_string()));
        id("name", &self.name)?;
        let source = match (self.source, self.policy_ref, self.inline) {
            (None, None, None) => Source::Policy,
            (None, Some(reference), None) if reference.name == self.name => Source::Policy,
            (None, Some(_), None) => return Err(DocumentError::new(at("policyRef.name"), "must be the entry's own name")),
            (None, None, Some(inline)) => {
                let document = PolicyDocument::parse(&inline)
                    .map_err(|error| DocumentError::new(at(&format!("inline.{}", error.field)), error.message))?;
                if document.name() != self.name {
                    return Err(DocumentError::new(at("inline.metadata.name"), "must be the entry's own name"));
                }
                let narrowing = [
                    ("action", self.action.is_some()),
                    ("namespaces", !self.namespaces.is_empty()),
                    ("allowNotEvaluated", self.allow_not_evaluated),
                ];
                if let Some((name, _)) = narrowing.into_iter().find(|(_, is_said)| *is_said && document.exception().is_some()) {
                    return Err(DocumentError::new(at(name), "is for policies; what an exception is about stands in itself"));
                }
                Source::Inline(Box::new(document))
            }
            (Some(source), None, None) => {
                let reference = source.git_repository_ref;
                let namespace = [reference.namespace.as_str(), namespace, "default"].into_iter().find(|name| !name.is_empty());
                let namespace = namespace.unwrap_or_default();
                id("source.gitRepositoryRef.name", &reference.name)?;
                id("source.gitRepositoryRef.namespace", namespace)?;
                if source.path.is_empty() || source.path.len() > 1_024 {
                    return Err(DocumentError::new(at("source.path"), "must be 1 to 1024 characters"));
                }
                Source::Git {
                    repository: format!("namespaces/{namespace}/gitRepositories/{}", reference.name),
                    path: source.path,
                }
            }
            _ => return Err(DocumentError::new(field, "must have at most one of source, policyRef, inline")),
        };
        let action = match self.action.as_deref() {
            None => None,
            Some(text) => Some(
                FailureAction::parse(text)
                    .ok_or_else(|| DocumentError::new(at("action"), format!("{text:?} is not audit or enforce")))?,
            ),
        };
        let is_bad = |namespace: &String| namespace.is_empty() || namespace.len() > name::MAX_ID;
        if self.namespaces.len() > MAX_NAMESPACES || self.namespaces.iter().any(is_bad) {
            let message = format!("must hold at most {MAX_NAMESPACES} names of 1 to {} characters", name::MAX_ID);
            return Err(DocumentError::new(at("namespaces"), message));
        }
        Ok(Entry {
            policy: self.name,
            source,
            action,
            namespaces: self.namespaces,
            allow_not_evaluated: self.allow_not_evaluated,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<FleetPolicySpec, DocumentError> {
        FleetPolicySpec::parse(&muster_core::manifest::parse_one(text).expect("a manifest"))
    }

    fn binding(entry: &str) -> String {
        format!(
            "apiVersion: policy.kurator.dev/v1alpha1\nkind: FleetPolicy\nmetadata: {{name: base, namespace: ops}}\n\
             spec:\n  fleetRef: {{name: ai}}\n  policies:\n  - {entry}\n"
        )
    }

    #[test]
    fn a_policy_from_git_is_looked_for_in_the_bindings_namespace() {
        let spec = parse(&binding("{name: p, source: {gitRepositoryRef: {name: repo}, path: ./p.yaml}, action: Enforce}"));
        let entry = spec.expect("a binding").entries.remove(0);
        let repository = "namespaces/ops/gitRepositories/repo".to_owned();
        assert_eq!(entry.source, Source::Git { repository, path: "./p.yaml".to_owned() });
        assert_eq!(entry.action, Some(FailureAction::Enforce));
    }

    #[test]
    fn what_does_not_fit_is_refused_by_field() {
        for (entry, field) in [
            ("{name: P}", "spec.policies[0].name"),
            ("{name: p, action: warn}", "spec.policies[0].action"),
            ("{name: p, policyRef: {name: q}}", "spec.policies[0].policyRef.name"),
            ("{name: p, policyRef: {name: p}, inline: {}}", "spec.policies[0]"),
            ("{name: p, inline: {kind: X}}", "spec.policies[0].inline.apiVersion"),
            ("{name: p, namespaces: ['']}", "spec.policies[0].namespaces"),
            ("{name: p}\n  - {name: p}", "spec.policies[1].name"),
        ] {
            assert_eq!(parse(&binding(entry)).expect_err("refused").field, field, "{entry}");
        }
    }

    #[test]
    fn an_unknown_field_is_refused_by_name_and_line() {
        let error = parse(&binding("{name: p, actoin: audit}")).expect_err("refused");
        assert!(error.message.contains("actoin") && error.message.starts_with("line 7"), "{error}");
    }
}
