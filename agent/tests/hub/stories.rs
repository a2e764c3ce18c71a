//! What an agent and a hub go through together.

use crate::registry::{ITEM, Registry, admin, aged, rollout};
use kube::Client;
use muster_agent::{
    agent,
    cluster::Cluster,
    config::{Config, HubConfig},
    control,
    domain::object::ObjectRef,
    ledger::{Leaving, Ledger},
};
use muster_fleet_registry::app;
use muster_kit::{config::TelemetryConfig, crash::CrashConfig};
use muster_proto::{
    agent::v1::{LogsQuery, observation::Phase},
    registry::v1 as api,
};
use muster_simcluster::{ClusterConfig, CrdPreset, SimCluster};
use muster_testkit::eventually;
use serde_json::{Value, json};
use std::path::Path;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;

struct Agent {
    sim: SimCluster,
    config: Config,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
    directory: tempfile::TempDir,
    _served: Option<muster_simcluster::server::Served>,
}

fn simulated(uid: Option<&str>) -> SimCluster {
    let mut config = ClusterConfig::named("edge-01");
    config.uid = uid.map(str::to_owned);
    config.crds = vec![CrdPreset::Istio];
    config.nodes = vec![serde_json::from_value(json!({"count": 1, "gpus": 1, "gpuModel": "A10"})).expect("a node group")];
    let images = json!([{"match": "*", "logs": ["hello"], "logIntervalMs": 10}]);
    SimCluster::start(config, serde_json::from_value(images).expect("legal rules"), None).expect("the cluster starts")
}

fn configuration(registry: &Registry, directory: &Path, token: &str) -> Config {
    let token_file = directory.join("token");
    std::fs::write(&token_file, token).expect("written");
    Config {
        cluster: None,
        state_dir: directory.join("state"),
        kubeconfig: None,
        prometheus_url: None,
        http_address: None,
        hub: HubConfig { address: registry.url(), ca_file: registry.ca_file(), token_file: Some(token_file) },
        telemetry: TelemetryConfig::default(),
        crash: CrashConfig::default(),
    }
}

impl Agent {
    async fn start(registry: &Registry) -> Self {
        let sim = simulated(None);
        let served = muster_simcluster::server::serve(sim.clone()).await.expect("served");
        let directory = tempfile::tempdir().expect("a folder");
        let token = registry.token_for("edge-01").await;
        let mut config = configuration(registry, directory.path(), &token);
        config.prometheus_url = served.endpoints.prometheus.map(|address| format!("http://{address}"));
        let (stop, running) = run(&config, &sim);
        Self { sim, config, stop, running, directory, _served: Some(served) }
    }

    async fn stop(&mut self) {
        self.stop.cancel();
        (&mut self.running).await.expect("no panic").expect("a clean end");
        // In one process the last of its tasks may end a little later; a process would end with all of them.
        eventually("the ledger is free", async || Ledger::open(&self.config.state_dir).ok()).await;
    }

    fn again(&mut self) {
        (self.stop, self.running) = run(&self.config, &self.sim);
    }

    fn data(&self, name: &str) -> Option<String> {
        let live = self.sim.object("configmaps", "ml", name)?;
        live["data"]["key"].as_str().map(str::to_owned)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn run(config: &Config, sim: &SimCluster) -> (CancellationToken, JoinHandle<anyhow::Result<()>>) {
    let stop = CancellationToken::new();
    let client = Client::new(sim.service(), "default");
    let running = tokio::spawn(agent::run(config.clone(), client, stop.clone()));
    (stop, running)
}

fn config_map(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "ml"}, "data": {"key": value}})
}

async fn edit(agent: &Agent, value: &str) {
    let object = ObjectRef { group: String::new(), kind: "ConfigMap".into(), namespace: "ml".into(), name: "a".into() };
    let by_hand = Cluster::new(Client::new(agent.sim.service(), "default"));
    by_hand.merge("v1", &object, &json!({"data": {"key": value}}), "kubectl-edit").await.expect("edited");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_joins_applies_and_is_observed() {
    let registry = Registry::start().await;
    let mut agent = Agent::start(&registry).await;
    let cluster = registry.until_live("edge-01").await;
    assert!(cluster.preflight.is_some_and(|found| found.problems.is_empty() && !found.crds.is_empty()));
    let inventory = cluster.inventory.expect("sent");
    assert_eq!((inventory.nodes.len(), inventory.nodes[0].flavor.as_str()), (1, "A10"));
    registry.desire("edge-01", 1, &[config_map("1")]).await;
    registry.until(1, Phase::Healthy).await;
    assert_eq!(agent.data("a").as_deref(), Some("1"));
    assert_eq!(registry.fetched(), 0, "its bundle came with the item");
    edit(&agent, "2").await;
    eventually("healed, and counted at the hub", async || registry.observed().await.filter(|seen| seen.heal_count == 1)).await;
    assert_eq!(agent.data("a").as_deref(), Some("1"));
    registry.desire("edge-01", 2, &[]).await;
    registry.until(2, Phase::Deleted).await;
    assert_eq!(agent.data("a"), None);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_token_and_a_second_cluster_with_the_same_uid_are_refused() {
    let registry = Registry::start().await;
    let token = registry.token_for("edge-01").await;
    let directory = tempfile::tempdir().expect("a folder");
    let sim = simulated(Some("11111111-1111-4111-8111-111111111111"));
    let (stop, running) =
        run(&configuration(&registry, &directory.path().join("one"), &token_in(&directory, "one", &token)), &sim);
    registry.until_live("edge-01").await;
    let other = simulated(Some("22222222-2222-4222-8222-222222222222"));
    let (_, used) = run(&configuration(&registry, &directory.path().join("two"), &token_in(&directory, "two", &token)), &other);
    let refused = used.await.expect("no panic").expect_err("a used token");
    assert!(refused.to_string().contains("unknown, was used or has expired"), "{refused}");
    let fresh = registry.token_for("edge-02").await;
    let twin = simulated(Some("11111111-1111-4111-8111-111111111111"));
    let (_, second) =
        run(&configuration(&registry, &directory.path().join("three"), &token_in(&directory, "three", &fresh)), &twin);
    let refused = second.await.expect("no panic").expect_err("the same identity");
    assert!(refused.to_string().contains("is enrolled as clusters/edge-01"), "{refused}");
    stop.cancel();
    running.await.expect("no panic").expect("a clean end");
}

fn token_in(directory: &tempfile::TempDir, name: &str, token: &str) -> String {
    std::fs::create_dir_all(directory.path().join(name)).expect("made");
    token.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_it_heals_itself_and_catches_up_on_return() {
    let mut registry = Registry::start().await;
    let mut agent = Agent::start(&registry).await;
    registry.until_live("edge-01").await;
    registry.desire("edge-01", 1, &[config_map("1")]).await;
    registry.until(1, Phase::Healthy).await;
    registry.down().await;
    edit(&agent, "2").await;
    eventually("it heals alone", async || agent.data("a").filter(|value| value == "1")).await;
    registry.desire("edge-01", 2, &[config_map("skipped")]).await;
    registry.desire("edge-01", 3, &[config_map("3")]).await;
    // Also a restart of the agent while the hub is away loses nothing.
    agent.stop().await;
    agent.again();
    edit(&agent, "4").await;
    eventually("it heals alone after a restart", async || agent.data("a").filter(|value| value == "1")).await;
    registry.up();
    registry.until(3, Phase::Healthy).await;
    assert_eq!(agent.data("a").as_deref(), Some("3"));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_hub_is_obeyed() {
    let mut registry = Registry::start().await;
    let mut agent = Agent::start(&registry).await;
    registry.until_live("edge-01").await;
    registry.desire("edge-01", 1, &[config_map("1")]).await;
    registry.until(1, Phase::Healthy).await;
    let rows = "create table backup as select * from desired_item";
    sqlx::query(rows).execute(registry.database.pool()).await.expect("backed up");
    registry.desire("edge-01", 2, &[config_map("2")]).await;
    registry.until(2, Phase::Healthy).await;
    registry.down().await;
    for statement in ["delete from desired_item", "insert into desired_item select * from backup", "delete from observation"] {
        sqlx::query(statement).execute(registry.database.pool()).await.expect("restored");
    }
    registry.up();
    let seen = eventually("the old state is obeyed under a new incarnation", async || {
        let seen = registry.observed().await?;
        let generation = seen.generation?;
        (generation.n == 1 && generation.incarnation > 1 && seen.phase() == Phase::Healthy).then_some(seen)
    })
    .await;
    assert_eq!(seen.name, ITEM);
    assert_eq!(agent.data("a").as_deref(), Some("1"));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_of_the_hub_are_answered() {
    let registry = Registry::start().await;
    let mut agent = Agent::start(&registry).await;
    registry.until_live("edge-01").await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ml"},
        "spec": {"containers": [{"name": "c", "image": "registry.example.com/x:1"}]}});
    registry.desire("edge-01", 1, &[pod]).await;
    registry.until(1, Phase::Healthy).await;
    let cluster = "clusters/edge-01".to_owned();
    let query = api::QueryMetricsRequest { cluster: cluster.clone(), query: "scalar(vector(42))".into(), time: None };
    let metrics = app::question::query_metrics(&registry.app, &rollout(), query).await.expect("answered");
    assert_eq!((metrics.error.as_str(), metrics.samples.first().map(|sample| sample.value)), ("", Some(42.0)));
    let fine = config_map("1").to_string();
    let wrong =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "w", "namespace": "new"}, "dada": {}}).to_string();
    let request = api::DryRunRequest { cluster: cluster.clone(), manifests: vec![fine, wrong] };
    let refusals = app::question::dry_run(&registry.app, &rollout(), request).await.expect("answered").refusals;
    assert_eq!(refusals[0], "");
    assert!(refusals[1].contains("dada"), "{refusals:?}");
    let query = LogsQuery { namespace: "ml".into(), name: "p".into(), kind: "Pod".into(), ..LogsQuery::default() };
    let lines = eventually("lines of the log", async || {
        let request = api::ReadLogsRequest { cluster: cluster.clone(), query: Some(query.clone()) };
        let mut chunks = app::question::read_logs(&registry.app, &admin(), request).await.ok()?;
        let mut lines = Vec::new();
        while let Some(Ok(chunk)) = chunks.next().await {
            lines.extend(chunk.lines);
        }
        (!lines.is_empty()).then_some(lines)
    })
    .await;
    assert!(lines[0].contains("hello"), "{lines:?}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_is_renewed_at_two_thirds_of_its_life() {
    let registry = Registry::start().await;
    let mut agent = Agent::start(&registry).await;
    registry.until_live("edge-01").await;
    agent.stop().await;
    let state = agent.directory.path().join("state");
    let before = {
        let ledger = Ledger::open(&state).expect("free");
        let mut identity = ledger.identity().expect("readable").expect("enrolled");
        aged(&mut identity);
        ledger.set_identity(&identity).expect("written");
        identity
    };
    agent.again();
    let file = state.join("identity.json");
    eventually("another certificate for another key", async || {
        let identity: Value = serde_json::from_slice(&std::fs::read(&file).ok()?).ok()?;
        (identity["certificate_pem"] != before.certificate_pem.as_str() && identity["key_pem"] != before.key_pem.as_str())
            .then_some(())
    })
    .await;
    registry.desire("edge-01", 1, &[config_map("1")]).await;
    registry.until(1, Phase::Healthy).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_leaves_with_its_workloads_on_the_hubs_word() {
    let registry = Registry::start().await;
    let mut agent = Agent::start(&registry).await;
    registry.until_live("edge-01").await;
    registry.desire("edge-01", 1, &[config_map("1")]).await;
    registry.until(1, Phase::Healthy).await;
    let request = api::LeaveClusterRequest { name: "clusters/edge-01".into(), remove_workloads: true, request_id: String::new() };
    app::cluster::leave(&registry.app, &admin(), request).await.expect("asked");
    (&mut agent.running).await.expect("no panic").expect("it ends by itself");
    assert_eq!(agent.data("a"), None);
    assert_eq!(registry.cluster("edge-01").await.state(), api::cluster::State::Left);
    assert!(!agent.directory.path().join("state/identity.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_leaves_without_its_workloads_on_its_own_word() {
    let registry = Registry::start().await;
    let mut agent = Agent::start(&registry).await;
    registry.until_live("edge-01").await;
    registry.desire("edge-01", 1, &[config_map("1")]).await;
    registry.until(1, Phase::Healthy).await;
    control::leave(&agent.config.state_dir, Leaving { remove_workloads: false }).expect("asked");
    (&mut agent.running).await.expect("no panic").expect("it ends by itself");
    assert_eq!(agent.data("a").as_deref(), Some("1"));
    assert_eq!(registry.cluster("edge-01").await.state(), api::cluster::State::Left);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_on_hold_takes_nothing_until_it_is_released() {
    let registry = Registry::start().await;
    let mut agent = Agent::start(&registry).await;
    registry.until_live("edge-01").await;
    control::hold(&agent.config.state_dir, true).expect("held");
    eventually("the hold is seen", async || {
        let state: Value = serde_json::from_slice(&std::fs::read(agent.config.state_dir.join("state.json")).ok()?).ok()?;
        (state["on_hold"] == true).then_some(())
    })
    .await;
    registry.desire("edge-01", 1, &[config_map("1")]).await;
    let waiting = registry.until(1, Phase::Applying).await;
    assert!(waiting.message.contains("on hold from its own side"), "{}", waiting.message);
    assert_eq!(agent.data("a"), None);
    control::hold(&agent.config.state_dir, false).expect("released");
    registry.until(1, Phase::Healthy).await;
    agent.stop().await;
}

fn deployment(name: &str, team: Option<&str>) -> Value {
    let labels = team.map_or_else(|| json!({}), |team| json!({"team": team}));
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "ml", "labels": labels},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "registry.example.com/ml/server:v1"}]},
            },
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_are_told_by_what_changed_through_lost_streams_and_restarts_of_either_side() {
    let mut registry = Registry::start().await;
    let mut agent = Agent::start(&registry).await;
    registry.until_live("edge-01").await;
    let policy = json!({
        "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "require-team"},
        "spec": {"rules": [{
            "name": "team", "match": {"any": [{"resources": {"kinds": ["Deployment"]}}]},
            "validate": {"message": "say whose it is", "pattern": {"metadata": {"labels": {"team": "?*"}}}},
        }]},
    });
    registry.desire_policies("edge-01", 1, &[policy]).await;
    registry.desire("edge-01", 1, &[deployment("a", None), deployment("b", None), deployment("c", Some("vision"))]).await;
    registry.until_violating(&["a", "b"]).await;

    registry.down().await;
    registry.desire("edge-01", 2, &[deployment("a", Some("nlp")), deployment("b", None), deployment("c", None)]).await;
    registry.up();
    registry.until_violating(&["b", "c"]).await;

    // An agent that was started anew says the same, which is no news; what comes after it is.
    agent.stop().await;
    let before = registry.verdict_changes().await;
    agent.again();
    registry.until_live("edge-01").await;
    registry.desire("edge-01", 3, &[deployment("a", Some("nlp")), deployment("b", None), deployment("c", Some("vision"))]).await;
    registry.until_violating(&["b"]).await;
    assert!(registry.verdict_changes().await <= before + 2, "the whole is not news to a hub that holds it");

    // Rows that the hub lost, as after a restore: the next stream brings them back.
    agent.stop().await;
    sqlx::query("delete from verdict").execute(registry.database.pool()).await.expect("lost");
    sqlx::query("update verdict_set set digest = '\\x00000000000000000000000000000000', held = 0")
        .execute(registry.database.pool())
        .await
        .expect("lost");
    agent.again();
    registry.until_violating(&["b"]).await;
}
