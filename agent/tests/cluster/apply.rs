//! Bundles arrive in order, whole or not at all, and leave in the reverse order without what others hold.

use crate::harness::*;
use muster_agent::{
    cluster::Write,
    domain::{
        item::{ItemKey, Options},
        observation::Phase,
    },
};
use muster_testkit::eventually;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_arrives_in_order_and_is_healthy() {
    let world = World::start(json!([])).await;
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Thing", "plural": "things", "singular": "thing"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    let thing = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "one", "namespace": "ml"}, "spec": {"a": 1}});
    let bundle =
        [thing, copy("v2", "registry.example.com/ml/resnet50-server:v2"), config_map("settings", "1"), service(), definition];
    world.desire(&app(), 1, &bundle, healing()).await;
    let healthy = world.until(&app(), 1, Phase::Healthy).await;
    assert!(healthy.objects.is_empty());
    let order: Vec<_> = world.writes("muster-rollout").into_iter().map(|(_, resource, _)| resource).collect();
    assert_eq!(
        order,
        ["customresourcedefinitions.apiextensions.k8s.io", "configmaps", "services", "things.example.com", "deployments.apps"]
    );
    let namespace = world.object("namespaces", "", "ml").expect("made");
    assert_eq!(namespace["metadata"]["labels"]["muster.dev/owner"], "fleet");
    // The second plan is empty.
    world.desire(&app(), 2, &bundle, healing()).await;
    world.until(&app(), 2, Phase::Healthy).await;
    assert_eq!(world.writes("muster-rollout").len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_left_the_bundle_is_removed_and_what_others_hold_stays() {
    let world = World::start(json!([])).await;
    let foreign = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs", "namespace": "default"}});
    world.by_hand().apply(&foreign, Write { manager: "kubectl", force: false, dry_run: false }).await.expect("written");
    let both = [config_map("a", "1"), config_map("b", "1")];
    world.desire(&app(), 1, &both, healing()).await;
    world.until(&app(), 1, Phase::Healthy).await;
    world.desire(&app(), 2, &both[..1], healing()).await;
    world.until(&app(), 2, Phase::Healthy).await;
    assert!(world.object("configmaps", "ml", "b").is_none());
    world.withdraw(&app(), 3).await;
    world.until(&app(), 3, Phase::Deleted).await;
    assert!(world.object("configmaps", "ml", "a").is_none());
    assert!(world.object("configmaps", "default", "theirs").is_some());
    assert!(world.object("namespaces", "", "ml").is_some(), "a namespace takes with it what others hold");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_prune_what_left_the_bundle_is_let_go() {
    let world = World::start(json!([])).await;
    let keep = Options { self_heal: true, ..Options::default() };
    world.desire(&app(), 1, &[config_map("a", "1"), config_map("b", "1")], keep.clone()).await;
    world.until(&app(), 1, Phase::Healthy).await;
    world.desire(&app(), 2, &[config_map("a", "1")], keep).await;
    world.until(&app(), 2, Phase::Healthy).await;
    assert!(world.object("configmaps", "ml", "b").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_is_never_pruned_down_to_nothing() {
    let world = World::start(json!([])).await;
    world.desire(&app(), 1, &[config_map("a", "1")], healing()).await;
    world.until(&app(), 1, Phase::Healthy).await;
    world.desire(&app(), 2, &[], healing()).await;
    assert_eq!(world.until(&app(), 2, Phase::Failed).await.reason, "WouldEmpty");
    assert!(world.object("configmaps", "ml", "a").is_some());
    world.desire(&app(), 3, &[], Options { allow_empty: true, ..healing() }).await;
    world.until(&app(), 3, Phase::Healthy).await;
    assert!(world.object("configmaps", "ml", "a").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_owners_object_is_neither_taken_nor_removed() {
    let world = World::start(json!([])).await;
    world.desire(&app(), 1, &[config_map("a", "rollout")], healing()).await;
    world.until(&app(), 1, Phase::Healthy).await;
    let other = ItemKey::new("policy", "policies");
    world.desire(&other, 1, &[config_map("a", "policy")], healing()).await;
    let refused = world.until(&other, 1, Phase::Failed).await;
    assert_eq!(refused.message, "ConfigMap ml/a: ConfigMap ml/a is held by rollout/applications/ml/resnet50");
    world.withdraw(&other, 2).await;
    world.until(&other, 2, Phase::Deleted).await;
    let live = world.object("configmaps", "ml", "a").expect("there");
    assert_eq!(live["data"]["key"], "rollout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_and_a_wrong_field_are_said_in_the_servers_words_and_nothing_is_written() {
    let world = World::start(json!([])).await;
    let theirs = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}, "data": {"key": "theirs"}});
    world.by_hand().apply(&theirs, Write { manager: "kubectl", force: false, dry_run: false }).await.expect("written");
    let mut ours = config_map("a", "ours");
    ours["metadata"]["namespace"] = json!("default");
    world.desire(&app(), 1, &[ours], healing()).await;
    let refused = world.until(&app(), 1, Phase::Failed).await;
    assert!(refused.message.contains("kubectl") && refused.message.contains(".data.key"), "{}", refused.message);
    assert_eq!(world.object("configmaps", "default", "a").expect("there")["data"]["key"], "theirs");

    let mut wrong = copy("v2", "registry.example.com/ml/resnet50-server:v2");
    wrong["metadata"]["namespace"] = json!("default");
    wrong["spec"]["replikas"] = json!(2);
    let mut beside = config_map("beside", "1");
    beside["metadata"]["namespace"] = json!("default");
    world.desire(&app(), 2, &[beside, wrong], healing()).await;
    let refused = world.until(&app(), 2, Phase::Failed).await;
    assert!(refused.message.contains("replikas"), "{}", refused.message);
    assert!(world.object("configmaps", "default", "beside").is_none(), "a bundle that is refused in part is not written in part");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_refuses_nothing() {
    let world = World::start(json!([])).await;
    let (there, new) = (app(), ItemKey::new("rollout", "applications/ml/other"));
    let mut ours = config_map("a", "ours");
    ours["metadata"]["namespace"] = json!("default");
    world.desire(&there, 1, &[ours], healing()).await;
    world.until(&there, 1, Phase::Healthy).await;
    let said = world.said(&there).len();

    world.sim.faults().pause(true);
    let mut other = config_map("other", "ours");
    other["metadata"]["namespace"] = json!("default");
    world.desire(&new, 1, &[other], healing()).await;
    world.reconciler.dirty.mark(there.clone());
    let waits = world.until(&new, 1, Phase::Applying).await;
    assert!(!waits.message.is_empty(), "{waits:?}");
    assert_eq!(world.said(&there).len(), said, "silence is no news of what is there");

    world.sim.faults().pause(false);
    world.until(&new, 1, Phase::Healthy).await;
    for key in [&there, &new] {
        assert!(world.said(key).iter().all(|said| said.phase != Phase::Failed), "{:?}", world.said(key));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_waits_for_those_before_it() {
    let world = World::start(json!([])).await;
    let (first, second) = (ItemKey::new("scheduler", "queues/q"), ItemKey::new("scheduler", "jobs/ml/a/1"));
    let after = Options { after: vec![first.name.clone()], ..healing() };
    world.desire(&second, 1, &[config_map("second", "1")], after).await;
    assert_eq!(world.until(&second, 1, Phase::Pending).await.message, "queues/q is not healthy yet");
    world.desire(&first, 1, &[config_map("first", "1")], healing()).await;
    world.until(&second, 1, Phase::Healthy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_starts_again_writes_nothing_twice() {
    let world = World::start(json!([])).await;
    let bundle = [config_map("a", "1"), service(), copy("v2", "registry.example.com/ml/resnet50-server:v2")];
    world.desire(&app(), 1, &bundle, healing()).await;
    world.until(&app(), 1, Phase::Healthy).await;
    let before = world.writes("muster-rollout");
    let world = world.restart().await;
    world.desire(&app(), 2, &bundle, healing()).await;
    world.until(&app(), 2, Phase::Healthy).await;
    assert_eq!(world.writes("muster-rollout"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_cannot_start_is_the_reason_that_is_told() {
    let world = World::start(json!([{"match": "*:missing", "pullError": true}])).await;
    world.desire(&app(), 1, &[copy("v2", "registry.example.com/ml/resnet50-server:missing")], healing()).await;
    let said = eventually("the reason is told", async || {
        world.last(&app()).filter(|last| last.phase == Phase::Applied && last.reason.contains("Pull"))
    })
    .await;
    assert!(said.message.contains("of 2 pods are available; pod resnet50-v2-"), "{}", said.message);
}
