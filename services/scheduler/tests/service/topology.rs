//! Jobs whose workers stand together, from the manifest to the object that its cluster makes.

use std::collections::BTreeMap;

use muster_proto::registry::v1::Cluster;
use muster_proto::scheduler::v1::job::State;
use tonic::Code;
use tonic_types::StatusExt;

use crate::world::{World, create, member, training};

/// Nodes of 8 GPUs, two to a rack, with so many GPUs of each in use by others.
fn racked(used: &[u32]) -> Cluster {
    let mut idc = member("idc", used.len() as u32, "V100", 1_000_000);
    for (number, node) in idc.inventory.iter_mut().flat_map(|inventory| &mut inventory.nodes).enumerate() {
        node.labels.insert("example.com/rack".to_owned(), format!("r{}", number / 2));
        node.used_by_others = BTreeMap::from([("nvidia.com/gpu".to_owned(), used[number].to_string())]);
    }
    idc
}

fn annotated(name: &str, workers: u32, gpus: u32, annotation: &str) -> String {
    let template = "    template:\n      spec:";
    let manifest = training(name, workers, gpus);
    assert!(manifest.contains(template));
    let annotated =
        format!("    template:\n      metadata: {{annotations: {{kueue.x-k8s.io/podset-{annotation}}}}}\n      spec:");
    manifest.replace(template, &annotated)
}

#[tokio::test]
async fn a_gang_waits_for_a_rack_and_its_pods_are_bound_to_it() {
    let mut world = World::new().await;
    world.join(racked(&[1, 0, 0, 1])).await;
    world.queue("train", "").await;
    let manifest = annotated("wide", 2, 8, "required-topology: example.com/rack");
    world.create(create("wide", &manifest)).await.expect("a sound job");
    world.settle().await;
    let why = world.explain("wide").await;
    assert!(
        why.candidates[0]
            .reason
            .starts_with("no single rack has room for the gang, though the cluster has; \"r0\" comes closest"),
        "{why:?}"
    );
    assert_eq!(why.summary, "waits in queue \"train\", number 1: no cluster it may use has room in a single rack");
    assert_eq!(why.unblocked_by, ["there is room in a single rack of a cluster it may use"]);

    world.join(racked(&[1, 0, 0, 0])).await;
    world.settle().await;
    assert_eq!(world.state("wide").await, (State::Placed, "idc".to_owned()));
    let object = world.object("idc", "jobs/ml/wide/1");
    let selector = object.pointer("/spec/tasks/0/template/spec/nodeSelector");
    assert_eq!(selector, Some(&serde_json::json!({"example.com/rack": "r1"})));
}

#[tokio::test]
async fn volcanos_first_tier_is_the_rack_and_a_soft_wish_is_only_preferred() {
    let mut world = World::new().await;
    world.join(racked(&[0, 0, 0, 8])).await;
    world.queue("train", "").await;
    let with = |name: &str, workers: u32, topology: &str| {
        training(name, workers, 8).replace("  queue: train\n", &format!("  queue: train\n  networkTopology: {topology}\n"))
    };
    world.create(create("soft", &with("soft", 3, "{mode: soft}"))).await.expect("a sound job");
    world.settle().await;
    assert_eq!(world.state("soft").await.0, State::Placed);
    let affinity = world.object("idc", "jobs/ml/soft/1").pointer("/spec/tasks/0/template/spec/affinity/nodeAffinity").cloned();
    let preferred = affinity.expect("preferences")["preferredDuringSchedulingIgnoredDuringExecution"].clone();
    assert_eq!(preferred[1]["preference"]["matchExpressions"][0]["values"], serde_json::json!(["r0", "r1"]), "{preferred}");
    // No rack could hold it, and that is said of the field that asks for one.
    let refused = world.create(create("hard", &with("hard", 3, "{mode: hard, highestTierAllowed: 1}"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let fields: Vec<String> =
        refused.get_details_bad_request().into_iter().flat_map(|bad| bad.field_violations).map(|fault| fault.field).collect();
    assert_eq!(fields, ["job.manifest.spec.networkTopology"], "{}", refused.message());
    assert!(refused.message().contains("in one rack"), "{}", refused.message());
}

#[tokio::test]
async fn a_node_that_is_required_is_the_one_of_the_plan() {
    let mut world = World::new().await;
    world.join(racked(&[0, 5, 0, 0])).await;
    world.queue("train", "").await;
    let manifest = annotated("small", 3, 1, "required-topology: kubernetes.io/hostname");
    world.create(create("small", &manifest)).await.expect("a sound job");
    world.settle().await;
    let object = world.object("idc", "jobs/ml/small/1");
    let selector = object.pointer("/spec/tasks/0/template/spec/nodeSelector");
    assert_eq!(selector, Some(&serde_json::json!({"kubernetes.io/hostname": "idc-1"})), "three are left on one node");
}
