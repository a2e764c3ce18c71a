//! What is wrong is refused with its field or line, and loses nothing.

use anyhow::Result;
use muster_proto::registry::v1 as registry;
use muster_proto::rollout::v1 as rollout;
use muster_proto::scheduler::v1 as scheduler;
use serde_json::json;
use tonic::{Code, Status};

use crate::common;

fn says(status: &Status, code: Code, words: &[&str]) {
    assert_eq!(status.code(), code, "{status}");
    for word in words {
        assert!(status.message().contains(word), "{word:?} is not in {:?}", status.message());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_names_the_field() -> Result<()> {
    let platform = common::training_platform().await?;
    let clients = platform.clients()?;

    let mut negative = common::job("negative", "short", 1, 1);
    negative["spec"]["tasks"][0]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] = json!("-1");
    let refusal = common::submit(&clients, &negative).await.expect_err("a negative amount");
    says(refusal.downcast_ref().expect("a status"), Code::InvalidArgument, &["cpu"]);

    let giant = common::job("giant", "short", 100, 8);
    let refusal = common::submit(&clients, &giant).await.expect_err("a gang larger than every cluster");
    let status: &Status = refusal.downcast_ref().expect("a status");
    assert!(matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition), "{status}");

    let queue = |manifest: &str| scheduler::CreateQueueRequest {
        queue: Some(scheduler::Queue { manifest: manifest.to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let unknown = "apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {name: q}\nspec: {wieght: 1}\n";
    let refusal = clients.queues().create_queue(queue(unknown)).await.expect_err("an unknown field");
    says(&refusal, Code::InvalidArgument, &["spec.wieght"]);
    let malformed = "apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {name: q\n";
    let refusal = clients.queues().create_queue(queue(malformed)).await.expect_err("malformed YAML");
    says(&refusal, Code::InvalidArgument, &["line"]);

    let name = registry::CreateClusterRequest {
        cluster_id: "Not_A_Name".to_owned(),
        cluster: Some(registry::Cluster::default()),
        ..Default::default()
    };
    let refusal = clients.clusters().create_cluster(name).await.expect_err("a name outside the grammar");
    says(&refusal, Code::InvalidArgument, &["cluster_id"]);

    let stale = registry::UpdateClusterRequest {
        cluster: Some(registry::Cluster { name: "clusters/train".to_owned(), etag: "stale".to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let refusal = clients.clusters().update_cluster(stale).await.expect_err("a stale etag");
    says(&refusal, Code::Aborted, &[]);

    let no_digest = rollout::ReportTrainingCompleteRequest {
        event: Some(muster_proto::event::v1::TrainingComplete {
            model: "resnet50".to_owned(),
            version: "v1".to_owned(),
            uri: "s3://models/resnet50/v1/model.onnx".to_owned(),
            completed_at: Some(muster_proto::Timestamp::default()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let refusal = clients.models().report_training_complete(no_digest).await.expect_err("an event without a digest");
    says(&refusal, Code::InvalidArgument, &["digest"]);

    let nobody = platform.clients_as(None)?;
    let refusal = nobody.clusters().list_clusters(registry::ListClustersRequest::default()).await;
    says(&refusal.expect_err("nobody in particular"), Code::Unauthenticated, &[]);

    // Nothing of all that was stored, and what was there still works.
    common::submit(&clients, &common::job("good", "short", 1, 1)).await?;
    common::job_is(&clients, "good", scheduler::job::State::Succeeded).await?;
    Ok(())
}
