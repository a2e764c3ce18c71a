//! What leaves git is removed; what somebody else made, in the same namespace and of the same kind, stays.

use anyhow::{Result, ensure};
use muster_integration_tests::eventually;
use muster_integration_tests::main_job::simulation::TRAIN_IDC;
use muster_integration_tests::patience::look;
use serde_json::{Value, json};

use crate::{release, world};

const NAME: &str = "foreign-neighbours";

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "neighbours"}, "data": {"key": "value"}})
}

#[test]
fn foreign_objects_and_foreign_fields_stay() -> Result<()> {
    world::play(async |world| {
        let scene = &world.scene;
        let api = &scene.platform.cluster(TRAIN_IDC)?.api;
        let maps = "/api/v1/namespaces/neighbours/configmaps";
        let commit = release::commit(scene, NAME, &[config_map("stays"), config_map("leaves")]).await?;
        release::application(scene, NAME, TRAIN_IDC, "").await?;
        release::healthy_at(scene, NAME, &commit).await?;
        api.create(maps, &config_map("foreign")).await?;
        api.merge(&format!("{maps}/stays"), &json!({"data": {"theirs": "too"}})).await?;

        let commit = release::commit(scene, NAME, &[config_map("stays")]).await?;
        release::healthy_at(scene, NAME, &commit).await?;
        eventually("what left git is removed", async || {
            let left = api.find(&format!("{maps}/leaves")).await?;
            Ok(look(left.is_none(), (), || "it is still there".to_owned()))
        })
        .await?;
        ensure!(api.find(&format!("{maps}/foreign")).await?.is_some(), "what Muster did not make is gone");
        let kept = api.find(&format!("{maps}/stays")).await?.unwrap_or_default();
        ensure!(kept["data"] == json!({"key": "value", "theirs": "too"}), "the foreign field is gone: {}", kept["data"]);
        Ok(())
    })
}
