//! Policy on a desk: tests of policies, and manifests checked without a service.

use crate::support::{Ended, bare};
use std::{fs, path::Path};

pub async fn run(folder: &Path, line: &str) -> Ended {
    let mut command = bare(line);
    command.current_dir(folder).env("MUSTER_CONFIG", folder.join("config.toml"));
    Ended::from(command.output().await.expect("the program starts"))
}

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("is below the folder")).expect("made");
        fs::write(path, text).expect("written");
    }
}

const OWNED: &str = r#"
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: owned}
spec:
  validationFailureAction: Enforce
  rules:
    - name: has-owner
      match: {any: [{resources: {kinds: [ConfigMap]}}]}
      validate: {message: say whose it is, pattern: {metadata: {labels: {owner: "?*"}}}}
"#;

fn suite(results: &str) -> String {
    format!("policies: [../policy.yaml]\nresources: [maps.yaml]\nresults:\n{results}")
}

const MAPS: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good, labels: {owner: a}}\n---\n\
                    apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad}\n---\n\
                    apiVersion: v1\nkind: Secret\nmetadata: {name: other}\n";

#[tokio::test]
async fn tests_of_policies_pass_only_on_the_answer_they_expect() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let right = suite(
        "- {policy: owned, rule: has-owner, resources: [good], result: pass}\n\
         - {policy: owned, rule: has-owner, resources: [bad], result: fail}\n",
    );
    write(folder, &[("a/policy.yaml", OWNED), ("a/tests/maps.yaml", MAPS), ("a/tests/kyverno-test.yaml", &right)]);
    let ended = run(folder, "policy test a").await;
    assert_eq!((ended.status, ended.errors.as_str()), (0, "2 of 2 rows pass; suites: 1\n"), "{}", ended.output);
    assert!(ended.output.starts_with("a/tests/kyverno-test.yaml: 2 of 2 pass\n  RESULT   POLICY   RULE "), "{}", ended.output);

    let wrong = suite(
        "- {policy: owned, rule: has-owner, resources: [good, bad], result: pass}\n\
         - {policy: owned, rule: has-onwer, resources: [good], result: pass}\n\
         - {policy: owned, rule: has-owner, resources: [other], result: pass}\n",
    );
    write(folder, &[("b/policy.yaml", OWNED), ("b/tests/maps.yaml", MAPS), ("b/tests/kyverno-test.yaml", &wrong)]);
    write(folder, &[("c/kyverno-test.yaml", "policies: [gone.yaml]\n")]);
    let ended = run(folder, "policy test . --fail-only").await;
    assert_eq!(ended.status, 1);
    assert!(ended.errors.contains("3 of 7 rows pass; suites: 3") && ended.errors.contains("4 rows fail"), "{}", ended.errors);
    for words in
        ["fail instead of pass: ", "no rule \"has-onwer\"", "no rule answers, pass is expected", "gone.yaml: no such file"]
    {
        assert!(ended.output.contains(words), "{words}: {}", ended.output);
    }
    assert!(!ended.output.contains("a/tests"), "{}", ended.output);
    let report = run(folder, "policy test b -o junit").await.output;
    assert!(report.contains("tests=\"4\" skipped=\"0\" failures=\"3\""), "{report}");
    let value: serde_json::Value = serde_json::from_str(&run(folder, "policy test b -o json").await.output).expect("JSON");
    assert_eq!((&value["passed"], &value["suites"][0]["rows"][2]["result"]), (&1.into(), &"no answer".into()), "{value}");
}

#[tokio::test]
async fn a_folder_without_tests_is_wrong_usage() {
    let folder = tempfile::tempdir().expect("a folder");
    let ended = run(folder.path(), "policy test .").await;
    assert_eq!(ended.status, 2);
    assert!(ended.errors.contains("no kyverno-test.yaml below it"), "{}", ended.errors);
    assert_eq!(run(folder.path(), "policy test nowhere").await.status, 2);
    assert_eq!(run(folder.path(), "get jobs -o sarif").await.status, 2);
}
