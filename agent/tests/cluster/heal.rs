//! Drift is seen by watch, told, and healed where the owner says so.

use crate::harness::*;
use muster_agent::domain::{item::Options, observation::Phase};
use muster_testkit::eventually;
use serde_json::json;

fn server() -> serde_json::Value {
    copy("v2", "registry.example.com/ml/resnet50-server:v2")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_by_hand_is_told_and_healed_and_a_foreign_field_stays() {
    let world = World::start(json!([])).await;
    world.desire(&app(), 1, &[server()], healing()).await;
    world.until(&app(), 1, Phase::Healthy).await;
    let edit = json!({"metadata": {"labels": {"theirs": "yes"}}, "spec": {"replicas": 1}});
    world.edit("apps/v1", "Deployment", "ml", "resnet50-v2", edit).await;
    eventually("the drift is healed", async || {
        let live = world.object("deployments.apps", "ml", "resnet50-v2")?;
        (live["spec"]["replicas"] == 2 && live["metadata"]["labels"]["theirs"] == "yes").then_some(())
    })
    .await;
    let drifted =
        eventually("the drift is told", async || world.said(&app()).into_iter().find(|seen| seen.phase == Phase::Drifted)).await;
    assert_eq!(drifted.message, "Deployment ml/resnet50-v2: spec.replicas is 1 instead of 2");
    eventually("and its healing counted", async || world.last(&app()).filter(|l| l.phase == Phase::Healthy && l.heal_count == 1))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_by_hand_comes_back() {
    let world = World::start(json!([])).await;
    world.desire(&app(), 1, &[config_map("a", "1")], healing()).await;
    world.until(&app(), 1, Phase::Healthy).await;
    let uid = world.object("configmaps", "ml", "a").expect("there")["metadata"]["uid"].clone();
    let object = muster_agent::domain::object::ObjectRef {
        group: String::new(),
        kind: "ConfigMap".into(),
        namespace: "ml".into(),
        name: "a".into(),
    };
    world.by_hand().delete("v1", &object, uid.as_str().expect("a uid")).await.expect("deleted");
    eventually("it is back", async || world.object("configmaps", "ml", "a").filter(|live| live["metadata"]["uid"] != uid)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_self_heal_drift_is_only_told() {
    let world = World::start(json!([])).await;
    world.desire(&app(), 1, &[config_map("a", "1")], Options::default()).await;
    world.until(&app(), 1, Phase::Healthy).await;
    world.edit("v1", "ConfigMap", "ml", "a", json!({"data": {"key": "2"}})).await;
    let drifted = world.until(&app(), 1, Phase::Drifted).await;
    assert_eq!(drifted.message, r#"ConfigMap ml/a: data.key is "2" instead of "1""#);
    assert_eq!(world.object("configmaps", "ml", "a").expect("there")["data"]["key"], "2");
    world.edit("v1", "ConfigMap", "ml", "a", json!({"data": {"key": "1"}})).await;
    world.desire(&app(), 2, &[config_map("a", "3")], Options::default()).await;
    // The field is another manager's now: taking it back is the owner's decision, by a new generation of an object of his.
    world.until(&app(), 2, Phase::Healthy).await;
    assert_eq!(world.object("configmaps", "ml", "a").expect("there")["data"]["key"], "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_while_the_agent_was_down_is_healed_after() {
    let world = World::start(json!([])).await;
    world.desire(&app(), 1, &[config_map("a", "1")], healing()).await;
    world.until(&app(), 1, Phase::Healthy).await;
    let world = world.restart().await;
    world.edit("v1", "ConfigMap", "ml", "a", json!({"data": {"key": "2"}})).await;
    eventually("the drift is healed", async || world.object("configmaps", "ml", "a").filter(|live| live["data"]["key"] == "1"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_fights_the_agent_is_reported_and_not_fought_for_ever() {
    let world = World::start(json!([])).await;
    world.desire(&app(), 1, &[config_map("a", "1")], healing()).await;
    world.until(&app(), 1, Phase::Healthy).await;
    for round in 0..7 {
        world.edit("v1", "ConfigMap", "ml", "a", json!({"data": {"key": format!("theirs-{round}")}})).await;
        eventually("the agent answers", async || {
            let healed = world.object("configmaps", "ml", "a").is_some_and(|live| live["data"]["key"] == "1");
            let gave_up = world.last(&app()).is_some_and(|last| last.phase == Phase::Drifted && last.heal_count == 6);
            (healed || gave_up).then_some(())
        })
        .await;
    }
    let last = world.until(&app(), 1, Phase::Drifted).await;
    assert_eq!(last.heal_count, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_hold_nothing_is_written() {
    let world = World::start(json!([])).await;
    world.desire(&app(), 1, &[config_map("a", "1")], healing()).await;
    world.until(&app(), 1, Phase::Healthy).await;
    world.ledger.update(|state| state.on_hold = true).await.expect("held");
    world.edit("v1", "ConfigMap", "ml", "a", json!({"data": {"key": "2"}})).await;
    world.until(&app(), 1, Phase::Drifted).await;
    world.desire(&app(), 2, &[config_map("a", "3")], healing()).await;
    world.until(&app(), 2, Phase::Applying).await;
    assert_eq!(world.object("configmaps", "ml", "a").expect("there")["data"]["key"], "2");
    world.ledger.update(|state| state.on_hold = false).await.expect("released");
    world.reconciler.mark_all();
    world.until(&app(), 2, Phase::Healthy).await;
}
