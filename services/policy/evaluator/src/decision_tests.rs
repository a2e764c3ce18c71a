//! The verdicts that users meet: jobs, deployments, injected containers, rules nobody can judge.

use super::*;
use crate::{landing::landed, speed};
use serde_json::json;

const REQUIRE_GPU_LIMITS: &str = r#"
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: require-gpu-limits}
spec:
  validationFailureAction: enforce
  rules:
    - name: validate-gpu
      match: {any: [{resources: {kinds: [Pod], namespaces: [ml]}}]}
      validate:
        message: "ML pods must request GPU and set cpu/memory limits."
        pattern:
          spec:
            containers:
              - resources:
                  requests: {nvidia.com/gpu: "?*", cpu: "?*", memory: "?*"}
                  limits: {nvidia.com/gpu: "?*", cpu: "?*", memory: "?*"}
"#;

fn read(text: &str) -> Value {
    muster_core::manifest::parse_one(text).expect("a manifest").value
}

fn policy(text: &str) -> Policy {
    Policy::parse(&read(text)).expect("a policy")
}

fn bound(policy: &Policy) -> Bound<'_> {
    Bound { policy, action: None, allow_not_evaluated: false, namespaces: &[] }
}

fn judged(policies: &[Bound<'_>], manifest: &Value) -> Decision {
    decide(policies, std::slice::from_ref(manifest), &Surroundings::default())
}

fn template() -> Value {
    json!({"spec": {"restartPolicy": "OnFailure", "containers": [{
        "name": "trainer", "image": "registry.example.com/ml/trainer:v2",
        "resources": {"limits": {"nvidia.com/gpu": 1, "cpu": "8", "memory": "32Gi"}},
    }]}})
}

fn volcano_job(template: &Value) -> Value {
    json!({
        "apiVersion": "batch.volcano.sh/v1alpha1", "kind": "Job", "metadata": {"name": "train", "namespace": "ml"},
        "spec": {"queue": "q", "minAvailable": 1, "tasks": [{"name": "trainer", "replicas": 4, "template": template}]},
    })
}

fn deployment(template: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "ml"},
        "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template},
    })
}

#[test]
fn a_volcano_job_with_limits_only_passes_since_its_pods_get_requests() {
    let policy = policy(REQUIRE_GPU_LIMITS);
    let decision = judged(&[bound(&policy)], &volcano_job(&template()));
    assert_eq!(decision.violations, []);
    let answers: Vec<_> = decision.results.iter().map(|result| (result.resource.as_str(), &result.outcome)).collect();
    assert_eq!(answers, [("Pod ml/train-trainer-0", &Outcome::Pass)]);
}

#[test]
fn a_deployment_with_limits_only_fails_by_autogen_and_is_told_once() {
    let policy = policy(REQUIRE_GPU_LIMITS);
    let decision = judged(&[bound(&policy)], &deployment(&template()));
    let expected = Violation {
        manifest: 0,
        policy: "require-gpu-limits".to_owned(),
        rule: "autogen-validate-gpu".to_owned(),
        resource: "Deployment ml/web".to_owned(),
        path: "spec.template.spec.containers[0].resources.requests".to_owned(),
        message: "validation error: ML pods must request GPU and set cpu/memory limits. rule autogen-validate-gpu \
                  failed at path /spec/template/spec/containers/0/resources/requests/"
            .to_owned(),
    };
    assert_eq!(decision.violations, [expected]);
    let of_pod = decision.results.iter().find(|result| result.resource.starts_with("Pod ")).expect("the pod is judged");
    assert_eq!(of_pod.outcome, Outcome::Pass);
}

#[test]
fn a_job_that_breaks_policy_is_told_where_in_its_own_document() {
    let policy = policy(REQUIRE_GPU_LIMITS);
    let mut template = template();
    template["spec"]["containers"][0]["resources"]["limits"].as_object_mut().expect("limits").remove("nvidia.com/gpu");
    let decision = judged(&[bound(&policy)], &volcano_job(&template));
    assert!(!decision.is_allowed());
    let violation = &decision.violations[0];
    assert_eq!(violation.resource, "Pod ml/train-trainer-0");
    let path = r#"spec.tasks[0].template.spec.containers[0].resources.limits["nvidia.com/gpu"]"#;
    assert_eq!(violation.path, path);
}

#[test]
fn a_binding_overrides_the_action_both_ways() {
    let policy = policy(REQUIRE_GPU_LIMITS);
    let manifest = deployment(&template());
    let audit = Bound { action: Some(FailureAction::Audit), ..bound(&policy) };
    let decision = judged(&[audit], &manifest);
    assert_eq!((decision.violations.len(), decision.audited.len()), (0, 1));
    let own = judged(&[bound(&policy)], &manifest);
    assert_eq!((own.violations.len(), own.audited.len()), (1, 0));
}

#[test]
fn another_namespace_is_not_asked() {
    let policy = policy(REQUIRE_GPU_LIMITS);
    let mut manifest = deployment(&template());
    manifest["metadata"]["namespace"] = json!("web");
    assert_eq!(judged(&[bound(&policy)], &manifest), Decision::default());
    manifest["metadata"].as_object_mut().expect("metadata").remove("namespace");
    assert_eq!(judged(&[bound(&policy)], &manifest), Decision::default());
}

#[test]
fn a_binding_holds_in_its_namespaces_only() {
    let policy = policy(REQUIRE_GPU_LIMITS);
    let (here, elsewhere) = (["m*".to_owned()], ["web".to_owned()]);
    let manifest = deployment(&template());
    assert!(!judged(&[Bound { namespaces: &here, ..bound(&policy) }], &manifest).is_allowed());
    assert_eq!(judged(&[Bound { namespaces: &elsewhere, ..bound(&policy) }], &manifest), Decision::default());
}

#[test]
fn a_rule_nobody_can_judge_refuses_under_enforce_unless_the_binding_allows_it() {
    let policy = policy(
        "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: p}\nspec:\n  rules:\n  - name: r\n    match: \
         {any: [{resources: {kinds: [Deployment]}}]}\n    validate: {manifests: {}}\n",
    );
    let enforce = Bound { action: Some(FailureAction::Enforce), ..bound(&policy) };
    let decision = judged(&[enforce], &deployment(&template()));
    assert_eq!(decision.violations[0].message, "the rule could not be evaluated: validate.manifests is not evaluated yet");
    assert_eq!(decision.not_evaluated.len(), 1);
    let allowed = judged(&[Bound { allow_not_evaluated: true, ..enforce }], &deployment(&template()));
    assert_eq!((allowed.violations.len(), allowed.not_evaluated.len()), (0, 1));
    let audited = judged(&[bound(&policy)], &deployment(&template()));
    assert_eq!((audited.violations.len(), audited.audited.len(), audited.not_evaluated.len()), (0, 0, 1));
}

#[test]
fn pods_whose_template_nobody_knows_are_judged_by_no_rule() {
    let policy = policy(REQUIRE_GPU_LIMITS);
    let job = json!({
        "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "metadata": {"name": "train", "namespace": "ml"},
        "spec": {"runtimeRef": {"name": "torch"}},
    });
    let runtime = |image: &str| {
        json!({
            "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "ClusterTrainingRuntime", "metadata": {"name": "torch"},
            "spec": {"template": {"spec": {"replicatedJobs": [
                {"name": "node", "template": {"spec": {"template": {"spec": {"containers": [{"name": "node", "image": image}]}}}}},
            ]}}},
        })
    };
    let alone = judged(&[bound(&policy)], &job);
    let reason = "its Pods are made from the ClusterTrainingRuntime \"torch\", which is not known here";
    assert_eq!(alone.violations.len(), 1);
    assert_eq!((alone.violations[0].message.as_str(), alone.not_evaluated[0].message.as_str()), (&*unjudged(reason), reason));
    let together = decide(&[bound(&policy)], &[job, runtime("i:1")], &Surroundings::default());
    assert_eq!(together.not_evaluated, []);
    let broken: Vec<&str> = together.violations.iter().map(|violation| violation.resource.as_str()).collect();
    assert_eq!(broken, ["Job ml/train-node-0", "Pod ml/train-node-0-*"]);
}

#[test]
fn a_mutation_is_listed_and_never_refuses() {
    let policy = policy(
        "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: p}\nspec:\n  validationFailureAction: Enforce\n  \
         rules:\n  - name: r\n    match: {any: [{resources: {kinds: [Deployment]}}]}\n    mutate: {patchStrategicMerge: {}}\n",
    );
    let decision = judged(&[bound(&policy)], &deployment(&template()));
    assert_eq!((decision.violations.len(), decision.not_evaluated.len()), (0, 1));
}

#[test]
fn an_injection_label_under_a_rule_over_all_containers_is_a_warning_that_names_both() {
    let policy = policy(REQUIRE_GPU_LIMITS);
    let mut injected = template();
    injected["metadata"] = json!({"labels": {"sidecar.istio.io/inject": "true"}});
    let decision = judged(&[bound(&policy)], &volcano_job(&injected));
    assert!(decision.is_allowed());
    let expected = Warning {
        policy: "require-gpu-limits".to_owned(),
        rule: "validate-gpu".to_owned(),
        resource: "Pod ml/train-trainer-0".to_owned(),
        label: "label sidecar.istio.io/inject=true".to_owned(),
    };
    assert_eq!(decision.warnings, [expected]);

    let labels = Labels::from([("istio-injection".to_owned(), "enabled".to_owned())]);
    let surroundings = Surroundings { namespaces: [("ml".to_owned(), labels)].into(), ..Surroundings::default() };
    let by_namespace = decide(&[bound(&policy)], &[volcano_job(&template())], &surroundings);
    assert_eq!(by_namespace.warnings[0].label, "label istio-injection=enabled of the namespace");
    let mut declined = template();
    declined["metadata"] = json!({"labels": {"sidecar.istio.io/inject": "false"}});
    assert_eq!(decide(&[bound(&policy)], &[volcano_job(&declined)], &surroundings).warnings, []);
}

#[test]
fn namespaces_among_the_manifests_lend_their_labels() {
    let policy = policy(
        "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: p}\nspec:\n  validationFailureAction: Enforce\n  \
         rules:\n  - name: r\n    match: {any: [{resources: {kinds: [Deployment], namespaceSelector: {matchLabels: {env: prod}}}}]}\n    \
         validate: {pattern: {spec: {replicas: '>1'}}}\n",
    );
    let namespace =
        |env: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ml", "labels": {"env": env}}});
    let judge = |manifests: &[Value]| decide(&[bound(&policy)], manifests, &Surroundings::default());
    let prod = judge(&[namespace("prod"), deployment(&template())]);
    assert_eq!(prod.violations[0].path, "spec.replicas");
    assert_eq!(judge(&[namespace("test"), deployment(&template())]), Decision::default());
    let unknown = judge(&[deployment(&template())]);
    assert_eq!(
        unknown.violations[0].message,
        "the rule could not be evaluated: it depends on the labels of the namespace, which are not known"
    );
}

#[test]
fn what_a_workload_makes_breaks_a_rule_once_whatever_the_rule_is_made_of() {
    let classic = |validate: &str| {
        policy(&format!(
            "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {{name: p}}\nspec:\n  validationFailureAction: Enforce\n  \
             rules:\n  - name: r\n    match: {{any: [{{resources: {{kinds: [Pod]}}}}]}}\n    validate: {validate}\n"
        ))
    };
    let newer = policy(
        "apiVersion: policies.kyverno.io/v1\nkind: ValidatingPolicy\nmetadata: {name: p}\nspec:\n  matchConstraints:\n    \
         resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods]}]\n  validations:\n  - \
         expression: object.spec.containers.all(c, c.name != 'trainer')\n",
    );
    let deny =
        "{deny: {conditions: {any: [{key: '{{ request.object.spec.containers[].name }}', operator: AnyIn, value: [trainer]}]}}}";
    let cel = "{cel: {expressions: [{expression: \"object.spec.containers.all(c, c.name != 'trainer')\"}]}}";
    let foreach = "{foreach: [{list: 'request.object.spec.containers', pattern: {name: '!trainer'}}]}";
    let element = "spec.template.spec.containers[0].name";
    for (policy, place) in
        [(classic(deny), "spec.template"), (classic(cel), "spec.template"), (classic(foreach), element), (newer, "spec.template")]
    {
        let decision = judged(&[bound(&policy)], &deployment(&template()));
        let places: Vec<&str> = decision.violations.iter().map(|violation| violation.path.as_str()).collect();
        assert_eq!(places, [place], "{:?}", decision.violations);
    }
}

/// Two policies under two actions: what `objections` finds is what stands in the decision.
#[test]
fn objections_are_what_a_decision_holds_against_the_manifests() {
    let rule = |name: &str, validate: Value| json!({"name": name, "match": {"any": [{"resources": {"kinds": ["Pod"]}}]}, "validate": validate});
    let policies = [
        json!([rule("network", json!({"message": "no", "pattern": {"spec": {"=(hostNetwork)": false}}}))]),
        json!([rule("standard", json!({"podSecurity": {"level": "baseline"}})), rule("open", json!({"manifests": {}}))]),
    ]
    .map(|rules| {
        let document = json!({
            "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "p"}, "spec": {"rules": rules},
        });
        Policy::parse(&document).expect("a policy")
    });
    let actions = [Some(FailureAction::Enforce), None];
    let bound: Vec<Bound<'_>> = policies.iter().zip(actions).map(|(policy, action)| Bound { action, ..bound(policy) }).collect();
    // Enough for several threads.
    let workloads = speed::workloads(240);
    let surroundings = Surroundings::default();
    let decision = decide(&bound, &workloads, &surroundings);
    let sorted = |violations: &[Violation]| {
        let mut violations = violations.to_vec();
        violations.sort();
        violations
    };
    let index = KindIndex::of(policies.iter());
    for (threads, index) in [(1, None), (1, Some(&index)), (2, Some(&index)), (3, None)] {
        let objects = landed(&workloads, "", None);
        let (found, warnings) = objections(threads, &bound, index, &objects, &surroundings, |objection| {
            let Objection { manifest, policy, rule, resource, refuses, what } = objection;
            let (list, path, message) = match what {
                Objected::Broken { path, message } => (usize::from(!refuses), path, message),
                Objected::NotEvaluated { reason } => (2, String::new(), reason),
            };
            let [policy, rule, resource] = [policy, rule, resource].map(str::to_owned);
            (list, Violation { manifest, policy, rule, resource, path, message })
        });
        for (list, expected) in [&decision.violations, &decision.audited, &decision.not_evaluated].into_iter().enumerate() {
            let found = found.iter().filter(|(of, _)| *of == list).map(|(_, violation)| violation.clone());
            let found: Vec<Violation> = found.collect();
            assert!(!found.is_empty());
            assert_eq!(sorted(&found), sorted(expected), "{threads} threads");
        }
        assert_eq!(warnings.len(), decision.warnings.len());
    }
    assert_eq!(decide_on(2, &bound, &workloads, &surroundings, &|_| ()), decision);
}
