//! Kubernetes' own policies: alone, bound, and with parameters.

use crate::{Extent, FailureAction, Inventory, Outcome, Policy, Request, RuleResult};
use muster_core::selector::Labels;
use serde_json::{Value, json};

fn policy(extra: &Value) -> Value {
    let mut spec = json!({
        "matchConstraints": {"resourceRules": [
            {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]},
        ]},
        "validations": [{"expression": "object.spec.replicas <= 5", "message": "too many"}],
    });
    spec.as_object_mut().expect("a mapping").extend(extra.as_object().cloned().unwrap_or_default());
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "p"}, "spec": spec,
    })
}

fn binding(spec: &Value) -> Value {
    let mut whole = json!({"policyName": "p", "validationActions": ["Deny"]});
    whole.as_object_mut().expect("a mapping").extend(spec.as_object().cloned().unwrap_or_default());
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "b"}, "spec": whole,
    })
}

fn deployment(replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "ml"}, "spec": {"replicas": replicas},
    })
}

fn judge<'p>(policy: &'p Policy, object: &Value, inventory: Option<&Inventory>) -> Option<RuleResult<'p>> {
    let labels = Labels::from([("env".to_owned(), "prod".to_owned())]);
    policy.evaluate(&Request { inventory, namespace_labels: Some(&labels), ..Request::create(object) }).pop()
}

#[test]
fn a_policy_alone_is_taken_as_bound_everywhere() {
    let policy = Policy::parse(&policy(&json!({}))).expect("a policy");
    let result = judge(&policy, &deployment(6), None).expect("an answer");
    assert_eq!((result.rule, result.action), ("p", FailureAction::Enforce));
    let Outcome::Fail { message, .. } = result.outcome else { panic!("a failure") };
    assert_eq!(message, "too many");
    assert_eq!(judge(&policy, &deployment(5), None).map(|result| result.outcome), Some(Outcome::Pass));
    assert_eq!(judge(&policy, &json!({"apiVersion": "v1", "kind": "Pod"}), None), None);
}

#[test]
fn a_binding_says_where_and_what_becomes_of_it() {
    let bound =
        |spec: &Value| Policy::parse(&policy(&json!({}))).and_then(|policy| policy.bound_by(&binding(spec))).expect("bound");
    let elsewhere = json!({"matchResources": {"namespaceSelector": {"matchLabels": {"env": "test"}}}});
    assert_eq!(judge(&bound(&elsewhere), &deployment(6), None), None);
    let here = json!({"matchResources": {"namespaceSelector": {"matchLabels": {"env": "prod"}}}, "validationActions": ["Audit"]});
    let bound_here = bound(&here);
    let result = judge(&bound_here, &deployment(6), None).expect("an answer");
    assert_eq!(result.action, FailureAction::Audit);
    let both = bound(&here).bound_by(&binding(&json!({}))).expect("bound twice");
    assert_eq!(judge(&both, &deployment(6), None).expect("an answer").action, FailureAction::Enforce);
}

#[test]
fn every_parameter_has_to_be_satisfied() {
    let with_params = policy(&json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "validations": [{"expression": "object.spec.replicas <= int(params.data.most)"}],
    }));
    let map = |name: &str, most: &str| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "ml", "labels": {"kind": "limit"}},
            "data": {"most": most},
        })
    };
    let inventory = Inventory::new(vec![map("three", "3"), map("seven", "7")], Extent::Whole);
    let bound = |reference: &Value| {
        let policy = Policy::parse(&with_params).expect("a policy");
        policy.bound_by(&binding(&json!({"paramRef": reference}))).expect("bound")
    };
    let short = |policy: &Policy, replicas: u32| match judge(policy, &deployment(replicas), Some(&inventory))
        .map(|result| result.outcome)
    {
        None => "nothing",
        Some(Outcome::Pass) => "pass",
        Some(Outcome::Fail { .. }) => "fail",
        Some(Outcome::Error { .. }) => "error",
        Some(_) => "other",
    };
    let seven = bound(&json!({"name": "seven"}));
    assert_eq!((short(&seven, 5), short(&seven, 8)), ("pass", "fail"));
    let all = bound(&json!({"selector": {"matchLabels": {"kind": "limit"}}}));
    assert_eq!((short(&all, 2), short(&all, 5)), ("pass", "fail"));
    assert_eq!(short(&bound(&json!({"name": "none", "parameterNotFoundAction": "Allow"})), 9), "nothing");
    assert_eq!(short(&bound(&json!({"name": "none", "parameterNotFoundAction": "Deny"})), 1), "error");
    let unbound = Policy::parse(&with_params).expect("a policy");
    let outcome = judge(&unbound, &deployment(1), Some(&inventory)).map(|result| result.outcome);
    assert!(matches!(outcome, Some(Outcome::NotEvaluated { .. })));
}

#[test]
fn a_binding_of_another_policy_is_refused() {
    let policy = Policy::parse(&policy(&json!({}))).expect("a policy");
    let error = policy.bound_by(&binding(&json!({"policyName": "q"}))).expect_err("refused");
    assert_eq!(error.field, "spec.policyName");
}
