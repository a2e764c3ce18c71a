//! Two lines of text as what is found and what is wanted: quantities, durations, versions, wildcards, ranges, times, addresses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use muster_core::{duration, quantity::Quantity};
use muster_policy_evaluator::{Policy, Request};
use serde_json::{Value, json};
use std::sync::LazyLock;

const OPERATORS: [&str; 16] = [
    "Equals",
    "NotEquals",
    "In",
    "NotIn",
    "AnyIn",
    "AllIn",
    "AnyNotIn",
    "AllNotIn",
    "GreaterThan",
    "GreaterThanOrEquals",
    "LessThan",
    "LessThanOrEquals",
    "DurationGreaterThan",
    "DurationGreaterThanOrEquals",
    "DurationLessThan",
    "DurationLessThanOrEquals",
];

/// Functions of two texts, `a` and `b`.
const JMESPATH: [&str; 30] = [
    "add(a, b)",
    "subtract(a, b)",
    "multiply(a, b)",
    "divide(a, b)",
    "modulo(a, b)",
    "multiply(a, to_number(b))",
    "divide(a, to_number(b))",
    "sum([a, b])",
    "round(to_number(a), to_number(b))",
    "semver_compare(a, b)",
    "pattern_match(a, b)",
    "regex_match(a, b)",
    "regex_replace_all(a, b, a)",
    "time_add(a, b)",
    "time_truncate(a, b)",
    "time_diff(a, b)",
    "time_parse(a, b)",
    "time_since(a, b, '')",
    "time_to_cron(a)",
    "time_utc(a)",
    "time_between(a, b, a)",
    "truncate(a, to_number(b))",
    "base64_decode(a)",
    "parse_yaml(a)",
    "parse_json(a)",
    "image_normalize(a)",
    "path_canonicalize(a)",
    "split(a, b)",
    "replace_all(a, b, a)",
    "trim(a, b)",
];

const CEL: [&str; 24] = [
    "quantity(a).compareTo(quantity(b)) == 0",
    "quantity(a).add(quantity(b)).isInteger()",
    "quantity(a).sub(quantity(b)).asInteger() > 0",
    "semver(a).compareTo(semver(b)) < 0",
    "ip(a) == ip(b)",
    "cidr(a).containsIP(b)",
    "cidr(a).containsCIDR(b)",
    "cidr(a).masked().prefixLength() > 1",
    "url(a).getHostname() == url(b).getPort()",
    "duration(a) < duration(b)",
    "timestamp(a) + duration(b) > timestamp(b)",
    "timestamp(a).getHours(b) > 1",
    "a.matches(b)",
    "a.format([b, 1, 2.5, true])",
    "a.split(b).join(b) == a",
    "a.replace(b, a).size() > 1",
    "a.substring(int(b)).size() > 1",
    "a.indexOf(b, int(b)) > 1",
    "regex.replace(a, b, a).size() > 1",
    "regex.extractAll(a, b).size() > 1",
    "base64.decode(a) == bytes(b)",
    "json.unmarshal(a) == json.unmarshal(b)",
    "double(a) / double(b) > 1.0",
    "int(a) * int(b) - uint(a) > 1",
];

/// What is asked of the annotations `a` and `b`, read once.
static ASKED: LazyLock<Vec<Policy>> = LazyLock::new(|| {
    let matching = json!({"any": [{"resources": {"kinds": ["ConfigMap"]}}]});
    let context = ["a", "b"]
        .map(|name| json!({"name": name, "variable": {"jmesPath": format!("request.object.metadata.annotations.{name}")}}));
    let rule = |name: String, validate: Value| json!({"name": name, "match": matching, "context": context, "validate": validate});
    let condition = |key: &str, operator: &str, value: &str| json!({"deny": {"conditions": {"all": [{"key": key, "operator": operator, "value": value}]}}});
    let mut rules = vec![rule("pattern".into(), json!({"pattern": {"metadata": {"annotations": {"a": "{{ b }}"}}}}))];
    rules.extend(OPERATORS.map(|operator| rule(operator.into(), condition("{{ a }}", operator, "{{ b }}"))));
    rules.extend(
        JMESPATH
            .iter()
            .enumerate()
            .map(|(at, text)| rule(format!("f{at}"), condition(&format!("{{{{ {text} }}}}"), "Equals", "1"))),
    );
    let classic =
        json!({"apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "p"}, "spec": {"rules": rules}});
    let in_cel = CEL.map(|text| {
        json!({"apiVersion": "policies.kyverno.io/v1", "kind": "ValidatingPolicy", "metadata": {"name": "c"}, "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]},
            "validations": [{"expression": format!("cel.bind(a, object.metadata.annotations.a, cel.bind(b, object.metadata.annotations.b, {text}))")}],
        }})
    });
    let policies: Vec<Policy> =
        [classic].iter().chain(&in_cel).map(|document| Policy::parse(document).expect("a policy")).collect();
    for (rule, _, unknown) in policies.iter().flat_map(Policy::rules) {
        assert_eq!(unknown, None, "{rule}");
    }
    policies
});

fuzz_target!(|text: &str| {
    let (a, b) = text.split_once('\n').unwrap_or((text, text));
    if let Ok(amount) = a.parse::<Quantity>() {
        assert_eq!(amount.to_string().parse(), Ok(amount), "a quantity reads as it is written");
    }
    if let Ok(length) = duration::parse(a) {
        let written = duration::format(length);
        assert!(duration::parse(&written).is_ok_and(|read| read <= length), "{written}");
    }
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "annotations": {"a": a, "b": b}}});
    let now = Some("2024-05-06T07:08:09Z".parse().expect("an instant"));
    for policy in ASKED.iter() {
        policy.evaluate(&Request { now, ..Request::create(&object) });
    }
    // As a pattern that is read with its policy.
    let written = json!({
        "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "p"},
        "spec": {"rules": [{
            "name": "r", "match": {"any": [{"resources": {"kinds": ["ConfigMap"]}}]},
            "validate": {"pattern": {"metadata": {"annotations": {"a": b, "=(b)": a}, "=(labels)": {b: [a]}}}},
        }]},
    });
    if let Ok(policy) = Policy::parse(&written) {
        policy.evaluate(&Request::create(&object));
    }
});
