//! Tables of routes in the making: which weights may be written when.

use super::*;
use serde_json::json;

fn service() -> Value {
    json!({"metadata": {"namespace": "ml", "name": "resnet50"}, "spec": {"selector": {"app": "resnet50"}}})
}

fn rule(subsets: &[(&str, &str)]) -> Value {
    let subsets: Vec<_> = subsets.iter().map(|(name, version)| json!({"name": name, "labels": {"version": version}})).collect();
    json!({"metadata": {"namespace": "ml", "name": "resnet50"}, "spec": {"host": "resnet50", "subsets": subsets}})
}

fn route(weights: &[(&str, u32)]) -> Value {
    let route: Vec<_> = weights
        .iter()
        .map(|(subset, weight)| json!({"destination": {"host": "resnet50.ml.svc.cluster.local", "subset": subset}, "weight": weight}))
        .collect();
    json!({
        "apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService",
        "metadata": {"namespace": "ml", "name": "resnet50"}, "spec": {"http": [{"route": route}]},
    })
}

/// A Deployment of `wanted` pods with `ready` of them ready.
fn copy(world: &mut World, version: &str, ready: u32, wanted: u32) {
    let labels = json!({"app": "resnet50", "version": version});
    world.deployments.push(json!({
        "metadata": {"namespace": "ml", "name": version, "generation": 1},
        "spec": {"replicas": wanted, "template": {"metadata": {"labels": labels}}},
        "status": {"observedGeneration": 1, "updatedReplicas": wanted, "readyReplicas": ready},
    }));
    for _ in 0..ready {
        world.pods.push(json!({
            "metadata": {"namespace": "ml", "labels": labels},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }));
    }
}

fn world(copies: &[(&str, u32, u32)]) -> World {
    let mut world = World { services: vec![service()], rules: vec![rule(&[("v2", "v2"), ("v3", "v3")])], ..World::default() };
    for (version, ready, wanted) in copies {
        copy(&mut world, version, *ready, *wanted);
    }
    world
}

fn weights(admission: &Admission) -> Vec<u64> {
    let Admission::Write { manifest, .. } = admission else { return Vec::new() };
    manifest["spec"]["http"][0]["route"]
        .as_array()
        .expect("routes")
        .iter()
        .map(|r| r["weight"].as_u64().expect("weight"))
        .collect()
}

#[test]
fn weights_follow_the_pods_that_are_ready() {
    let stable = route(&[("v2", 100), ("v3", 0)]);
    let split = route(&[("v2", 90), ("v3", 10)]);
    let done = route(&[("v2", 0), ("v3", 100)]);
    for (what, wanted, live, copies, expected) in [
        ("both ready", &split, Some(&stable), vec![("v2", 2, 2), ("v3", 2, 2)], vec![90, 10]),
        ("new not there", &split, Some(&stable), vec![("v2", 2, 2)], vec![100, 0]),
        ("new not at full size", &split, Some(&stable), vec![("v2", 2, 2), ("v3", 1, 2)], vec![100, 0]),
        ("new loses one pod later", &split, Some(&split), vec![("v2", 2, 2), ("v3", 1, 2)], vec![90, 10]),
        ("new loses all pods later", &split, Some(&split), vec![("v2", 2, 2), ("v3", 0, 2)], vec![100, 0]),
        ("promotion waits for the new", &done, Some(&split), vec![("v2", 2, 2), ("v3", 1, 2)], vec![100, 0]),
        ("promotion", &done, Some(&split), vec![("v2", 2, 2), ("v3", 2, 2)], vec![0, 100]),
        ("first deployment, one there", &split, None, vec![("v2", 0, 2), ("v3", 2, 2)], vec![0, 100]),
        ("nothing is ready", &split, None, vec![("v2", 0, 2)], vec![]),
        ("the only wanted one is not ready", &route(&[("v2", 100)]), Some(&done), vec![("v3", 2, 2)], vec![]),
    ] {
        let admission = admit(wanted, live, &world(&copies));
        assert_eq!(weights(&admission), expected, "{what}");
    }
}

#[test]
fn a_host_outside_the_cluster_is_not_ours_to_judge() {
    let wanted = route(&[("v2", 100)]);
    assert_eq!(admit(&wanted, None, &World::default()), Admission::Write { manifest: wanted.clone(), withheld: vec![] });
}

#[test]
fn a_route_to_nothing_is_named() {
    let split = route(&[("v2", 90), ("v3", 10)]);
    assert_eq!(starved(&split, &world(&[("v2", 1, 1)])), ["subset v3 of resnet50 has weight 10 and no ready pods"]);
    assert!(starved(&split, &world(&[("v2", 1, 1), ("v3", 1, 1)])).is_empty());
}

#[test]
fn a_subset_stays_while_a_route_names_it() {
    let mut world = world(&[("v2", 1, 1), ("v3", 1, 1)]);
    world.routes = vec![route(&[("v2", 0), ("v3", 100)])];
    let live = rule(&[("v2", "v2"), ("v3", "v3")]);
    let wanted = rule(&[("v3", "v3")]);
    let (written, withheld) = admit_rule(&wanted, Some(&live), &world);
    assert_eq!(written["spec"]["subsets"].as_array().map(Vec::len), Some(2));
    assert_eq!(withheld, ["subset v2 of resnet50 stays while a route names it"]);
    world.routes = vec![route(&[("v3", 100)])];
    assert_eq!(admit_rule(&wanted, Some(&live), &world), (wanted, vec![]));
}

#[test]
fn a_subset_with_traffic_keeps_its_labels_until_the_new_pods_are_ready() {
    let mut world = world(&[("v2", 1, 1)]);
    world.routes = vec![route(&[("v2", 100)])];
    let (live, wanted) = (rule(&[("v2", "v2")]), rule(&[("v2", "v4")]));
    assert_eq!(admit_rule(&wanted, Some(&live), &world).0, live);
    copy(&mut world, "v4", 1, 1);
    assert_eq!(admit_rule(&wanted, Some(&live), &world), (wanted, vec![]));
}

#[test]
fn an_http_route_of_backends_keeps_its_total() {
    let mut world = world(&[("v2", 1, 1)]);
    world.services.push(json!({"metadata": {"namespace": "ml", "name": "next"}, "spec": {"selector": {"app": "next"}}}));
    let wanted = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"namespace": "ml", "name": "r"},
        "spec": {"rules": [{"backendRefs": [{"name": "resnet50", "weight": 3}, {"name": "next"}]}]},
    });
    let Admission::Write { manifest, withheld } = admit(&wanted, None, &world) else { panic!("one backend is ready") };
    assert_eq!(
        manifest["spec"]["rules"][0]["backendRefs"],
        json!([{"name": "resnet50", "weight": 4}, {"name": "next", "weight": 0}])
    );
    assert_eq!(withheld, ["weight 1 of service next is withheld: no ready pods at full size"]);
}
