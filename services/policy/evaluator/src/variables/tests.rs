//! Variables in texts, context entries, and values told beforehand.

use super::*;
use crate::{
    Extent, Inventory, Request,
    expression::NoValue,
    field::Field,
    jmespath::{JmesError, Program},
};
use serde_json::{Value, json};

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "ml", "labels": {"app": "web"}},
        "spec": {"account": "bot", "containers": [{"name": "a", "image": "ghcr.io/x/a:1"}, {"name": "b", "image": "redis"}]},
    })
}

fn resolve(request: &Request<'_>, entries: &Value, template: &Value) -> Result<Value, JmesError> {
    let entries = Entry::parse_all(&Field::root(entries)).expect("entries").expect("expressions");
    let context = Context::new(request, "r");
    // The context borrows its entries for as long as it lives.
    let mut local = Context::new(context.request(), "r");
    local.add_entries(&entries);
    let value = Template::compile(template)?.resolve(&mut local);
    drop(local);
    context.charge(0)?;
    value
}

fn of_pod(template: &Value) -> Result<Value, JmesError> {
    resolve(&Request::create(&pod()), &json!([]), template)
}

#[test]
fn a_variable_is_what_it_stands_for_and_a_text_in_a_text() {
    for (template, expected) in [
        (json!("{{ request.object.spec.containers[].name }}"), json!(["a", "b"])),
        (json!("{{request.namespace}}/{{ request.object.metadata.name }}"), json!("ml/web")),
        (json!("names {{ request.object.spec.containers[].name }}"), json!(r#"names ["a","b"]"#)),
        (json!({"{{ request.namespace }}": ["{{ request.operation }}", 1]}), json!({"ml": ["CREATE", 1]})),
        (json!("{{ regex_match('^w', '{{ request.object.metadata.name }}') }}"), json!(true)),
        (json!(r"\{{ kept }}"), json!("{{ kept }}")),
        (json!("{{ images.containers.*.registry }}"), json!(["ghcr.io", "docker.io"])),
        (json!("{{ images.containers.b.path }}:{{ images.containers.b.tag }}"), json!("redis:latest")),
        (json!("{{ request.object.metadata.labels.{a: app} }}"), json!({"a": "web"})),
        (json!("plain"), json!("plain")),
    ] {
        assert_eq!(of_pod(&template), Ok(expected), "{template}");
    }
    assert!(matches!(of_pod(&json!("{{ request.object.spec.missing }}")), Err(JmesError::NotFound(_))));
    assert!(matches!(of_pod(&json!("a {{ request.userInfo.username }}")), Err(JmesError::NoValue(NoValue::NotGiven(_)))));
}

#[test]
fn variables_that_make_variables_end() {
    let mut object = pod();
    object["metadata"]["name"] = json!("{{ request.object.metadata.name }}{{ request.object.metadata.name }}");
    let request = Request::create(&object);
    let outcome = resolve(&request, &json!([]), &json!("x {{ request.object.metadata.name }}"));
    assert!(matches!(outcome, Err(JmesError::NoValue(NoValue::Failed(_)))), "{outcome:?}");
}

#[test]
fn context_entries_are_loaded_when_they_are_asked_for() {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "allowed", "namespace": "ml"},
        "data": {"bot": "yes"},
    });
    let inventory = Inventory::new(vec![map], Extent::Whole);
    let object = pod();
    let request = Request { inventory: Some(&inventory), ..Request::create(&object) };
    let entries = json!([
        {"name": "wrong", "variable": {"jmesPath": "request.object.spec.missing"}},
        {"name": "account", "variable": {"jmesPath": "request.object.spec.account"}},
        {"name": "level", "variable": {"jmesPath": "request.object.spec.level", "default": "low"}},
        {"name": "upper", "variable": {"value": {"a": "{{ account }}"}, "jmesPath": "to_upper(a)"}},
        {"name": "allowed", "configMap": {"name": "allowed", "namespace": "{{ request.namespace }}"}},
        {"name": "count", "apiCall": {"urlPath": "/api/v1/namespaces/{{ request.namespace }}/configmaps", "jmesPath": "items | length(@)"}},
        {"name": "none", "apiCall": {"urlPath": "/api/v1/namespaces/ml/secrets/a", "default": "nothing"}},
        {"name": "service", "apiCall": {"service": {"url": "http://policies.example.com"}}},
    ]);
    for (template, expected) in [
        ("{{ allowed.data.\"{{ account }}\" }}", json!("yes")),
        ("{{ upper }}-{{ level }}", json!("BOT-low")),
        ("{{ count }}", json!(1)),
        ("{{ none }}", json!("nothing")),
    ] {
        assert_eq!(resolve(&request, &entries, &json!(template)), Ok(expected), "{template}");
    }
    assert!(matches!(resolve(&request, &entries, &json!("{{ wrong }}")), Err(JmesError::NotFound(_))));
    assert!(matches!(resolve(&request, &entries, &json!("{{ service }}")), Err(JmesError::NoValue(NoValue::NotGiven(_)))));
    let unknown = Request::create(&object);
    assert!(matches!(resolve(&unknown, &entries, &json!("{{ count }}")), Err(JmesError::NoValue(NoValue::NotGiven(_)))));
}

#[test]
fn what_is_told_beforehand_stands_for_the_outside() {
    let object = pod();
    let answers = Answers {
        everywhere: vec![("request.namespace".to_owned(), json!("told"))],
        of_rules: [("r".to_owned(), vec![("map.data.\"a.b\"".to_owned(), json!("yes")), ("count".to_owned(), json!(2))])].into(),
        ..Answers::default()
    };
    let request = Request { answers: Some(&answers), ..Request::create(&object) };
    let entries = json!([
        {"name": "map", "configMap": {"name": "m", "namespace": "n"}},
        {"name": "count", "apiCall": {"urlPath": "/api/v1/pods"}},
        {"name": "twice", "variable": {"jmesPath": "add(count, count)"}},
    ]);
    let template =
        json!(["{{ request.namespace }}", "{{ map.data.\"a.b\" }}", "{{ twice }}", "{{ request.object.metadata.name }}"]);
    assert_eq!(resolve(&request, &entries, &template), Ok(json!(["told", "yes", 4, "web"])));
}

#[test]
fn entries_that_stand_on_each_other_end() {
    let mut entries: Vec<Value> =
        (0..100).map(|index| json!({"name": format!("e{index}"), "variable": {"jmesPath": format!("e{}", index + 1)}})).collect();
    entries.push(json!({"name": "own", "variable": {"jmesPath": "own"}}));
    let object = pod();
    let request = Request::create(&object);
    assert!(resolve(&request, &json!(entries), &json!("{{ e0 }}")).is_err());
    assert!(resolve(&request, &json!(entries), &json!("{{ own }}")).is_err());
}

#[test]
fn references_lead_to_other_fields_of_the_pattern() {
    let pattern =
        json!({"spec": {"=(a)": "10", "b": "$(/spec/a)", "c": "$(<=./../a)", "d": {"e": "x$(./../../b)"}, "f": "{{ @ }}"}});
    let made = with_references(&pattern).expect("references");
    assert_eq!(made["spec"]["b"], "10");
    assert_eq!(made["spec"]["c"], "<=10");
    assert_eq!(made["spec"]["f"], "{{ request.object.\"spec\".\"f\" }}");
    assert!(with_references(&json!({"a": "$(/nowhere)"})).is_err());
}

#[test]
fn programs_name_what_has_to_be_loaded() {
    let program = Program::compile("a.b[?c == d] | length(e)").expect("an expression");
    assert_eq!(program.names().iter().map(String::as_str).collect::<Vec<_>>(), ["a", "b", "c", "d", "e"]);
}
