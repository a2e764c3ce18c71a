//! What policy says of a release, and what it says when it has moved.

use crate::releases::with_v2;
use crate::stage::Stage;
use muster_proto::rollout::v1::{self as wire, application::State as ApplicationState, release::State, target_status};
use wire::release_service_server::ReleaseService as _;

/// v3 is at the canary, and its gate has no data yet.
async fn with_v3_at_the_canary() -> Stage {
    let stage = with_v2().await;
    stage.ship("v3");
    stage.seconds(5).await;
    assert!(stage.was_told("edge-1", ":v3"));
    stage
}

fn all_is_well(stage: &Stage) {
    ["edge-1", "edge-2", "serve-online"].into_iter().for_each(|cluster| stage.measure(cluster, "v3", 1.0));
}

#[tokio::test]
async fn a_verdict_is_taken_again_before_the_next_wave_if_and_only_if_policies_moved() {
    let stage = with_v3_at_the_canary().await;
    let judged = stage.world.with(|world| world.judged);
    all_is_well(&stage);
    stage.world.with(|world| world.policy_revision += 1);
    stage.until(State::Completed).await;
    let again = stage.world.with(|world| world.judged);
    assert!(again > judged, "policies moved and were not asked");
    stage.ship("v4");
    ["edge-1", "edge-2", "serve-online"].into_iter().for_each(|cluster| stage.measure(cluster, "v4", 1.0));
    stage.until(State::Completed).await;
    assert_eq!(stage.world.with(|world| world.judged) - again, 2, "once for the edges and once for the routes");
}

#[tokio::test]
async fn a_release_that_policies_turn_against_goes_no_further_and_back() {
    let stage = with_v3_at_the_canary().await;
    all_is_well(&stage);
    stage.world.with(|world| {
        world.policy_revision += 1;
        world.refusals = vec!["policies/limits/gpu: Deployment vision/detector".into()];
    });
    let release = stage.until(State::Failed).await;
    assert!(release.reason.contains("policy refuses it: policies/limits"), "{}", release.reason);
    assert_eq!(stage.images("edge-1"), ["registry.example.com/detector:v2"], "what it touched is back");
    for cluster in ["edge-2", "serve-online"] {
        assert!(!stage.was_told(cluster, ":v3"));
    }
}

#[tokio::test]
async fn a_commit_that_policy_refuses_takes_back_what_the_one_before_it_had_begun() {
    let stage = with_v3_at_the_canary().await;
    stage.world.with(|world| {
        world.policy_revision += 1;
        world.refusals = vec!["policies/limits/gpu: Deployment vision/detector".into()];
    });
    stage.ship("v4");
    stage.until(State::Failed).await;
    assert_eq!(stage.releases().await[1].state(), State::Superseded);
    assert_eq!(stage.images("edge-1"), ["registry.example.com/detector:v2"], "v3 was never completed");
    assert!(!stage.was_told("edge-1", ":v4"));
}

#[tokio::test]
async fn while_policy_is_away_no_further_wave_is_told_and_a_rollback_does_not_wait() {
    let stage = with_v3_at_the_canary().await;
    all_is_well(&stage);
    stage.world.with(|world| world.policy_away = true);
    stage.seconds(20).await;
    let release = stage.releases().await.remove(0);
    assert_eq!(release.state(), State::Progressing);
    assert!(release.reason.contains("waits for its verdict: the policy service is away"), "{}", release.reason);
    assert!(!stage.was_told("serve-online", ":v3"));
    let application = stage.application().await;
    assert_eq!(application.reason, release.reason);
    let abort = wire::AbortReleaseRequest { name: release.name, ..wire::AbortReleaseRequest::default() };
    stage.server.abort_release(stage.by_operator(abort)).await.unwrap();
    stage.until(State::Failed).await;
    assert_eq!(stage.images("edge-1"), ["registry.example.com/detector:v2"]);
}

#[tokio::test]
async fn a_release_that_waited_for_policy_goes_on_when_it_is_back() {
    let stage = with_v3_at_the_canary().await;
    all_is_well(&stage);
    stage.world.with(|world| world.policy_away = true);
    stage.seconds(20).await;
    stage.world.with(|world| world.policy_away = false);
    stage.until(State::Completed).await;
    assert_eq!(stage.images("edge-2"), ["registry.example.com/detector:v3"]);
}

#[tokio::test]
async fn a_cluster_that_returns_is_not_caught_up_to_what_policy_refuses_by_now() {
    let stage = Stage::new().await;
    stage.apply("").await;
    stage.until(State::Completed).await;
    stage.set_cluster("edge-2", Some("offline")).await;
    stage.ship("v3");
    stage.until(State::Completed).await;
    stage.world.with(|world| {
        world.policy_revision += 1;
        world.refusals = vec!["policies/limits/gpu: Deployment vision/detector".into()];
    });
    stage.set_cluster("edge-2", None).await;
    stage.seconds(5).await;
    let release = stage.releases().await.remove(0);
    assert_eq!(release.state(), State::Completed);
    let target = release.targets.iter().find(|one| one.cluster == "clusters/edge-2").unwrap();
    assert_eq!(target.state(), target_status::State::Failed);
    assert!(target.reason.contains("policies/limits"), "{}", target.reason);
    assert!(!stage.was_told("edge-2", ":v3"));
    assert_eq!(stage.application().await.state(), ApplicationState::Degraded);
}
