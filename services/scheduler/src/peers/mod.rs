//! What the scheduler asks of others, as few calls as it needs; the tests answer them themselves.

pub mod policy;
pub mod registry;

use std::collections::BTreeMap;

use async_trait::async_trait;
use muster_kit::Result;

use crate::domain::desired::Item;
use crate::store::desired::change::Pending;

/// The policy service.
#[async_trait]
pub trait Policy: Send + Sync + 'static {
    /// As many verdicts as there are questions, in the same order; each for itself, so that a manifest that can't be judged
    /// fails no other.
    async fn evaluate(&self, questions: Vec<Question>) -> Vec<Result<Verdict>>;
}

/// What the policies of some clusters say of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The manifest, as JSON.
    pub manifest: String,
    /// The clusters; none: all that any binding reaches.
    pub clusters: Vec<String>,
    /// Where the manifest names no namespace.
    pub namespace: String,
}

/// A verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Revision of all policies it was taken from.
    pub revision: String,
    /// Whether nothing enforced is broken.
    pub allowed: bool,
    /// What is broken.
    pub violations: Vec<Violation>,
}

/// A manifest that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The policy's identifier.
    pub policy: String,
    /// The rule.
    pub rule: String,
    /// What breaks it.
    pub subject: String,
    /// Where in it.
    pub path: String,
    /// The rule's words.
    pub message: String,
    /// Whether it refuses.
    pub enforced: bool,
}

impl Verdict {
    /// One sentence that names the first rule that refuses.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut enforced = self.violations.iter().filter(|violation| violation.enforced);
        let Some(first) = enforced.next() else { return "refused by policy".to_owned() };
        let more = match enforced.count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        format!("policy {} rule {} at {}: {}{more}", first.policy, first.rule, first.path, first.message)
    }
}

/// The registry, as far as desired state is written to it.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Stores bundles, (digest, content), and tells clusters of changes that name them; an answer to each change, in their order.
    async fn apply(&self, leader_epoch: u64, bundles: Vec<(String, Vec<u8>)>, changes: &[Pending]) -> Result<Vec<Answer>>;

    /// What one cluster was told of ours, as the registry remembers it.
    async fn told(&self, cluster: &str) -> Result<Told>;
}

/// What the registry remembers of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Of our last change.
    pub generation: i64,
    /// What it holds, each with the generation in which it last changed.
    pub items: BTreeMap<String, (i64, Item)>,
    /// What was removed from it, each with the generation that did.
    pub removed: BTreeMap<String, i64>,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is in the registry, now or since before; with the registry's incarnation.
    Applied(u64),
    /// The registry knows another last change of ours.
    Stale,
    /// No such cluster, or it has left.
    UnknownCluster,
}
