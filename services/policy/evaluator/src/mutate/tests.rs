//! Whole rules and what they make of an object.

use super::*;
use serde_json::json;

fn mutate(rules: &Value, object: &Value) -> Vec<Mutated> {
    let rules: Vec<Value> = rules
        .as_array()
        .expect("rules")
        .iter()
        .enumerate()
        .map(|(number, rule)| {
            let mut rule = rule.clone();
            rule["name"] = json!(format!("r{number}"));
            rule["match"] = json!({"any": [{"resources": {"kinds": ["Pod"]}}]});
            rule
        })
        .collect();
    let document = json!({
        "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "p"}, "spec": {"rules": rules},
    });
    Policy::parse(&document).expect("a policy").mutate(&Request::create(object))
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "ml"},
        "spec": {"containers": [{"name": "x", "image": "nginx"}, {"name": "y", "image": "corp/y"}]},
    })
}

#[test]
fn rules_change_the_object_one_after_another() {
    let rules = json!([
        {"mutate": {"patchStrategicMerge": {"metadata": {"labels": {"+(team)": "{{ request.namespace }}"}}}}},
        {"mutate": {"patchesJson6902": "- {op: add, path: /metadata/labels/seen, value: '{{ request.object.metadata.labels.team }}'}"}},
        {"mutate": {"patchStrategicMerge": {"metadata": {"labels": {"+(team)": "other"}}}}},
    ]);
    let made = mutate(&rules, &pod());
    assert_eq!(made[1].object["metadata"]["labels"], json!({"team": "ml", "seen": "ml"}));
    assert_eq!((&made[0].outcome, &made[1].outcome), (&Outcome::Pass, &Outcome::Pass));
    assert!(matches!(made[2].outcome, Outcome::Skip { .. }));
}

#[test]
fn foreach_changes_element_by_element() {
    let rules = json!([
        {"mutate": {"foreach": [{
            "list": "request.object.spec.containers",
            "patchStrategicMerge": {"spec": {"containers": [{"name": "{{ element.name }}", "image": "corp/{{ element.image }}"}]}},
            "preconditions": {"all": [{"key": "{{ element.image }}", "operator": "NotEquals", "value": "corp/*"}]},
        }]}},
        {"mutate": {"foreach": [{
            "list": "request.object.spec.containers", "order": "Descending",
            "patchesJson6902": "- {op: remove, path: '/spec/containers/{{ elementIndex }}'}",
        }]}},
    ]);
    let made = mutate(&rules, &pod());
    assert_eq!(
        made[0].object["spec"]["containers"],
        json!([{"name": "x", "image": "corp/nginx"}, {"name": "y", "image": "corp/y"}])
    );
    assert_eq!(made[1].object["spec"]["containers"], json!([]));
}

#[test]
fn what_goes_wrong_changes_nothing() {
    let rules = json!([
        {"mutate": {"patchesJson6902": "- {op: replace, path: /nowhere, value: 1}"}},
        {"mutate": {"patchStrategicMerge": {"metadata": {"labels": {"who": "{{ request.userInfo.username }}"}}}}},
        {"mutate": {"patchStrategicMerge": {"spec": {"<(hostNetwork)": true, "dnsPolicy": "Default"}}}},
    ]);
    let made = mutate(&rules, &pod());
    assert!(matches!(made[0].outcome, Outcome::Error { .. }));
    assert!(matches!(made[1].outcome, Outcome::NotEvaluated { .. }));
    assert!(matches!(made[2].outcome, Outcome::Skip { .. }));
    assert!(made.iter().all(|made| made.object == pod()));
}

fn in_cel(mutations: &Value) -> Policy {
    Policy::parse(&json!({
        "apiVersion": "policies.kyverno.io/v1", "kind": "MutatingPolicy", "metadata": {"name": "p"},
        "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]},
            "matchConditions": [{"name": "c", "expression": "!has(object.spec.hostNetwork)"}],
            "variables": [{"name": "registry", "expression": "'corp/'"}],
            "mutations": mutations,
        },
    }))
    .expect("a policy")
}

fn changes() -> Value {
    json!([
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
            "Object{metadata: Object.metadata{labels: {'a/b': 'c'}}, spec: Object.spec{containers: object.spec.containers.map(c, \
             Object.spec.containers{name: c.name, image: variables.registry + c.image})}}"}},
        {"patchType": "JSONPatch", "jsonPatch": {"expression":
            "[JSONPatch{op: 'replace', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: object.spec.containers[0].image}]"}},
    ])
}

#[test]
fn a_mutating_policy_applies_configurations_and_patches_in_order() {
    let made = in_cel(&changes()).mutate(&Request::create(&pod()));
    assert_eq!((made.len(), made[0].rule.as_str(), &made[0].outcome), (1, "p", &Outcome::Pass));
    assert_eq!(made[0].object["spec"]["containers"][0], json!({"name": "x", "image": "corp/nginx"}));
    assert_eq!(made[0].object["metadata"]["labels"], json!({"a/b": "corp/nginx"}));
    let mut elsewhere = pod();
    elsewhere["spec"]["hostNetwork"] = json!(true);
    assert_eq!(in_cel(&changes()).mutate(&Request::create(&elsewhere)), []);
    let wrong =
        json!([{"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'test', path: '/kind', value: 'Job'}]"}}]);
    let made = in_cel(&wrong).mutate(&Request::create(&pod()));
    assert!(matches!(made[0].outcome, Outcome::Error { .. }) && made[0].object == pod());
}

#[test]
fn a_mutating_policy_about_pods_changes_the_templates_of_their_controllers() {
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "ml"},
        "spec": {"template": {"spec": pod()["spec"]}},
    });
    let made = in_cel(&changes()).mutate(&Request::create(&deployment));
    assert_eq!(made[0].rule, "autogen-defaults-p");
    let template = &made[0].object["spec"]["template"];
    assert_eq!(template["spec"]["containers"][1], json!({"name": "y", "image": "corp/corp/y"}));
    assert_eq!(template["metadata"], json!({"labels": {"a/b": "corp/nginx"}}));
}

#[test]
fn a_mutating_policy_has_no_verdict() {
    let policy = in_cel(&changes());
    let results = policy.evaluate(&Request::create(&pod()));
    assert!(matches!(results[0].outcome, Outcome::NotEvaluated { .. }) && !results[0].body.can_refuse());
    assert!(!Policy::reads("policies.kyverno.io/v1", "MutatingPolicy"));
}
