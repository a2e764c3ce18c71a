//! The language and its libraries, by expressions and what they give.

use super::*;
use crate::{Extent, Inventory};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn evaluate(text: &str, object: &Value) -> Result<Value, NoValue> {
    let program = Program::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let variables = BTreeMap::from([
        ("names".to_owned(), Program::compile("object.spec.containers.map(c, c.name)").expect("a variable")),
        ("loop".to_owned(), Program::compile("variables.loop + 1").expect("a variable")),
    ]);
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "a", "name": "b"}, "data": {"k": "v"}});
    let images = BTreeMap::from([("nginx:1".to_owned(), json!({"config": {"user": "x"}}))]);
    let inventory = Inventory::new(vec![map], Extent::Whole).with_images(images);
    let roots = Roots {
        object,
        old_object: &Value::Null,
        request: &Value::Null,
        namespace_object: None,
        params: &Value::Null,
        variables: &variables,
        inventory: Some(&inventory),
        now: Some(jiff::Timestamp::UNIX_EPOCH),
    };
    Evaluation::new(roots).value(&program).map(|value| value.to_json())
}

fn pod() -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"replicas": 3, "ratio": 3.0, "none": null, "containers": [
        {"name": "a", "image": "nginx:1", "securityContext": {"privileged": true}},
        {"name": "b", "image": "ghcr.io/x/y:2"},
    ]}})
}

#[track_caller]
fn hold(expressions: &[&str]) {
    for text in expressions {
        assert_eq!(evaluate(text, &pod()), Ok(Value::Bool(true)), "{text}");
    }
}

#[track_caller]
fn fail(expressions: &[&str]) {
    for text in expressions {
        assert!(matches!(evaluate(text, &pod()), Err(NoValue::Failed(_))), "{text}: {:?}", evaluate(text, &pod()));
    }
}

#[test]
fn fields_are_read_and_missing_ones_are_errors() {
    hold(&[
        "object.spec.containers.size() == 2",
        "object.spec.containers[1].name == 'b'",
        "object.metadata.labels['app'] == 'a'",
        "has(object.spec.replicas) && !has(object.spec.paused)",
        "'app' in object.metadata.labels && !('b' in object.metadata.labels)",
        "object.spec.none == null",
        "type(object.spec.containers) == list",
        "{'a': [1, 2], 'b': []}['a'][1] == 2",
    ]);
    fail(&["object.spec.paused", "object.spec.containers[7]", "has(object.a.b)", "object.spec.replicas.x"]);
}

#[test]
fn a_side_that_decides_makes_the_error_of_the_other_not_count() {
    hold(&[
        "object.x == 1 || true",
        "!(object.x == 1 && false)",
        "object.spec.containers.exists(c, c.securityContext.privileged)",
        "!object.spec.containers.all(c, c.name == 'a' && c.missing)",
    ]);
    fail(&["object.x == 1 || false", "object.spec.containers.all(c, c.securityContext.privileged)", "1 && true"]);
}

#[test]
fn below_an_optional_everything_is_optional() {
    hold(&[
        "object.?x.y.z.orValue('d') == 'd'",
        "object.spec.?containers[0].name.orValue('') == 'a'",
        "object.?spec.paused.hasValue() == false",
        "object.metadata.labels[?'app'].orValue('') == 'a'",
        "object.?x.or(optional.of(2)).value() == 2",
        "[?object.?x, 1].size() == 1",
        "{?'a': object.?x, 'b': 1}.size() == 1",
        "object.spec.containers.orValue([]).size() == 2",
        "optional.of(2).optMap(v, v + 1).value() == 3",
        "object.?x.optFlatMap(v, optional.of(v)).hasValue() == false",
        "object.spec.replicas == 3 ? object.?spec.hasValue() : object.x",
    ]);
    fail(&["optional.none().value()", "object.?spec + 1"]);
}

#[test]
fn numbers_compare_across_types_and_do_not_add_up_across_them() {
    hold(&[
        "object.spec.ratio == 3 && object.spec.replicas < 3.5",
        "1u == 1 && 2u > 1.5",
        "7 / 2 == 3 && -7 % 3 == -1",
        "1 in [1.0]",
        "double('1.5') + 1.5 == 3.0",
        "int('7') == 7 && int(3.9) == 3 && string(3) == '3'",
    ]);
    fail(&["1 + 1.0", "1 / 0", "9223372036854775807 + 1", "'a' < 1", "int('x')"]);
}

#[test]
fn comprehensions_have_one_name_or_two() {
    hold(&[
        "object.spec.containers.map(c, c.name) == ['a', 'b']",
        "object.spec.containers.filter(c, has(c.securityContext)).size() == 1",
        "object.spec.containers.map(c, c.name == 'b', c.image)[0].startsWith('ghcr.io')",
        "object.spec.containers.exists_one(c, c.name == 'a')",
        "object.metadata.labels.all(key, key == 'app')",
        "[3, 4].all(i, v, v == i + 3)",
        "{'a': 1}.transformMap(k, v, v + 1)['a'] == 2",
        "['a', 'b'].transformList(i, v, i)[1] == 1",
        "cel.bind(n, object.spec.containers.size(), n + n) == 4",
        "[1, 2].map(x, [x].map(y, x + y)[0]) == [2, 4]",
    ]);
}

#[test]
fn variables_are_computed_when_they_are_read() {
    hold(&["variables.names.join(',') == 'a,b'", "variables.names.size() == 2 && variables.names[0] == 'a'"]);
    fail(&["variables.loop == 1"]);
}

#[test]
fn texts_have_their_functions() {
    hold(&[
        "'abc'.contains('b') && 'abc'.startsWith('a') && 'abc'.endsWith('c')",
        "'a-1'.matches('^[a-z]-[0-9]$') && !'b'.matches('a')",
        "'A'.lowerAscii() == 'a' && ' a '.trim() == 'a'",
        "'a,b,c'.split(',') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c']",
        "'äbc'.substring(1, 2) == 'b' && 'äbc'.indexOf('c') == 2 && 'äbc'.size() == 3",
        "'aaa'.replace('a', 'b', 2) == 'bba' && 'abc'.reverse() == 'cba'",
        "'%s has %d at %.1f'.format(['a', 2, 1.25]) == 'a has 2 at 1.2'",
        "'a1b2'.findAll('[0-9]') == ['1', '2'] && 'a1'.find('[0-9]') == '1'",
        "regex.replace('a-b', '(a)-(b)', r'\\2-\\1') == 'b-a'",
        "string(base64.decode(base64.encode(b'x'))) == 'x'",
    ]);
    fail(&["'a'.substring(2)", "'a'.matches('(' + '')"]);
}

#[test]
fn lists_and_sets_have_their_functions() {
    hold(&[
        "[3, 1, 2].sort() == [1, 2, 3] && [1, 2].isSorted() && [1, 1, 2].distinct() == [1, 2]",
        "[1, 2, 3].slice(1, 3) == [2, 3] && [[1], [2]].flatten() == [1, 2] && [1, 2].sum() == 3",
        "[1, 5, 2].max() == 5 && [1, 5].min() == 1 && [1, 2].indexOf(2) == 1",
        "sets.contains([1, 2], [1]) && sets.intersects([1], [1, 2]) && sets.equivalent([1, 2], [2, 1])",
        "math.greatest(1, 3, 2) == 3 && math.least([4, 2]) == 2 && math.ceil(1.2) == 2.0",
    ]);
}

#[test]
fn quantities_addresses_urls_versions_and_instants() {
    hold(&[
        "quantity('1Gi').isGreaterThan(quantity('1000Mi')) && quantity('500m').add(quantity('0.5')).asInteger() == 1",
        "isQuantity('2Gi') && !isQuantity('x') && quantity('1').compareTo(quantity('2')) == -1",
        "ip('10.0.0.1').family() == 4 && isIP('::1') && ip('127.0.0.1').isLoopback()",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsIP('11.0.0.1')",
        "url('https://example.com:80/a').getHost() == 'example.com:80' && !isURL('x')",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.2.3').minor() == 2",
        "duration('90m') == duration('1h30m') && duration('2h').getHours() == 2",
        "timestamp('2024-02-01T10:00:00Z').getFullYear() == 2024 && timestamp('2024-02-01T10:00:00Z').getMonth() == 1",
        "timestamp('2024-01-01T01:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('1h')",
        "time.now() < timestamp('2024-01-01T00:00:00Z')",
    ]);
}

#[test]
fn the_cluster_and_the_registry_answer_from_what_was_given() {
    hold(&[
        "resource.Get('v1', 'configmaps', 'a', 'b').data.k == 'v'",
        "resource.List('v1', 'configmaps', '').items.size() == 1",
        "image.GetMetadata('nginx:1').config.user == 'x'",
        "image('ghcr.io/x/y:2').registry() == 'ghcr.io' && image('nginx').repository() == 'library/nginx'",
        "parseServiceAccount('system:serviceaccount:a:b').Name == 'b'",
    ]);
    fail(&["resource.Get('v1', 'configmaps', 'a', 'z')"]);
    assert!(matches!(evaluate("image.GetMetadata('other')", &pod()), Err(NoValue::NotGiven(_))));
    assert!(matches!(evaluate("namespaceObject.metadata.name == 'a'", &pod()), Err(NoValue::NotGiven(_))));
}

#[test]
fn what_is_not_known_is_refused_before_anything_is_judged() {
    for text in ["", "1 +", "nobody", "object.unknown()", "thing.other(1)", "has(1)", "'a'.matches('(')", "[1].map(1, 2)"] {
        assert!(Program::compile(text).is_err(), "{text}");
    }
}

#[test]
fn hostile_expressions_are_bounded() {
    let long = vec!["1"; 6_000].join("+");
    let deep = format!("{}1{}", "(".repeat(3_000), ")".repeat(3_000));
    let pattern = format!("'a'.matches('{}')", "(a{1000}){1000}");
    for text in [long.as_str(), deep.as_str(), pattern.as_str(), &"a".repeat(MAX_EXPRESSION_BYTES + 1)] {
        assert!(Program::compile(text).is_err(), "{}", &text[..20]);
    }
    let nested = "lists.range(3000).all(a, lists.range(3000).all(b, lists.range(3000).all(c, a + b + c >= 0)))";
    assert_eq!(evaluate(nested, &pod()), Err(NoValue::TooCostly));
    let growing = "lists.range(60).all(i, true) && cel.bind(a, 'aaaaaaaaaaaaaaaaaaaaaaaa', lists.range(100000).map(x, a + a + a).size() > 0)";
    assert_eq!(evaluate(growing, &pod()), Err(NoValue::TooCostly));
}

/// `cel.bind(a, [1, 1], cel.bind(a, [a, a], … last))`
fn doubled(times: usize, last: &str) -> String {
    let opened = "cel.bind(a, [a, a], ".repeat(times);
    format!("cel.bind(a, [1, 1], {opened}{last}{})", ")".repeat(times))
}

#[test]
fn a_value_that_shares_its_parts_costs_what_walking_through_it_takes() {
    for last in ["a == a", "a in [a]", "'%s'.format([a]) == ''", "[a, a].distinct().size() == 1", "a.flatten(100).size() > 0"] {
        assert_eq!(evaluate(&doubled(40, last), &pod()), Err(NoValue::TooCostly), "{last}");
    }
    hold(&[&doubled(10, "a == a && a.flatten(100).size() == 2048")]);
    assert!(matches!(evaluate("{[1]: 2}.size() == 1", &pod()), Err(NoValue::Failed(_))), "lists are no keys");
}

#[test]
fn what_is_made_of_one_long_text_many_times_is_counted_before_it_is_made() {
    let object = json!({"text": "a".repeat(200_000)});
    for costly in [
        "lists.range(100000).map(i, object.text).join('').size() > 0",
        "lists.range(100000).all(i, object.text <= object.text)",
        "lists.range(100000).map(i, object.text).sort().size() > 0",
        &format!("'{}'.format(lists.range(4000).map(i, object.text)).size() > 0", "%s".repeat(4_000)),
    ] {
        assert_eq!(evaluate(costly, &object), Err(NoValue::TooCostly), "{}", &costly[..40]);
    }
}
