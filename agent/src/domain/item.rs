//! An item: what one owner wants in this cluster under one name, as the hub says it and as the ledger keeps it.

use super::{object::ObjectRef, observation::RunStatus};
use muster_core::{bundle::Digest, version::Version};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The four services that may own objects in a member cluster.
pub const OWNERS: [&str; 4] = ["scheduler", "rollout", "policy", "fleet"];

/// Which item: the owner and the name it gave.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ItemKey {
    /// One of [`OWNERS`].
    pub owner: String,
    /// Unique within the owner, at most 253 characters.
    pub name: String,
}

impl ItemKey {
    /// The key of an owner's item.
    pub fn new(owner: impl Into<String>, name: impl Into<String>) -> Self {
        Self { owner: owner.into(), name: name.into() }
    }

    /// The field manager under which the owner's objects are applied.
    pub fn manager(&self) -> String {
        format!("muster-{}", self.owner)
    }
}

impl fmt::Display for ItemKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// How an item is kept; everything but the bundle and the generation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Options {
    /// Drift is repaired at once; else it is only reported.
    pub self_heal: bool,
    /// Objects that left the bundle are removed.
    pub prune: bool,
    /// The bundle may be empty although there were objects before.
    pub allow_empty: bool,
    /// W3C trace context of what caused the change; empty if none.
    pub traceparent: String,
    /// Set where the bundle is a run of a job.
    pub run: Option<Run>,
    /// Set where the bundle holds policies.
    pub policy: Option<Policy>,
    /// Items of the same owner that must be Healthy before this one is applied.
    pub after: Vec<String>,
}

/// How a run is fenced.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Run {
    /// `namespaces/{namespace}/jobs/{job}/runs/{epoch}`.
    pub name: String,
    /// It is stopped when the cluster session's lease runs out.
    pub movable: bool,
}

/// How the policies of a bundle are used here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Policy {
    /// Manifests are applied to the cluster; Kyverno's are evaluated by the agent either way.
    pub install: bool,
    /// So many of the manifests, from the first, are evaluated and not applied.
    #[serde(default)]
    pub only_evaluated: u32,
    /// Where they hold.
    pub bindings: Vec<Binding>,
}

/// Where one policy holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Binding {
    /// The policy's name.
    pub policy: String,
    /// Namespaces; empty means all.
    pub namespaces: Vec<String>,
    /// True to refuse, false to report.
    pub enforce: bool,
}

/// What the hub wants of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Which item.
    pub key: ItemKey,
    /// The generation in which it last changed.
    pub generation: Version,
    /// Its bundle; `None` for a tombstone.
    pub bundle: Option<Digest>,
    /// How it is kept.
    pub options: Options,
}

/// One object that the agent put into the cluster, or is about to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Which object.
    pub object: ObjectRef,
    /// The API version it was written in, without the group.
    pub version: String,
    /// Its UID; empty while the write has not been answered.
    pub uid: String,
    /// The agent made it, so it may force its fields and remove it whole.
    pub created: bool,
    /// SHA-256 (hex) of the manifest last written; empty while the write has not been answered.
    pub manifest_hash: String,
    /// SHA-256 (hex) of the fields the agent owned after its last write.
    pub live_hash: String,
}

/// What the ledger holds of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The generation that is held.
    pub generation: Version,
    /// The bundle that is wanted, `sha256:…`; `None` for a tombstone.
    pub bundle: Option<String>,
    /// How it is kept.
    pub options: Options,
    /// What was put into the cluster for it, in the order it was written.
    pub applied: Vec<Applied>,
    /// The bundle that was last Healthy here.
    pub last_good: Option<String>,
    /// Times drift was healed since this generation was first applied.
    pub heal_count: u32,
    /// A run that was stopped because the session's lease ran out: it is not started again in this generation.
    pub stopped: bool,
    /// A tombstone whose objects are gone.
    pub deleted: bool,
    /// How a run ended: it is never started again in this generation, also where its object is gone.
    pub ended: Option<RunStatus>,
}

impl Record {
    /// What was applied for an object, if it was.
    pub fn applied_to(&self, object: &ObjectRef) -> Option<&Applied> {
        self.applied.iter().find(|applied| applied.object == *object)
    }
}
