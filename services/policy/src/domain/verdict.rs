//! What the policies of a catalog say of manifests.

use super::{Binding, Catalog};
use muster_policy_evaluator::{Arrival, FailureAction, Objected, Objection, arrived, landed, objections, unjudged};
use serde_json::Value;
use std::{collections::BTreeSet, num::NonZero, thread};

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

impl Catalog {
    /// Judges manifests that may go to the clusters.
    pub fn evaluate(&self, manifests: Vec<Value>, clusters: &[String], namespace: &str) -> Verdict {
        let mut broken = Vec::new();
        let mut warnings: BTreeSet<String> = self.problems.iter().cloned().collect();
        let Arrival { objects: everywhere, unsettled } = arrived(manifests, namespace);
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        for together in self.plan(clusters).iter() {
            // What their Pods are made from may be in the clusters.
            let inventory = together.surroundings.inventory.as_deref();
            let there = unsettled.as_ref().map(|manifests| landed(manifests, namespace, inventory));
            let objects = there.as_ref().unwrap_or(&everywhere);
            for binding in together.unjudged(self) {
                note_unjudged(binding, !objects.is_empty(), &mut broken, &mut warnings);
            }
            let (bound, index) = (together.bound(self), Some(&together.index));
            let (noted, uncovered) = objections(threads, &bound, index, objects, &together.surroundings, note);
            for Noted { broken: found, warning } in noted {
                broken.extend(found);
                warnings.extend(warning);
            }
            warnings.extend(uncovered.iter().map(ToString::to_string));
        }
        Verdict { broken: said_once(broken), warnings: warnings.into_iter().collect() }
    }
}

/// What an objection comes to.
struct Noted {
    broken: Option<Broken>,
    warning: Option<String>,
}

fn note(objection: Objection<'_>) -> Noted {
    let Objection { manifest, policy, rule, resource, refuses, what } = objection;
    let (path, message, not_evaluated_reason, warning) = match what {
        Objected::Broken { path, message } => (path, message, String::new(), None),
        Objected::NotEvaluated { reason } => {
            let warning = Some(format!("{resource}: rule {rule} of policy {policy} was not evaluated: {reason}"));
            if !refuses {
                return Noted { broken: None, warning };
            }
            (String::new(), unjudged(&reason), reason, warning)
        }
    };
    let [policy, rule, subject] = [policy, rule, resource].map(str::to_owned);
    let broken = Broken { enforced: refuses, manifest, policy, rule, subject, path, message, not_evaluated_reason };
    Noted { broken: Some(broken), warning }
}

/// A kind that is not judged here and may refuse in the cluster: refuses what is asked about unless the binding lets it
/// pass.
fn note_unjudged(binding: &Binding, is_asked: bool, broken: &mut Vec<Broken>, warnings: &mut BTreeSet<String>) {
    let Some(kind) = binding.document.refuses_unjudged() else { return };
    let policy = binding.document.name();
    let reason = format!("{kind} is not evaluated yet");
    let enforced = binding.action.map_or_else(|| binding.document.enforces(), |action| action == FailureAction::Enforce);
    if !is_asked || !enforced || binding.allow_not_evaluated {
        warnings.insert(format!("policy {policy} was not evaluated: {reason}"));
        return;
    }
    broken.push(Broken {
        enforced,
        manifest: 0,
        policy: policy.to_owned(),
        rule: policy.to_owned(),
        subject: String::new(),
        path: String::new(),
        message: format!("the policy could not be evaluated: {reason}"),
        not_evaluated_reason: reason,
    });
}

/// In order, enforced first. The same violation by two bindings is one, enforced if either is.
fn said_once(mut found: Vec<Broken>) -> Vec<Broken> {
    fn place(of: &Broken) -> (usize, [&str; 6]) {
        let Broken { enforced: _, manifest, policy, rule, subject, path, message, not_evaluated_reason } = of;
        (*manifest, [policy, rule, subject, path, message, not_evaluated_reason])
    }
    // Stable, since it is quick where what comes is in order already.
    found.sort_by(|a, b| place(a).cmp(&place(b)).then(b.enforced.cmp(&a.enforced)));
    found.dedup_by(|again, first| place(again) == place(first));
    let (mut enforced, audited): (Vec<Broken>, Vec<Broken>) = found.into_iter().partition(|broken| broken.enforced);
    enforced.extend(audited);
    enforced
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Members, PolicyDocument};
    use serde_json::json;
    use std::sync::Arc;

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
            catalog.evaluate(vec![service()], &clusters, "").is_allowed()
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
        let verdict = catalog(bindings).evaluate(vec![service()], &[], "ml");
        assert_eq!(verdict.broken.len(), 1);
        let broken = &verdict.broken[0];
        assert_eq!((broken.enforced, broken.subject.as_str(), broken.path.as_str()), (true, "Service ml/s", "metadata.labels"));
    }

    #[test]
    fn what_only_a_rule_enforces_is_ramped() {
        let mut validate = owner_label();
        for overridden in [false, true] {
            let (key, value) = match overridden {
                true => ("failureActionOverrides", json!([{"action": "Enforce", "namespaces": ["default"]}])),
                false => ("failureAction", json!("Enforce")),
            };
            validate[key] = value;
            let enforcing = binding("edge", None, validate.clone());
            let allowed = |digest: &str, turned: &[&str], cluster: &str| {
                let mut catalog = catalog(vec![]);
                let turned = turned.iter().map(|name| (*name).to_owned()).collect();
                catalog.ramp("b", vec![enforcing.clone()], digest, turned);
                let ramped = catalog.ramps["b"].clone();
                (catalog.evaluate(vec![service()], &[cluster.to_owned()], "").is_allowed(), ramped)
            };
            let (before, ramped) = allowed("", &[], "b");
            assert!(before);
            assert_eq!(ramped.enforced, ["p"]);
            assert!(!allowed(&ramped.digest, &["b"], "b").0);
            assert!(allowed(&ramped.digest, &["b"], "c").0);
            validate = owner_label();
        }
    }

    #[test]
    fn what_is_not_judged_refuses_under_enforce_and_warns_under_audit() {
        let manifests = || json!({"manifests": {}});
        let enforced =
            catalog(vec![binding("train", Some(FailureAction::Enforce), manifests())]).evaluate(vec![service()], &[], "");
        assert!(!enforced.is_allowed());
        assert_eq!(enforced.broken[0].not_evaluated_reason, "validate.manifests is not evaluated yet");
        let audited = catalog(vec![binding("train", None, manifests())]).evaluate(vec![service()], &[], "");
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
        let verdict = catalog.evaluate(vec![service()], &[], "");
        let found: Vec<_> =
            verdict.broken.iter().map(|broken| (broken.policy.as_str(), broken.not_evaluated_reason.as_str())).collect();
        assert_eq!(found, [("judged", ""), ("unjudged", "validate.manifests is not evaluated yet")]);
    }
}
