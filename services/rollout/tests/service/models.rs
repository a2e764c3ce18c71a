//! From a training that ended to the commit that ships it.

use crate::stage::{Stage, by};
use jiff::{SignedDuration, Timestamp};
use muster_kit::{
    Role,
    consume::{Handler as _, Message},
    db,
};
use muster_proto::event::v1::TrainingComplete;
use muster_proto::rollout::v1::{self as wire, model_version::CommitState, release::State};
use muster_rollout::events::Inbound;
use wire::model_service_server::ModelService as _;

/// A training-complete event of a version; a greater number ended later.
fn training(version: &str, digit: &str) -> TrainingComplete {
    let completed_at: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
    let later = SignedDuration::from_secs(i64::from(version.as_bytes()[1]));
    TrainingComplete {
        model: "detector".into(),
        version: version.into(),
        digest: format!("sha256:{}", digit.repeat(64)),
        uri: format!("s3://models/detector/{version}"),
        completed_at: Some(muster_kit::time::to_proto(completed_at + later)),
        image: format!("registry.example.com/detector:{version}"),
        ..TrainingComplete::default()
    }
}

async fn report(stage: &Stage, event: TrainingComplete) -> Result<wire::ModelVersion, tonic::Status> {
    let request = wire::ReportTrainingCompleteRequest { event: Some(event), request_id: String::new() };
    stage.server.report_training_complete(stage.by_operator(request)).await.map(tonic::Response::into_inner)
}

async fn version(stage: &Stage, version: &str) -> wire::ModelVersion {
    let request = wire::GetModelVersionRequest { name: format!("models/detector/versions/{version}") };
    stage.server.get_model_version(stage.by_operator(request)).await.unwrap().into_inner()
}

/// The event as it comes over Kafka.
fn message(event: &TrainingComplete, source: &str, id: &str) -> Message {
    let headers =
        [("ce_specversion", "1.0"), ("ce_id", id), ("ce_source", source), ("ce_type", "dev.muster.model.training.completed.v1")];
    Message {
        key: "detector".into(),
        headers: headers.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        body: serde_json::to_vec(event).unwrap(),
        position: "mlops.events/0/0".into(),
    }
}

async fn consume(stage: &Stage, message: &Message) -> muster_kit::Result<()> {
    let mut tx = db::begin(stage.db.pool()).await?;
    Inbound(stage.app.clone()).handle(&mut tx, message).await?;
    tx.commit().await?;
    Ok(())
}

#[tokio::test]
async fn three_deliveries_are_one_version_one_commit_and_one_release() {
    let stage = Stage::new().await;
    stage.apply("").await;
    stage.until(State::Completed).await;
    let event = training("v3", "3");
    report(&stage, event.clone()).await.unwrap();
    consume(&stage, &message(&event, "/nightly", "1")).await.unwrap();
    stage.seconds(2).await;
    consume(&stage, &message(&event, "/nightly", "1")).await.unwrap();
    consume(&stage, &message(&event, "/nightly", "2")).await.unwrap();
    let release = stage.until(State::Completed).await;
    stage.seconds(5).await;
    assert_eq!(stage.log(), ["detector v3", "the model and how it is served"]);
    assert_eq!(stage.releases().await.len(), 2);
    assert_eq!(release.model_version, "models/detector/versions/v3");
    assert_eq!(stage.images("edge-1"), ["registry.example.com/detector:v3"]);
    let recorded = version(&stage, "v3").await;
    assert_eq!((recorded.commit_state(), recorded.commit.as_str()), (CommitState::CommitPushed, release.commit.as_str()));
    let request =
        wire::ListModelVersionsRequest { parent: "models/detector".into(), ..wire::ListModelVersionsRequest::default() };
    assert_eq!(stage.server.list_model_versions(stage.by_operator(request)).await.unwrap().into_inner().model_versions.len(), 1);
}

#[tokio::test]
async fn another_digest_for_a_version_is_refused_and_an_older_training_is_only_recorded() {
    let stage = Stage::new().await;
    stage.apply("").await;
    report(&stage, training("v5", "5")).await.unwrap();
    let refused = report(&stage, training("v5", "6")).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::AlreadyExists, "{}", refused.message());
    let older = report(&stage, training("v4", "4")).await.unwrap();
    assert_eq!(older.commit_state(), CommitState::NotNewest);
    stage.seconds(3).await;
    assert_eq!(stage.log()[0], "detector v5");
    let request = wire::GetModelRequest { name: "models/detector".into() };
    let model = stage.server.get_model(stage.by_operator(request)).await.unwrap().into_inner();
    assert_eq!(model.latest_version, "models/detector/versions/v5");
}

#[tokio::test]
async fn an_event_that_cannot_be_believed_is_refused_by_field_and_changes_nothing() {
    let stage = Stage::new().await;
    stage.apply("").await;
    type Spoil = fn(&mut TrainingComplete);
    let spoil: [(&str, Spoil); 4] = [
        ("event.digest", |event| event.digest.clear()),
        ("event.completed_at", |event| event.completed_at = None),
        ("event.model", |event| event.model = "No Such".into()),
        ("event.uri", |event| event.uri.clear()),
    ];
    for (field, spoil) in spoil {
        let mut event = training("v3", "3");
        spoil(&mut event);
        let refused = report(&stage, event.clone()).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(refused.message().starts_with(field), "{}", refused.message());
        let buried = consume(&stage, &message(&event, "/nightly", field)).await.unwrap_err();
        assert_eq!(buried.kind(), muster_kit::Kind::Invalid, "it goes to the dead letters: {buried}");
    }
    let mut unknown = training("v3", "3");
    unknown.model = "unknown".into();
    assert_eq!(report(&stage, unknown).await.unwrap_err().code(), tonic::Code::NotFound);
    let viewer =
        by(wire::ReportTrainingCompleteRequest { event: Some(training("v3", "3")), request_id: String::new() }, Role::Viewer);
    assert_eq!(stage.server.report_training_complete(viewer).await.unwrap_err().code(), tonic::Code::PermissionDenied);
    stage.seconds(3).await;
    assert_eq!(stage.log().len(), 1);
}

#[tokio::test]
async fn a_run_that_does_not_count_makes_no_version() {
    let stage = Stage::new().await;
    stage.apply("").await;
    let job = "namespaces/ml/jobs/train";
    stage.world.with(|world| world.epochs.insert(job.into(), 2));
    let mut event = training("v3", "3");
    event.job = job.into();
    event.run_epoch = 1;
    let refused = report(&stage, event.clone()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{}", refused.message());
    event.run_epoch = 2;
    assert_eq!(report(&stage, event).await.unwrap().run_epoch, 2);
}

#[tokio::test]
async fn a_model_says_whose_events_it_believes() {
    let stage = Stage::new().await;
    stage.apply("").await;
    let manifest = "apiVersion: muster.dev/v1\nkind: Model\nmetadata: {name: detector}\nspec: {gitRepositoryRef: {name: models, namespace: platform}, trust: {sources: [/nightly]}}\n";
    let model = wire::Model { manifest: manifest.into(), ..wire::Model::default() };
    let request = wire::UpdateModelRequest { model: Some(model), ..wire::UpdateModelRequest::default() };
    stage.server.update_model(stage.by_operator(request)).await.unwrap();
    assert_eq!(report(&stage, training("v3", "3")).await.unwrap_err().code(), tonic::Code::PermissionDenied);
    assert!(consume(&stage, &message(&training("v3", "3"), "/elsewhere", "1")).await.is_err());
    consume(&stage, &message(&training("v3", "3"), "/nightly", "2")).await.unwrap();
    assert_eq!(version(&stage, "v3").await.commit_state(), CommitState::CommitPending);
}

#[tokio::test]
async fn a_version_that_waited_for_its_repository_is_not_written_over_a_newer_one() {
    let stage = Stage::new().await;
    stage.apply("").await;
    stage.until(State::Completed).await;
    let bare = stage.url().trim_start_matches("file://").to_owned();
    std::fs::rename(&bare, format!("{bare}.away")).unwrap();
    report(&stage, training("v3", "3")).await.unwrap();
    // Its next attempt is far away by now.
    stage.seconds(20).await;
    std::fs::rename(format!("{bare}.away"), &bare).unwrap();
    report(&stage, training("v4", "4")).await.unwrap();
    stage.seconds(60).await;
    assert_eq!(stage.log(), ["detector v4", "the model and how it is served"]);
    let overtaken = version(&stage, "v3").await;
    assert_eq!(overtaken.commit_state(), CommitState::NotNewest);
    assert!(overtaken.reason.contains("v4"), "{}", overtaken.reason);
    assert_eq!(stage.images("edge-1"), ["registry.example.com/detector:v4"]);
}

#[tokio::test]
async fn a_digest_that_somebody_squashed_into_the_branch_is_adopted_and_not_written_again() {
    let stage = Stage::new().await;
    stage.apply("").await;
    stage.until(State::Completed).await;
    let event = training("v3", "3");
    let version_file = format!("version: v3\ndigest: {}\n", event.digest);
    let squashed = stage.commit("all of this week", &[("models/detector/version.yaml", version_file)]);
    stage.seconds(3).await;
    report(&stage, event).await.unwrap();
    stage.seconds(3).await;
    let recorded = version(&stage, "v3").await;
    assert_eq!((recorded.commit_state(), recorded.commit.as_str()), (CommitState::CommitPushed, squashed.as_str()));
    assert_eq!(stage.log()[0], "all of this week");
}

#[tokio::test]
async fn a_repository_that_is_away_is_tried_again_until_it_is_back() {
    let stage = Stage::new().await;
    stage.apply("").await;
    stage.seconds(2).await;
    let bare = stage.url().trim_start_matches("file://").to_owned();
    std::fs::rename(&bare, format!("{bare}.away")).unwrap();
    report(&stage, training("v3", "3")).await.unwrap();
    stage.seconds(3).await;
    let waiting = version(&stage, "v3").await;
    assert_eq!(waiting.commit_state(), CommitState::CommitPending);
    assert!(waiting.reason.contains("cannot be reached"), "{}", waiting.reason);
    std::fs::rename(format!("{bare}.away"), &bare).unwrap();
    stage.seconds(35).await;
    assert_eq!(version(&stage, "v3").await.commit_state(), CommitState::CommitPushed);
    assert_eq!(stage.log()[0], "detector v3");
}
