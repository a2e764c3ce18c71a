//! What needs no service.

use crate::support::{Ended, bare};
use std::{fs, path::Path};

async fn run(folder: &Path, line: &str) -> Ended {
    let mut command = bare(line);
    command.current_dir(folder).env("MUSTER_CONFIG", folder.join("config.toml"));
    Ended::from(command.output().await.expect("the program starts"))
}

const POLICY: &str = r#"
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata:
  name: require-gpu-limits
spec:
  validationFailureAction: Enforce
  rules:
    - name: validate-gpu
      match:
        any:
          - resources:
              kinds: ["Pod"]
      validate:
        message: "set a GPU limit"
        pattern:
          spec:
            containers:
              - resources:
                  limits:
                    nvidia.com/gpu: "?*"
"#;

fn job(limits: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: train, namespace: ml}}\nspec:\n  template:\n    spec:\n      \
         restartPolicy: Never\n      containers:\n        - name: trainer\n          image: registry.internal/ml/trainer:v1\n          \
         resources: {{limits: {{{limits}}}}}\n"
    )
}

#[tokio::test]
async fn manifests_are_judged_without_a_service() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("policy.yaml"), POLICY).expect("written");
    fs::write(folder.path().join("good.yaml"), job("nvidia.com/gpu: 1")).expect("written");
    fs::write(folder.path().join("bad.yaml"), job("cpu: 1")).expect("written");
    let good = run(folder.path(), "policy check -f good.yaml --policy policy.yaml").await;
    assert_eq!((good.status, good.errors.as_str()), (0, "1 manifest passes\n"), "{}", good.output);
    let bad = run(folder.path(), "policy check -f bad.yaml --policy policy.yaml -o json").await;
    assert_eq!(bad.status, 4, "{}", bad.errors);
    for words in ["\"where\": \"bad.yaml:11\"", "require-gpu-limits", "spec.template.spec.containers[0]", "set a GPU limit"] {
        assert!(bad.output.contains(words), "{words}: {}", bad.output);
    }
}

const VALIDATING_POLICY: &str = r#"
apiVersion: policies.kyverno.io/v1
kind: ValidatingPolicy
metadata:
  name: no-latest
spec:
  matchConstraints:
    resourceRules:
      - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}
  validations:
    - expression: object.spec.containers.all(container, !container.image.endsWith(':latest'))
      message: name a version
"#;

#[tokio::test]
async fn kyvernos_newer_policies_are_judged_too() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("policy.yaml"), VALIDATING_POLICY).expect("written");
    fs::write(folder.path().join("good.yaml"), job("cpu: 1")).expect("written");
    fs::write(folder.path().join("bad.yaml"), job("cpu: 1").replace(":v1", ":latest")).expect("written");
    let good = run(folder.path(), "policy check -f good.yaml --policy policy.yaml").await;
    assert_eq!(good.status, 0, "{}{}", good.output, good.errors);
    let bad = run(folder.path(), "policy check -f bad.yaml --policy policy.yaml -o json").await;
    assert_eq!(bad.status, 4, "{}", bad.errors);
    for words in ["no-latest", "name a version", "spec.template"] {
        assert!(bad.output.contains(words), "{words}: {}", bad.output);
    }
}

#[tokio::test]
async fn what_is_no_policy_is_refused_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("job.yaml"), job("cpu: 1")).expect("written");
    fs::write(folder.path().join("broken.yaml"), POLICY.replace("rules:", "rulez:")).expect("written");
    let ended = run(folder.path(), "policy check -f job.yaml --policy job.yaml --policy broken.yaml").await;
    assert_eq!(ended.status, 9);
    assert!(ended.errors.contains("job.yaml:1: batch/v1 Job is no policy"), "{}", ended.errors);
    assert!(ended.errors.contains("broken.yaml:6: spec.rules"), "{}", ended.errors);
}

#[tokio::test]
async fn contexts_are_made_shown_used_and_forgotten() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    fs::write(folder.join("token"), "secret").expect("written");
    for (line, status) in [
        ("config set-context dev --registry https://muster.example.com:7401 --token-file token", 0),
        ("config set-context prod --token s3cret --default-namespace ml", 0),
        ("config use-context prod", 0),
        ("config use-context nowhere", 2),
        ("config set-context dev --policy muster.example.com", 2),
    ] {
        let ended = run(folder, line).await;
        assert_eq!(ended.status, status, "{line}: {}", ended.errors);
    }
    let shown = run(folder, "config get-contexts").await.output;
    let rows: Vec<Vec<_>> = shown.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..2], ["dev", "https://muster.example.com:7401"]);
    assert_eq!(rows[0].last().copied(), folder.join("token").to_str());
    assert_eq!(
        rows[1],
        [
            "*",
            "prod",
            "https://127.0.0.1:7401",
            "https://127.0.0.1:7402",
            "https://127.0.0.1:7403",
            "https://127.0.0.1:7404",
            "token",
            "ml"
        ]
    );
    assert!(!run(folder, "config get-contexts -o json").await.output.contains("s3cret"));
    assert_eq!(run(folder, "config delete-context prod").await.status, 0);
    assert_eq!(run(folder, "config get-contexts -o name").await.output, "dev\n");
}

#[tokio::test]
async fn a_token_is_never_sent_in_clear_beyond_this_machine() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = bare("get queues");
    command.env("MUSTER_CONFIG", folder.path().join("none.toml")).env("MUSTER_SCHEDULER", "http://muster.example.com:7402");
    let ended = Ended::from(command.output().await.expect("starts"));
    assert_eq!(ended.status, 2);
    assert!(ended.errors.contains("must begin with https://"), "{}", ended.errors);
    let mut command = bare("get queues");
    command.env("MUSTER_CONFIG", folder.path().join("none.toml"));
    let ended = Ended::from(command.output().await.expect("starts"));
    assert!(ended.status == 2 && ended.errors.contains("ca_file"), "{}", ended.errors);
}

#[tokio::test]
async fn wrong_usage_ends_with_2_and_help_with_0() {
    for (line, status) in [("", 2), ("gett", 2), ("get pods", 2), ("--help", 0), ("cluster join --help", 0), ("--version", 0)] {
        let ended = Ended::from(bare(line).env("MUSTER_CONFIG", "/nowhere").output().await.expect("starts"));
        assert_eq!(ended.status, status, "{line}: {}", ended.errors);
    }
    let script = Ended::from(bare("completion bash").output().await.expect("starts")).output;
    assert!(script.contains("_muster()") && script.contains("rollout"), "{script}");
}
