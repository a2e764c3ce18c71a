//! Tables for the operators of conditions.

use super::*;
use serde_json::json;

fn holds(operator: &str, key: &Value, value: &Value) -> bool {
    let operator = Operator::parse(operator).expect("an operator");
    operator.holds(key, value, &|_| Ok(())).expect("no bound")
}

fn table(cases: &[(&str, Value, Value, bool)]) {
    for (operator, key, value, expected) in cases {
        assert_eq!(holds(operator, key, value), *expected, "{key} {operator} {value}");
    }
}

#[test]
fn equality_knows_wildcards_quantities_and_durations() {
    table(&[
        ("Equals", json!("nginx:1"), json!("nginx:*"), true),
        ("equals", json!("1024Mi"), json!("1Gi"), true),
        ("Equal", json!("60s"), json!("1m"), true),
        ("Equals", json!("1h"), json!(3600), true),
        ("Equals", json!(3600), json!("1h"), false),
        ("Equals", json!(1), json!(1.0), true),
        ("Equals", json!(1), json!("1"), true),
        ("Equals", json!("1"), json!(1), false),
        ("Equals", json!(true), json!("true"), false),
        ("Equals", json!([1]), json!([1.0]), true),
        ("Equals", json!(null), json!(null), false),
        ("NotEquals", json!("a"), json!("b"), true),
        ("NotEquals", json!("a"), json!("*"), false),
        ("NotEquals", json!("1"), json!("x"), false),
        ("NotEquals", json!("a"), json!(1), true),
        ("NotEquals", json!(null), json!("a"), false),
        ("NotEquals", json!({}), json!({}), false),
    ]);
}

#[test]
fn membership_is_of_any_or_of_all() {
    let ab = json!(["a", "b"]);
    table(&[
        ("AnyIn", json!("a"), ab.clone(), true),
        ("AnyIn", json!("a-1"), json!(["a-*"]), true),
        ("AnyIn", json!("*"), ab.clone(), true),
        ("AnyIn", json!(["x", "a"]), ab.clone(), true),
        ("AllIn", json!(["x", "a"]), ab.clone(), false),
        ("AllIn", json!(["b", "a"]), ab.clone(), true),
        ("AnyNotIn", json!(["x", "a"]), ab.clone(), true),
        ("AnyNotIn", json!(["b", "a"]), ab.clone(), false),
        ("AllNotIn", json!(["x", "a"]), ab.clone(), false),
        ("AllNotIn", json!(["x", "y"]), ab.clone(), true),
        ("AnyNotIn", json!("x"), ab.clone(), true),
        ("AnyNotIn", json!(null), ab.clone(), false),
        ("AnyIn", json!([]), ab.clone(), false),
        ("AllIn", json!([]), ab.clone(), true),
        ("AnyIn", json!("a"), json!("[\"a\", \"b\"]"), true),
        ("AnyIn", json!("a"), json!("a"), true),
        ("AnyIn", json!("docker.io"), json!("docker.*"), true),
        ("AnyNotIn", json!("a"), json!({}), false),
        ("AnyIn", json!(80), json!(["80", "443"]), true),
        ("AnyIn", json!(5), json!("1-10"), true),
        ("AnyNotIn", json!([5, 50]), json!("1-10"), true),
        ("AllIn", json!([5, 50]), json!("1-10"), false),
        ("AllNotIn", json!([50, 60]), json!("1-10"), true),
        ("In", json!(["a"]), ab.clone(), true),
        ("NotIn", json!(["a", "x"]), ab.clone(), true),
        ("NotIn", json!("a"), ab, false),
    ]);
}

#[test]
fn order_is_that_of_numbers_quantities_durations_and_versions() {
    table(&[
        ("GreaterThan", json!(2), json!(1), true),
        ("GreaterThan", json!("2"), json!(1), true),
        ("GreaterThanOrEquals", json!(2.0), json!("2"), true),
        ("LessThan", json!("500m"), json!("1"), true),
        ("LessThan", json!("1Gi"), json!("1G"), false),
        ("LessThanOrEquals", json!("90m"), json!("1h30m"), true),
        ("GreaterThan", json!("2h"), json!(3600), true),
        ("GreaterThan", json!("1.10.0"), json!("1.9.0"), true),
        ("GreaterThan", json!([]), json!(1), false),
        ("GreaterThan", json!(null), json!(1), false),
        ("GreaterThan", json!("a"), json!(1), false),
        ("DurationLessThan", json!("10s"), json!(11), true),
        ("DurationGreaterThan", json!("x"), json!("1s"), false),
    ]);
}
