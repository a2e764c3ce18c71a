//! What the agent reads of a cluster: inventory, preflight, metrics, logs, verdicts.

use crate::harness::*;
use muster_agent::{
    domain::{
        item::{Binding, ItemKey, Options, Policy, Run},
        observation::Phase,
        verdicts::Row,
    },
    inventory::{ClockOffsets, follow, preflight},
    logs,
    metrics::Prometheus,
    policy,
};
use muster_core::version::Version;
use muster_testkit::eventually;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

fn trainer(run: &str) -> serde_json::Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train", "namespace": "ml"},
        "spec": {"template": {"metadata": {"labels": {"muster.dev/run": run}}, "spec": {"restartPolicy": "Never", "containers": [
            {"name": "trainer", "image": "registry.example.com/ml/trainer:long", "resources": {"limits": {"nvidia.com/gpu": "2"}}}]}}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inventory_follows_nodes_and_pods() {
    let world =
        World::start(json!([{"match": "*:long", "runForMs": 600000, "logs": ["step 1", "step 2"], "logIntervalMs": 10}])).await;
    let (feed, inventory) = watch::channel(None);
    let stop = CancellationToken::new();
    let following = tokio::spawn(follow(world.by_hand().client().clone(), feed, stop.clone()));
    let taken = eventually("an inventory", async || inventory.borrow().clone()).await;
    let gpus: i64 = taken.nodes.iter().map(|node| node.allocatable["nvidia.com/gpu"].units()).sum();
    assert_eq!((taken.nodes.len(), gpus, taken.nodes[0].flavor.as_str()), (2, 16, "V100"));
    let served = |name: &str| taken.policy_kinds.iter().find(|(kind, _)| kind == name).map(|(_, versions)| versions.join(" "));
    assert_eq!(served("validatingadmissionpolicies.admissionregistration.k8s.io").as_deref(), Some("v1"));
    assert_eq!(served("clusterpolicies.kyverno.io"), None);
    let key = ItemKey::new("scheduler", "jobs/ml/train/1");
    let run = Run { name: "namespaces/ml/jobs/train/runs/1".into(), movable: false };
    world.desire(&key, 1, &[trainer("ml.train.1")], Options { run: Some(run), ..healing() }).await;
    eventually("the run's use", async || {
        let taken = inventory.borrow().clone()?;
        let used =
            taken.nodes.iter().flat_map(|node| &node.used_by_run).find(|used| used.run == "namespaces/ml/jobs/train/runs/1")?;
        (used.requests["nvidia.com/gpu"].units() == 2).then_some(())
    })
    .await;
    world.until(&key, 1, Phase::Healthy).await;
    let (chunks, mut received) = mpsc::channel(16);
    let request = logs::Request { namespace: "ml".into(), name: "train".into(), tail_lines: 10, ..logs::Request::default() };
    logs::read(&world.by_hand(), &request, chunks).await.expect("read");
    let chunk = received.recv().await.expect("lines");
    assert_eq!(chunk.container, "trainer");
    assert!(chunk.lines.iter().any(|line| line.contains("step 1")), "{:?}", chunk.lines);
    stop.cancel();
    following.await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_says_what_is_there_and_what_is_wrong() {
    let world = World::start(json!([])).await;
    let found = preflight(&world.by_hand(), ClockOffsets::default()).await.expect("looked over");
    assert!(found.kubernetes_version.starts_with("v1."), "{}", found.kubernetes_version);
    assert!(found.api_groups.iter().any(|(group, versions)| group == "apps" && versions == &["v1"]));
    assert!(found.crds.iter().any(|(name, _)| name == "virtualservices.networking.istio.io"));
    assert!(found.gpu_stack_present);
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    world.sim.faults().set_clock_offset_ms(-60_000);
    let found = preflight(&world.by_hand(), ClockOffsets::default()).await.expect("looked over");
    assert!(found.problems.iter().any(|problem| problem.contains("clock is off")), "{:?}", found.problems);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clusters_own_prometheus_answers_with_numbers() {
    let world = World::start(json!([])).await;
    let bundle = [service(), copy("v2", "registry.example.com/ml/resnet50-server:v2")];
    world.desire(&app(), 1, &bundle, healing()).await;
    world.until(&app(), 1, Phase::Healthy).await;
    let served = muster_simcluster::server::serve(world.sim.clone()).await.expect("served");
    let prometheus =
        Prometheus::new(Some(&format!("http://{}", served.endpoints.prometheus.expect("it has one")))).expect("legal");
    let query = r#"sum(requests_total{app="resnet50",version="v2",code="200"})"#;
    let samples = eventually("requests are counted", async || {
        prometheus.query(query, None).await.ok().filter(|samples| samples.first().is_some_and(|sample| sample.value > 0.0))
    })
    .await;
    assert_eq!(samples.len(), 1);
    assert_eq!(prometheus.query(r#"requests_total{app="nothing"}"#, None).await.expect("answered"), []);
    assert!(prometheus.query("sum(", None).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn workloads_are_evaluated_and_a_change_is_said() {
    let world = World::start(json!([])).await;
    let policies = ItemKey::new("policy", "policies");
    let policy_document = json!({"apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "require-team"},
        "spec": {"rules": [{"name": "team", "match": {"any": [{"resources": {"kinds": ["Deployment"]}}]},
            "validate": {"message": "say whose it is", "pattern": {"metadata": {"labels": {"team": "?*"}}}}}]}});
    let bindings = vec![Binding { policy: "require-team".into(), namespaces: vec!["ml".into()], enforce: false }];
    let options = Options { policy: Some(Policy { bindings, ..Policy::default() }), ..healing() };
    world.desire(&policies, 1, std::slice::from_ref(&policy_document), options.clone()).await;
    let stop = CancellationToken::new();
    let following = tokio::spawn(policy::follow(world.reconciler.clone(), stop.clone()));
    let mut server = copy("v2", "registry.example.com/ml/resnet50-server:v2");
    world.desire(&app(), 1, &[server.clone()], healing()).await;
    let verdicts = |pass: u32, fail: u32| {
        let said = world.reconciler.said.all().get(&policies).cloned()?;
        let counted = said.rows.values().any(|row| matches!(row, Row::Count(count) if count.pass == pass && count.fail == fail));
        counted.then_some(said)
    };
    let broken = eventually("the violation is said", async || verdicts(0, 1)).await;
    let violations: Vec<_> = broken
        .rows
        .values()
        .filter_map(|row| match row {
            Row::Violation(violation) => Some(violation.object.name.as_str()),
            Row::Count(_) => None,
        })
        .collect();
    assert_eq!((broken.generation, violations), (Version::new(1, 1), vec!["resnet50-v2"]));
    server["metadata"]["labels"] = json!({"team": "vision"});
    world.desire(&app(), 2, &[server], healing()).await;
    eventually("and its end", async || verdicts(1, 0)).await;
    assert!(world.object("clusterpolicies.kyverno.io", "", "require-team").is_none());

    // The same by the API server's own means: applied beside the document, and not judged by itself.
    let admission = |kind: &str, spec: Value| json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "require-team"}, "spec": spec});
    let documents = [
        policy_document,
        admission(
            "ValidatingAdmissionPolicy",
            json!({
            "matchConstraints": {"resourceRules": [
                {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}]},
            "validations": [{"expression": "has(object.metadata.labels)"}]}),
        ),
        admission("ValidatingAdmissionPolicyBinding", json!({"policyName": "require-team", "validationActions": ["Audit"]})),
    ];
    let with_kinds = Policy { install: true, only_evaluated: 1, ..options.policy.clone().expect("policies") };
    world.desire(&policies, 2, &documents, Options { policy: Some(with_kinds), ..options.clone() }).await;
    world.until(&policies, 2, Phase::Healthy).await;
    let applied = |kind: &str| world.object(&format!("{kind}.admissionregistration.k8s.io"), "", "require-team").is_some();
    assert!(applied("validatingadmissionpolicies") && applied("validatingadmissionpolicybindings"));
    assert!(world.object("clusterpolicies.kyverno.io", "", "require-team").is_none());
    world.desire(&policies, 3, &documents[..1], options).await;
    eventually("it leaves", async || (!applied("validatingadmissionpolicies")).then_some(())).await;
    stop.cancel();
    following.await.expect("ends");
}
