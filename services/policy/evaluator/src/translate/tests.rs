//! The same verdicts in other words, over generated workloads and objects of every shape the rules ask about.

use super::*;
use crate::{Outcome, Request, speed};

pub fn policy(rules: &str) -> Policy {
    let text = format!(
        "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {{name: p, annotations: {{a: b}}}}\nspec:\n  \
         validationFailureAction: Enforce\n  rules:\n{rules}"
    );
    let document = muster_core::manifest::parse_one(&text).unwrap_or_else(|error| panic!("{error}\n{text}")).value;
    Policy::parse(&document).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A rule about Pods.
pub fn pods(validate: &str) -> String {
    format!("  - name: r\n    match: {{any: [{{resources: {{kinds: [Pod]}}}}]}}\n    validate: {validate}\n")
}

/// The policies of the translation, those of Kubernetes under their bindings.
pub fn read(documents: &[Value]) -> Vec<Policy> {
    let mut policies: Vec<Policy> = Vec::new();
    for document in documents {
        if document["kind"] == "ValidatingAdmissionPolicyBinding" {
            let policy = policies.pop().expect("the policy goes before its binding");
            policies.push(policy.bound_by(document).expect("a binding"));
        } else {
            policies.push(Policy::parse(document).unwrap_or_else(|error| panic!("{error}\n{document:#}")));
        }
    }
    policies
}

/// Whether any of the policies refuses the object.
pub fn is_refused(policies: &[Policy], object: &Value) -> bool {
    let results = policies.iter().flat_map(|policy| policy.evaluate(&Request::create(object)));
    results
        .inspect(|result| assert!(!matches!(result.outcome, Outcome::NotEvaluated { .. }), "{result:?}"))
        .any(|result| matches!(result.outcome, Outcome::Fail { .. } | Outcome::Error { .. }))
}

pub fn objects() -> Vec<Value> {
    let mut objects = speed::workloads(144);
    let pod = |metadata: Value, spec: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
    let container = |image: &str| json!({"name": "a", "image": image});
    for (labels, image) in [
        (json!({"owner": "ada", "app.kubernetes.io/name": "x"}), "nginx:latest"),
        (json!({"owner": "", "tier": "true"}), "ghcr.io/a/b:1"),
        (json!({"owner": "x-bot"}), "registry.example.com/a"),
    ] {
        objects.push(pod(json!({"name": "a", "namespace": "ml", "labels": labels}), json!({"containers": [container(image)]})));
    }
    objects
        .push(pod(json!({"name": "b", "namespace": "kube-system"}), json!({"containers": [container("a:1")], "hostPID": false})));
    objects.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"type": "NodePort"}}));
    objects
}

#[test]
fn the_verdicts_are_the_same() {
    let rules = [
        pods("{message: never, pattern: {spec: {\"=(hostNetwork)\": false, \"=(hostPID)\": \"false\"}}}"),
        pods("{pattern: {spec: {containers: [{\"=(securityContext)\": {\"=(privileged)\": \"false\"}}]}}}"),
        pods("{pattern: {spec: {containers: [{image: \"registry.example.com/* | ghcr.io/*\"}]}}}"),
        pods("{pattern: {spec: {containers: [{image: \"!*:latest & *:*\"}]}}}"),
        pods("{pattern: {metadata: {labels: {owner: \"?*\", app.kubernetes.io/name: \"*\"}}}}"),
        pods("{pattern: {metadata: {\"=(labels)\": {\"=(tier)\": \"!true\"}}}}"),
        pods("{pattern: {spec: {\"=(volumes)\": [{\"X(hostPath)\": \"null\"}]}}}"),
        pods("{pattern: {spec: {containers: [{resources: {limits: {memory: \"?*\", nvidia.com/gpu: \"?*\"}}}]}}}"),
        pods("{pattern: {spec: {containers: [{resources: {\"=(limits)\": {memory: \"!25*\"}}}]}}}"),
        pods("{anyPattern: [{spec: {securityContext: {runAsNonRoot: true}}}, {metadata: {labels: {owner: \"ada\"}}}]}"),
        pods("{cel: {expressions: [{expression: \"object.spec.containers.all(c, !c.image.endsWith(\':latest\'))\", message: never}]}}"),
        pods("{cel: {variables: [{name: all, expression: object.spec.containers}], expressions: [{expression: \"variables.all.size() < 2\"}]}}"),
        "  - name: a rule\n    match: {any: [{resources: {kinds: [Service]}}]}\n    exclude: {any: [{resources: {namespaces: [\"kube-*\"]}}]}\n    \
         validate: {pattern: {spec: {type: \"!NodePort\"}}}\n  - name: another\n    match: {any: [{resources: {kinds: [Pod], namespaces: \
         [ml, \"team-1?\"]}}]}\n    validate: {pattern: {spec: {hostNetwork: true}}}\n"
            .to_owned(),
        "  - name: r\n    match: {all: [{resources: {kinds: [apps/v1/Deployment], selector: {matchLabels: {tier: backend}}, names: \
         [\"*-1?\"]}}]}\n    validate: {pattern: {spec: {template: {spec: {\"=(hostNetwork)\": false}}}}}\n"
            .to_owned(),
    ];
    for rules in rules {
        let original = [policy(&rules)];
        let mut refused = 0;
        for target in [Target::ValidatingPolicy, Target::ValidatingAdmissionPolicy] {
            let documents = translate(&original[0], target).unwrap_or_else(|reasons| panic!("{reasons:?}\n{rules}"));
            let translated = read(&documents);
            for object in objects() {
                let expected = is_refused(&original, &object);
                refused += usize::from(expected);
                assert_eq!(is_refused(&translated, &object), expected, "{rules}{object:#}\n{}", json!(documents));
            }
        }
        assert!(refused > 0, "nothing breaks the rule, which says nothing: {rules}");
    }
}

#[test]
fn what_has_no_other_words_is_refused_by_rule_and_field() {
    for (rules, field) in [
        (pods("{deny: {conditions: {any: [{key: a, operator: Equals, value: a}]}}}"), "validate.deny"),
        (pods("{pattern: {spec: {\"(hostNetwork)\": true}}}"), "validate.pattern.spec.(hostNetwork)"),
        (pods("{pattern: {spec: {priority: \">5\"}}}"), "validate.pattern.spec.priority"),
        (pods("{pattern: {spec: {priority: 5}}}"), "validate.pattern.spec.priority"),
        (pods("{pattern: {metadata: {annotations: {\"a/*\": b}}}}"), "validate.pattern.metadata.annotations.a/*"),
        (pods("{pattern: {spec: {containers: [{args: \"a*\"}]}}}"), "validate.pattern.spec.containers[0].args"),
        (
            "  - name: r\n    match: {any: [{resources: {kinds: [example.com/v1/Thing]}}]}\n    validate: {pattern: {a: b}}\n".to_owned(),
            "match",
        ),
        (
            "  - name: r\n    match: {any: [{resources: {kinds: [Thing]}}]}\n    validate: {cel: {expressions: [{expression: \"true\"}]}}\n"
                .to_owned(),
            "match.any[0].resources.kinds",
        ),
        (
            "  - name: r\n    match: {any: [{resources: {kinds: [Pod]}}]}\n    context: [{name: a, variable: {value: 1}}]\n    \
             validate: {pattern: {a: b}}\n"
                .to_owned(),
            "context",
        ),
    ] {
        let refused = translate(&policy(&rules), Target::ValidatingPolicy).expect_err(&rules);
        assert_eq!((refused[0].rule.as_str(), refused[0].field.as_str()), ("r", field), "{rules}");
    }
}

#[test]
fn messages_have_one_line_and_expressions_of_several_have_a_message() {
    let cel = |rest: &str| pods(&format!("{{{rest}cel: {{expressions: [{{expression: \"true &&\\n true\"}}]}}}}"));
    let of_own = pods("{message: never, cel: {expressions: [{expression: \"true\", message: \"its\\n\\n own\"}]}}");
    let computed = pods("{message: never, cel: {expressions: [{expression: \"true\", messageExpression: \"'a'\"}]}}");
    for (rules, message) in [
        (cel("message: \"never:\\n  - this\\n\", "), json!("never: - this")),
        (cel(""), json!("the object breaks the rule")),
        (of_own, json!("its own")),
        (computed, Value::Null),
    ] {
        let documents = translate(&policy(&rules), Target::ValidatingAdmissionPolicy).expect("translated");
        assert_eq!(documents[0]["spec"]["validations"][0]["message"], message, "{rules}");
    }
}

#[test]
fn the_api_server_is_told_where_it_knows_no_types() {
    let rules = pods("{pattern: {spec: {containers: [{resources: {limits: {nvidia.com/gpu: \"?*\"}}}]}}}");
    let documents = translate(&policy(&rules), Target::ValidatingAdmissionPolicy).expect("translated");
    let expression = documents[0]["spec"]["validations"][0]["expression"].as_str().expect("an expression").to_owned();
    assert!(expression.contains("has(dyn(e1.resources).limits)"), "{expression}");
    assert!(!expression.contains("e1.resources.limits"), "{expression}");
}

#[test]
fn actions_messages_and_annotations_are_kept() {
    let documents =
        translate(&policy(&pods("{message: never, pattern: {spec: {hostPID: false}}}")), Target::ValidatingAdmissionPolicy);
    let documents = documents.expect("translated");
    let names: Vec<&Value> = documents.iter().map(|document| &document["metadata"]["name"]).collect();
    assert_eq!(names, ["p", "p", "p-controllers", "p-controllers", "p-cronjobs", "p-cronjobs"]);
    assert_eq!(documents[0]["metadata"]["annotations"], json!({"a": "b"}));
    assert_eq!(
        documents[0]["spec"]["validations"],
        json!([{"expression": "has(object.spec) && has(object.spec.hostPID) && object.spec.hostPID == false", "message": "never"}])
    );
    assert_eq!(documents[1]["spec"], json!({"policyName": "p", "validationActions": ["Deny"]}));
}
