//! A `ValidatingPolicy`, and exceptions from either kind, in the words of an API server.

use super::tests::{is_refused, objects, pods, policy, read};
use super::*;
use crate::{Outcome, Request};

fn validating(spec: &str) -> Policy {
    let text = format!(
        "apiVersion: policies.kyverno.io/v1\nkind: ValidatingPolicy\nmetadata: {{name: v}}\nspec:\n  matchConstraints:\n    \
         resourceRules: [{{apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods]}}]\n{spec}"
    );
    Policy::parse(&value(&text)).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn value(text: &str) -> Value {
    muster_core::manifest::parse_one(text).unwrap_or_else(|error| panic!("{error}\n{text}")).value
}

fn is_refused_unless(policy: &Policy, exceptions: &[PolicyException], object: &Value) -> bool {
    let request = Request { exceptions, ..Request::create(object) };
    policy.evaluate(&request).iter().any(|result| matches!(result.outcome, Outcome::Fail { .. } | Outcome::Error { .. }))
}

#[test]
fn a_validating_policy_refuses_the_same_in_the_words_of_an_api_server() {
    for spec in [
        "  validations: [{expression: \"!has(object.spec.hostNetwork) || !object.spec.hostNetwork\", message: never}]\n",
        "  matchConditions: [{name: ours, expression: \"has(object.metadata.labels) && 'tier' in object.metadata.labels\"}]\n  \
         variables: [{name: all, expression: object.spec.containers}, {name: images, expression: \"variables.all.map(image, image.image)\"}]\n  \
         validations: [{expression: \"variables.images.all(i, i.startsWith('ghcr.io/'))\", messageExpression: \"'image: ' + variables.images[0]\"}]\n",
        "  autogen: {podControllers: {controllers: [deployments]}}\n  validationActions: [Audit, Warn]\n  \
         validations: [{expression: \"object.spec.?securityContext.runAsNonRoot.orValue(false)\"}]\n",
    ] {
        let original = validating(spec);
        let documents = translate(&original, Target::ValidatingAdmissionPolicy).unwrap_or_else(|reasons| panic!("{reasons:?}"));
        let original = [original];
        let mut refused = 0;
        for object in objects() {
            let expected = is_refused(&original, &object);
            refused += usize::from(expected);
            assert_eq!(is_refused(&read(&documents), &object), expected, "{spec}{object:#}\n{}", json!(documents));
        }
        assert!(refused > 0, "nothing breaks the policy: {spec}");
        let wanted = if spec.contains("Warn") { json!(["Audit", "Warn"]) } else { json!(["Deny"]) };
        assert_eq!(documents[1]["spec"]["validationActions"], wanted);
    }
}

#[test]
fn what_only_kyverno_knows_is_refused_by_field() {
    for (spec, field) in [
        (
            "  validations: [{expression: \"image(object.spec.containers[0].image).registry() == 'a'\"}]\n",
            "spec.validations[0].expression",
        ),
        ("  validations: [{expression: \"images.containers.size() > 0\"}]\n", "spec.validations[0].expression"),
        (
            "  variables: [{name: r, expression: \"resource.Get('v1', 'pods', 'a', 'b')\"}]\n  validations: [{expression: \"true\"}]\n",
            "spec.variables[0].expression",
        ),
        (
            "  variables: [{name: a, expression: variables.b}, {name: b, expression: \"1\"}]\n  validations: [{expression: \"true\"}]\n",
            "spec.variables[0].expression",
        ),
        ("  validations: [{expression: \"object.spec.volumes.orValue([]).size() == 0\"}]\n", "spec.validations[0].expression"),
        (
            "  evaluation: {admission: {enabled: false}}\n  validations: [{expression: \"true\"}]\n",
            "spec.evaluation.admission.enabled",
        ),
    ] {
        let refused = translate(&validating(spec), Target::ValidatingAdmissionPolicy).expect_err(spec);
        assert_eq!(refused[0].field, field, "{spec}");
    }
    let already = translate(&validating("  validations: [{expression: \"true\"}]\n"), Target::ValidatingPolicy);
    assert_eq!(already.expect_err("translated")[0].field, "kind");
}

#[test]
fn what_an_exception_excuses_is_not_asked() {
    let classic = policy(&pods("{pattern: {metadata: {labels: {owner: ada}}}}"));
    let newer =
        validating("  validations: [{expression: \"has(object.metadata.labels) && 'owner' in object.metadata.labels\"}]\n");
    let rules = |matching: &str| {
        format!(
            "apiVersion: kyverno.io/v2\nkind: PolicyException\nmetadata: {{name: e, namespace: a}}\nspec:\n  exceptions: \
             [{{policyName: p, ruleNames: [r, autogen-r]}}]\n  match: {matching}\n"
        )
    };
    let policies = |conditions: &str| {
        format!(
            "apiVersion: policies.kyverno.io/v1\nkind: PolicyException\nmetadata: {{name: e, namespace: a}}\nspec:\n  policyRefs: \
             [{{name: v, kind: ValidatingPolicy}}]\n{conditions}"
        )
    };
    for (original, exception) in [
        (
            &classic,
            rules(
                "{any: [{resources: {kinds: [Pod], names: [\"pod-1*\"]}}, {resources: {kinds: [\"apps/*/Deployment\"], namespaces: [\"team-?\"]}}]}",
            ),
        ),
        (
            &classic,
            rules(
                "{any: [{resources: {selector: {matchLabels: {tier: \"back*\"}, matchExpressions: [{key: app, operator: In, values: [pod-0, pod-6]}]}}}]}",
            ),
        ),
        (&classic, rules("{all: [{resources: {operations: [CREATE], kinds: [\"*\"]}}, {resources: {names: [a]}}]}")),
        (&newer, policies("  matchConditions: [{name: c, expression: \"object.metadata.name == 'b'\"}]\n")),
    ] {
        let document = value(&exception);
        let exceptions = [PolicyException::parse(&document).expect("an exception")];
        let documents = translate_excusing(original, Target::ValidatingAdmissionPolicy, &[&document]);
        let documents = documents.unwrap_or_else(|reasons| panic!("{reasons:?}\n{exception}"));
        let mut excused = 0;
        for object in objects() {
            let expected = is_refused_unless(original, &exceptions, &object);
            excused += usize::from(is_refused_unless(original, &[], &object) != expected);
            assert_eq!(is_refused(&read(&documents), &object), expected, "{exception}{object:#}\n{}", json!(documents));
        }
        assert!(excused > 0, "the exception excuses from nothing: {exception}");
    }
    let always = value(&policies(""));
    assert_eq!(translate_excusing(&newer, Target::ValidatingAdmissionPolicy, &[&always]), Ok(Vec::new()));
}

#[test]
fn an_exception_without_counterpart_is_named() {
    let original = policy(&pods("{pattern: {metadata: {labels: {owner: ada}}}}"));
    let exception = |rest: &str| {
        value(&format!(
            "apiVersion: kyverno.io/v2\nkind: PolicyException\nmetadata: {{name: e}}\nspec:\n  exceptions: [{{policyName: p, ruleNames: \
             [r]}}]\n{rest}"
        ))
    };
    for (rest, field) in [
        (
            "  match: {any: [{resources: {kinds: [Pod]}}]}\n  conditions: {any: [{key: a, operator: Equals, value: a}]}\n",
            "exception e: spec.conditions",
        ),
        ("  match: {any: [{subjects: [{kind: User, name: a}]}]}\n", "exception e: spec.match.any[0].subjects"),
    ] {
        let refused = translate_excusing(&original, Target::ValidatingAdmissionPolicy, &[&exception(rest)]);
        assert_eq!(refused.expect_err(rest)[0].field, field);
    }
}
