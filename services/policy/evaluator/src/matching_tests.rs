//! Tables for kinds, filters and the logic of any, all and exclude.

use super::*;
use serde_json::{Value, json};

fn block(value: &Value) -> MatchBlock {
    MatchBlock::parse(&Field::root(value)).expect("a match block")
}

fn facts(object: &Value) -> Facts<'_> {
    Facts::of(object)
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-1", "namespace": "ml", "labels": {"app": "web", "tier": "front"}, "annotations": {"team/owner": "a"}},
    })
}

#[test]
fn kinds_are_read_in_all_their_forms() {
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment"});
    let pod = pod();
    for (text, of_pod, of_deployment) in [
        ("Pod", true, false),
        ("v1/Pod", true, false),
        ("*/Pod", true, false),
        ("apps/v1/Deployment", false, true),
        ("apps/*/Deployment", false, true),
        ("*/*/Deployment", false, false),
        ("apps/v1beta1/Deployment", false, false),
        ("*", true, true),
        ("*/*", true, true),
        ("*Set", false, false),
        ("Pod/exec", false, false),
        ("v1/Pod/exec", false, false),
        ("Deployment.scale", false, false),
    ] {
        let kind = KindSelector::parse(text).expect("a kind");
        assert_eq!(kind.matches(&facts(&pod)), of_pod, "{text} on a Pod");
        assert_eq!(kind.matches(&facts(&deployment)), of_deployment, "{text} on a Deployment");
    }
    let mut exec = facts(&pod);
    exec.subresource = "exec";
    assert!(KindSelector::parse("Pod/exec").expect("a kind").matches(&exec));
    assert!(KindSelector::parse("*/exec").expect("a kind").matches(&exec));
    assert!(!KindSelector::parse("Pod").expect("a kind").matches(&exec));
    exec.subresource = "ephemeralcontainers";
    assert!(KindSelector::parse("Pod").expect("a kind").matches(&exec));
}

#[test]
fn a_filter_needs_all_it_asks_for() {
    let pod = pod();
    for (filter, expected) in [
        (json!({"kinds": ["Pod"]}), Truth::Yes),
        (json!({"kinds": ["Pod", "Service"], "namespaces": ["m?"]}), Truth::Yes),
        (json!({"kinds": ["Pod"], "namespaces": ["prod-*"]}), Truth::No),
        (json!({"kinds": ["Pod"], "name": "web-*"}), Truth::Yes),
        (json!({"kinds": ["Pod"], "names": ["db-*", "api-*"]}), Truth::No),
        (json!({"kinds": ["Pod"], "annotations": {"team/*": "?"}}), Truth::Yes),
        (json!({"kinds": ["Pod"], "annotations": {"team/owner": "b"}}), Truth::No),
        (json!({"kinds": ["Pod"], "selector": {"matchLabels": {"app": "web"}}}), Truth::Yes),
        (json!({"kinds": ["Pod"], "selector": {"matchLabels": {"t*r": "fr*"}}}), Truth::Yes),
        (json!({"kinds": ["Pod"], "selector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}}), Truth::No),
        (json!({"kinds": ["Pod"], "operations": ["UPDATE"]}), Truth::No),
        (json!({"kinds": ["Pod"], "operations": ["CREATE", "UPDATE"]}), Truth::Yes),
        (json!({"kinds": ["Pod"], "namespaceSelector": {"matchLabels": {"env": "prod"}}}), Truth::Unknown),
        (json!({"kinds": ["Service"], "namespaceSelector": {"matchLabels": {"env": "prod"}}}), Truth::No),
    ] {
        let block = block(&json!({"any": [{"resources": filter}]}));
        assert_eq!(block.includes(&facts(&pod)), expected, "{filter}");
    }
}

#[test]
fn any_is_or_all_is_and_and_an_empty_filter_matches_nothing() {
    let pod = pod();
    let pods = json!({"resources": {"kinds": ["Pod"]}});
    let services = json!({"resources": {"kinds": ["Service"]}});
    for (value, expected) in [
        (json!({"any": [services, pods]}), Truth::Yes),
        (json!({"all": [services, pods]}), Truth::No),
        (json!({"all": [pods, pods]}), Truth::Yes),
        (json!({"resources": {"kinds": ["Pod"]}}), Truth::Yes),
        (json!({"any": [{}]}), Truth::No),
        (json!({}), Truth::No),
    ] {
        assert_eq!(block(&value).includes(&facts(&pod)), expected, "{value}");
    }
    for (value, expected) in [
        (json!({"any": [services, pods]}), Truth::Yes),
        (json!({"all": [services, pods]}), Truth::No),
        (json!({}), Truth::No),
        (json!({"any": [{}]}), Truth::No),
    ] {
        assert_eq!(block(&value).excludes(&facts(&pod)), expected, "{value}");
    }
}

#[test]
fn users_are_asked_for_only_where_they_are_known() {
    let pod = pod();
    let only_admins = block(&json!({"any": [{"resources": {"kinds": ["Pod"]}, "clusterRoles": ["admin"]}]}));
    let not_robots = block(&json!({"any": [{"subjects": [{"kind": "ServiceAccount", "namespace": "ci", "name": "*"}]}]}));
    assert_eq!(only_admins.includes(&facts(&pod)), Truth::Yes);
    assert_eq!(not_robots.excludes(&facts(&pod)), Truth::No);
    let robot = UserInfo { username: "system:serviceaccount:ci:bot".to_owned(), ..UserInfo::default() };
    let mut known = facts(&pod);
    known.user = Some(&robot);
    assert_eq!(only_admins.includes(&known), Truth::No);
    assert_eq!(not_robots.excludes(&known), Truth::Yes);
}

#[test]
fn a_namespace_is_in_itself_and_has_no_namespace_selector() {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ml"}});
    let labels = Labels::from([("env".to_owned(), "prod".to_owned())]);
    let mut known = facts(&namespace);
    known.namespace_labels = Some(&labels);
    assert_eq!(
        block(&json!({"any": [{"resources": {"kinds": ["Namespace"], "namespaces": ["ml"]}}]})).includes(&known),
        Truth::Yes
    );
    let selected =
        json!({"any": [{"resources": {"kinds": ["Namespace"], "namespaceSelector": {"matchLabels": {"env": "prod"}}}}]});
    assert_eq!(block(&selected).includes(&known), Truth::No);
}

#[test]
fn what_is_no_filter_is_refused_by_field() {
    for (value, field) in [
        (json!({"any": {}}), "any"),
        (json!({"any": [{"resources": {"kinds": "Pod"}}]}), "any[0].resources.kinds"),
        (json!({"any": [{"resources": {"kinds": ["a/b/c/d/e"]}}]}), "any[0].resources.kinds"),
        (json!({"any": [{"resources": {"operations": ["PATCH"]}}]}), "any[0].resources.operations[0]"),
        (
            json!({"all": [{"resources": {"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}}]}),
            "all[0].resources.selector",
        ),
        (json!({"any": [{"resources": {"names": ["*".repeat(2000)]}}]}), "any[0].resources.names"),
        (json!({"any": [{"subjects": [{"kind": "User"}]}]}), "any[0].subjects[0].name"),
    ] {
        let error = MatchBlock::parse(&Field::root(&value)).expect_err("refused");
        assert_eq!(error.field, field, "{error}");
    }
}
