//! Rules in CEL from their documents to their outcomes.

use crate::{Extent, Inventory, Operation, Outcome, Policy, Request, RuleResult};
use muster_core::selector::Labels;
use serde_json::{Value, json};

fn rule(cel: Value, preconditions: Value) -> Policy {
    let rule = json!({
        "name": "r", "match": {"any": [{"resources": {"kinds": ["Pod"]}}]},
        "celPreconditions": preconditions, "validate": {"cel": cel},
    });
    let document = json!({
        "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "p"}, "spec": {"rules": [rule]},
    });
    Policy::parse(&document).expect("a policy")
}

fn validating(spec: Value) -> Policy {
    let mut whole = json!({"matchConstraints": {"resourceRules": [
        {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE", "UPDATE"]},
    ]}});
    whole.as_object_mut().expect("a mapping").extend(spec.as_object().expect("a mapping").clone());
    let document =
        json!({"apiVersion": "policies.kyverno.io/v1", "kind": "ValidatingPolicy", "metadata": {"name": "p"}, "spec": whole});
    Policy::parse(&document).expect("a policy")
}

fn pod(labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "ml", "labels": labels}, "spec": {}})
}

fn deployment(labels: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "ml"},
        "spec": {"template": {"metadata": {"labels": labels}, "spec": {}}}})
}

fn outcomes(policy: &Policy, object: &Value) -> Vec<(String, Outcome)> {
    let results = policy.evaluate(&Request::create(object));
    results.into_iter().map(|RuleResult { rule, outcome, .. }| (rule.to_owned(), outcome)).collect()
}

fn message(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Fail { message, .. } => message,
        other => panic!("{other:?} is no failure"),
    }
}

#[test]
fn the_first_expression_that_does_not_hold_fails_with_its_message() {
    let policy = rule(
        json!({"expressions": [
            {"expression": "has(object.metadata.labels.team)", "message": "a team is needed"},
            {"expression": "object.metadata.labels.team == 'a'", "messageExpression": "'not ' + object.metadata.labels.team"},
        ]}),
        json!([]),
    );
    assert_eq!(outcomes(&policy, &pod(json!({"team": "a"}))), [("r".to_owned(), Outcome::Pass)]);
    assert_eq!(message(&outcomes(&policy, &pod(json!({})))[0].1), "a team is needed");
    assert_eq!(message(&outcomes(&policy, &pod(json!({"team": "b"})))[0].1), "not b");
}

#[test]
fn autogen_judges_the_template_of_a_controller() {
    let classic = rule(json!({"expressions": [{"expression": "has(object.metadata.labels.team)"}]}), json!([]));
    let modern = validating(json!({"validations": [{"expression": "has(object.metadata.labels.team)"}]}));
    for (policy, name) in [(&classic, "autogen-r"), (&modern, "autogen-defaults-p")] {
        assert_eq!(outcomes(policy, &deployment(json!({"team": "a"}))), [(name.to_owned(), Outcome::Pass)]);
        assert!(matches!(outcomes(policy, &deployment(json!({})))[0].1, Outcome::Fail { .. }));
    }
}

#[test]
fn the_object_keeps_its_own_name_and_namespace_under_autogen() {
    let policy =
        validating(json!({"validations": [{"expression": "object.metadata.namespace == 'ml' && object.metadata.name == 'd'"}]}));
    assert_eq!(outcomes(&policy, &deployment(json!({})))[0].1, Outcome::Pass);
}

#[test]
fn an_unmet_condition_skips_a_classic_rule_and_keeps_a_policy_silent() {
    let condition = json!([{"name": "c", "expression": "has(object.metadata.labels.team)"}]);
    let expressions = json!([{"expression": "false"}]);
    let classic = rule(json!({"expressions": expressions}), condition.clone());
    assert!(matches!(outcomes(&classic, &pod(json!({})))[0].1, Outcome::Skip { .. }));
    let modern = validating(json!({"validations": expressions, "matchConditions": condition}));
    assert_eq!(outcomes(&modern, &pod(json!({}))), []);
    assert!(matches!(outcomes(&modern, &pod(json!({"team": "a"})))[0].1, Outcome::Fail { .. }));
}

#[test]
fn an_expression_that_goes_wrong_follows_the_failure_policy() {
    let validations = json!([{"expression": "object.spec.missing == 1"}]);
    let classic = rule(json!({"expressions": validations}), json!([]));
    assert!(matches!(outcomes(&classic, &pod(json!({})))[0].1, Outcome::Fail { .. }));
    let modern = validating(json!({"validations": validations}));
    assert!(matches!(outcomes(&modern, &pod(json!({})))[0].1, Outcome::Error { .. }));
    let ignoring = validating(json!({"validations": validations, "failurePolicy": "Ignore"}));
    assert!(matches!(outcomes(&ignoring, &pod(json!({})))[0].1, Outcome::Skip { .. }));
}

#[test]
fn what_is_not_given_is_not_guessed() {
    let validations = json!([{"expression": "resource.Get('v1', 'configmaps', 'ml', 'a').data.ok == 'yes'"}]);
    let policy = validating(json!({"validations": validations}));
    let pod = pod(json!({}));
    assert!(matches!(outcomes(&policy, &pod)[0].1, Outcome::NotEvaluated { .. }));
    let map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "ml"}, "data": {"ok": "yes"}});
    let inventory = Inventory::new(vec![map], Extent::Whole);
    let request = Request { inventory: Some(&inventory), ..Request::create(&pod) };
    assert_eq!(policy.evaluate(&request)[0].outcome, Outcome::Pass);
}

#[test]
fn the_request_the_namespace_and_the_old_object_are_there() {
    let validations = json!([
        {"expression": "request.operation == 'UPDATE' && request.kind.kind == 'Pod' && request.namespace == 'ml'"},
        {"expression": "namespaceObject.metadata.labels.tier == 'gpu'"},
        {"expression": "oldObject.metadata.labels.team == 'z'"},
    ]);
    let policy = validating(json!({"validations": validations}));
    let (new, old) = (pod(json!({})), pod(json!({"team": "z"})));
    let labels = Labels::from([("tier".to_owned(), "gpu".to_owned())]);
    let request = Request {
        operation: Operation::Update,
        namespace_labels: Some(&labels),
        old_object: Some(&old),
        ..Request::create(&new)
    };
    assert_eq!(policy.evaluate(&request)[0].outcome, Outcome::Pass);
}

#[test]
fn variables_that_stand_on_each_other_too_deeply_are_an_error() {
    let sum = |inner: &str| format!("{}{inner}{}", "(1 + ".repeat(40), ")".repeat(40));
    let variable = |number: usize| {
        let inner = if number == 0 { "1".to_owned() } else { format!("variables.v{}", number - 1) };
        json!({"name": format!("v{number}"), "expression": sum(&inner)})
    };
    let policy = |count: usize| {
        let variables: Vec<Value> = (0..count).map(variable).collect();
        let last = format!("variables.v{} > 0", count - 1);
        validating(json!({"variables": variables, "validations": [{"expression": last}]}))
    };
    assert_eq!(outcomes(&policy(3), &pod(json!({})))[0].1, Outcome::Pass);
    let deep = outcomes(&policy(150), &pod(json!({})));
    assert!(matches!(&deep[0].1, Outcome::Error { message } if message.contains("stand on each other")), "{deep:?}");
}
