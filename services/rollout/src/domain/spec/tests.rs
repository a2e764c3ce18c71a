//! The documents people have, and the slips they make.

use super::*;
use muster_core::LabelSelector;
use muster_core::manifest::parse_one;
use std::time::Duration;

const FLEET_APPLICATION: &str = r#"
apiVersion: fleet.kurator.dev/v1alpha1
kind: FleetApplication
metadata: { name: detector, namespace: platform }
spec:
  fleetRef: { name: all }
  gitRepositoryRef: { name: models }
  targets:
    - cluster: serve-online
      path: ./serving/detector/overlays/online/
    - fleet: fleet-edge
      path: serving/detector/overlays/edge
  syncPolicy:
    automated: { prune: true, selfHeal: true }
"#;

fn application(text: &str) -> Result<ApplicationSpec, SpecError> {
    parse_application(&parse_one(text).expect("valid YAML")).map(|document| document.spec)
}

fn with_rollout(block: &str) -> Result<ApplicationSpec, SpecError> {
    let block: String = block.lines().map(|line| format!("    {line}\n")).collect();
    application(&format!("{FLEET_APPLICATION}  rollout:\n{block}"))
}

#[test]
fn an_application_without_a_rollout_block_is_one_wave_of_everyone_with_ten_minutes() {
    let spec = application(FLEET_APPLICATION).unwrap();
    assert_eq!(spec.source, Source::Repository { namespace: None, name: "models".to_owned() });
    assert_eq!(
        spec.targets,
        [
            TargetSpec {
                selection: Selection::Cluster("serve-online".to_owned()),
                path: "serving/detector/overlays/online".to_owned()
            },
            TargetSpec {
                selection: Selection::Fleet("fleet-edge".to_owned()),
                path: "serving/detector/overlays/edge".to_owned()
            },
        ]
    );
    assert!(spec.automated && spec.prune && spec.self_heal);
    assert_eq!(
        spec.rollout.waves,
        [WaveSpec {
            selector: WaveSelector::All,
            weights: vec![],
            max_concurrency: Proportion::Percent(100),
            max_failures: Proportion::Count(0),
            quorum: Proportion::Count(1),
            min_success_time: Duration::ZERO,
            progress_deadline: Duration::from_secs(600),
            gate: None,
        }]
    );
}

#[test]
fn a_rollout_block_gives_its_defaults_to_every_wave_and_a_wave_overrides_them() {
    let spec = with_rollout(
        "waves:
  - fleet: fleet-canary
  - clusters: [serve-online]
    weights: [10, 50]
    minSuccessTime: 1m
  - selector: { matchLabels: { tier: edge } }
    maxConcurrency: 25%
minSuccessTime: 5m
progressDeadline: 10m
maxFailures: 1
keepStableFor: 1h
gate: { query: 'up{version=\"{{version}}\"}', min: 0.99, interval: 10s, count: 2 }",
    )
    .unwrap();
    let [canary, online, edge, rest] = &spec.rollout.waves[..] else { panic!("three waves and the rest") };
    assert_eq!(canary.selector, WaveSelector::Fleet("fleet-canary".to_owned()));
    assert_eq!(canary.min_success_time, Duration::from_secs(300));
    assert_eq!(canary.max_failures, Proportion::Count(1));
    assert_eq!(online.weights, [10, 50, 100], "a release ends with all of the traffic");
    assert_eq!(online.min_success_time, Duration::from_secs(60));
    assert_eq!(
        edge.selector,
        WaveSelector::Labels(LabelSelector {
            match_labels: [("tier".to_owned(), "edge".to_owned())].into(),
            match_expressions: vec![]
        })
    );
    assert_eq!(edge.max_concurrency, Proportion::Percent(25));
    assert_eq!(rest.selector, WaveSelector::All, "a target that no wave names is not forgotten");
    for wave in &spec.rollout.waves {
        let gate = wave.gate.as_ref().expect("the block's gate");
        assert_eq!((gate.min, gate.max, gate.count), (Some(0.99), None, 2));
        assert_eq!(gate.interval, Duration::from_secs(10));
    }
    assert_eq!(spec.rollout.keep_stable_for, Duration::from_secs(3600));
}

#[test]
fn a_slip_is_refused_by_the_name_of_its_field() {
    let cases = [
        ("weigths: [10]", "weigths"),
        ("waves: [{fleet: a, weigths: [1]}]", "weigths"),
        ("waves: [{fleet: a, clusters: [b]}]", "spec.rollout.waves[0]"),
        ("waves: [{weights: [10]}]", "spec.rollout.waves[0]"),
        ("waves: [{clusters: []}]", "spec.rollout.waves[0].clusters"),
        ("waves: [{fleet: a, weights: [50, 10]}]", "spec.rollout.waves[0].weights[1]"),
        ("waves: [{fleet: a, weights: [0]}]", "spec.rollout.waves[0].weights[0]"),
        ("waves: [{fleet: a, weights: [101]}]", "spec.rollout.waves[0].weights[0]"),
        ("maxConcurrency: 0", "spec.rollout.maxConcurrency"),
        ("maxConcurrency: 101%", "spec.rollout.maxConcurrency"),
        ("maxConcurrency: -1", "spec.rollout.maxConcurrency"),
        ("maxFailures: some", "spec.rollout.maxFailures"),
        ("progressDeadline: 0s", "spec.rollout.progressDeadline"),
        ("progressDeadline: 10", "spec.rollout.progressDeadline"),
        ("minSuccessTime: -5m", "spec.rollout.minSuccessTime"),
        ("keepStableFor: 9000h", "spec.rollout.keepStableFor"),
        ("gate: {query: up}", "spec.rollout.gate"),
        ("gate: {query: '', min: 1}", "spec.rollout.gate.query"),
        ("gate: {query: up, min: 2, max: 1}", "spec.rollout.gate.min"),
        ("gate: {query: up, min: 1, count: 0}", "spec.rollout.gate.count"),
        ("traffic: {workload: w, kind: StatefulSet}", "StatefulSet cannot be a traffic workload"),
    ];
    for (block, expected) in cases {
        let error = with_rollout(block).expect_err(block).to_string();
        assert!(error.contains(expected), "{block}: {error}");
    }
}

#[test]
fn an_unknown_field_has_a_line_and_a_column() {
    let text = FLEET_APPLICATION.replace("  targets:", "  tragets: []\n  targets:");
    let error = application(&text).unwrap_err();
    assert!(error.field.starts_with("line 8, column "), "{error}");
    assert!(error.message.contains("tragets"), "{error}");
}

#[test]
fn a_path_never_leaves_the_repository() {
    for path in ["../other", "/etc", "a/../../b"] {
        let error = application(&FLEET_APPLICATION.replace("serving/detector/overlays/edge", path)).unwrap_err();
        assert_eq!(error.field, "spec.targets[1].path", "{error}");
    }
}

#[test]
fn without_automated_a_release_waits_for_a_person() {
    let manual = FLEET_APPLICATION.replace("    automated: { prune: true, selfHeal: true }", "    {}");
    let spec = application(&manual).unwrap();
    assert!(!spec.automated && !spec.prune && !spec.self_heal);
}

#[test]
fn an_application_of_the_other_group_brings_its_own_repository() {
    let spec = application(
        "
apiVersion: apps.kurator.dev/v1alpha1
kind: Application
metadata: { name: web, namespace: default }
spec:
  source:
    gitRepository:
      interval: 3m0s
      timeout: 1m0s
      ref: { branch: master }
      url: https://git.example.com/web.git
  syncPolicies:
    - destination: { fleet: quickstart, clusterSelector: { matchLabels: { site: east } } }
      kustomization: { interval: 5m0s, path: ./deploy/web, prune: true, timeout: 2m0s }
  rollout: { progressDeadline: 2m }
",
    )
    .unwrap();
    let Source::Inline(repository) = spec.source else { panic!("an inline source") };
    assert_eq!(repository.reference, GitReference::Branch("master".to_owned()));
    assert_eq!(repository.interval, Duration::from_secs(180));
    assert_eq!(spec.targets[0].path, "deploy/web");
    assert!(matches!(&spec.targets[0].selection, Selection::Labels { fleet: Some(fleet), .. } if fleet == "quickstart"));
    assert!(spec.prune);
}

fn repository(spec: &str) -> Result<GitRepositorySpec, SpecError> {
    let text = format!(
        "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: r, namespace: n}}\nspec: {spec}\n"
    );
    parse_git_repository(&parse_one(&text).expect("valid YAML")).map(|document| document.spec)
}

#[test]
fn a_git_repository_has_a_url_a_reference_and_an_interval() {
    assert_eq!(
        repository("{url: 'https://git.example.com/ml.git', interval: 2m, ref: {tag: v1}, secretRef: {name: deploy-key}}"),
        Ok(GitRepositorySpec {
            url: "https://git.example.com/ml.git".to_owned(),
            reference: GitReference::Tag("v1".to_owned()),
            interval: Duration::from_secs(120),
            timeout: Duration::from_secs(60),
            secret: Some("deploy-key".to_owned()),
            suspend: false,
        })
    );
    for url in ["ssh://git@example.com/a.git", "git@example.com:a/b.git", "file:///srv/git/a.git"] {
        assert_eq!(repository(&format!("{{url: '{url}'}}")).unwrap().reference, GitReference::Branch("main".to_owned()));
    }
}

#[test]
fn a_git_repository_that_cannot_be_trusted_is_refused_by_field() {
    let cases = [
        ("{url: 'http://git.example.com/a'}", "spec.url"),
        ("{url: 'https://user:secret@git.example.com/a'}", "spec.url"),
        ("{url: 'ext::sh -c id'}", "spec.url"),
        ("{url: '--upload-pack=id'}", "spec.url"),
        ("{url: 'https://h/a', ref: {branch: '--x'}}", "spec.ref.branch"),
        ("{url: 'https://h/a', ref: {branch: 'a..b'}}", "spec.ref.branch"),
        ("{url: 'https://h/a', ref: {commit: abc}}", "spec.ref.commit"),
        ("{url: 'https://h/a', ref: {branch: a, tag: b}}", "spec.ref"),
        ("{url: 'https://h/a', ref: {semver: '1.x'}}", "semver"),
        ("{url: 'https://h/a', verify: {mode: head}}", "verify"),
        ("{url: 'https://h/a', interval: 0s}", "spec.interval"),
    ];
    for (spec, expected) in cases {
        let error = repository(spec).expect_err(spec).to_string();
        assert!(error.contains(expected), "{spec}: {error}");
    }
}

#[test]
fn a_share_of_the_clusters_is_rounded_to_the_safe_side() {
    assert_eq!(Proportion::Percent(25).of_rounded_up(3), 1);
    assert_eq!(Proportion::Percent(25).of_rounded_down(3), 0);
    assert_eq!(Proportion::Count(9).of_rounded_up(3), 3);
    assert_eq!(Proportion::Percent(100).of_rounded_up(7), 7);
}
