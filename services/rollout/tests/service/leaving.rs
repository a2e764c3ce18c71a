//! Clusters that leave an application: what becomes of what they have.

use crate::releases::with_v2;
use crate::stage::{APPLICATION, GATE, Stage, application};
use muster_proto::rollout::v1::{
    self as wire, application::State as ApplicationState, release::State, target_status::State as TargetState,
};
use wire::{application_service_server::ApplicationService as _, release_service_server::ReleaseService as _};

const V2: [&str; 1] = ["registry.example.com/detector:v2"];
const V3: [&str; 1] = ["registry.example.com/detector:v3"];

fn edges(stage: &Stage, names: &[&str]) {
    stage.world.with(|world| world.fleets.insert("edge".into(), names.iter().map(|name| (*name).to_owned()).collect()));
}

async fn target(stage: &Stage, cluster: &str) -> wire::TargetStatus {
    let application = stage.application().await;
    let found = application.targets.iter().find(|one| one.cluster == format!("clusters/{cluster}"));
    found.unwrap_or_else(|| panic!("{cluster} is not shown: {application:#?}")).clone()
}

async fn is_healed(stage: &Stage, cluster: &str) -> bool {
    sqlx::query_scalar("select self_heal from desired_item where cluster = $1")
        .bind(cluster)
        .fetch_one(stage.db.pool())
        .await
        .unwrap()
}

fn without_prune(rollout: &str) -> String {
    application(rollout).replace("prune: true", "prune: false")
}

#[tokio::test]
async fn a_cluster_that_leaves_the_fleet_is_withdrawn_where_the_application_prunes() {
    let stage = with_v2().await;
    edges(&stage, &["edge-1"]);
    stage.seconds(5).await;
    assert!(stage.images("edge-2").is_empty());
    let gone = target(&stage, "edge-2").await;
    assert_eq!(gone.state(), TargetState::Left);
    assert!(gone.reason.contains("withdrawn"), "{}", gone.reason);
    assert_eq!(stage.images("edge-1"), V2);
    let application = stage.application().await;
    assert_eq!(application.state(), ApplicationState::Healthy, "{}", application.reason);
    assert_eq!(stage.releases().await.len(), 1, "nothing is released for it");

    // Newer releases do not know it, and on its return it catches up.
    stage.ship("v3");
    ["edge-1", "serve-online"].into_iter().for_each(|cluster| stage.measure(cluster, "v3", 1.0));
    stage.until(State::Completed).await;
    assert!(stage.images("edge-2").is_empty());
    edges(&stage, &["edge-1", "edge-2"]);
    stage.measure("edge-2", "v3", 1.0);
    stage.seconds(3).await;
    stage.until(State::Completed).await;
    assert_eq!(stage.images("edge-2"), V3);
    assert_eq!(target(&stage, "edge-2").await.state(), TargetState::Healthy);
}

#[tokio::test]
async fn without_prune_it_is_left_as_it_is_and_shown_and_nobody_heals_it() {
    let stage = with_v2().await;
    stage.apply_document(without_prune(GATE)).await;
    edges(&stage, &["edge-1"]);
    stage.seconds(5).await;
    assert_eq!(stage.images("edge-2"), V2);
    assert!(!is_healed(&stage, "edge-2").await);
    assert!(is_healed(&stage, "edge-1").await);
    let left = target(&stage, "edge-2").await;
    assert_eq!(left.state(), TargetState::Left);
    assert!(left.reason.contains("left there"), "{}", left.reason);

    // It is shown in every later release, and none reaches it.
    stage.ship("v3");
    ["edge-1", "serve-online"].into_iter().for_each(|cluster| stage.measure(cluster, "v3", 1.0));
    stage.until(State::Completed).await;
    assert_eq!(target(&stage, "edge-2").await.state(), TargetState::Left);
    assert_eq!(stage.images("edge-2"), V2);

    // A person who wants it gone says so.
    stage.apply_document(application(GATE)).await;
    stage.seconds(3).await;
    assert!(stage.images("edge-2").is_empty());
}

#[tokio::test]
async fn a_cluster_that_was_left_is_healed_again_when_it_returns() {
    let stage = with_v2().await;
    stage.apply_document(without_prune(GATE)).await;
    edges(&stage, &["edge-1"]);
    stage.seconds(5).await;
    edges(&stage, &["edge-1", "edge-2"]);
    stage.seconds(3).await;
    let release = stage.until(State::Completed).await;
    assert!(release.fast_lane, "it was completed there before");
    assert!(is_healed(&stage, "edge-2").await);
    assert_eq!(target(&stage, "edge-2").await.state(), TargetState::Healthy);
}

#[tokio::test]
async fn a_fleet_that_loses_every_cluster_does_not_take_the_application_down() {
    let stage = Stage::new().await;
    let online = "    - cluster: serve-online\n      path: ./serving/overlays/online\n";
    stage.apply_repository().await;
    stage.apply_document(application("").replace(online, "")).await;
    stage.until(State::Completed).await;
    edges(&stage, &[]);
    stage.seconds(5).await;
    for cluster in ["edge-1", "edge-2"] {
        assert_eq!(stage.images(cluster), V2);
    }
    let application = stage.application().await;
    assert_eq!(application.state(), ApplicationState::Degraded);
    assert!(application.reason.contains("stays until the application is deleted"), "{}", application.reason);
    edges(&stage, &["edge-1", "edge-2"]);
    stage.seconds(3).await;
    assert_eq!(stage.application().await.state(), ApplicationState::Healthy);
}

#[tokio::test]
async fn an_application_that_moves_stands_at_its_new_cluster_before_it_leaves_the_old_one() {
    let stage = Stage::new().await;
    let fleet = "    - fleet: edge\n      path: ./serving/overlays/edge\n";
    let to = |cluster: &str| application("").replace(fleet, "").replace("cluster: serve-online", &format!("cluster: {cluster}"));
    stage.apply_repository().await;
    stage.apply_document(to("edge-1").replace("overlays/online", "overlays/edge")).await;
    stage.until(State::Completed).await;
    stage.set_cluster("edge-2", Some("offline")).await;
    stage.apply_document(to("edge-2").replace("overlays/online", "overlays/edge")).await;
    stage.seconds(60).await;
    assert_eq!(stage.images("edge-1"), V2, "the new one is not there yet");
    assert_eq!(target(&stage, "edge-1").await.state(), TargetState::Leaving);
    stage.set_cluster("edge-2", None).await;
    stage.until(State::Completed).await;
    stage.seconds(2).await;
    assert_eq!(stage.images("edge-2"), V2);
    assert!(stage.images("edge-1").is_empty());
    assert_eq!(target(&stage, "edge-1").await.state(), TargetState::Left);
}

#[tokio::test]
async fn what_was_withdrawn_is_not_brought_back_by_a_deletion_or_a_rollback() {
    let stage = with_v2().await;
    ["edge-1", "edge-2", "serve-online"].into_iter().for_each(|cluster| stage.measure(cluster, "v3", 1.0));
    stage.ship("v3");
    stage.until(State::Completed).await;
    edges(&stage, &["edge-1"]);
    stage.seconds(5).await;
    assert!(stage.images("edge-2").is_empty());
    let request = wire::RollbackApplicationRequest { name: APPLICATION.into(), ..wire::RollbackApplicationRequest::default() };
    stage.server.rollback_application(stage.by_operator(request)).await.unwrap();
    stage.until(State::Completed).await;
    assert_eq!(stage.images("edge-1"), V2);
    assert!(stage.images("edge-2").is_empty());
    let request = wire::DeleteApplicationRequest { name: APPLICATION.into(), ..wire::DeleteApplicationRequest::default() };
    stage.server.delete_application(stage.by_operator(request)).await.unwrap();
    stage.seconds(2).await;
    assert_eq!(stage.images("edge-1"), V2, "what runs is kept");
    assert!(stage.images("edge-2").is_empty());
}

#[tokio::test]
async fn a_cluster_that_is_no_more_is_forgotten() {
    let stage = with_v2().await;
    edges(&stage, &["edge-1"]);
    sqlx::query("delete from cluster where cluster = 'edge-2'").execute(stage.db.pool()).await.unwrap();
    stage.seconds(5).await;
    assert_eq!(target(&stage, "edge-2").await.state(), TargetState::Left);
    let open: i64 = sqlx::query_scalar("select count(*) from desired_item where cluster = 'edge-2'")
        .fetch_one(stage.db.pool())
        .await
        .unwrap();
    assert_eq!(open, 0, "nobody is there to be told");
}
