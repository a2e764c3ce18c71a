//! What is read of a policy, and what is refused by field.

use super::*;
use crate::BodyKind;
use serde_json::json;

fn policy(rule: Value) -> Value {
    json!({"apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "p"}, "spec": {"rules": [rule]}})
}

fn rule(extra: Value) -> Value {
    let mut rule = json!({"name": "r", "match": {"any": [{"resources": {"kinds": ["Service"]}}]}});
    for (key, value) in extra.as_object().expect("a mapping") {
        rule[key] = value.clone();
    }
    rule
}

#[test]
fn a_document_that_is_no_policy_is_refused_by_field() {
    let pattern = json!({"validate": {"pattern": {"spec": "?*"}}});
    let mut deep = json!("x");
    for _ in 0..80 {
        deep = json!({"a": deep});
    }
    let cases = [
        (json!({"kind": "ClusterPolicy"}), "apiVersion"),
        (json!({"apiVersion": "kyverno.io/v1", "kind": "CleanupPolicy"}), "kind"),
        (json!({"apiVersion": "v1", "kind": "ClusterPolicy"}), "apiVersion"),
        (json!({"apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy"}), "metadata.name"),
        (json!({"apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "p"}}), "spec.rules"),
        (policy(json!({"match": {}})), "spec.rules[0].name"),
        (policy(json!({"name": "n".repeat(64)})), "spec.rules[0].name"),
        (policy(json!({"name": "r"})), "spec.rules[0].match"),
        (policy(rule(json!({}))), "spec.rules[0]"),
        (policy(rule(json!({"validate": {}}))), "spec.rules[0].validate"),
        (policy(rule(json!({"validate": {"message": "x"}}))), "spec.rules[0].validate"),
        (policy(rule(json!({"validate": {"anyPattern": {}}}))), "spec.rules[0].validate.anyPattern"),
        (policy(rule(json!({"validate": {"pattern": deep}}))), "spec.rules[0].validate.pattern"),
        (policy(rule(json!({"validate": {"pattern": {"a": "*a".repeat(600)}}}))), "spec.rules[0].validate.pattern"),
        (policy(rule(json!({"validate": {"pattern": {}, "failureAction": "warn"}}))), "spec.rules[0].validate.failureAction"),
    ];
    for (document, field) in cases {
        assert_eq!(Policy::parse(&document).expect_err("refused").field, field);
    }
    let mut twice = policy(rule(pattern));
    let rules = twice["spec"]["rules"].as_array_mut().expect("a list");
    rules.push(rules[0].clone());
    assert_eq!(Policy::parse(&twice).expect_err("refused").field, "spec.rules[1].name");
}

#[test]
fn actions_are_read_in_any_case_and_the_nearest_counts() {
    let mut document = policy(rule(json!({"validate": {"pattern": {"a": "?*"}}})));
    let object = json!({"kind": "Service", "metadata": {"namespace": "prod-1"}});
    let facts = Facts::of(&object);
    let of = |document: &Value| {
        let policy = Policy::parse(document).expect("a policy");
        policy.action_for(&policy.all_rules()[0], &facts)
    };
    assert_eq!(of(&document), FailureAction::Audit);
    for text in ["enforce", "Enforce", "ENFORCE"] {
        document["spec"]["validationFailureAction"] = json!(text);
        assert_eq!(of(&document), FailureAction::Enforce);
    }
    document["spec"]["validationFailureActionOverrides"] = json!([{"action": "audit", "namespaces": ["prod-*"]}]);
    assert_eq!(of(&document), FailureAction::Audit);
    document["spec"]["rules"][0]["validate"]["failureAction"] = json!("Enforce");
    assert_eq!(of(&document), FailureAction::Enforce);
    document["spec"]["rules"][0]["validate"]["failureActionOverrides"] = json!([{"action": "Audit", "namespaces": ["prod-1"]}]);
    assert_eq!(of(&document), FailureAction::Audit);
}

#[test]
fn what_is_not_judged_is_held_with_its_reason() {
    let cases = [
        (json!({"validate": {"deny": {}}}), BodyKind::Deny, false),
        (
            json!({"validate": {"deny": {"conditions": [{"key": "{{ random('a') }}", "operator": "Equals"}]}}}),
            BodyKind::Deny,
            true,
        ),
        (json!({"validate": {"deny": {"conditions": [{"key": "{{ a( }}", "operator": "Equals"}]}}}), BodyKind::Deny, true),
        (json!({"validate": {"foreach": [{"list": "a"}]}}), BodyKind::Foreach, false),
        (json!({"validate": {"foreach": [{"list": "a["}]}}), BodyKind::Foreach, true),
        (json!({"validate": {"manifests": {}}}), BodyKind::Manifests, true),
        (json!({"validate": {"assert": {}}}), BodyKind::Assert, true),
        (json!({"validate": {"foreach": [{}]}}), BodyKind::Foreach, true),
        (json!({"validate": {"cel": {"expressions": [{"expression": "object.a == 1"}]}}}), BodyKind::Cel, false),
        (json!({"validate": {"cel": {"expressions": [{"expression": "unknown(object)"}]}}}), BodyKind::Cel, true),
        (json!({"validate": {"cel": {"expressions": [{"expression": "variables.a"}]}}}), BodyKind::Cel, true),
        (json!({"validate": {"podSecurity": {"level": "baseline"}}}), BodyKind::PodSecurity, false),
        (json!({"validate": {"pattern": {"a": "{{ request.x }}"}}}), BodyKind::Pattern, false),
        (json!({"validate": {"pattern": {"a": "$(./../b)"}}}), BodyKind::Pattern, true),
        (json!({"validate": {"pattern": {"a": "{{ random('a') }}"}}}), BodyKind::Pattern, true),
        (json!({"validate": {"pattern": {"a": "b"}}, "preconditions": {"all": []}}), BodyKind::Pattern, false),
        (
            json!({"validate": {"pattern": {"a": "b"}}, "preconditions": [{"key": "{{ a( }}", "operator": "Equals"}]}),
            BodyKind::Pattern,
            true,
        ),
        (json!({"validate": {"pattern": {"a": "b"}}, "context": [{"name": "x"}]}), BodyKind::Pattern, false),
        (
            json!({"validate": {"pattern": {"a": "b"}}, "context": [{"name": "x", "variable": {"value": "{{ a( }}"}}]}),
            BodyKind::Pattern,
            true,
        ),
        (json!({"validate": {"pattern": {"a": "b"}}, "context": []}), BodyKind::Pattern, false),
        (json!({"validate": {"message": "no {{ x }}", "pattern": {"a": "b"}}}), BodyKind::Pattern, false),
        (json!({"validate": {"anyPattern": [{"a": "b"}]}}), BodyKind::AnyPattern, false),
        (json!({"mutate": {"patchStrategicMerge": {}}}), BodyKind::Mutate, true),
        (json!({"generate": {"kind": "ConfigMap"}}), BodyKind::Generate, true),
        (json!({"verifyImages": [{}]}), BodyKind::VerifyImages, true),
    ];
    for (body, kind, unknown) in cases {
        let policy = Policy::parse(&policy(rule(body.clone()))).expect("a policy");
        let (_, found, reason) = policy.rules().next().expect("a rule");
        assert_eq!((found, reason.is_some()), (kind, unknown), "{body}");
    }
}
