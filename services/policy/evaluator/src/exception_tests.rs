//! Exceptions of both generations, as a policy sees them.

use crate::{Outcome, Policy, PolicyException, Request};
use jiff::Timestamp;
use serde_json::{Value, json};

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "ml", "labels": {"tier": "old"}},
        "spec": {"hostNetwork": true, "hostPID": true, "containers": [{"name": "a", "image": "nginx"}]},
    })
}

fn classic(validate: &Value) -> Policy {
    let document = json!({
        "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "p"},
        "spec": {"rules": [{"name": "r", "match": {"any": [{"resources": {"kinds": ["Pod"]}}]}, "validate": validate}]},
    });
    Policy::parse(&document).expect("a policy")
}

fn exception(spec: Value) -> PolicyException {
    let document = json!({
        "apiVersion": "kyverno.io/v2", "kind": "PolicyException", "metadata": {"name": "e", "namespace": "team"}, "spec": spec,
    });
    PolicyException::parse(&document).expect("an exception")
}

fn judge(policy: &Policy, object: &Value, exceptions: &[PolicyException]) -> Outcome {
    let request = Request { exceptions, ..Request::create(object) };
    policy.evaluate(&request).swap_remove(0).outcome
}

#[test]
fn an_exception_excuses_the_rules_and_objects_it_names() {
    let policy = classic(&json!({"pattern": {"spec": {"hostNetwork": false}}}));
    let matching = json!({"any": [{"resources": {"kinds": ["Pod"], "names": ["old-*"]}}]});
    let named = |policy: &str, rule: &str| {
        exception(json!({"match": matching, "exceptions": [{"policyName": policy, "ruleNames": [rule]}]}))
    };
    for (exception, object, excused) in [
        (named("p", "r"), pod("old-1"), true),
        (named("p", "*"), pod("old-1"), true),
        (named("p", "r"), pod("new-1"), false),
        (named("p", "other"), pod("old-1"), false),
        (named("q", "r"), pod("old-1"), false),
    ] {
        let outcome = judge(&policy, &object, &[exception]);
        assert_eq!(matches!(outcome, Outcome::Skip { .. }), excused, "{outcome:?}");
        assert_eq!(matches!(outcome, Outcome::Fail { .. }), !excused);
    }
    let Outcome::Skip { reason } = judge(&policy, &pod("old-1"), &[named("p", "r")]) else { panic!("a skip") };
    assert_eq!(reason, "rule skipped due to policy exception team/e");
}

#[test]
fn conditions_of_an_exception_have_to_hold_and_be_known() {
    let policy = classic(&json!({"pattern": {"spec": {"hostNetwork": false}}}));
    for (key, excused) in [
        ("{{ request.object.metadata.labels.tier }}", true),
        ("{{ request.object.metadata.labels.other || '' }}", false),
        ("{{ request.userInfo.username }}", false),
    ] {
        let exception = exception(json!({
            "match": {"any": [{"resources": {"kinds": ["Pod"]}}]},
            "conditions": {"all": [{"key": key, "operator": "Equals", "value": "old"}]},
            "exceptions": [{"policyName": "p", "ruleNames": ["r"]}],
        }));
        assert_eq!(matches!(judge(&policy, &pod("a"), &[exception]), Outcome::Skip { .. }), excused, "{key}");
    }
}

#[test]
fn an_exception_may_excuse_a_part_of_the_pod_security_standards() {
    let policy = classic(&json!({"podSecurity": {"level": "baseline"}}));
    let field = |field: &str| json!({"controlName": "Host Namespaces", "restrictedField": field});
    let exception = |controls: Value| {
        exception(json!({
            "match": {"any": [{"resources": {"kinds": ["Pod"]}}]}, "podSecurity": controls,
            "exceptions": [{"policyName": "p", "ruleNames": ["r"]}],
        }))
    };
    let one = exception(json!([field("spec.hostNetwork")]));
    let Outcome::Fail { path, .. } = judge(&policy, &pod("a"), &[one]) else { panic!("a failure") };
    assert_eq!(path.to_string(), "spec.hostPID");
    let both = exception(json!([field("spec.hostNetwork"), field("spec.hostPID")]));
    assert!(matches!(judge(&policy, &pod("a"), &[both]), Outcome::Skip { .. }));
}

#[test]
fn exceptions_in_cel_name_policies_and_say_what_is_reported() {
    let policy = Policy::parse(&json!({
        "apiVersion": "policies.kyverno.io/v1", "kind": "ValidatingPolicy", "metadata": {"name": "p"},
        "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]},
            "validations": [{"expression": "!has(object.spec.hostNetwork)"}],
        },
    }))
    .expect("a policy");
    let exception = |condition: &str, reported: &str, kind: &str| {
        PolicyException::parse(&json!({
            "apiVersion": "policies.kyverno.io/v1beta1", "kind": "PolicyException", "metadata": {"name": "e"},
            "spec": {
                "policyRefs": [{"name": "p", "kind": kind}], "reportResult": reported,
                "matchConditions": [{"name": "c", "expression": condition}],
            },
        }))
        .expect("an exception")
    };
    let old = "object.metadata.labels.tier == 'old'";
    let skip = judge(&policy, &pod("a"), &[exception(old, "skip", "ValidatingPolicy")]);
    assert!(matches!(skip, Outcome::Skip { .. }));
    assert_eq!(judge(&policy, &pod("a"), &[exception(old, "pass", "ValidatingPolicy")]), Outcome::Pass);
    for (condition, kind) in [("false", "ValidatingPolicy"), ("object.a.b == 1", "ValidatingPolicy"), (old, "MutatingPolicy")] {
        let outcome = judge(&policy, &pod("a"), &[exception(condition, "skip", kind)]);
        assert!(matches!(outcome, Outcome::Fail { .. }), "{condition}: {outcome:?}");
    }
}

#[test]
fn what_is_no_exception_is_refused_by_field() {
    for (group, spec, field) in [
        ("kyverno.io/v2", json!({"match": {}, "exceptions": []}), "spec.exceptions"),
        ("kyverno.io/v2", json!({"exceptions": [{"policyName": "p"}]}), "spec.match"),
        ("kyverno.io/v1", json!({}), "apiVersion"),
        ("policies.kyverno.io/v1", json!({"policyRefs": []}), "spec.policyRefs"),
        (
            "policies.kyverno.io/v1",
            json!({"policyRefs": [{"name": "p"}], "matchConditions": [{"name": "c", "expression": "a ("}]}),
            "spec.matchConditions",
        ),
    ] {
        let document = json!({"apiVersion": group, "kind": "PolicyException", "metadata": {"name": "e"}, "spec": spec});
        assert_eq!(PolicyException::parse(&document).expect_err("refused").field, field);
    }
}

#[test]
fn owner_and_end_stand_in_annotations() {
    let document = |annotations: Value| {
        json!({
            "apiVersion": "kyverno.io/v2", "kind": "PolicyException",
            "metadata": {"name": "e", "annotations": annotations},
            "spec": {"match": {"any": [{"resources": {"kinds": ["Pod"]}}]}, "exceptions": [{"policyName": "p", "ruleNames": ["r"]}]},
        })
    };
    let annotations = json!({"muster.dev/exception-owner": "ada", "muster.dev/exception-ends": "2027-01-31T00:00:00Z"});
    let exception = PolicyException::parse(&document(annotations)).expect("an exception");
    let end: Timestamp = "2027-01-31T00:00:00Z".parse().expect("a time");
    assert_eq!((exception.owner(), exception.ends()), (Some("ada"), Some(end)));
    assert!(exception.holds_at(end - jiff::SignedDuration::from_secs(1)) && !exception.holds_at(end));
    assert!(PolicyException::parse(&document(json!({}))).expect("an exception").holds_at(end));
    let error = PolicyException::parse(&document(json!({"muster.dev/exception-ends": "soon"}))).expect_err("no time");
    assert_eq!(error.field, "metadata.annotations.muster.dev/exception-ends");
}
