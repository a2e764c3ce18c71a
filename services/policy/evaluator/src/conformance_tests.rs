//! The harness itself: it must not pass what nobody answered.

use super::*;

const POLICY: &str = r#"
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: p}
spec:
  rules:
    - name: has-owner
      match: {any: [{resources: {kinds: [Pod]}}]}
      validate: {pattern: {metadata: {labels: {owner: "?*"}}}}
    - name: by-code
      match: {any: [{resources: {kinds: [Pod]}}]}
      validate: {manifests: {}}
    - name: on-update
      match: {any: [{resources: {kinds: [Pod], operations: [UPDATE]}}]}
      validate: {pattern: {metadata: {labels: {owner: "?*"}}}}
"#;

const RESOURCES: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: good, labels: {owner: a}}
---
apiVersion: v1
kind: Pod
metadata: {name: bad, namespace: ml}
---
apiVersion: v1
kind: Service
metadata: {name: other}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: good-one}
spec: {template: {metadata: {labels: {owner: a}}}}
"#;

const VALUES: &str = "policies:\n- name: p\n  resources:\n  - name: bad\n    values: {request.operation: UPDATE}\n";

fn verdicts(results: &str) -> Vec<RowVerdict> {
    let suite = format!("policies: [policy.yaml]\nresources: [r.yaml]\nvariables: v.yaml\nresults:\n{results}");
    let read = |file: &str| match file {
        "policy.yaml" => Ok(POLICY.to_owned()),
        "r.yaml" => Ok(RESOURCES.to_owned()),
        "v.yaml" => Ok(VALUES.to_owned()),
        other => Err(SuiteError::MissingFile(other.to_owned())),
    };
    run_suite(&suite, Timestamp::UNIX_EPOCH, &read).expect("a suite").into_iter().map(|row| row.verdict).collect()
}

fn verdict_of(rule: &str, resource: &str, result: &str) -> RowVerdict {
    let row = format!("- {{policy: p, rule: {rule}, resources: [{resource}], result: {result}}}\n");
    verdicts(&row).pop().expect("one row")
}

#[test]
fn a_row_passes_only_on_the_expected_answer() {
    assert_eq!(verdict_of("has-owner", "good", "pass"), RowVerdict::Passed);
    assert_eq!(verdict_of("has-owner", "bad", "fail"), RowVerdict::Passed);
    assert_eq!(verdict_of("has-owner", "ml/bad", "fail"), RowVerdict::Passed);
    assert_eq!(verdict_of("has-owner", "good-one", "pass"), RowVerdict::Passed);
    assert!(matches!(verdict_of("has-owner", "good", "fail"), RowVerdict::Failed(_)));
    assert!(matches!(verdict_of("has-owner", "bad", "skip"), RowVerdict::Failed(_)));
    assert!(matches!(verdict_of("has-owner", "other", "skip"), RowVerdict::LeftOut(_)));
}

#[test]
fn no_answer_is_a_failure_and_a_rule_that_does_not_exist_is_left_out_by_name() {
    assert!(matches!(verdict_of("has-owner", "other", "pass"), RowVerdict::Failed(_)));
    assert!(matches!(verdict_of("has-owner", "nobody", "pass"), RowVerdict::Failed(_)));
    assert!(matches!(verdict_of("has-onwer", "good", "pass"), RowVerdict::LeftOut(_)));
    assert!(matches!(verdicts("- {policy: q, rule: r, resources: [good], result: pass}\n")[0], RowVerdict::Failed(_)));
}

#[test]
fn what_is_not_judged_is_neither_passed_nor_failed() {
    assert!(matches!(verdict_of("by-code", "good", "pass"), RowVerdict::NotEvaluated(_)));
}

#[test]
fn what_a_rule_changes_is_compared_with_what_the_suite_expects() {
    let policy = "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: p}\nspec: {rules: [{name: r, match: {any: \
                  [{resources: {kinds: [Pod]}}]}, mutate: {patchStrategicMerge: {metadata: {labels: {+(owner): b}}}}}]}\n";
    let row = |patched: &str, resource: &str, result: &str| {
        let suite = format!(
            "policies: [p.yaml]\nresources: [r.yaml]\nresults: [{{policy: p, rule: r, resources: [{resource}], \
             patchedResources: patched.yaml, result: {result}}}]"
        );
        let read = |file: &str| match file {
            "p.yaml" => Ok(policy.to_owned()),
            "r.yaml" => Ok(RESOURCES.to_owned()),
            _ => Ok(format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {resource}, namespace: ml, labels: {patched}}}\nspec: {{}}"
            )),
        };
        run_suite(&suite, Timestamp::UNIX_EPOCH, &read).expect("a suite").remove(0).verdict
    };
    assert_eq!(row("{owner: b}", "bad", "pass"), RowVerdict::Passed);
    assert_eq!(row("{owner: c}", "bad", "pass"), RowVerdict::Failed("the object is changed otherwise".to_owned()));
    assert_eq!(row("{owner: a}", "good", "skip"), RowVerdict::Passed);
    assert!(matches!(row("{owner: a}", "good", "pass"), RowVerdict::Failed(_)));
}

#[test]
fn values_say_what_is_done_to_a_resource() {
    assert_eq!(verdict_of("on-update", "bad", "fail"), RowVerdict::Passed);
    assert!(matches!(verdict_of("on-update", "good", "pass"), RowVerdict::Failed(_)));
}

#[test]
fn a_suite_with_a_file_missing_is_left_out_and_one_that_cannot_be_read_fails() {
    let nothing = |file: &str| Err(SuiteError::MissingFile(file.to_owned()));
    let missing = run_suite("policies: [gone.yaml]", Timestamp::UNIX_EPOCH, &nothing).expect_err("a file is missing");
    let malformed = run_suite("policies: [", Timestamp::UNIX_EPOCH, &nothing).expect_err("no YAML");
    let mut summary = Summary::default();
    summary.add_unreadable("a", "a/one", &missing);
    assert_eq!(
        (summary.total.left_out, summary.left_out.as_slice()),
        (1, ["a/one: gone.yaml: no such file".to_owned()].as_slice())
    );
    summary.add_unreadable("a", "a/two", &malformed);
    assert_eq!(summary.total.failed, 1);
}

#[test]
fn a_summary_of_nothing_is_no_success() {
    let mut summary = Summary::default();
    assert!(!summary.is_success());
    let row = |verdict| Row {
        policy: "p".to_owned(),
        rule: "r".to_owned(),
        resource: "x".to_owned(),
        body: "validate.pattern".to_owned(),
        expected: "pass".to_owned(),
        verdict,
    };
    summary.add("a", "a/one", &[row(RowVerdict::Passed), row(RowVerdict::NotEvaluated("no".to_owned()))]);
    assert!(summary.is_success());
    summary.add("b", "b/two", &[row(RowVerdict::Failed("wrong".to_owned()))]);
    assert!(!summary.is_success());
    assert_eq!(summary.total, Tally { passed: 1, failed: 1, not_evaluated: 1, left_out: 0 });
    assert_eq!(summary.failures, ["b/two: p/r on x: wrong"]);
}
