//! Queues that lend and borrow, through the service: as Muster's own kind and as Kueue's.

use muster_proto::scheduler::v1::{Queue, UpdateQueueRequest, job::State};
use tonic::Code;

use crate::world::{World, create, training};

async fn apply(world: &mut World, name: &str, manifest: String) -> Result<Queue, tonic::Status> {
    let queue = Queue { name: format!("queues/{name}"), manifest, ..Queue::default() };
    let request = UpdateQueueRequest { queue: Some(queue), allow_missing: true, ..UpdateQueueRequest::default() };
    Ok(world.queues.update_queue(request).await?.into_inner())
}

fn member(name: &str, cohort: &str, quota: u32, limits: &str) -> String {
    format!(
        "apiVersion: kueue.x-k8s.io/v1beta2\nkind: ClusterQueue\nmetadata: {{name: {name}}}\nspec: {{cohortName: {cohort}, \
         resourceGroups: [{{coveredResources: [nvidia.com/gpu], flavors: [{{name: default, resources: [{{name: nvidia.com/gpu, \
         nominalQuota: {quota}{limits}}}]}}]}}]}}\n"
    )
}

async fn submit(world: &mut World, name: &str, queue: &str, gpus: u32) {
    let manifest = training(name, 1, gpus).replace("queue: train", &format!("queue: {queue}"));
    world.create(create(name, &manifest)).await.expect("a sound job");
}

async fn placed(world: &mut World, name: &str) -> bool {
    world.state(name).await.0 != State::Queued
}

#[tokio::test]
async fn members_of_a_cohort_lend_and_borrow_within_their_limits_and_explain_says_so() {
    let mut world = World::with_clusters().await;
    // idc and cloud have 8 GPUs each: 12 are the cohort's.
    apply(&mut world, "vision", member("vision", "research", 8, ", lendingLimit: 2")).await.unwrap();
    apply(&mut world, "speech", member("speech", "research", 4, ", borrowingLimit: 3")).await.unwrap();
    for name in ["a", "b", "c"] {
        submit(&mut world, name, "speech", 2).await;
    }
    submit(&mut world, "d", "speech", 1).await;
    world.settle().await;
    let mut states = Vec::new();
    for name in ["a", "b", "c", "d"] {
        states.push(placed(&mut world, name).await);
    }
    assert_eq!(states, [true, true, true, false], "4 of its own, 2 that vision lends; it might have borrowed 3");
    let why = world.explain("d").await;
    let limit = "\"vision\" lend no more nvidia.com/gpu: of 12 in queue \"research\" 6 are used and 6 kept, 1 are asked";
    assert_eq!(why.queue_limits, [limit]);
    let unblocked = "1 nvidia.com/gpu that others borrow is freed, or queue \"vision\" lends as much more";
    assert_eq!(why.unblocked_by, [unblocked]);

    // vision lends more, and speech borrows as much as it may.
    apply(&mut world, "vision", member("vision", "research", 8, "")).await.unwrap();
    world.settle().await;
    assert!(placed(&mut world, "d").await);
    submit(&mut world, "e", "speech", 1).await;
    world.settle().await;
    let limit =
        "borrowing limit of queue \"speech\" exceeded by 1 nvidia.com/gpu: 7 used + 1 asked > 4 guaranteed + 3 borrowed at most";
    assert_eq!(world.explain("e").await.queue_limits, [limit]);

    // A new leader reads the same from the tables.
    *world.app.mind.lock().unwrap() = None;
    world.settle().await;
    assert_eq!(world.explain("e").await.queue_limits, [limit]);
}

#[tokio::test]
async fn musters_own_queue_lends_within_its_limit_and_kinds_of_one_name_are_told_apart() {
    let mut world = World::with_clusters().await;
    world.queue("keeper", "guarantee: {resource: {nvidia.com/gpu: 8}}, lendingLimit: {nvidia.com/gpu: 0}").await;
    world.queue("train", "").await;
    for name in ["a", "b"] {
        world.submit(name, 1, 8).await;
    }
    world.settle().await;
    assert_eq!((placed(&mut world, "a").await, placed(&mut world, "b").await), (true, false));
    submit(&mut world, "c", "keeper", 8).await;
    world.settle().await;
    assert!(placed(&mut world, "c").await);

    let cohort = "apiVersion: kueue.x-k8s.io/v1beta1\nkind: Cohort\nmetadata: {name: keeper}\n";
    let refused = apply(&mut world, "keeper", cohort.to_owned()).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
    let several = member("x", "lab", 1, "").replace("flavors: [", "flavors: [{name: a, resources: []}, ");
    let refused = apply(&mut world, "x", several).await.unwrap_err();
    assert!(refused.message().contains("spec.resourceGroups[0].flavors"), "{refused}");
}
