//! What clusters are told.

use muster_proto::scheduler::v1::{DeleteQueueRequest, job::State};
use tonic::Code;

use crate::world::{World, create, member};

#[tokio::test]
async fn a_volcano_job_waits_for_its_queue_in_the_cluster_and_is_not_healed_under_its_epoch() {
    let mut world = World::with_clusters().await;
    world.submit("train", 1, 1).await;
    world.settle().await;
    let state = world.registry.state.lock().unwrap();
    let (_, item) = &state.clusters["idc"].items["jobs/ml/train/1"];
    assert_eq!(item.after, ["queues/train"]);
    assert_eq!(item.run, Some(("namespaces/ml/jobs/train/runs/1".to_owned(), false)));
}

#[tokio::test]
async fn a_changed_queue_is_told_where_it_is_held() {
    let mut world = World::with_clusters().await;
    world.submit("train", 1, 1).await;
    world.settle().await;
    world.queue("train", "weight: 7").await;
    world.settle().await;
    assert_eq!(world.object("idc", "queues/train")["spec"]["weight"], 7);
    assert!(world.items("cloud").is_empty());
}

#[tokio::test]
async fn a_batch_job_goes_where_there_is_no_volcano_and_a_volcano_job_does_not() {
    let mut world = World::new().await;
    let mut plain = member("plain", 1, "V100", 1);
    plain.preflight.as_mut().unwrap().api_groups.truncate(1);
    world.join(plain).await;
    world.queue("train", "").await;
    let batch = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: b, labels: {kueue.x-k8s.io/queue-name: train}}\nspec: {suspend: true, template: {spec: {containers: \
                 [{name: c, resources: {limits: {nvidia.com/gpu: 1}}}]}}}\n";
    world.create(create("b", batch)).await.unwrap();
    let refused = world.create(create("v", &crate::world::training("v", 1, 1))).await.unwrap_err();
    assert!(refused.message().contains("plain does not serve batch.volcano.sh/v1alpha1"), "{refused:?}");
    world.settle().await;
    assert_eq!(world.state("b").await, (State::Placed, "plain".to_owned()));
    assert_eq!(world.object("plain", "jobs/ml/b/1")["spec"]["suspend"], false);
    assert_eq!(world.items("plain"), ["jobs/ml/b/1"]);
}

#[tokio::test]
async fn a_queue_in_use_is_not_deleted_and_one_of_another_namespace_collides() {
    let mut world = World::with_clusters().await;
    world.submit("train", 1, 1).await;
    let used = world
        .queues
        .delete_queue(DeleteQueueRequest { name: "queues/train".to_owned(), ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!(used.code(), Code::FailedPrecondition);
    let manifest = "apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {name: train, namespace: other}\n".to_owned();
    let queue = muster_proto::scheduler::v1::Queue { manifest, ..Default::default() };
    let request =
        muster_proto::scheduler::v1::UpdateQueueRequest { queue: Some(queue), allow_missing: true, ..Default::default() };
    assert_eq!(world.queues.update_queue(request).await.unwrap_err().code(), Code::AlreadyExists);
}

#[tokio::test]
async fn a_cluster_the_registry_does_not_know_is_told_nothing_more() {
    let mut world = World::with_clusters().await;
    world.registry.state.lock().unwrap().unknown.insert("idc".to_owned());
    world.submit("train", 1, 1).await;
    world.settle().await;
    assert_eq!(world.items("idc"), Vec::<String>::new());
    world.settle().await;
}
