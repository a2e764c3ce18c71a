//! Three managers on one object: kubectl, another controller and Muster each keep their fields, and nobody writes for ever.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use muster_integration_tests::main_job::simulation::TRAIN_IDC;
use serde_json::{Value, json};

use crate::{release, world};

const NAME: &str = "shared-object";

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME, "namespace": "lab"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": NAME}}, "template": {
            "metadata": {"labels": {"app": NAME}},
            "spec": {"containers": [{"name": "main", "image": "registry.example.com/lab/web:v1"}]},
        }},
    })
}

#[test]
fn field_managers_do_not_fight() -> Result<()> {
    world::play(async |world| {
        let scene = &world.scene;
        let cluster = scene.platform.cluster(TRAIN_IDC)?;
        let path = format!("/apis/apps/v1/namespaces/lab/deployments/{NAME}");
        let commit = release::commit(scene, NAME, &[deployment()]).await?;
        release::application(scene, NAME, TRAIN_IDC, "").await?;
        release::healthy_at(scene, NAME, &commit).await?;

        // A person labels it, a controller keeps a note on it: fields that Muster never asked for.
        cluster.api.merge(&path, &json!({"metadata": {"labels": {"team": "vision"}}})).await?;
        cluster.api.apply(&path, "cost-controller", &json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME, "namespace": "lab", "annotations": {"cost": "12"}},
        })).await?;
        // A field of Muster's is put right, and only that.
        cluster
            .api
            .merge(&path, &json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 7}}, "replicas": 3}}))
            .await?;
        muster_integration_tests::eventually("the replicas are Muster's again", async || {
            let live = cluster.api.find(&path).await?.context("the Deployment is gone")?;
            let healed = live["spec"]["replicas"] == 1;
            Ok(muster_integration_tests::patience::look(healed, (), || live["spec"]["replicas"].to_string()))
        })
        .await?;
        let live = cluster.api.find(&path).await?.context("the Deployment is gone")?;
        ensure!(live["metadata"]["labels"]["team"] == "vision", "the person's label is gone: {}", live["metadata"]["labels"]);
        ensure!(
            live["metadata"]["annotations"]["cost"] == "12",
            "the controller's note is gone: {}",
            live["metadata"]["annotations"]
        );
        let fields = live["metadata"]["managedFields"].as_array().context("managedFields")?;
        for manager in ["muster-rollout", "cost-controller"] {
            ensure!(fields.iter().any(|entry| entry["manager"] == manager), "{manager} has no fields: {fields:?}");
        }
        // Nobody answers anybody's write with another one.
        let writes = || -> Result<usize> {
            let all = cluster.audit.writes()?;
            let own = all.iter().filter(|write| write.name == NAME && write.resource == "deployments.apps");
            Ok(own.filter(|write| write.subresource.is_empty()).count())
        };
        let before = writes()?;
        ensure!(before >= 5, "the audit log has {before} writes of it only");
        tokio::time::sleep(Duration::from_secs(3)).await;
        ensure!(writes()? == before, "there is no end of writing: {before} writes, then {}", writes()?);
        Ok(())
    })
}
