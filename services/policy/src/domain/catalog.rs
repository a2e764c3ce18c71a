//! Everything that decides a verdict, as of one revision: which policies hold in which fleets, and who is in them.

use super::{PolicyDocument, composed::Contents, plan::Plans};
use jiff::Timestamp;
use muster_core::{bundle, version::Version};
use muster_policy_evaluator::{FailureAction, PolicyException};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Which members of its fleet a binding is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Members {
    /// All of them.
    #[default]
    All,
    /// These.
    Only(Arc<BTreeSet<String>>),
    /// All but these.
    Except(Arc<BTreeSet<String>>),
}

impl Members {
    pub(super) fn has(&self, cluster: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(clusters) => clusters.contains(cluster),
            Self::Except(clusters) => !clusters.contains(cluster),
        }
    }
}

/// What a ramp takes from audit to enforce.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ramped {
    /// Digest of it: with another one the ramp begins anew.
    pub digest: String,
    /// The policies that it enforces in the end, in name order.
    pub enforced: Vec<String>,
}

/// A policy that holds in a fleet.
#[derive(Debug, Clone)]
pub struct Binding {
    /// The binding's identifier.
    pub fleet_policy: String,
    /// The fleet's identifier.
    pub fleet: String,
    /// Which of its members: while a binding is ramped it is two, one that enforces and one that audits.
    pub members: Members,
    /// The policy.
    pub document: Arc<PolicyDocument>,
    /// Overrides the policy's own action.
    pub action: Option<FailureAction>,
    /// Where it holds; empty: everywhere.
    pub namespaces: Vec<String>,
    /// Lets pass what cannot be judged.
    pub allow_not_evaluated: bool,
}

/// An exception that holds in a fleet.
#[derive(Debug, Clone)]
pub struct Exception {
    /// The binding's identifier.
    pub fleet_policy: String,
    /// The fleet's identifier.
    pub fleet: String,
    /// The exception.
    pub document: Arc<PolicyDocument>,
    /// Whether its binding says what only policies know: an action, namespaces, `allowNotEvaluated`.
    pub is_narrowed: bool,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// What it is as of; equal revisions give equal verdicts.
    pub revision: Version,
    /// When the revision was made: exceptions hold that had not ended by then.
    pub as_of: Timestamp,
    /// What holds.
    pub bindings: Vec<Binding>,
    /// What is excused from it.
    pub exceptions: Vec<Exception>,
    /// Bindings that do not hold yet, and why.
    pub problems: Vec<String>,
    /// Members of each fleet.
    pub fleets: BTreeMap<String, BTreeSet<String>>,
    /// What is ramped, by binding.
    pub ramps: BTreeMap<String, Ramped>,
    /// Who is asked, by whom a question reaches.
    pub(crate) plans: Plans,
    /// What clusters are given.
    pub(crate) contents: Contents,
}

impl Default for Catalog {
    fn default() -> Self {
        Self {
            revision: Version::default(),
            as_of: Timestamp::UNIX_EPOCH,
            bindings: Vec::new(),
            exceptions: Vec::new(),
            problems: Vec::new(),
            fleets: BTreeMap::new(),
            ramps: BTreeMap::new(),
            plans: Plans::default(),
            contents: Contents::default(),
        }
    }
}

impl Catalog {
    /// Adds an exception, or the reason why it does not hold.
    pub fn except(&mut self, exception: Exception) {
        if exception.is_narrowed {
            self.problems.push(format!(
                "exception {} of fleet policy {} does not hold: what it is about stands in itself, not in its binding",
                exception.document.name(),
                exception.fleet_policy
            ));
        } else {
            self.exceptions.push(exception);
        }
    }

    /// Adds the policies of a ramped binding: where it has turned as they are, elsewhere audited. Clusters that turned for
    /// other content than this have not turned.
    pub fn ramp(&mut self, fleet_policy: &str, bindings: Vec<Binding>, digest: &str, turned: BTreeSet<String>) {
        let enforces =
            |of: &&Binding| of.action.map_or_else(|| of.document.enforces(), |action| action == FailureAction::Enforce);
        let mut enforced: Vec<String> = bindings.iter().filter(enforces).map(|of| of.document.name().to_owned()).collect();
        enforced.sort();
        let content = bindings.iter().map(|of| {
            let action = if enforces(&of) { "enforce" } else { "audit" };
            json!([of.fleet, of.document.digest(), action, of.namespaces])
        });
        let ramped = Ramped { digest: bundle::digest(&content.collect::<Vec<_>>()).to_string(), enforced };
        let turned = Arc::new(if ramped.digest == digest { turned } else { BTreeSet::new() });
        for binding in bindings {
            if !enforces(&&binding) {
                self.bindings.push(binding);
                continue;
            }
            if !turned.is_empty() {
                self.bindings.push(Binding { members: Members::Only(Arc::clone(&turned)), ..binding.clone() });
            }
            let members = Members::Except(Arc::clone(&turned));
            self.bindings.push(Binding { members, action: Some(FailureAction::Audit), ..binding });
        }
        self.ramps.insert(fleet_policy.to_owned(), ramped);
    }

    /// Whether an exception ended after the revision was made, so that it is time for another.
    pub fn is_outlived_by(&self, now: Timestamp) -> bool {
        let mut ends = self.exceptions.iter().filter_map(|exception| exception.document.exception()?.ends());
        ends.any(|ends| self.as_of < ends && ends <= now)
    }

    /// The exceptions that hold in a fleet.
    pub(super) fn excusing(&self, fleet: &str) -> impl Iterator<Item = &Exception> {
        let holds = |exception: &PolicyException| exception.holds_at(self.as_of);
        self.exceptions.iter().filter(move |of| of.fleet == fleet && of.document.exception().is_some_and(holds))
    }
}
