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
