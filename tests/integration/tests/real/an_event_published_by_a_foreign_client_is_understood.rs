//! Training-complete events of clients that Muster did not write: Kafka's own console producer, a library in another language;
//! CloudEvents in binary and in structured mode.

use anyhow::Result;
use muster_integration_tests::eventually;
use muster_integration_tests::patience::{Look, look};
use muster_proto::rollout::v1 as rollout;
use serde_json::{Value, json};

use crate::{clients, world};

/// Of years ago, so that it is recorded and not released.
fn event(version: &str) -> Value {
    json!({
        "model": "resnet50", "version": version, "digest": format!("sha256:{:0>64}", version.len()),
        "uri": format!("s3://models/resnet50/{version}"), "completedAt": "2020-01-01T00:00:00Z",
    })
}

#[test]
fn an_event_published_by_a_foreign_client_is_understood() -> Result<()> {
    world::play(async |world| {
        // From here on the model has a newer version.
        world.played(4).await?;
        let scene = &world.scene;
        let headers = "ce_specversion:1.0,ce_id:foreign-1,ce_source:/pipelines/demo,\
                       ce_type:dev.muster.model.training.completed.v1,ce_subject:resnet50,content-type:application/json";
        let line = format!("{headers}\tresnet50\t{}\n", event("by-console"));
        clients::console_producer(scene, "mlops.events", &line).await?;
        clients::python(scene, &["publish", "binary", "foreign-2", &event("by-python").to_string()]).await?;
        clients::python(scene, &["publish", "structured", "foreign-3", &event("by-python-structured").to_string()]).await?;
        eventually("all three are versions of the model", async || {
            let dead = scene.topics.of("mlops.events.dead");
            let dead: Vec<_> =
                dead.iter().filter(|event| event.headers.get("ce_id").is_some_and(|id| id.starts_with("foreign-"))).collect();
            if !dead.is_empty() {
                return Ok(Look::Never(format!("not understood: {dead:?}")));
            }
            let request =
                rollout::ListModelVersionsRequest { parent: "models/resnet50".to_owned(), page_size: 100, ..Default::default() };
            let versions = scene.clients()?.models().list_model_versions(request).await?.into_inner().model_versions;
            let names: Vec<&str> = versions.iter().map(|version| version.name.as_str()).collect();
            let all = ["by-console", "by-python", "by-python-structured"];
            let there = all.iter().all(|version| names.contains(&format!("models/resnet50/versions/{version}").as_str()));
            Ok(look(there, (), || format!("{names:?}")))
        })
        .await
    })
}
