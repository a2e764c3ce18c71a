//! Expressions and what they are, with Kyverno's idea of a missing field.

use super::*;
use serde_json::{Value, json};
use std::cell::Cell;

fn search(expression: &str, document: &Value) -> Result<Value, JmesError> {
    let program = Program::compile(expression)?;
    let steps = Cell::new(0);
    let now = "2026-01-02T03:04:05Z".parse().ok();
    let evaluation = Evaluation::new(&program, &steps, now);
    evaluation.run(Item::of(document)).map(std::borrow::Cow::into_owned)
}

fn pod() -> Value {
    json!({
        "kind": "Pod",
        "metadata": {"name": "web", "labels": {"app.kubernetes.io/name": "web"}},
        "spec": {
            "nothing": null,
            "containers": [
                {"name": "a", "image": "nginx:1.27", "ports": [{"hostPort": 80}], "resources": {"limits": {"memory": "1Gi"}}},
                {"name": "b", "image": "redis:7.2", "securityContext": {"capabilities": {"drop": ["all", "NET_RAW"]}}},
            ],
            "initContainers": [{"name": "c", "ports": [{"hostPort": 90}]}],
        },
    })
}

#[test]
fn paths_projections_and_filters_are_those_of_jmespath() {
    for (expression, expected) in [
        ("kind", json!("Pod")),
        ("spec.containers[0].name", json!("a")),
        ("spec.containers[-1].name", json!("b")),
        ("spec.containers[5]", json!(null)),
        ("spec.containers[].name", json!(["a", "b"])),
        ("spec.containers[*].ports[].hostPort", json!([80])),
        ("spec.[initContainers, containers, ephemeralContainers][].ports[].hostPort", json!([90, 80])),
        ("spec.containers[?name=='b'].image | [0]", json!("redis:7.2")),
        ("spec.containers[?resources.limits.memory].name", json!(["a"])),
        ("spec.containers[].resources.keys(@)[]", json!(["limits"])),
        ("metadata.labels.\"app.kubernetes.io/name\"", json!("web")),
        ("spec.containers[0].{n: name, m: missing}", json!({"n": "a", "m": null})),
        ("spec.containers[::-1].name", json!(["b", "a"])),
        ("spec.containers[:1].name", json!(["a"])),
        ("spec.containers[].image.split(@, ':')[0]", json!(["nginx", "redis"])),
        ("spec.containers[].securityContext.capabilities.drop[].to_upper(@)", json!(["ALL", "NET_RAW"])),
        ("metadata.labels.*", json!(["web"])),
        ("spec.nothing.below", json!(null)),
        ("sort_by(spec.containers, &image)[0].name", json!("a")),
        ("map(&name, spec.containers)", json!(["a", "b"])),
        ("spec.containers[?contains(keys(@), 'ports')] | length(@)", json!(1)),
    ] {
        assert_eq!(search(expression, &pod()), Ok(expected), "{expression}");
    }
}

#[test]
fn a_missing_field_ends_a_path_and_is_null_to_everything_else() {
    let missing = |name: &str| Err(JmesError::NotFound(name.to_owned()));
    for (expression, expected) in [
        ("missing", missing("missing")),
        ("spec.missing.name", missing("missing")),
        ("missing || 'other'", Ok(json!("other"))),
        ("missing || spec.missing", Ok(json!(null))),
        ("missing && kind", Ok(json!(null))),
        ("kind && missing", missing("missing")),
        ("!missing", Ok(json!(true))),
        ("missing == other", Ok(json!(true))),
        ("missing[].name", Ok(json!(null))),
        ("missing[?name]", Ok(json!(null))),
        ("missing.*", Ok(json!(null))),
        ("[missing, kind]", Ok(json!([null, "Pod"]))),
        ("missing | kind", Ok(json!(null))),
        ("not_null(missing, kind)", Ok(json!("Pod"))),
        ("spec.containers[].missing", Ok(json!([]))),
    ] {
        assert_eq!(search(expression, &pod()), expected, "{expression}");
    }
    assert!(matches!(search("missing | length(@)", &pod()), Err(JmesError::NoValue(NoValue::Failed(_)))));
}

#[test]
fn numbers_are_one_kind_and_order_is_theirs_alone() {
    let document = json!({"a": 1, "b": 1.0, "c": 2.5, "t": "x"});
    for (expression, expected) in [
        ("a == b", json!(true)),
        ("a == `1`", json!(true)),
        ("c > a", json!(true)),
        ("t > a", json!(null)),
        ("max([a, c])", json!(2.5)),
        ("sum([a, b, c])", json!(4.5)),
        ("to_string(b)", json!("1")),
        ("to_number('3')", json!(3)),
        ("type(a)", json!("number")),
        ("avg([a, b])", json!(1)),
    ] {
        assert_eq!(search(expression, &document), Ok(expected), "{expression}");
    }
}

#[test]
fn kyvernos_functions_do_as_they_say() {
    for (expression, expected) in [
        ("regex_match('^v[0-9]+$', 'v12')", json!(true)),
        ("regex_replace_all('([a-z]+)-(.*)', 'ab-cd', '$2/$1')", json!("cd/ab")),
        ("regex_replace_all_literal('a', 'banana', '$1')", json!("b$1n$1n$1")),
        ("pattern_match('prod-*', 'prod-a')", json!(true)),
        ("label_match(`{\"a\": \"b\"}`, `{\"a\": \"b\", \"c\": \"d\"}`)", json!(true)),
        ("label_match(`{\"a\": \"b\"}`, `{\"a\": \"c\"}`)", json!(false)),
        ("replace('aaa', 'a', 'b', `2`)", json!("bba")),
        ("replace_all('a.b.c', '.', '-')", json!("a-b-c")),
        ("trim('--a--', '-')", json!("a")),
        ("trim_prefix('v1', 'v')", json!("1")),
        ("equal_fold('A', 'a')", json!(true)),
        ("compare('a', 'b')", json!(-1)),
        ("truncate('abcdef', `3`)", json!("abc")),
        ("to_boolean('TRUE')", json!(true)),
        ("base64_decode(base64_encode('hello'))", json!("hello")),
        ("path_canonicalize('/a//b/../c/.')", json!("/a/c")),
        ("semver_compare('1.4.0', '>=1.2.0 <2.0.0')", json!(true)),
        ("parse_json('{\"a\": [1]}').a[0]", json!(1)),
        ("parse_yaml('a: {b: c}').a.b", json!("c")),
        ("lookup(`{\"a\": 1}`, 'a')", json!(1)),
        ("lookup(`[1, 2]`, `1`)", json!(2)),
        ("items(`{\"b\": 2, \"a\": 1}`, 'k', 'v')", json!([{"k": "a", "v": 1}, {"k": "b", "v": 2}])),
        ("object_from_lists(`[\"a\", \"b\"]`, `[1]`)", json!({"a": 1, "b": null})),
        ("image_normalize('nginx')", json!("docker.io/nginx:latest")),
        ("add('1Gi', '512Mi')", json!("1536Mi")),
        ("subtract('1h', '900s')", json!("45m0s")),
        ("multiply('100m', `3`)", json!("300m")),
        ("divide('1Gi', '512Mi')", json!(2)),
        ("divide('1h', `2`)", json!("30m0s")),
        ("modulo(`7`, `4`)", json!(3)),
        ("round(`1.23456`, `2`)", json!(1.23)),
        ("sum(`[\"100m\", \"200m\"]`)", json!("300m")),
        ("time_since('', '2026-01-01T03:04:05Z', '')", json!("24h0m0s")),
        ("time_since('', '2026-01-01T00:00:00Z', '2026-01-01T00:01:30Z')", json!("1m30s")),
        ("time_add('2026-01-01T00:00:00Z', '36h')", json!("2026-01-02T12:00:00+00:00")),
        ("time_before('2026-01-01T00:00:00Z', time_now_utc())", json!(true)),
        ("time_to_cron('2026-01-02T03:04:05Z')", json!("4 3 2 1 5")),
        ("time_parse('02 Jan 2006', '05 Mar 2026')", json!("2026-03-05T00:00:00+00:00")),
    ] {
        assert_eq!(search(expression, &json!({})), Ok(expected), "{expression}");
    }
}

#[test]
fn a_function_that_is_called_wrongly_fails_and_one_that_is_not_known_is_said() {
    // 15m is a quantity before it is a duration.
    for wrong in [
        "subtract('1h', '15m')",
        "length(`1`)",
        "divide(`1`, `0`)",
        "add('1Gi', '1h')",
        "to_boolean('x')",
        "regex_match('(', 'a')",
        "sum(`[]`)",
    ] {
        assert!(matches!(search(wrong, &json!({})), Err(JmesError::NoValue(NoValue::Failed(_)))), "{wrong}");
    }
    assert!(matches!(search("random('[a-z]')", &json!({})), Err(JmesError::NoValue(NoValue::NotGiven(_)))));
}

#[test]
fn a_time_that_is_not_told_is_not_guessed() {
    let program = Program::compile("time_since('', '2026-01-01T00:00:00Z', '')").expect("an expression");
    let steps = Cell::new(0);
    let outcome = Evaluation::new(&program, &steps, None).run(Item::of(&Value::Null));
    assert!(matches!(outcome, Err(JmesError::NoValue(NoValue::NotGiven(_)))));
}

#[test]
fn hostile_expressions_end() {
    for hostile in ["(".repeat(5_000), "a[".repeat(5_000), "!".repeat(5_000), "a.".repeat(20_000), "[[".repeat(600)] {
        assert!(Program::compile(&hostile).is_err());
    }
    let list: Vec<u32> = (0..3_000).collect();
    let document = json!({"a": list, "t": "a".repeat(100_000)});
    let costly = "a[].[a[0], length(sort(map(&@, [a, a, a, a, a, a, a, a, a, a][])))]";
    let costly = format!("{{x: @, y: a}} | x.a[?length(sort(`{}`)) > `0`]", json!(list)).replace("x.a", "x.a[]") + costly;
    assert!(search(&costly, &document).is_err());
    let large = search("replace_all(t, '', replace_all(t, 'a', t))", &document);
    assert_eq!(large, Err(JmesError::NoValue(NoValue::TooCostly)));
    let squared = format!("a[].join('', [{}])", vec!["'0123456789abcdef0123456789abcdef'"; 100].join(", "));
    assert_eq!(search(&squared, &document), Err(JmesError::NoValue(NoValue::TooCostly)));
}
