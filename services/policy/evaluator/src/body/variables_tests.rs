//! Rules with variables: preconditions, `deny`, patterns and `foreach`, as a whole policy judges them.

use crate::{Operation, Outcome, Policy, Request};
use serde_json::{Value, json};

fn policy(rule: &Value) -> Policy {
    let mut rule = rule.clone();
    rule["name"] = json!("r");
    rule["match"] = json!({"any": [{"resources": {"kinds": ["Pod"]}}]});
    let document = json!({
        "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy",
        "metadata": {"name": "p", "annotations": {"pod-policies.kyverno.io/autogen-controllers": "none"}},
        "spec": {"rules": [rule]},
    });
    Policy::parse(&document).expect("a policy")
}

fn judge(rule: &Value, spec: Value) -> Option<Outcome> {
    let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "ml"}, "spec": spec});
    policy(rule).evaluate(&Request::create(&object)).pop().map(|result| result.outcome)
}

fn table(rule: &Value, cases: &[(Value, &str)]) {
    for (spec, expected) in cases {
        let outcome = judge(rule, spec.clone());
        assert_eq!(outcome.as_ref().map_or("nothing", Outcome::word), *expected, "{spec}: {outcome:?}");
    }
}

#[test]
fn preconditions_decide_whether_a_rule_applies() {
    let rule = json!({
        "preconditions": {
            "all": [{"key": "{{ request.object.spec.tier || '' }}", "operator": "Equals", "value": "gold"}],
            "any": [
                {"key": "{{ request.operation }}", "operator": "AnyIn", "value": ["UPDATE"]},
                {"key": "{{ length(request.object.spec.containers) }}", "operator": "GreaterThan", "value": 0},
            ],
        },
        "validate": {"pattern": {"spec": {"replicas": ">1"}}},
    });
    table(
        &rule,
        &[
            (json!({"tier": "gold", "containers": [{}], "replicas": 2}), "pass"),
            (json!({"tier": "gold", "containers": [{}], "replicas": 1}), "fail"),
            (json!({"tier": "iron", "containers": [{}], "replicas": 1}), "skip"),
            (json!({"tier": "gold", "containers": [], "replicas": 1}), "skip"),
            (json!({"tier": "gold", "replicas": 1}), "error"),
        ],
    );
}

#[test]
fn deny_refuses_what_its_conditions_describe_and_says_so_with_its_variables() {
    let rule = json!({
        "context": [{"name": "account", "variable": {"jmesPath": "request.object.spec.account", "default": "none"}}],
        "validate": {
            "message": "{{ account }} may not run in {{ request.namespace }}",
            "deny": {"conditions": {"any": [
                {"key": "{{ account }}", "operator": "AnyNotIn", "value": ["bot", "none"], "message": "it is no known account"},
            ]}},
        },
    });
    table(&rule, &[(json!({"account": "bot"}), "pass"), (json!({}), "pass"), (json!({"account": "root"}), "fail")]);
    let Some(Outcome::Fail { message, .. }) = judge(&rule, json!({"account": "root"})) else { panic!("a failure") };
    assert_eq!(message, "root may not run in ml; it is no known account");
}

#[test]
fn an_empty_deny_refuses_everything() {
    table(&json!({"validate": {"deny": {}}}), &[(json!({}), "fail")]);
}

#[test]
fn patterns_hold_variables() {
    let rule = json!({"validate": {
        "message": "wanted: {{ request.object.spec.wanted }}",
        "pattern": {"spec": {"found": "{{ request.object.spec.wanted }}", "limit": "$(<=/spec/found)"}},
    }});
    table(
        &rule,
        &[
            (json!({"wanted": "5", "found": 5, "limit": 4}), "pass"),
            (json!({"wanted": "5", "found": 6, "limit": 4}), "fail"),
            (json!({"wanted": "5", "found": 5, "limit": 6}), "fail"),
            (json!({"found": 5}), "error"),
        ],
    );
    let Some(Outcome::Fail { message, .. }) = judge(&rule, json!({"wanted": "5", "found": 6})) else { panic!("a failure") };
    assert_eq!(message, "validation error: wanted: 5. rule r failed at path /spec/found/");
}

#[test]
fn foreach_judges_every_element() {
    let deny = json!({"validate": {"foreach": [{
        "list": "request.object.spec.containers",
        "preconditions": {"all": [{"key": "{{ element.name }}", "operator": "NotEquals", "value": "proxy"}]},
        "deny": {"conditions": {"all": [{"key": "{{ element.image }}", "operator": "Equals", "value": "*:latest"}]}},
    }]}});
    table(
        &deny,
        &[
            (json!({"containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y:2"}]}), "pass"),
            (json!({"containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y:latest"}]}), "fail"),
            (json!({"containers": [{"name": "proxy", "image": "y:latest"}]}), "skip"),
            (json!({"containers": [null]}), "skip"),
            (json!({}), "skip"),
            (json!({"containers": [{"name": "a"}]}), "error"),
            (json!({"containers": [{"name": "a"}, {"name": "b", "image": "y:latest"}]}), "fail"),
        ],
    );
    let Some(Outcome::Fail { detail, .. }) = judge(&deny, json!({"containers": [{"name": "b", "image": "y:latest"}]})) else {
        panic!("a failure")
    };
    assert_eq!(detail, "element 0 of request.object.spec.containers: {{ element.image }} Equals *:latest holds");
}

#[test]
fn foreach_patterns_are_about_the_element_and_lists_may_nest() {
    let pattern = json!({"validate": {"foreach": [{
        "list": "request.object.spec.containers", "pattern": {"image": "*:*"},
    }]}});
    table(
        &pattern,
        &[
            (json!({"containers": [{"image": "a:1"}]}), "pass"),
            (json!({"containers": [{"image": "a:1"}, {"image": "b"}]}), "fail"),
        ],
    );
    let nested = json!({"validate": {"foreach": [{
        "list": "request.object.spec.containers",
        "foreach": [{
            "list": "element.ports",
            "deny": {"conditions": {"any": [
                {"key": "{{ elementIndex0 }}-{{ elementIndex1 }}-{{ element }}", "operator": "Equals", "value": "1-0-80"},
            ]}},
        }],
    }]}});
    table(
        &nested,
        &[
            (json!({"containers": [{"ports": [80]}, {"ports": [81, 80]}]}), "pass"),
            (json!({"containers": [{"ports": [80]}, {"ports": [80]}]}), "fail"),
        ],
    );
}

#[test]
fn a_rule_that_never_ends_is_an_error_and_not_a_pass() {
    let rule = json!({"validate": {"foreach": [{
        "list": "request.object.spec.list",
        "foreach": [{
            "list": "request.object.spec.list",
            "foreach": [{"list": "request.object.spec.list", "deny": {"conditions": {"any": [
                {"key": "{{ element }}", "operator": "Equals", "value": -1},
            ]}}}],
        }],
    }]}});
    let list: Vec<usize> = (0..1_000).collect();
    table(&rule, &[(json!({"list": list}), "error")]);
}

#[test]
fn what_is_removed_is_asked_for_as_the_old_object() {
    let rule = json!({"validate": {"deny": {"conditions": {"all": [
        {"key": "{{ request.object.metadata.name }}", "operator": "Equals", "value": "a"},
        {"key": "{{ request.operation }}", "operator": "Equals", "value": "DELETE"},
    ]}}}});
    let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}});
    let request = Request { operation: Operation::Delete, ..Request::create(&object) };
    let outcome = policy(&rule).evaluate(&request).pop().map(|result| result.outcome);
    assert_eq!(outcome.as_ref().map_or("nothing", Outcome::word), "fail");
}

#[test]
fn a_change_is_refused_for_what_it_breaks_and_not_for_what_was_broken() {
    let rule = |allow: Option<bool>| {
        let mut rule = json!({"validate": {
            "failureAction": "Enforce",
            "deny": {"conditions": {"any": [{"key": "{{ request.object.spec.tier }}", "operator": "NotEquals", "value": "gold"}]}},
        }});
        if let Some(allow) = allow {
            rule["validate"]["allowExistingViolations"] = json!(allow);
        }
        rule
    };
    let object = |tier: &str| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"tier": tier}});
    for (allow, before, expected) in [(None, "iron", "skip"), (Some(false), "iron", "fail"), (None, "gold", "fail")] {
        let (old, new) = (object(before), object("iron"));
        let request = Request { operation: Operation::Update, old_object: Some(&old), ..Request::create(&new) };
        let outcome = policy(&rule(allow)).evaluate(&request).pop().map(|result| result.outcome);
        assert_eq!(outcome.as_ref().map_or("nothing", Outcome::word), expected, "{allow:?} {before}");
    }
}

#[test]
fn conditions_with_an_unknown_operator_are_refused_by_field() {
    let document = json!({
        "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "p"},
        "spec": {"rules": [{
            "name": "r", "match": {"any": [{"resources": {"kinds": ["Pod"]}}]},
            "validate": {"deny": {"conditions": {"any": [{"key": "a", "operator": "Like", "value": "b"}]}}},
        }]},
    });
    let error = Policy::parse(&document).expect_err("refused");
    assert_eq!(error.field, "spec.rules[0].validate.deny.conditions.any[0].operator");
}

#[test]
fn a_request_that_is_taken_whole_many_times_is_an_error() {
    let rule = |times: usize| {
        let key = format!("{{{{ length([{}]) }}}}", vec!["@"; times].join(","));
        json!({"validate": {"deny": {"conditions": {"all": [{"key": key, "operator": "Equals", "value": 0}]}}}})
    };
    let spec = json!({"text": "a".repeat(100_000)});
    assert_eq!(judge(&rule(8), spec.clone()), Some(Outcome::Pass));
    let costly = judge(&rule(5_000), spec);
    assert!(matches!(costly, Some(Outcome::Error { .. })), "{costly:?}");
}
