//! What the policies of a catalog say of manifests.
//!
//! Fleets with the same exceptions are judged together, and a policy that several of them bind in the same way is asked
//! once: what an object costs follows the policies, not the fleets.

use super::{Binding, Catalog};
use muster_policy_evaluator::{Bound, Decision, FailureAction, PolicyException, Surroundings, Violation, objections};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// A rule that manifests break.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Broken {
    /// Whether it refuses.
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

/// What is broken, and whether it refuses; `Broken::enforced` is not set yet.
type Found = BTreeMap<Broken, bool>;

impl Catalog {
    /// Judges manifests that may go to the clusters.
    pub fn evaluate(&self, manifests: &[Value], clusters: &[String], namespace: &str) -> Verdict {
        let mut broken = Found::new();
        let mut warnings: BTreeSet<String> = self.problems.iter().cloned().collect();
        for (excused_by, bindings) in self.judged_together(clusters) {
            let surroundings = Surroundings {
                default_namespace: namespace.to_owned(),
                exceptions: self.exceptions_of(&excused_by),
                ..Surroundings::default()
            };
            let bound: Vec<Bound<'_>> = bindings.iter().filter_map(|binding| bound(binding)).collect();
            for binding in bindings.iter().filter(|binding| binding.document.judged().is_none()) {
                unjudged(binding, manifests, &mut broken, &mut warnings);
            }
            let decision = objections(&bound, manifests, &surroundings);
            warnings.extend(decision.warnings.iter().map(ToString::to_string));
            for found in found_in(decision) {
                if found.not_evaluated_reason.is_empty() || found.enforced {
                    merge(&mut broken, found);
                } else {
                    let Broken { subject, policy, rule, not_evaluated_reason, .. } = &found;
                    warnings
                        .insert(format!("{subject}: rule {rule} of policy {policy} was not evaluated: {not_evaluated_reason}"));
                }
            }
        }
        let mut broken: Vec<Broken> = broken.into_iter().map(|(broken, enforced)| Broken { enforced, ..broken }).collect();
        broken.sort_by_key(|broken| !broken.enforced);
        Verdict { broken, warnings: warnings.into_iter().collect() }
    }

    /// What holds in any of the clusters, by the digests of the exceptions that excuse from it.
    fn judged_together(&self, clusters: &[String]) -> BTreeMap<BTreeSet<&str>, Vec<&Binding>> {
        let mut excused: HashMap<&str, BTreeSet<&str>> = HashMap::new();
        let mut asked = BTreeSet::new();
        let mut together: BTreeMap<BTreeSet<&str>, Vec<&Binding>> = BTreeMap::new();
        for binding in self.reaching(clusters) {
            let digests = excused
                .entry(&binding.fleet)
                .or_insert_with(|| self.excusing(&binding.fleet).map(|of| of.document.digest()).collect());
            let Binding { document, action, namespaces, allow_not_evaluated, .. } = binding;
            let is_new = asked.insert((digests.clone(), Arc::as_ptr(document), *action, namespaces, *allow_not_evaluated));
            if is_new {
                together.entry(digests.clone()).or_default().push(binding);
            }
        }
        together
    }

    fn exceptions_of(&self, digests: &BTreeSet<&str>) -> Vec<PolicyException> {
        let by_digest: BTreeMap<&str, _> =
            self.exceptions.iter().map(|of| (of.document.digest(), of.document.exception())).collect();
        digests.iter().filter_map(|digest| (*by_digest.get(digest)?).cloned()).collect()
    }
}

fn bound(binding: &Binding) -> Option<Bound<'_>> {
    Some(Bound {
        policy: binding.document.judged()?,
        action: binding.action,
        allow_not_evaluated: binding.allow_not_evaluated,
        namespaces: &binding.namespaces,
    })
}

/// A kind that is not judged here and may refuse in the cluster: refuses unless the binding lets it pass.
fn unjudged(binding: &Binding, manifests: &[Value], broken: &mut Found, warnings: &mut BTreeSet<String>) {
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
fn merge(broken: &mut Found, found: Broken) {
    let enforced = found.enforced;
    *broken.entry(Broken { enforced: false, ..found }).or_default() |= enforced;
}

fn found_in(decision: Decision) -> Vec<Broken> {
    let unjudged: HashMap<(usize, String, String, String), String> = decision
        .not_evaluated
        .iter()
        .map(|entry| {
            let key = (entry.manifest, entry.policy.clone(), entry.rule.clone(), entry.resource.clone());
            (key, entry.message.clone())
        })
        .collect();
    let refusing = decision.violations.into_iter().map(|violation| (true, violation));
    let reported = decision.audited.into_iter().chain(decision.not_evaluated).map(|violation| (false, violation));
    refusing
        .chain(reported)
        .map(|(enforced, violation)| {
            let Violation { manifest, policy, rule, resource, path, message } = violation;
            let key = (manifest, policy, rule, resource);
            let not_evaluated_reason = unjudged.get(&key).cloned().unwrap_or_default();
            let (manifest, policy, rule, subject) = key;
            Broken { enforced, manifest, policy, rule, subject, path, message, not_evaluated_reason }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Members, PolicyDocument};
    use serde_json::json;

    fn binding(fleet: &str, action: Option<FailureAction>, validate: Value) -> Binding {
        let document = json!({
            "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "p"},
            "spec": {"rules": [{"name": "r", "match": {"any": [{"resources": {"kinds": ["Service"]}}]}, "validate": validate}]},
        });
        Binding {
            fleet_policy: "b".to_owned(),
            fleet: fleet.to_owned(),
            members: Members::All,
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

    #[test]
    fn a_rule_that_is_not_judged_is_not_mistaken_for_one_of_another_policy() {
        let named = |name: &str, validate: Value| {
            let mut value = binding("train", Some(FailureAction::Enforce), validate).document.value().clone();
            value["metadata"]["name"] = json!(name);
            let document = Arc::new(PolicyDocument::parse(&value).expect("a policy"));
            Binding { document, ..binding("train", Some(FailureAction::Enforce), owner_label()) }
        };
        let catalog = catalog(vec![named("judged", owner_label()), named("unjudged", json!({"manifests": {}}))]);
        let verdict = catalog.evaluate(&[service()], &[], "");
        let found: Vec<_> =
            verdict.broken.iter().map(|broken| (broken.policy.as_str(), broken.not_evaluated_reason.as_str())).collect();
        assert_eq!(found, [("judged", ""), ("unjudged", "validate.manifests is not evaluated yet")]);
    }
}
