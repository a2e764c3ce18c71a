//! Two versions side by side: no weight without ready pods, routes before pods on the way out, one total at every instant.

use crate::harness::*;
use muster_agent::{cluster::Write, domain::observation::Phase};
use muster_testkit::eventually;
use serde_json::{Value, json};

const OLD: &str = "registry.example.com/ml/resnet50-server:v2";
const NEW: &str = "registry.example.com/ml/resnet50-server:v3";

fn weights(world: &World) -> Vec<(String, u64)> {
    let Some(live) = world.object("virtualservices.networking.istio.io", "ml", "resnet50") else { return Vec::new() };
    let routes = live["spec"]["http"][0]["route"].as_array().cloned().unwrap_or_default();
    let one = |route: &Value| {
        let subset = route["destination"]["subset"].as_str().unwrap_or_default().to_owned();
        (subset, route["weight"].as_u64().unwrap_or_default())
    };
    routes.iter().map(one).collect()
}

fn both(old: u64, new: u64) -> Vec<(String, u64)> {
    vec![("v2".to_owned(), old), ("v3".to_owned(), new)]
}

/// Every weight that was ever written, from the audit log.
fn written(world: &World) -> Vec<Vec<u64>> {
    let lines = world.sim.audit_lines(0, 100_000).expect("the log is read");
    lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"))
        .filter(|entry| {
            entry["resource"] == "virtualservices.networking.istio.io" && entry["verb"] == "apply" && entry["dryRun"] != true
        })
        .filter_map(|entry| entry["object"]["spec"]["http"][0]["route"].as_array().cloned())
        .map(|routes| routes.iter().map(|route| route["weight"].as_u64().unwrap_or_default()).collect())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_shifts_weights_only_to_pods_that_are_ready() {
    let world = World::start(json!([{"match": "*:v3", "neverReady": true}])).await;
    let stable = [service(), copy("v2", OLD), rule(&["v2"]), route(&[("v2", 100)])];
    world.desire(&app(), 1, &stable, healing()).await;
    world.until(&app(), 1, Phase::Healthy).await;
    let split = [service(), copy("v2", OLD), copy("v3", NEW), rule(&["v2", "v3"]), route(&[("v2", 90), ("v3", 10)])];
    world.desire(&app(), 2, &split, healing()).await;
    world.until(&app(), 2, Phase::Applying).await;
    eventually("the route knows both, and all goes to the old", async || (weights(&world) == both(100, 0)).then_some(())).await;
    world.sim.set_images(images(json!([]))).expect("legal");
    // Containers that run keep their fault; new ones do not have it.
    for pod in world.sim.objects("pods", "ml") {
        if pod["metadata"]["labels"]["version"] == "v3" {
            world.sim.kill_pod("ml", pod["metadata"]["name"].as_str().expect("a name")).expect("killed");
        }
    }
    world.until(&app(), 2, Phase::Healthy).await;
    assert_eq!(weights(&world), both(90, 10));
    let promoted = [service(), copy("v2", OLD), copy("v3", NEW), rule(&["v2", "v3"]), route(&[("v2", 0), ("v3", 100)])];
    world.desire(&app(), 3, &promoted, healing()).await;
    world.until(&app(), 3, Phase::Healthy).await;
    assert_eq!(weights(&world), both(0, 100));
    let done = [service(), copy("v3", NEW), rule(&["v3"]), route(&[("v3", 100)])];
    world.desire(&app(), 4, &done, healing()).await;
    world.until(&app(), 4, Phase::Healthy).await;
    assert!(world.object("deployments.apps", "ml", "resnet50-v2").is_none());
    assert_eq!(weights(&world), [("v3".to_owned(), 100)]);
    let rules = world.object("destinationrules.networking.istio.io", "ml", "resnet50").expect("there");
    assert_eq!(rules["spec"]["subsets"].as_array().map(Vec::len), Some(1));
    for weights in written(&world) {
        assert_eq!(weights.iter().sum::<u64>(), 100, "{weights:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_after_removal_starts_waits_and_shifts() {
    let world = World::start(json!([{"match": "*:v2", "readyAfterMs": 300}])).await;
    let new = [service(), copy("v3", NEW), rule(&["v3"]), route(&[("v3", 100)])];
    world.desire(&app(), 1, &new, healing()).await;
    world.until(&app(), 1, Phase::Healthy).await;
    let old = [service(), copy("v2", OLD), rule(&["v2"]), route(&[("v2", 100)])];
    world.desire(&app(), 2, &old, healing()).await;
    eventually("the old copy is made while the new one serves", async || {
        let made = world.object("deployments.apps", "ml", "resnet50-v2").is_some();
        (made && weights(&world) == [("v3".to_owned(), 100)]).then_some(())
    })
    .await;
    world.until(&app(), 2, Phase::Healthy).await;
    assert_eq!(weights(&world), [("v2".to_owned(), 100)]);
    assert!(world.object("deployments.apps", "ml", "resnet50-v3").is_none());
    let deleted: Vec<_> = world.writes("").into_iter().map(|(_, resource, name)| format!("{resource}/{name}")).collect();
    assert!(deleted.contains(&"deployments.apps/resnet50-v3".to_owned()), "{deleted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_loses_its_pods_loses_its_weight_and_is_degraded() {
    let world = World::start(json!([])).await;
    let split = [service(), copy("v2", OLD), copy("v3", NEW), rule(&["v2", "v3"]), route(&[("v2", 90), ("v3", 10)])];
    world.desire(&app(), 1, &split, healing()).await;
    world.until(&app(), 1, Phase::Healthy).await;
    world.sim.set_images(images(json!([{"match": "*:v3", "pullError": true}]))).expect("legal");
    for pod in world.sim.objects("pods", "ml") {
        if pod["metadata"]["labels"]["version"] == "v3" {
            world.sim.kill_pod("ml", pod["metadata"]["name"].as_str().expect("a name")).expect("killed");
        }
    }
    eventually("its weight goes to the other", async || (weights(&world) == both(100, 0)).then_some(())).await;
    eventually("it is not healthy", async || world.last(&app()).filter(|last| last.phase != Phase::Healthy)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_leave_before_the_pods_they_point_to() {
    let world = World::start(json!([])).await;
    world.desire(&app(), 1, &[service(), copy("v2", OLD), rule(&["v2"]), route(&[("v2", 100)])], healing()).await;
    world.until(&app(), 1, Phase::Healthy).await;
    world.withdraw(&app(), 2).await;
    world.until(&app(), 2, Phase::Deleted).await;
    let deleted: Vec<_> = world.writes("").into_iter().map(|(_, resource, _)| resource).collect();
    let at =
        |resource: &str| deleted.iter().position(|name| name == resource).unwrap_or_else(|| panic!("{resource} in {deleted:?}"));
    assert!(at("virtualservices.networking.istio.io") < at("destinationrules.networking.istio.io"));
    assert!(at("destinationrules.networking.istio.io") < at("deployments.apps"));
    assert!(at("deployments.apps") < at("services"));
}

async fn make(world: &World, object: &Value) {
    world.by_hand().apply(object, Write { manager: "kubectl", force: false, dry_run: false }).await.expect("written");
}

/// A Deployment as somebody made it before Muster came, under the name that git has.
fn plain() -> Value {
    let mut plain = copy("v2", OLD);
    plain["metadata"]["name"] = json!("resnet50");
    plain
}

/// The first copy of the same workload, as the rollout service composes it.
fn first_copy() -> Value {
    let mut copy = copy("v3", NEW);
    copy["metadata"]["name"] = json!("resnet50-6f2a");
    copy["metadata"]["labels"] = json!({"muster.dev/revision": "6f2a"});
    copy
}

#[tokio::test(flavor = "multi_thread")]
async fn what_served_before_muster_came_goes_only_after_the_first_copy_has_the_routes() {
    let world = World::start(json!([{"match": "*:v3", "neverReady": true}])).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ml"}});
    for object in [namespace, plain(), foreign()] {
        make(&world, &object).await;
    }
    let objects = [service(), first_copy(), rule(&["v3"]), route(&[("v3", 100)])];
    world.desire(&app(), 1, &objects, healing()).await;
    eventually("the copy is made", async || world.object("deployments.apps", "ml", "resnet50-6f2a")).await;
    world.until(&app(), 1, Phase::Applying).await;
    assert!(world.object("deployments.apps", "ml", "resnet50").is_some(), "it serves until the copy does");
    let world = world.crash().await;
    world.sim.set_images(images(json!([]))).expect("legal");
    for pod in world.sim.objects("pods", "ml") {
        if pod["metadata"]["labels"]["version"] == "v3" {
            world.sim.kill_pod("ml", pod["metadata"]["name"].as_str().expect("a name")).expect("killed");
        }
    }
    eventually("it is removed", async || world.object("deployments.apps", "ml", "resnet50").is_none().then_some(())).await;
    assert_eq!(weights(&world), [("v3".to_owned(), 100)], "the routes moved first");
    world.until(&app(), 1, Phase::Healthy).await;
    assert!(world.object("deployments.apps", "ml", "resnet50-old").is_some(), "another name is not the workload's");
    // Once the item has stood, what somebody makes under the plain name is theirs.
    make(&world, &plain()).await;
    let again = [service(), first_copy(), config_map("beside", "it"), rule(&["v3"]), route(&[("v3", 100)])];
    world.desire(&app(), 2, &again, healing()).await;
    world.until(&app(), 2, Phase::Healthy).await;
    assert!(world.object("deployments.apps", "ml", "resnet50").is_some());
}

/// Somebody's Deployment whose name only begins as the workload's.
fn foreign() -> Value {
    let mut foreign = copy("v2", OLD);
    foreign["metadata"]["name"] = json!("resnet50-old");
    foreign
}
