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

const FROM_A_MAP: &str = r#"
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: allowed}
spec:
  validationFailureAction: Enforce
  rules:
    - name: team
      match: {any: [{resources: {kinds: [Deployment]}}]}
      context: [{name: teams, configMap: {name: teams, namespace: platform}}]
      validate:
        message: no such team
        deny: {conditions: {any: [{key: "{{ request.object.metadata.labels.team }}", operator: AnyNotIn, value: "{{ teams.data.all }}"}]}}
    - name: owned
      match: {any: [{resources: {kinds: [Deployment]}}]}
      validate: {message: say whose it is, pattern: {metadata: {labels: {owner: "?*"}}}}
"#;

const DEPLOYMENT: &str = "# the site\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  namespace: site\n  labels:\n    \
                          team: b\nspec: {template: {spec: {containers: []}}}\n";

const TEAMS: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: teams, namespace: platform}\ndata: {all: '[\"a\", \"c\"]'}\n";

const EXCEPTION: &str = "apiVersion: kyverno.io/v2\nkind: PolicyException\nmetadata: {name: site}\nspec:\n  match: {any: [{resources: \
                         {kinds: [Deployment], namespaces: [site]}}]}\n  exceptions:\n  - {policyName: allowed, ruleNames: [owned]}\n";

#[tokio::test]
async fn rules_are_told_what_the_cluster_holds_and_exceptions_excuse() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    write(folder, &[("policy.yaml", FROM_A_MAP), ("web.yaml", DEPLOYMENT), ("cluster/teams.yaml", TEAMS)]);
    write(folder, &[("exceptions/site.yaml", EXCEPTION)]);
    // Nobody can say what the map holds: the rule refuses with the reason.
    let ended = run(folder, "policy check -f web.yaml -p policy.yaml -e exceptions").await;
    assert_eq!(ended.status, 4);
    assert!(ended.output.contains("it asks the cluster for configmaps of v1"), "{}", ended.output);
    // The map among the manifests, or beside them.
    for line in ["-f web.yaml -f cluster", "-f web.yaml --inventory cluster"] {
        let ended = run(folder, &format!("policy check {line} -p policy.yaml -o json")).await;
        assert_eq!(ended.status, 4, "{line}: {}", ended.errors);
        let value: serde_json::Value = serde_json::from_str(&ended.output).expect("JSON");
        let rules: Vec<_> = value["violations"].as_array().expect("a list").iter().map(|entry| &entry["rule"]).collect();
        assert_eq!(rules, ["team", "owned"], "{line}");
    }
    write(folder, &[("cluster/teams.yaml", &TEAMS.replace("\"c\"", "\"b\""))]);
    let ended = run(folder, "policy check -f web.yaml -p policy.yaml -e exceptions --inventory cluster").await;
    assert_eq!((ended.status, ended.errors.as_str()), (0, "1 manifest passes\n"), "{}", ended.output);
}

#[tokio::test]
async fn findings_are_written_for_scanners_and_pipelines_with_the_line_of_the_field() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    write(folder, &[("owned.yaml", OWNED), ("maps/all.yaml", MAPS)]);
    let ended = run(folder, "policy check -f maps -p owned.yaml -o sarif").await;
    assert_eq!(ended.status, 4);
    let log: serde_json::Value = serde_json::from_str(&ended.output).expect("JSON");
    let result = &log["runs"][0]["results"][0];
    assert_eq!(
        (&log["version"], &result["ruleId"], &result["level"]),
        (&"2.1.0".into(), &"owned/has-owner".into(), &"error".into())
    );
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "maps/all.yaml");
    assert_eq!(place["region"]["startLine"], 7, "metadata of the second document");
    let report = run(folder, "policy check -f maps -p owned.yaml -o junit").await.output;
    assert!(
        report.contains("<testsuite name=\"maps/all.yaml\" tests=\"3\" skipped=\"0\" errors=\"0\" failures=\"1\">"),
        "{report}"
    );
    assert!(report.contains("<failure message=\"validation error: say whose it is."), "{report}");
}

#[tokio::test]
async fn what_cannot_be_read_is_named_with_file_line_and_field() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    write(folder, &[("policy.yaml", &OWNED.replace("Enforce", "Enforced")), ("web.yaml", DEPLOYMENT)]);
    write(folder, &[("exception.yaml", &EXCEPTION.replace("ruleNames: [owned]", "ruleNames: owned"))]);
    let ended = run(folder, "policy check -f web.yaml -p policy.yaml").await;
    assert_eq!(ended.status, 9);
    assert!(ended.errors.contains("policy.yaml:6: spec.validationFailureAction: "), "{}", ended.errors);
    write(folder, &[("policy.yaml", OWNED)]);
    let ended = run(folder, "policy check -f web.yaml -p policy.yaml -e exception.yaml").await;
    assert_eq!(ended.status, 9);
    assert!(ended.errors.contains("exception.yaml:7: spec.exceptions[0].ruleNames: "), "{}", ended.errors);
}

#[tokio::test]
async fn thousands_of_manifests_are_judged_in_their_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    write(folder, &[("owned.yaml", OWNED)]);
    let map = |number: usize, labels: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m{number}, labels: {labels}}}\n")
    };
    for number in 0..3_000 {
        let labels = if number % 1_000 == 999 { "{}" } else { "{owner: a}" };
        fs::create_dir_all(folder.join("maps")).expect("made");
        fs::write(folder.join(format!("maps/{number:04}.yaml")), map(number, labels)).expect("written");
    }
    let ended = run(folder, "policy check -f maps -p owned.yaml --no-headers").await;
    let places: Vec<_> = ended.output.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(places, ["maps/0999.yaml:3", "maps/1999.yaml:3", "maps/2999.yaml:3"], "{}", ended.errors);
}

#[tokio::test]
async fn a_policy_is_translated_or_says_what_has_no_other_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    write(folder, &[("owned.yaml", OWNED), ("from-a-map.yaml", FROM_A_MAP), ("maps.yaml", MAPS)]);
    for kind in ["validating-policy", "validating-admission-policy"] {
        let ended = run(folder, &format!("policy translate -f owned.yaml --to {kind}")).await;
        assert_eq!(ended.status, 0, "{}", ended.errors);
        write(folder, &[("translated.yaml", &ended.output)]);
        let ended = run(folder, "policy check -f maps.yaml -p translated.yaml --no-headers").await;
        assert_eq!((ended.status, ended.output.lines().count()), (4, 1), "{kind}: {}{}", ended.output, ended.errors);
        assert!(ended.output.contains("ConfigMap default/bad") && ended.output.contains("say whose it is"), "{}", ended.output);
    }
    let ended = run(folder, "policy translate -f from-a-map.yaml").await;
    assert_eq!((ended.status, ended.output.as_str()), (1, ""));
    assert!(
        ended.errors.contains("from-a-map.yaml:2: allowed: rule team: context: JMESPath has no counterpart"),
        "{}",
        ended.errors
    );
}
