//! Training-complete events that say too little, over gRPC and over Kafka: refused by field, or buried with the reason; and
//! what comes after them is taken.

use anyhow::{Result, ensure};
use muster_integration_tests::clients::Clients;
use muster_integration_tests::kafka::Topics;
use muster_integration_tests::patience::look;
use muster_integration_tests::refusal::{has_reason, names_field};
use muster_integration_tests::{Platform, eventually};
use muster_proto::event::v1::TrainingComplete;
use muster_proto::rollout::v1 as rollout;
use serde_json::json;
use tonic::{Code, Status};

/// A model that anybody may report versions of. Its repository is not there: versions are recorded all the same.
pub async fn prepare(clients: &Clients) -> Result<()> {
    let manifest = "apiVersion: muster.dev/v1\nkind: Model\nmetadata: {name: resnet50}\nspec: {gitRepositoryRef: {name: none}}\n";
    let model = Some(rollout::Model { manifest: manifest.to_owned(), ..Default::default() });
    clients.models().create_model(rollout::CreateModelRequest { model, ..Default::default() }).await?;
    Ok(())
}

fn complete(version: &str) -> TrainingComplete {
    TrainingComplete {
        model: "resnet50".to_owned(),
        version: version.to_owned(),
        digest: format!("sha256:{}", "0".repeat(64)),
        uri: "s3://models/resnet50/model.onnx".to_owned(),
        completed_at: Some(muster_proto::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
        ..Default::default()
    }
}

async fn report(clients: &Clients, event: TrainingComplete) -> Result<rollout::ModelVersion, Status> {
    let request = rollout::ReportTrainingCompleteRequest { event: Some(event), ..Default::default() };
    clients.models().report_training_complete(request).await.map(tonic::Response::into_inner)
}

pub async fn are_refused(platform: &Platform, clients: &Clients) -> Result<()> {
    type Spoil = fn(&mut TrainingComplete);
    let spoiled: [(&str, Spoil); 6] = [
        ("event.digest", |event| event.digest.clear()),
        ("event.digest", |event| event.digest = "sha256:short".to_owned()),
        ("event.version", |event| event.version = "no version".to_owned()),
        ("event.uri", |event| event.uri.clear()),
        ("event.completed_at", |event| event.completed_at = None),
        ("event.completed_at", |event| event.completed_at = Some(muster_proto::Timestamp { seconds: i64::MAX, nanos: 0 })),
    ];
    for (field, spoil) in spoiled {
        let mut event = complete("v0");
        spoil(&mut event);
        names_field(&report(clients, event).await.expect_err(field), field, field)?;
    }
    let unknown = TrainingComplete { model: "unknown".to_owned(), ..complete("v0") };
    has_reason(&report(clients, unknown).await.expect_err("unknown"), Code::NotFound, "NOT_FOUND", "an unknown model")?;
    report(clients, complete("v1")).await?;
    let other = TrainingComplete { digest: format!("sha256:{}", "1".repeat(64)), ..complete("v1") };
    let refusal = report(clients, other).await.expect_err("another digest");
    has_reason(&refusal, Code::AlreadyExists, "ALREADY_EXISTS", "another digest for a version that exists")?;

    let topics = Topics::read(platform.brokers())?;
    let kind = "dev.muster.model.training.completed.v1";
    let event = |version: &str, digest: Option<&str>| {
        let mut event = json!({
            "model": "resnet50", "version": version, "uri": "s3://models/resnet50/model.onnx",
            "completedAt": "2026-01-01T00:00:00Z",
        });
        if let Some(digest) = digest {
            event["digest"] = json!(digest);
        }
        event
    };
    // One key, one partition: the bad ones stand before the good one.
    topics.publish("mlops.events", "resnet50", "bad-1", "/pipelines/test", kind, &event("v2", None)).await?;
    topics.publish("mlops.events", "resnet50", "bad-2", "/pipelines/test", "some.other.type", &json!({})).await?;
    let digest = format!("sha256:{}", "2".repeat(64));
    topics.publish("mlops.events", "resnet50", "good", "/pipelines/test", kind, &event("v2", Some(&digest))).await?;
    eventually("the good event is taken", async || {
        let request = rollout::GetModelVersionRequest { name: "models/resnet50/versions/v2".to_owned() };
        let version = clients.models().get_model_version(request).await?.into_inner();
        Ok(look(version.digest == digest, (), || format!("{version:?}")))
    })
    .await?;
    let reasons = eventually("two events are buried", async || {
        let dead = topics.of("mlops.events.dead");
        let reasons: Vec<String> = dead.iter().filter_map(|event| event.headers.get("muster-dead-reason").cloned()).collect();
        Ok(look(reasons.len() == 2, reasons.clone(), || format!("{dead:?}")))
    })
    .await?;
    ensure!(reasons[0].contains("event.digest") && reasons[1].contains("type"), "{reasons:?}");
    Ok(())
}
