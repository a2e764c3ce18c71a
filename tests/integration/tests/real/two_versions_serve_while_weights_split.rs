//! While the weights are split, each subset with a weight has ready pods behind it, in a real cluster; and afterwards the old
//! copy goes.

use anyhow::{Context, Result};
use muster_integration_tests::eventually_within;
use muster_integration_tests::main_job::simulation::TRAIN_CLOUD;
use muster_integration_tests::patience::{Look, look};
use serde_json::Value;

use crate::jobs::WITHIN;
use crate::{release, web, world};

const NAME: &str = "split-web";

#[test]
fn two_versions_serve_while_weights_split() -> Result<()> {
    world::play(async |world| {
        let scene = &world.scene;
        web::first(scene, NAME).await?;
        let api = &scene.platform.cluster(TRAIN_CLOUD)?.api;
        let commit = release::commit(scene, NAME, &web::manifests(NAME, "v2")).await?;
        eventually_within(WITHIN, "the weights are split", async || {
            let route = api.find(&web::route(NAME)).await?.context("the route")?;
            let rule = api.find(&format!("/apis/networking.istio.io/v1/namespaces/lab/destinationrules/{NAME}")).await?;
            let pods = api.list("/api/v1/namespaces/lab/pods").await?;
            let weights = web::weights(&route);
            for (subset, weight) in &weights {
                let ready = ready_behind(rule.as_ref().context("the rule")?, &pods, subset);
                if *weight > 0 && ready != 2 {
                    return Ok(Look::Never(format!("{subset} has {weight} % and {ready} ready pods")));
                }
            }
            let split = weights.iter().filter(|(_, weight)| *weight > 0).count() == 2;
            Ok(look(split, (), || format!("{weights:?}")))
        })
        .await?;
        release::healthy_at(scene, NAME, &commit).await?;
        eventually_within(WITHIN, "the old copy is gone", async || {
            let deployments = api.list("/apis/apps/v1/namespaces/lab/deployments").await?;
            let named = |deployment: &&Value| deployment["metadata"]["name"].as_str().is_some_and(|name| name.starts_with(NAME));
            let copies = deployments.iter().filter(named).count();
            Ok(look(copies == 1, (), || format!("{copies} copies")))
        })
        .await
    })
}

/// Ready pods that a subset of a rule selects.
fn ready_behind(rule: &Value, pods: &[Value], subset: &str) -> usize {
    let subsets = rule["spec"]["subsets"].as_array().into_iter().flatten();
    let Some(labels) = subsets.filter(|known| known["name"] == *subset).find_map(|known| known["labels"].as_object()) else {
        return 0;
    };
    let is_ready = |pod: &&Value| {
        let conditions = pod["status"]["conditions"].as_array();
        let ready =
            conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        ready && pod["metadata"]["deletionTimestamp"].is_null() && pod["metadata"]["labels"]["app"] == NAME
    };
    let selected = |pod: &&Value| labels.iter().all(|(name, value)| pod["metadata"]["labels"][name] == *value);
    pods.iter().filter(is_ready).filter(selected).count()
}
