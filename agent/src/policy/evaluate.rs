//! The verdict itself: documents, bindings and workloads in, counts and violations out.

use crate::domain::{
    object::{ObjectRef, text},
    observation::{MAX_VIOLATION_BYTES, MAX_VIOLATIONS, RuleCount, Verdicts, Violation, cut},
};
use jiff::Timestamp;
use muster_policy_evaluator::{Bound, FailureAction, Outcome, Policy, PolicyException, Surroundings, decide};
use serde_json::Value;
use std::collections::BTreeMap;

/// The verdict of policies, with their bindings `(policy, namespaces, enforce)`, over workloads. Exceptions stand among the
/// documents; one that has ended by the surroundings' time excuses nothing, also where nobody took it away. Pure.
pub fn evaluate(
    documents: &[Value],
    bindings: &[(&str, &[String], bool)],
    workloads: &[Value],
    surroundings: Surroundings,
) -> Verdicts {
    // What is of the API server's own kinds is another form of a document that is here too.
    let kyvernos =
        documents.iter().filter(|document| !text(document, "/apiVersion").starts_with("admissionregistration.k8s.io/"));
    let (exceptions, documents): (Vec<&Value>, Vec<&Value>) =
        kyvernos.partition(|document| text(document, "/kind") == "PolicyException");
    // The service refuses what cannot be read before it sends it; an agent of an older version may still not know it.
    let policies: Vec<Policy> = documents
        .iter()
        .filter_map(|document| {
            Policy::parse(document)
                .inspect_err(|error| tracing::warn!(policy = text(document, "/metadata/name"), error = %error, "a policy cannot be read here"))
                .ok()
        })
        .collect();
    let bound: Vec<Bound<'_>> = policies
        .iter()
        .flat_map(|policy| {
            bindings.iter().filter(|(name, _, _)| *name == policy.name()).map(|(_, namespaces, enforce)| Bound {
                policy,
                action: Some(if *enforce { FailureAction::Enforce } else { FailureAction::Audit }),
                allow_not_evaluated: true,
                namespaces,
            })
        })
        .collect();
    let surroundings = Surroundings { exceptions: holding(&exceptions, surroundings.now), ..surroundings };
    let decision = decide(&bound, workloads, &surroundings);
    let mut counts: BTreeMap<(String, String), RuleCount> = BTreeMap::new();
    for result in &decision.results {
        let rule = result.rule.clone();
        let count = counts.entry((result.policy.clone(), rule.clone())).or_insert_with(|| RuleCount {
            policy: result.policy.clone(),
            rule,
            pass: 0,
            fail: 0,
            not_evaluated: 0,
        });
        match &result.outcome {
            Outcome::Pass => count.pass += 1,
            Outcome::Fail { .. } | Outcome::Error { .. } => count.fail += 1,
            Outcome::NotEvaluated { .. } => count.not_evaluated += 1,
            Outcome::Skip { .. } => {}
        }
    }
    let mut violations: Vec<Violation> = decision
        .violations
        .iter()
        .chain(&decision.audited)
        .map(|found| Violation {
            policy: found.policy.clone(),
            rule: found.rule.clone(),
            object: ObjectRef::of(&workloads[found.manifest]),
            path: found.path.clone(),
            message: cut(found.message.clone()),
        })
        .collect();
    violations.sort_by(|a, b| (&a.policy, &a.rule, &a.object, &a.path).cmp(&(&b.policy, &b.rule, &b.object, &b.path)));
    violations.dedup();
    violations.truncate(MAX_VIOLATIONS);
    let mut bytes = 0;
    let kept = violations.iter().take_while(|violation| {
        let Violation { policy, rule, object, path, message } = violation;
        bytes +=
            [policy, rule, &object.kind, &object.namespace, &object.name, path, message].map(String::len).iter().sum::<usize>();
        bytes <= MAX_VIOLATION_BYTES
    });
    violations.truncate(kept.count());
    Verdicts { counts: counts.into_values().collect(), violations }
}

fn holding(documents: &[&Value], now: Option<Timestamp>) -> Vec<PolicyException> {
    let read = |document: &&Value| {
        PolicyException::parse(document)
            .inspect_err(|error| tracing::warn!(exception = text(document, "/metadata/name"), error = %error, "an exception cannot be read here"))
            .ok()
    };
    let holds = |exception: &PolicyException| now.is_none_or(|now| exception.holds_at(now));
    documents.iter().filter_map(read).filter(holds).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn workloads_are_judged_where_the_policy_is_bound() {
        let policy = json!({
            "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "require-team"},
            "spec": {"rules": [{
                "name": "team", "match": {"any": [{"resources": {"kinds": ["Deployment"]}}]},
                "validate": {"message": "say whose it is", "pattern": {"metadata": {"labels": {"team": "?*"}}}},
            }]},
        });
        let deployment = |namespace: &str, team: Option<&str>| {
            let mut live = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": namespace, "labels": {}},
                "spec": {"template": {"spec": {"containers": []}}}});
            if let Some(team) = team {
                live["metadata"]["labels"]["team"] = json!(team);
            }
            live
        };
        let workloads = [deployment("ml", Some("vision")), deployment("web", None), deployment("kube-system", None)];
        let bound = ["ml".to_owned(), "web".to_owned()];
        let for_the_api_server = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "require-team"},
            "spec": {
                "matchConstraints": {"resourceRules": [
                    {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]},
                ]},
                "validations": [{"expression": "false"}],
            },
        });
        let verdicts =
            evaluate(&[policy, for_the_api_server], &[("require-team", &bound, false)], &workloads, Surroundings::default());
        let counts: Vec<_> = verdicts.counts.iter().map(|c| (c.rule.as_str(), c.pass, c.fail)).collect();
        assert_eq!(counts, [("team", 1, 1)]);
        let violations: Vec<_> = verdicts.violations.iter().map(|v| (v.object.namespace.as_str(), v.rule.as_str())).collect();
        assert_eq!(violations, [("web", "team")]);
    }

    #[test]
    fn an_exception_excuses_until_it_ends() {
        let policy = json!({
            "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "require-team"},
            "spec": {"rules": [{
                "name": "team", "match": {"any": [{"resources": {"kinds": ["ConfigMap"]}}]},
                "validate": {"message": "say whose it is", "pattern": {"metadata": {"labels": {"team": "?*"}}}},
            }]},
        });
        let exception = json!({
            "apiVersion": "kyverno.io/v2", "kind": "PolicyException",
            "metadata": {"name": "old", "annotations": {"muster.dev/exception-ends": "2027-01-31T00:00:00Z"}},
            "spec": {
                "match": {"any": [{"resources": {"kinds": ["ConfigMap"], "names": ["old-*"]}}]},
                "exceptions": [{"policyName": "require-team", "ruleNames": ["team"]}],
            },
        });
        let map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "a"}});
        let failing = |now: &str| {
            let surroundings = Surroundings { now: Some(now.parse().expect("a time")), ..Surroundings::default() };
            let documents = [exception.clone(), policy.clone()];
            let verdicts = evaluate(&documents, &[("require-team", &[], true)], &[map("old-one"), map("new")], surroundings);
            verdicts.violations.into_iter().map(|violation| violation.object.name).collect::<Vec<_>>()
        };
        assert_eq!(failing("2027-01-30T23:59:59Z"), ["new"]);
        assert_eq!(failing("2027-01-31T00:00:00Z"), ["new", "old-one"]);
    }
}
