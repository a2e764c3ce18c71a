//! Everything that decides a verdict, as of one revision: which policies hold in which fleets, and who is in them.

use super::{
    PolicyDocument,
    distribution::{ClusterContent, Held},
};
use jiff::Timestamp;
use muster_core::version::Version;
use muster_policy_evaluator::{Bound, Decision, FailureAction, Outcome, PolicyException, Surroundings, decide};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A policy that holds in a fleet.
#[derive(Debug, Clone)]
pub struct Binding {
    /// The binding's identifier.
    pub fleet_policy: String,
    /// The fleet's identifier.
    pub fleet: String,
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
}

/// A rule that manifests break.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Broken {
    /// Whether it refuses. First, so that refusing ones sort last and are easily turned round.
    pub enforced: bool,
    /// Which of the manifests.
    pub manifest: usize,
    /// The policy's name.
    pub policy: String,
    /// The rule.
    pub rule: String,
    /// The object.
    pub subject: String,
    /// Where.
    pub path: String,
    /// The rule's message.
    pub message: String,
    /// Why it could not be judged; empty if it was.
    pub not_evaluated_reason: String,
}

/// What the policies say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What is broken, enforced first.
    pub broken: Vec<Broken>,
    /// For people.
    pub warnings: Vec<String>,
}

impl Verdict {
    /// Whether nothing enforced is broken.
    pub fn is_allowed(&self) -> bool {
        !self.broken.iter().any(|broken| broken.enforced)
    }
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

    /// Whether an exception ended after the revision was made, so that it is time for another.
    pub fn is_outlived_by(&self, now: Timestamp) -> bool {
        let mut ends = self.exceptions.iter().filter_map(|exception| exception.document.exception()?.ends());
        ends.any(|ends| self.as_of < ends && ends <= now)
    }

    /// The exceptions that hold in a fleet.
    fn excusing(&self, fleet: &str) -> impl Iterator<Item = &Exception> {
        let holds = |exception: &PolicyException| exception.holds_at(self.as_of);
        self.exceptions.iter().filter(move |of| of.fleet == fleet && of.document.exception().is_some_and(holds))
    }

    /// What holds in any of the clusters; in all fleets where none is named.
    fn reaching(&self, clusters: &[String]) -> impl Iterator<Item = &Binding> {
        let is_there = |fleet: &str| {
            clusters.is_empty()
                || self.fleets.get(fleet).is_some_and(|members| clusters.iter().any(|cluster| members.contains(cluster)))
        };
        self.bindings.iter().filter(move |binding| is_there(&binding.fleet))
    }

    /// Judges manifests that may go to the clusters.
    pub fn evaluate(&self, manifests: &[Value], clusters: &[String], namespace: &str) -> Verdict {
        let surroundings = |fleet: &str| Surroundings {
            default_namespace: namespace.to_owned(),
            exceptions: self.excusing(fleet).filter_map(|of| of.document.exception().cloned()).collect(),
            ..Surroundings::default()
        };
        let mut of_fleets: BTreeMap<&str, Surroundings> = BTreeMap::new();
        let mut broken: BTreeMap<(usize, String, String, String, String), Broken> = BTreeMap::new();
        let mut warnings = BTreeSet::new();
        for binding in self.reaching(clusters) {
            match binding.document.judged() {
                Some(policy) => {
                    let bound = Bound {
                        policy,
                        action: binding.action,
                        allow_not_evaluated: binding.allow_not_evaluated,
                        namespaces: &binding.namespaces,
                    };
                    let surroundings = of_fleets.entry(&binding.fleet).or_insert_with(|| surroundings(&binding.fleet));
                    let decision = decide(&[bound], manifests, surroundings);
                    warnings.extend(decision.warnings.iter().map(ToString::to_string));
                    for found in found_in(decision) {
                        if !found.not_evaluated_reason.is_empty() && !found.enforced {
                            let Broken { subject, policy, rule, not_evaluated_reason, .. } = &found;
                            warnings.insert(format!(
                                "{subject}: rule {rule} of policy {policy} was not evaluated: {not_evaluated_reason}"
                            ));
                            continue;
                        }
                        merge(&mut broken, found);
                    }
                }
                None => unjudged(binding, manifests, &mut broken, &mut warnings),
            }
        }
        warnings.extend(self.problems.iter().cloned());
        let mut broken: Vec<Broken> = broken.into_values().collect();
        broken.sort_by(|a, b| b.enforced.cmp(&a.enforced).then_with(|| a.cmp(b)));
        Verdict { broken, warnings: warnings.into_iter().collect() }
    }

    /// What a cluster should hold.
    pub fn for_cluster(&self, cluster: &str, runs_kyverno: bool) -> ClusterContent {
        let is_member = |fleet: &str| self.fleets.get(fleet).is_some_and(|members| members.contains(cluster));
        let held = self.bindings.iter().filter(|binding| is_member(&binding.fleet)).map(|binding| Held {
            document: Arc::clone(&binding.document),
            enforce: binding.action.map(|action| action == FailureAction::Enforce),
            namespaces: binding.namespaces.clone(),
        });
        let fleets = self.fleets.keys().filter(|fleet| is_member(fleet));
        let exceptions = fleets.flat_map(|fleet| self.excusing(fleet)).map(|of| Arc::clone(&of.document));
        ClusterContent::of(held.collect(), exceptions.collect(), runs_kyverno)
    }
}

/// A kind that is not judged here and may refuse in the cluster: refuses unless the binding lets it pass.
fn unjudged(
    binding: &Binding,
    manifests: &[Value],
    broken: &mut BTreeMap<(usize, String, String, String, String), Broken>,
    warnings: &mut BTreeSet<String>,
) {
    let Some(kind) = binding.document.refuses_unjudged() else { return };
    let policy = binding.document.name();
    let reason = format!("{kind} is not evaluated yet");
    let enforced = binding.action.map_or_else(|| binding.document.enforces(), |action| action == FailureAction::Enforce);
    if manifests.is_empty() || !enforced || binding.allow_not_evaluated {
        warnings.insert(format!("policy {policy} was not evaluated: {reason}"));
        return;
    }
    merge(
        broken,
        Broken {
            enforced,
            manifest: 0,
            policy: policy.to_owned(),
            rule: policy.to_owned(),
            subject: String::new(),
            path: String::new(),
            message: format!("the policy could not be evaluated: {reason}"),
            not_evaluated_reason: reason,
        },
    );
}

/// The same violation by two bindings is one, enforced if either is.
fn merge(broken: &mut BTreeMap<(usize, String, String, String, String), Broken>, found: Broken) {
    let key = (found.manifest, found.policy.clone(), found.rule.clone(), found.subject.clone(), found.path.clone());
    let entry = broken.entry(key).or_insert_with(|| found.clone());
    entry.enforced |= found.enforced;
}

fn found_in(decision: Decision) -> Vec<Broken> {
    let unjudged: BTreeMap<(usize, String, String), String> = decision
        .results
        .iter()
        .filter_map(|result| match &result.outcome {
            Outcome::NotEvaluated { reason } => {
                Some(((result.manifest, result.rule.clone(), result.resource.clone()), reason.clone()))
            }
            Outcome::Pass | Outcome::Fail { .. } | Outcome::Skip { .. } | Outcome::Error { .. } => None,
        })
        .collect();
    let refusing = decision.violations.into_iter().map(|violation| (true, violation));
    let reported = decision.audited.into_iter().chain(decision.not_evaluated).map(|violation| (false, violation));
    refusing
        .chain(reported)
        .map(|(enforced, violation)| {
            let key = (violation.manifest, violation.rule.clone(), violation.resource.clone());
            Broken {
                enforced,
                manifest: violation.manifest,
                policy: violation.policy,
                rule: violation.rule,
                subject: violation.resource,
                path: violation.path,
                message: violation.message,
                not_evaluated_reason: unjudged.get(&key).cloned().unwrap_or_default(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn binding(fleet: &str, action: Option<FailureAction>, validate: Value) -> Binding {
        let document = json!({
            "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "p"},
            "spec": {"rules": [{"name": "r", "match": {"any": [{"resources": {"kinds": ["Service"]}}]}, "validate": validate}]},
        });
        Binding {
            fleet_policy: "b".to_owned(),
            fleet: fleet.to_owned(),
            document: Arc::new(PolicyDocument::parse(&document).expect("a policy")),
            action,
            namespaces: vec![],
            allow_not_evaluated: false,
        }
    }

    fn owner_label() -> Value {
        json!({"pattern": {"metadata": {"labels": {"owner": "?*"}}}})
    }

    fn catalog(bindings: Vec<Binding>) -> Catalog {
        let members = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let fleets = [("train".to_owned(), members(&["a"])), ("edge".to_owned(), members(&["b", "c"]))];
        Catalog { bindings, fleets: fleets.into(), ..Catalog::default() }
    }

    fn service() -> Value {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {}})
    }

    #[test]
    fn only_policies_of_the_clusters_fleets_are_asked() {
        let catalog = catalog(vec![binding("train", Some(FailureAction::Enforce), owner_label())]);
        let allowed = |clusters: &[&str]| {
            let clusters: Vec<String> = clusters.iter().map(|name| (*name).to_owned()).collect();
            catalog.evaluate(&[service()], &clusters, "").is_allowed()
        };
        assert!(!allowed(&[]));
        assert!(!allowed(&["b", "a"]));
        assert!(allowed(&["b"]));
        assert!(allowed(&["unknown"]));
    }

    #[test]
    fn two_bindings_of_one_policy_break_it_once_and_the_stricter_counts() {
        let bindings = vec![
            binding("train", Some(FailureAction::Audit), owner_label()),
            binding("edge", Some(FailureAction::Enforce), owner_label()),
        ];
        let verdict = catalog(bindings).evaluate(&[service()], &[], "ml");
        assert_eq!(verdict.broken.len(), 1);
        let broken = &verdict.broken[0];
        assert_eq!((broken.enforced, broken.subject.as_str(), broken.path.as_str()), (true, "Service ml/s", "metadata.labels"));
    }

    #[test]
    fn what_is_not_judged_refuses_under_enforce_and_warns_under_audit() {
        let manifests = || json!({"manifests": {}});
        let enforced = catalog(vec![binding("train", Some(FailureAction::Enforce), manifests())]).evaluate(&[service()], &[], "");
        assert!(!enforced.is_allowed());
        assert_eq!(enforced.broken[0].not_evaluated_reason, "validate.manifests is not evaluated yet");
        let audited = catalog(vec![binding("train", None, manifests())]).evaluate(&[service()], &[], "");
        assert!(audited.is_allowed());
        assert_eq!(
            audited.warnings,
            ["Service default/s: rule r of policy p was not evaluated: validate.manifests is not evaluated yet"]
        );
    }
}
