//! Tables for every anchor and for the order in which they decide.

use super::*;
use serde_json::json;

/// `pass`, `skip`, `error`, or the place of the failure.
fn verdict(document: &Value, pattern: &Value) -> String {
    match match_document(document, &Node::compile(pattern), Details::Told) {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Skip { .. } => "skip".to_owned(),
        Verdict::Error { .. } => "error".to_owned(),
        Verdict::Fail { path, .. } => path.to_string(),
    }
}

fn table(cases: &[(Value, Value, &str)]) {
    for (document, pattern, expected) in cases {
        assert_eq!(verdict(document, pattern), *expected, "{document} against {pattern}");
    }
}

#[test]
fn plain_fields_must_fit() {
    table(&[
        (json!({"a": 1}), json!({"a": 1}), "pass"),
        (json!({"a": 2}), json!({"a": 1}), "a"),
        (json!({}), json!({"a": "?*"}), "a"),
        (json!({}), json!({"a": "*"}), "a"),
        (json!({"a": null}), json!({"a": "*"}), "a"),
        (json!({"a": {}}), json!({"a": "*"}), "pass"),
        (json!({}), json!({"a": null}), "pass"),
        (json!({"a": "x"}), json!({"a": null}), "a"),
        (json!({}), json!({"a": {"b": 1}}), "a"),
        (json!({"a": []}), json!({"a": {"b": 1}}), "a"),
        (json!({"a": {}}), json!({"a": {}}), "pass"),
        (json!({"a": "x"}), json!({"a": [{"b": 1}]}), "a"),
        (json!({"a": {"x.y/z": 1}}), json!({"a": {"x.y/z": 2}}), r#"a["x.y/z"]"#),
    ]);
}

#[test]
fn lists_are_checked_element_by_element() {
    table(&[
        (json!({"a": [{"b": 1}, {"b": 1}]}), json!({"a": [{"b": 1}]}), "pass"),
        (json!({"a": [{"b": 1}, {"b": 2}]}), json!({"a": [{"b": 1}]}), "a[1].b"),
        (json!({"a": []}), json!({"a": [{"b": 1}]}), "pass"),
        (json!({"a": ["x", "x"]}), json!({"a": ["x"]}), "pass"),
        (json!({"a": ["x", "y"]}), json!({"a": ["x"]}), "a[1]"),
        (json!({"a": ["x", "y"]}), json!({"a": "x | y"}), "pass"),
        (json!({"a": ["x", "z"]}), json!({"a": "x | y"}), "a"),
        (json!({"a": [[1], [2], [3]]}), json!({"a": [[1], [2]]}), "pass"),
        (json!({"a": [[1], [9]]}), json!({"a": [[1], [2]]}), "a[1][0]"),
        (json!({"a": [[1]]}), json!({"a": [[1], [2]]}), "error"),
        (json!({"a": [1]}), json!({"a": []}), "a"),
        (json!({"a": ["x"]}), json!({"a": [{"b": 1}]}), "a[0]"),
    ]);
}

#[test]
fn an_equality_anchor_counts_only_where_its_key_is() {
    table(&[
        (json!({}), json!({"=(a)": 1}), "pass"),
        (json!({"a": 1}), json!({"=(a)": 1}), "pass"),
        (json!({"a": 2}), json!({"=(a)": 1}), "a"),
        (json!({"a": {"c": 1}}), json!({"=(a)": {"=(b)": 1}}), "pass"),
        (json!({"a": {"b": 2}}), json!({"=(a)": {"=(b)": 1}}), "a.b"),
        (json!({"a": null}), json!({"=(a)": "?*"}), "a"),
    ]);
}

#[test]
fn a_condition_that_is_not_met_skips() {
    table(&[
        (json!({"a": 1, "b": 2}), json!({"(a)": 1, "b": 2}), "pass"),
        (json!({"a": 1, "b": 3}), json!({"(a)": 1, "b": 2}), "b"),
        (json!({"a": 9, "b": 3}), json!({"(a)": 1, "b": 2}), "skip"),
        (json!({"b": 3}), json!({"(a)": 1, "b": 2}), "skip"),
        // Both conditions must hold.
        (json!({"a": 1, "c": 9, "b": 3}), json!({"(a)": 1, "(c)": 1, "b": 2}), "skip"),
        // A failing equality beside an unmet condition does not count.
        (json!({"a": 9, "b": 3}), json!({"(a)": 1, "=(b)": 2}), "skip"),
        // A condition deep below is asked before a plain sibling fails.
        (json!({"x": {"a": 9}, "b": 3}), json!({"x": {"(a)": 1}, "b": 2}), "skip"),
    ]);
}

#[test]
fn elements_that_skip_are_left_out_of_their_list() {
    let pattern = json!({"c": [{"(image)": "*:latest", "pull": "Always"}]});
    table(&[
        (json!({"c": [{"image": "a:1"}, {"image": "b:latest", "pull": "Always"}]}), pattern.clone(), "pass"),
        (json!({"c": [{"image": "a:1"}, {"image": "b:latest", "pull": "Never"}]}), pattern.clone(), "c[1].pull"),
        (json!({"c": [{"image": "a:1"}, {"image": "b:2"}]}), pattern.clone(), "skip"),
        (json!({"c": []}), pattern, "pass"),
    ]);
}

#[test]
fn a_list_that_skips_whole_does_not_outweigh_one_that_applies() {
    let pattern = json!({
        "=(init)": [{"(image)": "*:latest", "pull": "Always"}],
        "=(main)": [{"(image)": "*:latest", "pull": "Always"}],
    });
    table(&[
        (json!({"init": [{"image": "a:1"}], "main": [{"image": "a:latest", "pull": "Always"}]}), pattern.clone(), "pass"),
        (json!({"init": [{"image": "a:1"}], "main": [{"image": "a:latest", "pull": "Never"}]}), pattern.clone(), "main[0].pull"),
        (json!({"init": [{"image": "a:1"}], "main": [{"image": "a:1"}]}), pattern, "skip"),
    ]);
}

#[test]
fn a_global_anchor_skips_the_whole_rule() {
    let pattern = json!({"spec": {"c": [{"name": "*", "<(image)": "private/*"}], "secrets": [{"name": "pull"}]}});
    table(&[
        (json!({"spec": {"c": [{"name": "a", "image": "public/x"}]}}), pattern.clone(), "skip"),
        (json!({"spec": {"c": [{"name": "a", "image": "private/x"}], "secrets": [{"name": "pull"}]}}), pattern.clone(), "pass"),
        (
            json!({"spec": {"c": [{"name": "a", "image": "private/x"}], "secrets": [{"name": "no"}]}}),
            pattern.clone(),
            "spec.secrets[0].name",
        ),
        (json!({"spec": {"c": [{"name": "a"}], "secrets": [{"name": "pull"}]}}), pattern, "pass"),
    ]);
}

#[test]
fn a_negated_key_must_be_absent() {
    table(&[
        (json!({"a": {}}), json!({"a": {"X(b)": null}}), "pass"),
        (json!({"a": {"b": 1}}), json!({"a": {"X(b)": null}}), "a.b"),
        (json!({"a": {"b": null}}), json!({"a": {"X(b)": null}}), "a.b"),
        (json!({"v": [{"n": 1}, {"hostPath": {}}]}), json!({"=(v)": [{"X(hostPath)": "null"}]}), "v[1].hostPath"),
        // The key is absent as it should be, and another field does not fit: Kyverno answers error.
        (json!({"a": {"c": 1}}), json!({"a": {"X(b)": null, "c": 2}}), "error"),
    ]);
}

#[test]
fn an_existence_anchor_asks_for_one_element_each() {
    let one = json!({"^(c)": [{"name": "proxy"}]});
    let two = json!({"^(c)": [{"name": "proxy"}, {"name": "log*"}]});
    table(&[
        (json!({"c": [{"name": "app"}, {"name": "proxy"}]}), one.clone(), "pass"),
        (json!({"c": [{"name": "app"}]}), one.clone(), "c"),
        (json!({"c": []}), one.clone(), "c"),
        (json!({"c": "x"}), one.clone(), "c"),
        (json!({"c": [{"name": "proxy"}, {"name": "logger"}]}), two.clone(), "pass"),
        (json!({"c": [{"name": "proxy"}]}), two, "c"),
        (json!({}), one, "pass"),
        (json!({"c": [{"name": "a"}]}), json!({"^(c)": {"name": "a"}}), "c"),
        (json!({"c": ["a"]}), json!({"^(c)": ["a"]}), "c"),
        // A condition inside that is not met is no match.
        (json!({"c": [{"name": "a", "x": 1}]}), json!({"^(c)": [{"(name)": "b", "x": 1}]}), "c"),
    ]);
}

#[test]
fn wildcard_keys_work_in_labels_and_annotations_and_nowhere_else() {
    let pattern = json!({"metadata": {"=(annotations)": {"=(apparmor/*)": "ok | default"}}});
    table(&[
        (json!({"metadata": {"annotations": {"apparmor/a": "ok", "other": "x"}}}), pattern.clone(), "pass"),
        (
            json!({"metadata": {"annotations": {"apparmor/a": "ok", "apparmor/b": "bad"}}}),
            pattern.clone(),
            r#"metadata.annotations["apparmor/b"]"#,
        ),
        (json!({"metadata": {"annotations": {"other": "x"}}}), pattern.clone(), "pass"),
        (json!({"metadata": {}}), pattern, "pass"),
        (json!({"metadata": {"labels": {"team-a": "x"}}}), json!({"metadata": {"labels": {"team-*": "?*"}}}), "pass"),
        (
            json!({"metadata": {"labels": {"app": "x"}}}),
            json!({"metadata": {"labels": {"team-*": "?*"}}}),
            r#"metadata.labels["team-*"]"#,
        ),
        (json!({"spec": {"labels": {"team-a": "x"}}}), json!({"spec": {"labels": {"team-*": "?*"}}}), r#"spec.labels["team-*"]"#),
    ]);
}

#[test]
fn a_failure_says_what_was_found_and_what_was_wanted() {
    let verdict = match_document(&json!({"spec": {"cpu": 2}}), &Node::compile(&json!({"spec": {"cpu": "<=1"}})), Details::Told);
    let Verdict::Fail { detail, .. } = verdict else { panic!("{verdict:?}") };
    assert_eq!(detail, r#"spec.cpu is 2, expected "<=1""#);
}
