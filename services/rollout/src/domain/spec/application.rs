//! Applications: which folder of which repository goes to which clusters, and how its releases roll.

use super::document::{self, Reference};
use super::git::RawGitRepository;
use super::rollout::RawRollout;
use super::{GitRepositorySpec, RolloutSpec, SpecError};
use muster_core::{LabelSelector, Manifest};
use serde::Deserialize;
use serde_json::Value;

/// Targets of one application, at most; a target may be a whole fleet.
const MAX_TARGETS: usize = 1_000;

/// An application document: its name and what it says.
#[derive(Debug, Clone, PartialEq)]
pub struct ApplicationDocument {
    /// `metadata.namespace`; empty where the document has none.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// Its specification.
    pub spec: ApplicationSpec,
}

/// What an application is.
#[derive(Debug, Clone, PartialEq)]
pub struct ApplicationSpec {
    /// Where its manifests come from.
    pub source: Source,
    /// The fleet that `targets` without a selection of their own mean.
    pub fleet: Option<String>,
    /// Never empty.
    pub targets: Vec<TargetSpec>,
    /// Whether a new commit is released without a person's word.
    pub automated: bool,
    /// Whether objects that git no longer holds are removed.
    pub prune: bool,
    /// Whether edits by hand are undone.
    pub self_heal: bool,
    /// How releases roll.
    pub rollout: RolloutSpec,
}

/// Where an application's manifests come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A GitRepository of its own.
    Repository {
        /// Its namespace, where the reference names one.
        namespace: Option<String>,
        /// Its name.
        name: String,
    },
    /// Written into the application itself (`apps.kurator.dev`).
    Inline(GitRepositorySpec),
}

/// A folder of the repository and the clusters that get it.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetSpec {
    /// Which clusters.
    pub selection: Selection,
    /// The folder (or file) relative to the repository's root; empty is the root.
    pub path: String,
}

/// Which clusters a target means.
#[derive(Debug, Clone, PartialEq)]
pub enum Selection {
    /// One cluster, enrolled or not yet.
    Cluster(String),
    /// Every member of a fleet.
    Fleet(String),
    /// The clusters with these labels, within a fleet where one is named.
    Labels {
        /// The fleet they must be in.
        fleet: Option<String>,
        /// The labels they must have.
        selector: LabelSelector,
    },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawApplication {
    fleet_ref: Option<Reference>,
    git_repository_ref: Reference,
    targets: Vec<RawTarget>,
    sync_policy: Option<RawSyncPolicy>,
    rollout: Option<RawRollout>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawTarget {
    cluster: Option<String>,
    fleet: Option<String>,
    selector: Option<LabelSelector>,
    path: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawSyncPolicy {
    automated: Option<RawAutomated>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawAutomated {
    #[serde(default)]
    prune: bool,
    #[serde(default)]
    self_heal: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawKuratorApplication {
    source: RawKuratorSource,
    destination: Option<RawDestination>,
    sync_policies: Vec<RawKuratorSync>,
    rollout: Option<RawRollout>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawKuratorSource {
    git_repository: Option<RawGitRepository>,
    git_repository_ref: Option<Reference>,
    helm_repository: Option<Value>,
    oci_repository: Option<Value>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawDestination {
    fleet: String,
    cluster_selector: Option<LabelSelector>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawKuratorSync {
    #[serde(default, rename = "name")]
    _name: Option<String>,
    destination: Option<RawDestination>,
    kustomization: Option<RawKustomization>,
    helm: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawKustomization {
    #[serde(default)]
    path: String,
    #[serde(default)]
    prune: bool,
    /// Flux's own clocks; Muster's are the repository's interval and the rollout's deadline.
    #[serde(default, rename = "interval")]
    _interval: Option<String>,
    #[serde(default, rename = "retryInterval")]
    _retry_interval: Option<String>,
    #[serde(default, rename = "timeout")]
    _timeout: Option<String>,
}

/// Reads an application document of any of the three shapes.
pub fn parse_application(manifest: &Manifest) -> Result<ApplicationDocument, SpecError> {
    let (metadata, spec) = match (manifest.group(), manifest.kind()) {
        ("fleet.kurator.dev", "FleetApplication") | ("muster.dev", "Application") => {
            let document = document::read::<RawApplication>(manifest)?;
            (document.metadata, document.spec.check()?)
        }
        ("apps.kurator.dev", "Application") => {
            let document = document::read::<RawKuratorApplication>(manifest)?;
            (document.metadata, document.spec.check()?)
        }
        (group, kind) => return Err(SpecError::new("kind", format!("{group}/{kind} is not an application"))),
    };
    Ok(ApplicationDocument { namespace: metadata.namespace, name: metadata.name, spec })
}

impl RawApplication {
    fn check(self) -> Result<ApplicationSpec, SpecError> {
        let fleet = reference("spec.fleetRef", self.fleet_ref.as_ref(), "Fleet")?.map(|(_, name)| name);
        let source = reference("spec.gitRepositoryRef", Some(&self.git_repository_ref), "GitRepository")?
            .map(|(namespace, name)| Source::Repository { namespace, name })
            .expect("a reference that is there has a name");
        count("spec.targets", self.targets.len())?;
        let mut targets: Vec<TargetSpec> = Vec::new();
        for (index, raw) in self.targets.into_iter().enumerate() {
            let at = format!("spec.targets[{index}]");
            let target = raw.check(&at, fleet.as_deref())?;
            if targets.iter().any(|other| other.selection == target.selection) {
                return Err(SpecError::new(at, "selects the same clusters as a target before it"));
            }
            targets.push(target);
        }
        let (automated, prune, self_heal) = match self.sync_policy {
            None => (true, false, true),
            Some(RawSyncPolicy { automated: None }) => (false, false, false),
            Some(RawSyncPolicy { automated: Some(RawAutomated { prune, self_heal }) }) => (true, prune, self_heal),
        };
        let rollout = self.rollout.unwrap_or_default().check()?;
        Ok(ApplicationSpec { source, fleet, targets, automated, prune, self_heal, rollout })
    }
}

impl RawTarget {
    fn check(self, at: &str, fleet: Option<&str>) -> Result<TargetSpec, SpecError> {
        let path = document::repository_path(&format!("{at}.path"), &self.path)?;
        let selection = match (self.cluster, self.fleet, self.selector) {
            (Some(cluster), None, None) => {
                document::check_name(&format!("{at}.cluster"), &cluster)?;
                Selection::Cluster(cluster)
            }
            (None, Some(fleet), None) => {
                document::check_name(&format!("{at}.fleet"), &fleet)?;
                Selection::Fleet(fleet)
            }
            (None, own, Some(selector)) => labels(at, own.or_else(|| fleet.map(str::to_owned)), selector)?,
            (None, None, None) => match fleet {
                Some(fleet) => Selection::Fleet(fleet.to_owned()),
                None => {
                    return Err(SpecError::new(at, "must have cluster, fleet or selector, as spec.fleetRef is absent"));
                }
            },
            (Some(_), _, _) => return Err(SpecError::new(at, "may have only one of cluster, fleet and selector")),
        };
        Ok(TargetSpec { selection, path })
    }
}

impl RawKuratorApplication {
    fn check(self) -> Result<ApplicationSpec, SpecError> {
        let at = "spec.source";
        for (name, field) in [("helmRepository", &self.source.helm_repository), ("ociRepository", &self.source.oci_repository)] {
            if field.is_some() {
                return Err(SpecError::new(format!("{at}.{name}"), "is not supported; use gitRepository"));
            }
        }
        let source = match (self.source.git_repository, self.source.git_repository_ref) {
            (Some(raw), None) => Source::Inline(raw.check(&format!("{at}.gitRepository"))?),
            (None, Some(raw)) => reference(&format!("{at}.gitRepositoryRef"), Some(&raw), "GitRepository")?
                .map(|(namespace, name)| Source::Repository { namespace, name })
                .expect("a reference that is there has a name"),
            (None, None) => return Err(SpecError::new(at, "must have gitRepository or gitRepositoryRef")),
            (Some(_), Some(_)) => {
                return Err(SpecError::new(at, "may have only one of gitRepository and gitRepositoryRef"));
            }
        };
        count("spec.syncPolicies", self.sync_policies.len())?;
        let mut targets = Vec::new();
        let mut prune = false;
        for (index, raw) in self.sync_policies.into_iter().enumerate() {
            let at = format!("spec.syncPolicies[{index}]");
            if raw.helm.is_some() {
                return Err(SpecError::new(format!("{at}.helm"), "is not supported; use kustomization"));
            }
            let Some(kustomization) = raw.kustomization else {
                return Err(SpecError::new(format!("{at}.kustomization"), "is missing"));
            };
            let Some(destination) = raw.destination.or_else(|| self.destination.clone()) else {
                return Err(SpecError::new(format!("{at}.destination"), "is missing, and so is spec.destination"));
            };
            document::check_name(&format!("{at}.destination.fleet"), &destination.fleet)?;
            let selection = match destination.cluster_selector {
                Some(selector) => labels(&format!("{at}.destination"), Some(destination.fleet), selector)?,
                None => Selection::Fleet(destination.fleet),
            };
            prune |= kustomization.prune;
            let path = document::repository_path(&format!("{at}.kustomization.path"), &kustomization.path)?;
            targets.push(TargetSpec { selection, path });
        }
        Ok(ApplicationSpec {
            source,
            fleet: self.destination.map(|destination| destination.fleet),
            targets,
            automated: true,
            prune,
            self_heal: true,
            rollout: self.rollout.unwrap_or_default().check()?,
        })
    }
}

fn labels(at: &str, fleet: Option<String>, selector: LabelSelector) -> Result<Selection, SpecError> {
    selector.validate().map_err(|error| SpecError::new(format!("{at}.selector"), error.to_string()))?;
    Ok(Selection::Labels { fleet, selector })
}

fn count(field: &str, targets: usize) -> Result<(), SpecError> {
    match targets {
        0 => Err(SpecError::new(field, "must not be empty")),
        1..=MAX_TARGETS => Ok(()),
        _ => Err(SpecError::new(field, format!("has more than {MAX_TARGETS} entries"))),
    }
}

fn reference(at: &str, reference: Option<&Reference>, kind: &str) -> Result<Option<(Option<String>, String)>, SpecError> {
    let Some(reference) = reference else { return Ok(None) };
    document::check_name(&format!("{at}.name"), &reference.name)?;
    if let Some(namespace) = &reference.namespace {
        document::check_name(&format!("{at}.namespace"), namespace)?;
    }
    match &reference.kind {
        Some(other) if other != kind => Err(SpecError::new(format!("{at}.kind"), format!("must be {kind}"))),
        _ => Ok(Some((reference.namespace.clone(), reference.name.clone()))),
    }
}
