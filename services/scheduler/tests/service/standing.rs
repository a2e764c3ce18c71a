//! Clusters that are lost, drained, cordoned or gone.

use std::time::Duration;

use jiff::SignedDuration;
use muster_kit::clock::Clock;
use muster_kit::time::to_proto;
use muster_proto::registry::v1::{Cluster, cluster};
use muster_proto::scheduler::v1::job::State;
use muster_scheduler::domain::job::RunPhase;

use crate::world::{World, create, member, training};

fn in_state(state: cluster::State) -> Cluster {
    Cluster { state: state.into(), ..member("idc", 1, "V100", 1_000_000) }
}

#[tokio::test]
async fn a_job_on_a_lost_cluster_waits_for_it() {
    let mut world = World::with_clusters().await;
    world.submit("train", 1, 8).await;
    world.settle().await;
    world.runs("idc", "train", 1).await;
    world.join(in_state(cluster::State::Lost)).await;
    world.settle().await;
    let lost = world.job("train").await;
    assert_eq!((lost.state(), lost.reason.as_str()), (State::Lost, "idc is lost; the job waits for it"));
    world.clock.advance(Duration::from_secs(86_400));
    world.settle().await;
    assert_eq!(world.state("train").await.0, State::Lost);
    world.join(in_state(cluster::State::Live)).await;
    world.settle().await;
    assert_eq!(world.state("train").await, (State::Running, "idc".to_owned()));
    assert_eq!(world.job("train").await.run_epoch, 1);
}

#[tokio::test]
async fn a_movable_job_is_started_elsewhere_only_after_lease_and_margin() {
    let mut world = World::with_clusters().await;
    let mut request = create("train", &training("train", 1, 8));
    request.job.as_mut().unwrap().movable = true;
    world.create(request).await.unwrap();
    world.settle().await;
    world.runs("idc", "train", 1).await;
    let lease = world.clock.now() + SignedDuration::from_secs(40);
    world.join(Cluster { lease_expire_time: Some(to_proto(lease)), ..in_state(cluster::State::Lost) }).await;
    world.pass(100);
    world.settle().await;
    assert_eq!(world.state("train").await.0, State::Lost, "40 s of lease and 60 s of margin are not over");
    world.pass(1);
    world.settle().await;
    assert_eq!(world.state("train").await, (State::Placed, "cloud".to_owned()));
    assert_eq!(world.job("train").await.run_epoch, 2);
    assert!(!world.items("idc").contains(&"jobs/ml/train/1".to_owned()), "what is left there is removed when it returns");
}

#[tokio::test]
async fn a_drained_cluster_gives_movable_runs_away_and_keeps_the_others() {
    let mut world = World::new().await;
    world.join(member("idc", 2, "V100", 1_000_000)).await;
    world.join(member("cloud", 1, "A100", 4_000_000)).await;
    world.queue("train", "").await;
    let mut request = create("movable", &training("movable", 1, 8));
    request.job.as_mut().unwrap().movable = true;
    world.create(request).await.unwrap();
    world.submit("fixed", 1, 8).await;
    world.settle().await;
    world.runs("idc", "movable", 1).await;
    world.runs("idc", "fixed", 1).await;
    world.join(Cluster { schedulability: cluster::Schedulability::Draining.into(), ..member("idc", 2, "V100", 1_000_000) }).await;
    world.settle().await;
    assert_eq!(world.state("movable").await.0, State::Queued);
    world.ends("idc", "movable", 1, RunPhase::Stopped).await;
    world.settle().await;
    assert_eq!(world.state("movable").await, (State::Placed, "cloud".to_owned()));
    assert_eq!(world.state("fixed").await, (State::Running, "idc".to_owned()));
}

#[tokio::test]
async fn nothing_new_goes_to_a_cordoned_or_suspect_cluster() {
    let mut world = World::with_clusters().await;
    world.join(Cluster { schedulability: cluster::Schedulability::Cordoned.into(), ..member("idc", 1, "V100", 1_000_000) }).await;
    world.submit("one", 1, 8).await;
    world.settle().await;
    assert_eq!(world.state("one").await, (State::Placed, "cloud".to_owned()));
    world.join(in_state(cluster::State::Suspect)).await;
    world.submit("two", 1, 8).await;
    world.settle().await;
    assert_eq!(world.state("two").await.0, State::Queued);
    let why = world.explain("two").await;
    let idc = why.candidates.iter().find(|candidate| candidate.cluster == "clusters/idc").expect("idc is a candidate");
    assert_eq!(idc.reason, "not heard of lately");
}

#[tokio::test]
async fn a_job_on_a_cluster_that_left_can_be_cancelled() {
    let mut world = World::with_clusters().await;
    world.submit("train", 1, 8).await;
    world.settle().await;
    world.join(in_state(cluster::State::Left)).await;
    world.settle().await;
    assert_eq!(world.state("train").await.0, State::Lost);
    let name = crate::world::resource("train");
    world.jobs.cancel_job(muster_proto::scheduler::v1::CancelJobRequest { name, ..Default::default() }).await.unwrap();
    world.settle().await;
    assert_eq!(world.state("train").await.0, State::Cancelled);
    let queue = world.queue("train", "").await;
    assert_eq!((queue.active_jobs, queue.waiting_jobs), (0, 0));
}
